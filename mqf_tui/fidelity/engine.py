"""One measurement as a generator of events. All of it runs in the thread that iterates it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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
from mqf_tui.fidelity.facts import ModelFacts, check_setting, kv_bytes_per_token
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.settings import STEP, KVSettings

if TYPE_CHECKING:
    from mqf_tui.fidelity.corpora import Chunks
    from mqf_tui.reports.schema import Report


def measure(settings: KVSettings, facts: ModelFacts, control: Control) -> Iterator[Event]:
    """Measure one variant of one model; yields events and never raises (see events.py for the order).

    What was scored before a failure or a stop is in the last event, as a partial report.
    """
    session = _Session(settings, facts, control)
    try:
        yield from session.run()
    except FidelityError as error:
        yield session.failed(error)
    except MemoryError:
        yield session.failed(_out_of_memory())
    except Exception as error:
        # MLX reports a failed allocation as a plain RuntimeError.
        if "alloc" in str(error).lower() or "out of memory" in str(error).lower():
            yield session.failed(_out_of_memory())
            return
        words = " ".join(str(error).split())
        failure = MeasurementError(
            f"the measurement broke down unexpectedly ({type(error).__name__}: {words}); "
            "please report this with the command that you used."
        )
        failure.__cause__ = error
        yield session.failed(failure)


class _Session:
    """The state of one running measurement: what was planned and what was scored so far."""

    def __init__(self, settings: KVSettings, facts: ModelFacts, control: Control) -> None:
        self.settings, self.facts, self.control = settings, facts, control
        self.plan: Plan | None = None
        self.pieces: list[Positions] = []
        self.n_positions = 0
        self.seconds = 0.0
        self.bytes_measured: tuple[float, float] | None = None

    def run(self) -> Iterator[Event]:
        settings, facts, control = self.settings, self.facts, self.control
        settings.check()
        check_setting(facts, settings.kv_bits, settings.kv_group_size)
        if facts.context and settings.chunk_length > facts.context:
            self._longer_than_context()

        yield Loading("reading the text")
        from mqf_tui.fidelity.corpora import make_chunks, read_corpus

        corpus = read_corpus(settings.corpus)
        yield Loading("preparing the device")
        from mqf_tui.fidelity import device as devices

        device = devices.prepare()
        from mqf_tui.fidelity import loading

        yield Loading("loading the tokenizer")
        tokenizer = loading.load_tokenizer(facts, trust_remote_code=settings.trust_remote_code)
        chunks = make_chunks(
            corpus,
            tokenizer,
            settings.chunk_length,
            settings.max_chunks,
            tokenizer_id=facts.name,
            vocab_size=facts.vocab_size,
        )
        yield Loading("loading the weights", 0.0)
        model = None
        for loaded in loading.load_model(facts, device, trust_remote_code=settings.trust_remote_code):
            if control.stopped:
                yield Stopped(None, Positions.empty())
                return
            model = loaded.model
            yield Loading("loading the weights", loaded.share)
        assert model is not None
        yield Loading("trying the cache")
        from mqf_tui.fidelity import variants

        variants.check_cache(model, settings, facts.vocab_size)
        compute = loading.compute_words(facts, device)
        scale_bytes = 4 if device.is_cpu or facts.dtype == "float32" else 2
        self.plan = Plan(
            settings=settings,
            model=facts.name,
            architecture=facts.architecture,
            corpus=chunks.provenance,
            n_chunks=len(chunks.tokens),
            positions_per_chunk=settings.chunk_length - 1 - settings.quantize_start,
            steps_per_chunk=-(-(settings.chunk_length - 1 - settings.quantize_start) // STEP),
            device=device.name,
            compute=compute,
            cache=variants.cache_name(settings),
            kv_bytes_reference=kv_bytes_per_token(facts, None, scale_bytes=scale_bytes),
            kv_bytes_variant=kv_bytes_per_token(
                facts, settings.kv_bits, settings.kv_group_size, scale_bytes=scale_bytes
            ),
            warnings=tuple(device.warnings) + tuple(self._doubts(len(chunks.tokens))),
        )
        yield Started(self.plan)
        yield from self._score(model, chunks)

    def _score(self, model: Any, chunks: Chunks) -> Iterator[Event]:
        from mqf_tui.fidelity.scoring import ChunkScorer
        from mqf_tui.fidelity.variants import bytes_per_token

        n_chunks = len(chunks.tokens)
        for index in range(n_chunks):
            scorer = ChunkScorer(
                model,
                chunks.tokens[index],
                self.settings,
                self.control,
                chunk=index,
                part=int(chunks.part[index]),
                part_names=chunks.part_names,
            )
            step, positions = 0, None
            scored = iter(scorer)
            while True:
                self.control.wait()
                began = time.perf_counter()
                positions = next(scored, None)
                self.seconds += time.perf_counter() - began
                if positions is None:
                    break
                self.pieces.append(positions)
                self.n_positions += len(positions)
                yield StepScored(index, step, positions, self.n_positions, self.seconds)
                step += 1
            if scorer.variant is not None and step:
                self.bytes_measured = bytes_per_token(scorer.reference), bytes_per_token(scorer.variant)
            if self.control.stopped and self.n_positions < self._planned():
                yield Stopped(self._report(partial=True), self.positions())
                return
            yield ChunkFinished(index, n_chunks)
        report = self._report()
        if report is not None and report.kl.max == 0 and report.flip_rate == 0:
            raise ZeroDriftError(
                f"KL divergence and flips are exactly zero over {report.n_positions} positions, so the "
                "quantization never engaged; this model's cache takes no quantization, so no number is given."
            )
        assert report is not None
        yield Finished(report, self.positions())

    def positions(self) -> Positions:
        """All positions scored so far."""
        return Positions.concatenate(self.pieces)

    def failed(self, error: FidelityError) -> Failed:
        """The last event of a measurement that cannot go on."""
        keep = self.pieces and not isinstance(error, ZeroDriftError)
        return Failed(error, self._report(partial=True) if keep else None, self.positions() if keep else None)

    def _planned(self) -> int:
        return self.plan.n_positions if self.plan else 0

    def _report(self, partial: bool = False) -> Report | None:
        if self.plan is None or not self.pieces:
            return None
        from mqf_tui.fidelity.summary_report import build_report

        return build_report(
            self.plan, self.facts, self.positions(), self.seconds, self.bytes_measured, partial=partial
        )

    def _doubts(self, n_chunks: int) -> Iterator[str]:
        if n_chunks == 1:
            yield "only one chunk: no interval can be given"
        elif n_chunks < 5:
            yield f"only {n_chunks} chunks: the intervals are wide and rough"

    def _longer_than_context(self) -> None:
        from mqf_tui.fidelity.errors import BadSettingError

        raise BadSettingError(
            f"chunks of {self.settings.chunk_length} tokens are longer than this model's context of "
            f"{self.facts.context}; use --chunk-length {self.facts.context} or less."
        )


def _out_of_memory() -> OutOfMemoryError:
    return OutOfMemoryError(
        "memory ran out; use shorter chunks (--chunk-length), close other programs, or take a smaller model."
    )
