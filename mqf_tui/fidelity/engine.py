"""One measurement as a generator of events. All of it runs in the thread that iterates it."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import FidelityError, MeasurementError, OutOfMemoryError, ZeroDriftError
from mqf_tui.fidelity.events import (
    ChunkFinished,
    Event,
    Failed,
    Finished,
    Loading,
    Plan,
    Started,
    StepScored,
    Stopped,
)
from mqf_tui.fidelity.facts import ModelFacts, check_length, check_setting, kv_bytes
from mqf_tui.fidelity.load import Load
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.settings import KVSettings

if TYPE_CHECKING:
    from mqf_tui.fidelity.corpora import Chunks, Corpus
    from mqf_tui.fidelity.device import Device
    from mqf_tui.fidelity.stopping import Sureness
    from mqf_tui.fidelity.vocabulary import Vocabulary
    from mqf_tui.reports.schema import Report, Stopping


def measure(settings: KVSettings, facts: ModelFacts, control: Control) -> Iterator[Event]:
    """Measure one variant of one model; yields events (see events.py for the order).

    What was scored before a failure or a stop is in the last event, as a partial report. Nothing is
    raised but KeyboardInterrupt, and that only where no stop was asked for before it.
    """
    running = _Measurement(settings, facts, control)
    try:
        yield from running.run()
    except _StopAsked:
        yield running.stopped()
    except FidelityError as error:
        # A failure on the way to a stop that was asked for is no news, unless the numbers are wrong.
        asked = control.stopped and not isinstance(error, MeasurementError)
        yield running.stopped() if asked else running.failed(error)
    except KeyboardInterrupt:
        if not control.stopped:
            raise
        yield running.stopped()  # asked for twice
    except MemoryError:
        yield running.failed(_out_of_memory())
    except Exception as error:
        # MLX reports a failed allocation as a plain RuntimeError.
        if "alloc" in str(error).lower() or "out of memory" in str(error).lower():
            yield running.failed(_out_of_memory())
            return
        words = " ".join(str(error).split())
        failure = MeasurementError(
            f"the measurement broke down unexpectedly ({type(error).__name__}: {words}); "
            "please report this with the command that you used."
        )
        failure.__cause__ = error
        yield running.failed(failure)


class _StopAsked(Exception):  # noqa: N818 (no error)
    """A stop was asked for before anything was scored."""


class _Measurement:
    """The state of one running measurement: what was planned and what was scored so far."""

    def __init__(self, settings: KVSettings, facts: ModelFacts, control: Control) -> None:
        self.settings, self.facts, self.control = settings, facts, control
        self.plan: Plan | None = None
        self.vocabulary: Vocabulary | None = None
        self.pieces: list[Positions] = []
        self.n_positions = 0
        self.seconds = 0.0
        self.bytes_measured: tuple[float, float] | None = None
        self.sureness: Sureness | None = None
        self.load = Load()

    def run(self) -> Iterator[Event]:
        self.settings.check()
        check_setting(self.facts, self.settings.kv_bits, self.settings.kv_group_size)
        check_length(self.facts, self.settings.chunk_length)
        yield self._doing("reading the text")
        from mqf_tui.fidelity.corpora import read_corpus

        corpus = read_corpus(self.settings.corpus)
        yield self._doing("preparing the device")
        from mqf_tui.fidelity import device as devices

        device = devices.prepare()
        devices.reset_peak_memory()
        chunks = yield from self._chunks(corpus)
        model = yield from self._model(device)
        self.plan = self._planned_on(device, chunks)
        yield Started(self.plan)
        yield from self._score(model, chunks)

    def _doing(self, what: str, share: float | None = None) -> Loading:
        if self.control.stopped:
            raise _StopAsked
        return Loading(what, share)

    def _chunks(self, corpus: Corpus) -> Generator[Event, None, Chunks]:
        yield self._doing("loading the tokenizer")
        from mqf_tui.fidelity import loading
        from mqf_tui.fidelity.corpora import make_chunks

        settings = self.settings
        tokenizer = loading.load_tokenizer(self.facts, trust_remote_code=settings.trust_remote_code)
        yield self._doing("cutting the text into chunks")
        return make_chunks(
            corpus,
            tokenizer,
            settings.chunk_length,
            settings.max_chunks,
            tokenizer_id=self.facts.name,
            vocab_size=self.facts.vocab_size,
        )

    def _model(self, device: Device) -> Generator[Event, None, Any]:
        yield self._doing("loading the weights", 0.0)
        from mqf_tui.fidelity import loading, variants

        model = None
        trusted = self.settings.trust_remote_code
        for loaded in loading.load_model(self.facts, device, trust_remote_code=trusted):
            model = loaded.model
            yield self._doing("loading the weights", loaded.share)
        yield self._doing("trying the cache")
        variants.check_cache(model, self.settings, self.facts.vocab_size)
        return model

    def _planned_on(self, device: Device, chunks: Chunks) -> Plan:
        from mqf_tui.fidelity import loading, variants

        settings, facts = self.settings, self.facts
        return Plan(
            settings=settings,
            model=facts.name,
            architecture=facts.architecture,
            corpus=chunks.provenance,
            n_chunks=len(chunks.tokens),
            positions_per_chunk=settings.chunk_length - 1 - settings.quantize_start,
            device=device.name,
            compute=loading.compute_words(facts, device),
            cache=variants.cache_name(settings),
            kv_bytes=kv_bytes(facts, settings, 4 if device.is_cpu or facts.dtype == "float32" else 2),
            memory_bytes=device.all_memory_bytes,
            warnings=device.warnings + chunks.warnings,
        )

    def _score(self, model: Any, chunks: Chunks) -> Iterator[Event]:
        from mqf_tui.fidelity.scoring import ChunkScorer
        from mqf_tui.fidelity.variants import bytes_per_token

        n_chunks = len(chunks.tokens)
        self.vocabulary = chunks.vocabulary
        if self.settings.stops_early:
            from mqf_tui.fidelity.stopping import Sureness

            self.sureness = Sureness.of(self.settings)
        for index in range(n_chunks):
            scorer = ChunkScorer(
                model,
                chunks.tokens[index],
                self.settings,
                self.control,
                chunk=index,
                part=int(chunks.part[index]),
                part_names=chunks.part_names,
                token_class=chunks.token_class[index],
            )
            step, positions, before = 0, None, len(self.pieces)
            held = self.control.waited
            self.load.begin()
            scored = iter(scorer)
            while True:
                self.control.wait()
                began, waited = time.perf_counter(), self.control.waited
                positions = next(scored, None)
                self.seconds += time.perf_counter() - began - (self.control.waited - waited)
                if positions is None:
                    break
                self.pieces.append(positions)
                self.n_positions += len(positions)
                yield StepScored(index, step, positions, self.n_positions, self.seconds)
                step += 1
            if self.control.waited == held:  # what others do in a pause slows nothing down
                self.load.end()
            if scorer.variant is not None and step:
                self.bytes_measured = bytes_per_token(scorer.reference), bytes_per_token(scorer.variant)
            if self.control.stopped and self.n_positions < self._planned():
                self._check_drift()
                yield self.stopped()
                return
            stopping = self._looked_at(self.pieces[before:])
            yield ChunkFinished(index, n_chunks, stopping)
            if stopping is not None and stopping.settled and _round_ends(chunks.part, index):
                break
        self._check_drift()
        report = self._report()
        assert report is not None
        yield Finished(report, self.positions())

    def _looked_at(self, chunk: list[Positions]) -> Stopping | None:
        """What the stopping rule says after this chunk; None where there is none."""
        if self.sureness is None:
            return None
        self.sureness.add(Positions.concatenate(chunk))
        return self.sureness.stopping()

    def _check_drift(self) -> None:
        if self.pieces and not any(piece.kl.any() or piece.flip.any() for piece in self.pieces):
            raise ZeroDriftError(
                f"KL divergence and flips are exactly zero over {self.n_positions} positions, so the "
                "quantization never engaged; this model's cache takes no quantization, so no number is given."
            )

    def positions(self) -> Positions:
        """All positions scored so far, with the texts of their tokens."""
        scored = Positions.concatenate(self.pieces)
        if self.vocabulary is None:
            return scored
        ids = np.concatenate([scored.token, scored.top1_ref, scored.top1_quant])
        return replace(scored, texts=self.vocabulary.texts(ids))

    def stopped(self) -> Stopped:
        """The last event of a measurement that was stopped on request."""
        return Stopped(self._report(partial=True), self.positions())

    def failed(self, error: FidelityError) -> Failed:
        """The last event of a measurement that cannot go on."""
        keep = bool(self.pieces) and not isinstance(error, ZeroDriftError)
        if not keep:
            return Failed(error)
        return Failed(error, self._report(partial=True, reason=str(error)), self.positions())

    def _planned(self) -> int:
        return self.plan.n_positions if self.plan else 0

    def _report(self, partial: bool = False, reason: str | None = None) -> Report | None:
        if self.plan is None or not self.pieces:
            return None
        from mqf_tui.fidelity.summary_report import build_report

        scored = self.positions()
        return build_report(
            self.plan,
            self.facts,
            scored,
            self.seconds,
            self.bytes_measured,
            sureness=self.sureness,
            load=self.load,
            partial=partial,
            reason=reason,
        )


def _round_ends(part: NDArray[np.int16], index: int) -> bool:
    """Whether each part of the corpus has had its turn: between rounds some parts weigh more than others."""
    return index + 1 == len(part) or part[index + 1] <= part[index]


def _out_of_memory() -> OutOfMemoryError:
    return OutOfMemoryError(
        "memory ran out; use shorter chunks (--chunk-length), close other programs, or take a smaller model."
    )
