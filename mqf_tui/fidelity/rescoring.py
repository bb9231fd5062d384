"""One chunk of a run scored again, for the likeliest tokens at positions of which none were kept.

The run's own settings are taken from its report, and the same steps are gone through, so that on the same
machine the numbers are the same again.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import (
    BadCorpusError,
    BadSettingError,
    ModelNotFoundError,
    OutOfMemoryError,
)
from mqf_tui.fidelity.events import Loading, Stopped
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.quantizers import parsed
from mqf_tui.fidelity.recipes import from_ranges
from mqf_tui.fidelity.settings import MOST_KEPT, KVSettings, SweepSettings
from mqf_tui.fidelity.text.options import options_of
from mqf_tui.fidelity.tops import Keeper, Tops
from mqf_tui.reports.text import counted

if TYPE_CHECKING:
    from mqf_tui.fidelity.device import Device
    from mqf_tui.fidelity.scoring import ChunkScorer
    from mqf_tui.fidelity.text.chunking import Chunks, TokenStore
    from mqf_tui.reports.schema import Report


@dataclass(frozen=True)
class Rescored:
    """The lists at the positions that were asked for; ``tops.index`` is into the run's own positions.

    ``kl`` (m,): nats at each of them now, ``kl_stored`` when the run was measured; where they differ it is
    not the same computation any more. ``seconds``: of scoring.
    """

    chunk: int
    tops: Tops
    kl: NDArray[np.float32]
    kl_stored: NDArray[np.float32]
    seconds: float

    def agrees(self, tolerance: float = 1e-3) -> bool:
        """Whether each KL is what it was, but for a share of itself (and for 1e-5 nats)."""
        return bool(np.isclose(self.kl, self.kl_stored, rtol=tolerance, atol=1e-5).all())


@dataclass(frozen=True)
class Asked:
    """Which lists are wanted: ``k`` tokens at ``depths`` of one chunk of a run, whose report and positions
    these are. ``settings`` see ``settings_of``; ``facts`` are the model's, as it is now."""

    report: Report
    positions: Positions
    settings: KVSettings
    facts: ModelFacts
    chunk: int
    depths: tuple[int, ...]
    k: int

    def check(self) -> None:
        """Raise BadSettingError, or ModelNotFoundError where the model is another than the run's."""
        if not 1 <= self.k <= MOST_KEPT:
            raise BadSettingError(f"{self.k} of the likeliest tokens were asked for; use 1 to {MOST_KEPT}.")
        here = self.positions.depth[self.positions.chunk == self.chunk]
        if not self.depths or not np.isin(self.depths, here).all():
            scored = f"depths {here.min()} to {here.max()} were" if len(here) else "nothing was"
            raise BadSettingError(
                f"of chunk {self.chunk} {scored} scored in this run; ask for one or more of its positions."
            )
        known, now = self.report.model_hash, self.facts.content_hash
        if known and known != now:
            raise ModelNotFoundError(
                f"{self.facts.name} is not what it was when this run was measured (its contents were {known} "
                f"and are {now}); put that model back, or measure again."
            )


def settings_of(report: Report, model: str, corpus: str, *, trust_remote_code: bool = False) -> KVSettings:
    """What measured a run, from its report; ``model`` and ``corpus`` say where they are to be found.

    Raises BadSettingError where the report does not say enough.
    """
    text = report.corpus
    n_chunks = text.n_chunks or (text.n_tokens // text.chunk_length if text.chunk_length > 0 else 0)
    if report.kind != "kv" or min(text.chunk_length, text.n_tokens, n_chunks) < 1:
        raise BadSettingError(
            "the report of this run does not say what was scored and how, so it cannot be scored again; "
            "measure it here."
        )
    settings = KVSettings(
        model,
        kernel=report.kernel or "auto",
        quantize_start=report.quantize_start,
        chunk_length=text.chunk_length,
        max_chunks=n_chunks,
        score_last=report.score_last,
        corpus=corpus,
        trust_remote_code=trust_remote_code,
        keep_top=0,
        text=options_of(text),
    )
    if report.layers is not None:
        layers = {part.layers: parsed(part.format) for part in report.layers.recipe}
        settings = replace(settings, recipe=from_ranges(layers, report.layers.n_layers))
    elif report.kv_bits is not None and report.kv_group_size is not None:
        settings = replace(settings, kv_bits=report.kv_bits, kv_group_size=report.kv_group_size)
    else:
        settings = replace(settings, kv=parsed(report.kv_format))
    settings.check()
    return settings


class Rescorer:
    """Keeps the model and the text that it last used, so that a second look costs one chunk's passes.

    All of it belongs to the thread of the measurements. ``close`` lets go of the model.
    """

    def __init__(self) -> None:
        self._held: tuple[ModelFacts, bool] | None = None
        self._model: Any = None
        self._text: tuple[object, Chunks] | None = None

    def close(self) -> None:
        """Release what is held; it can be used again."""
        from mqf_tui.fidelity.device import release

        self._held = self._model = self._text = None
        release()

    def score(
        self, asked: Asked, control: Control, store: TokenStore | None = None
    ) -> Iterator[Loading | Rescored | Stopped]:
        """Loading as long as it lasts, then Rescored, or Stopped on request; raises FidelityError."""
        asked.check()
        began = Stopped(None, Positions.empty())
        for event in self._events(asked, control, store):
            if control.stopped:
                yield began
                return
            yield event

    def _events(
        self, asked: Asked, control: Control, store: TokenStore | None
    ) -> Generator[Loading | Rescored, None, None]:
        from mqf_tui.fidelity import device as devices
        from mqf_tui.fidelity.attention import installed

        yield Loading("reading the text")
        chunks = self._chunks(asked, store)
        yield Loading("preparing the device")
        device = devices.prepare()
        yield from self._load(asked, device)
        keeper = _AskedKeeper(asked.k, asked.depths)
        with installed(self._model):
            scorer, scored = self._scorer(asked, chunks, device, control, keeper), list[Positions]()
            start = time.perf_counter()
            last = max(asked.depths)
            for _, positions in scorer:
                scored.append(positions)
                share = min(1.0, (int(positions.depth[-1]) + 1) / (last + 1))
                yield Loading(f"scoring chunk {asked.chunk + 1} again", share)
            seconds = time.perf_counter() - start
        if not control.stopped:
            yield _found(asked, keeper, Positions.concatenate(scored), chunks, seconds)

    def _chunks(self, asked: Asked, store: TokenStore | None) -> Chunks:
        """The run's own chunks; raises BadCorpusError where they would not come out as they did."""
        from mqf_tui.fidelity.model import loading
        from mqf_tui.fidelity.text.chunking import make_chunks
        from mqf_tui.fidelity.text.corpora import read_corpus

        settings, facts, then = asked.settings, asked.facts, asked.report.corpus
        corpus = read_corpus(settings.corpus, settings.text, settings.mixture)
        key = (facts.content_hash, then.content_hash, settings.corpus, settings.text)
        key += (settings.mixture, settings.chunk_length, settings.max_chunks)
        if self._text is None or self._text[0] != key:
            tokenizer = loading.load_tokenizer(facts, trust_remote_code=settings.trust_remote_code)
            made = make_chunks(
                *(corpus, tokenizer, settings.chunk_length, settings.max_chunks),
                tokenizer_id=facts.name,
                options=settings.text,
                vocab_size=facts.vocab_size,
                store=store,
            )
            self._text = key, made
        chunks = self._text[1]
        same = bool(then.token_hash) and chunks.provenance.token_hash == then.token_hash
        # Of a part that is not read whole the hash depends on how much of it was needed.
        enough = same and not all(part.complete for part in corpus.parts)
        if then.content_hash and chunks.provenance.content_hash != then.content_hash and not enough:
            raise BadCorpusError(
                f"{corpus.name} is not the text that this run was measured on (it changed, or has another "
                "name); put that text back, or measure again."
            )
        if then.token_hash and not same:
            raise BadCorpusError(
                f"{corpus.name} gives other tokens than when this run was measured, so the tokenizer is "
                "another (or another version of it); measure again."
            )
        if asked.chunk >= len(chunks.tokens):
            raise BadCorpusError(
                f"{corpus.name} has {counted(len(chunks.tokens), 'chunk')} and not the one that was asked "
                "for; measure again."
            )
        return chunks

    def _load(self, asked: Asked, device: Device) -> Iterator[Loading]:
        """Have the model in memory; raises OutOfMemoryError where it would not fit."""
        from mqf_tui.fidelity import device as devices
        from mqf_tui.fidelity.model import loading
        from mqf_tui.fidelity.planning import plan_memory

        key = (asked.facts, asked.settings.trust_remote_code)
        if self._held == key:
            return
        self._held = self._model = None
        devices.release()
        plan = plan_memory(asked.facts, SweepSettings((asked.settings,)), device)
        if not plan.fits:
            raise OutOfMemoryError(plan.advice or "the model of this run does not fit into memory now.")
        devices.keep_for_reuse(plan.step_bytes)
        yield Loading("loading the weights", 0.0)
        model = None
        for loaded in loading.load_model(asked.facts, device, trust_remote_code=key[1]):
            model = loaded.model
            yield Loading("loading the weights", loaded.share)
        self._model, self._held = model, key

    def _scorer(
        self, asked: Asked, chunks: Chunks, device: Device, control: Control, keeper: Keeper
    ) -> ChunkScorer:
        """The chunk up to the end of the step with the deepest position, in the run's own steps."""
        from mqf_tui.fidelity.caches import layer_kinds
        from mqf_tui.fidelity.planning import kernel_of, step_size
        from mqf_tui.fidelity.recipes import check, resolve
        from mqf_tui.fidelity.scoring import ChunkScorer, Text, Variant, boundaries

        settings, kinds = asked.settings, layer_kinds(self._model)
        kernel = kernel_of(settings, device.is_cpu)
        emulated = kernel == "emulated"
        recipe = settings.recipe or resolve(
            *(kinds, settings.quantizers), group_size=settings.kv_group_size, emulated=emulated
        )
        check(recipe, kinds, emulated=emulated)
        length, first = settings.chunk_length, settings.first_scored
        step = step_size(asked.facts, length, device.is_cpu)
        # Steps are those of a whole chunk; the text of one that is not ends the last of them early.
        edges = [*boundaries(length, settings.quantize_start, first, step), length - 1]
        end = edges[bisect_right(edges, max(asked.depths))]
        if first == settings.quantize_start:  # or the steps before it would be others
            first = edges[bisect_right(edges, min(asked.depths)) - 1]
        text = Text.of(chunks, asked.chunk, end + 1)
        return ChunkScorer(
            *(self._model, text, [Variant(recipe, kernel)], control),
            quantize_start=settings.quantize_start,
            first_scored=first,
            step_size=step,
            keepers=[keeper],
        )


class _AskedKeeper(Keeper):
    """Keeps the lists at some depths, whatever was found there."""

    def __init__(self, k: int, depths: Sequence[int]) -> None:
        super().__init__(k, worst=len(depths), most_flips=1)
        self._depths = depths

    def wanted(self, positions: Positions) -> NDArray[np.intp]:
        """The rows at these depths."""
        return np.flatnonzero(np.isin(positions.depth, self._depths))


def _found(asked: Asked, keeper: Keeper, scored: Positions, chunks: Chunks, seconds: float) -> Rescored:
    tops = keeper.tops(asked.positions, chunks.vocabulary)
    assert tops is not None  # every depth was checked to be one of the run's, and has been scored
    depths = asked.positions.depth[tops.index]
    kl = scored.kl[np.searchsorted(scored.depth, depths)]
    return Rescored(asked.chunk, replace(tops, left_out=0), kl, asked.positions.kl[tops.index], seconds)
