"""The teacher-forced loop over one chunk: one pass of the reference, one of each variant (mlx)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.caches import Cache, converted, eval_cache, reference_cache, variant_cache
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.emulated import copied
from mqf_tui.fidelity.errors import NotANumberError
from mqf_tui.fidelity.likeliest import likeliest
from mqf_tui.fidelity.metrics import ReferenceStep, StepMetrics
from mqf_tui.fidelity.positions import DTYPES, Positions
from mqf_tui.fidelity.prefixes import Prefix
from mqf_tui.fidelity.quantizers import Kernel
from mqf_tui.fidelity.recipes import Recipe
from mqf_tui.fidelity.replaying import Replay
from mqf_tui.fidelity.settings import STEP
from mqf_tui.fidelity.tops import Keeper
from mqf_tui.fidelity.vocabulary import UNKNOWN_CLASS

if TYPE_CHECKING:
    from mqf_tui.fidelity.text.chunking import Chunks


@dataclass(frozen=True)
class Variant:
    """What one variant does to the cache. ``kernel`` is not "auto" any more."""

    recipe: Recipe
    kernel: Kernel


@dataclass(frozen=True)
class Text:
    """One chunk: ``tokens`` and their classes have shape (L,); position i predicts token i+1.

    ``scored`` (L,): the tokens whose prediction is wanted; None: all but the first.
    """

    tokens: NDArray[np.int32]
    chunk: int = 0
    part: int = 0
    part_names: tuple[str, ...] = ()
    token_class: NDArray[np.int8] | None = None
    scored: NDArray[np.bool_] | None = None

    @classmethod
    def of(cls, chunks: Chunks, index: int, end: int | None = None) -> Text:
        """A chunk without its padding; with ``end`` only so many of its tokens."""
        length = int(chunks.lengths[index]) if chunks.lengths is not None else chunks.tokens.shape[1]
        kept = slice(length if end is None else min(end, length))
        return cls(
            chunks.tokens[index, kept],
            index,
            int(chunks.part[index]),
            chunks.part_names,
            chunks.token_class[index, kept],
            None if chunks.scored is None else chunks.scored[index, kept],
        )

    def wanted(self, start: int, end: int) -> NDArray[np.intp]:
        """Which of the positions start ≤ i < end are wanted, counted from ``start``."""
        here = slice(start + 1, end + 1)
        return np.arange(end - start) if self.scored is None else np.flatnonzero(self.scored[here])

    @property
    def last(self) -> int:
        """The last position that is wanted; -1 where none is."""
        if self.scored is None:
            return len(self.tokens) - 2
        return int(np.flatnonzero(self.scored)[-1]) - 1 if self.scored.any() else -1


@dataclass(frozen=True)
class _Pass:
    """One step of one variant, on its way: logits of shape (T, V) for positions start ≤ i < end."""

    index: int
    start: int
    end: int
    logits: mx.array
    reference: ReferenceStep


def boundaries(length: int, quantize_start: int, first_scored: int, size: int = STEP) -> list[int]:
    """The positions at which the steps of a chunk of ``length`` tokens begin."""
    edges = (0, quantize_start, max(first_scored, quantize_start), length - 1)
    return [a for start, end in pairwise(edges) for a, _ in steps(start, end, size)]


def steps(start: int, end: int, size: int = STEP) -> Iterator[tuple[int, int]]:
    """Slices ``[a, b)`` of at most ``size`` positions that cover ``[start, end)``."""
    for a in range(start, end, size):
        yield a, min(a + size, end)


class ChunkScorer:
    """Scores one chunk, step by step, for all of ``variants`` beside one pass of the reference.

    Positions before ``quantize_start`` run with the reference's cache alone, which is then converted for
    each variant; those before ``first_scored`` run without logits. Iterating yields an index into
    ``variants`` and its Positions of a step, the variants in turn; a stop asked for through ``control`` ends
    the iteration, and a variant that is to be skipped has no further steps (``numbers``: what ``control``
    calls each of ``variants``). Memory: the caches, and the logits of one step of the reference and of one
    variant.

    ``replay``: repeats the reference's layers before a variant's first quantized one instead of computing
    them again. ``prefix``: what another chunk that begins alike has left, to go on from; ``keep``: the
    position at which to leave the like behind, in ``left`` (0: nowhere). ``watch`` is called before every
    pass, scored or not, and may raise. ``keepers``: what takes each variant's likeliest tokens in, None where
    nobody wants them. ``seconds``: time spent on each variant, and ``reference_seconds``
    that on the reference.
    """

    def __init__(
        self,
        model: Any,
        text: Text,
        variants: Sequence[Variant],
        control: Control,
        *,
        quantize_start: int = 0,
        first_scored: int = 0,
        step_size: int = STEP,
        replay: Replay | None = None,
        prefix: Prefix | None = None,
        keep: int = 0,
        watch: Callable[[], None] | None = None,
        numbers: Sequence[int] | None = None,
        keepers: Sequence[Keeper | None] | None = None,
    ) -> None:
        self.model, self.text, self.variants, self.control = model, text, variants, control
        self.quantize_start, self.first_scored = quantize_start, max(first_scored, quantize_start)
        self.step_size = step_size
        self.replay = replay
        self.prefix, self.keep, self.watch = prefix, keep, watch
        self._numbers = range(len(variants)) if numbers is None else numbers
        self._keepers = [None] * len(variants) if keepers is None else keepers
        self.left: Prefix | None = None
        self.reference: Cache = [copied(c) for c in prefix.reference] if prefix else reference_cache(model)
        self.caches: list[Cache] = []
        self.seconds = [0.0] * len(variants)
        self.reference_seconds = 0.0
        self._kept = [variant.recipe.first_quantized if replay else 0 for variant in variants]
        self._found: list[list[Positions]] = [[] for _ in variants]
        unknown = np.full(len(text.tokens), UNKNOWN_CLASS, np.int8)
        self._classes = unknown if text.token_class is None else text.token_class

    def __iter__(self) -> Iterator[tuple[int, Positions]]:
        """One chunk, once; see the class."""
        for index, positions in self._all(mx.array(self.text.tokens)):
            if self.keep and positions.depth[0] < self.keep:
                self._found[index].append(positions)
            yield index, positions
        if self._ends:
            self.left = None
        if self.left is not None:
            found = enumerate(zip(self.variants, self._found, strict=True))
            whole = {v: Positions.concatenate(pieces) for i, (v, pieces) in found if not self._is_out(i)}
            self.left = replace(self.left, positions=whole)

    def _all(self, ids: mx.array) -> Iterator[tuple[int, Positions]]:
        for a, b in self._steps(0, self.quantize_start):
            if self._held():
                return
            self._fill_reference(ids[None, a:b])
        self._make_caches()
        yield from self._repeated()
        for a, b in self._steps(self.quantize_start, self.first_scored):
            for _ in self._passed(ids, a, b):
                if self._held():
                    return
        yield from self._scored(ids)

    def whole_cache(self, index: int) -> Cache:
        """A variant's cache as if filled alone: replayed layers hold what the reference's do."""
        kept = self._kept[index]
        return [*self.reference[:kept], *self.caches[index][kept:]]

    def _held(self) -> bool:
        """Wait out a pause; whether that is all."""
        self.control.wait()
        if self.watch is not None:
            self.watch()
        return self._ends

    @property
    def _ends(self) -> bool:
        """Whether a stop was asked for, or nobody wants any of the variants any more."""
        return self.control.stopped or all(map(self._is_out, range(len(self.variants))))

    def _is_out(self, index: int) -> bool:
        return self._numbers[index] in self.control.skipped

    def _steps(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """The steps of a stretch that no prefix covers; on the way a prefix is left where one is wanted."""
        for a, b in steps(start, end, self.step_size):
            if self.prefix is not None and a < self.prefix.end:
                continue
            if self.keep and a == self.keep:
                own = {
                    self.variants[i]: [copied(c) for c in cache]
                    for i, cache in enumerate(self.caches)
                    if not self._is_out(i)
                }
                self.left = Prefix(a, [copied(c) for c in self.reference], own, {})
            yield a, b

    def _repeated(self) -> Iterator[tuple[int, Positions]]:
        """What another chunk found at the positions that both begin with."""
        for index, variant in enumerate(self.variants):
            found = self.prefix.positions.get(variant) if self.prefix else None
            if found is not None and len(found):
                here = {"chunk": self.text.chunk, "part": self.text.part}
                columns = {name: np.full_like(getattr(found, name), value) for name, value in here.items()}
                columns["token_class"] = self._classes[found.depth + 1].astype(np.int8)
                if (keeper := self._keepers[index]) is not None:
                    keeper.repeat(found, self.text.chunk)
                yield index, replace(found, **columns)

    def _make_caches(self) -> None:
        for variant in self.variants:
            if self.prefix is not None and variant in self.prefix.caches:
                cache = [copied(c) for c in self.prefix.caches[variant]]
            elif self.quantize_start:
                cache = converted(self.reference, variant.recipe, variant.kernel)
            else:
                cache = variant_cache(self.model, variant.recipe, variant.kernel)
            self.caches.append(cache)

    def _passed(self, ids: mx.array, a: int, b: int) -> Iterator[None]:
        """Positions that only fill the caches: nobody asks for their logits, so none are computed."""
        with self._recording():
            self._fill_reference(ids[None, a:b])
        for index in range(len(self.caches)):
            yield
            if self._is_out(index):
                continue
            began = time.perf_counter()
            self._variant(ids[None, a:b], index)
            eval_cache(self.caches[index][self._kept[index] :])
            self.seconds[index] += time.perf_counter() - began

    def _fill_reference(self, ids: mx.array) -> None:
        began = time.perf_counter()
        self.model(ids, cache=self.reference)
        eval_cache(self.reference)
        self.reference_seconds += time.perf_counter() - began

    def _scored(self, ids: mx.array) -> Iterator[tuple[int, Positions]]:
        """Each pass begins before the numbers of the one before it are taken, so both go on at once."""
        waiting: _Pass | None = None
        for a, b in self._steps(self.first_scored, len(self.text.tokens) - 1):
            if a > self.text.last:
                break
            if self._held():
                return
            if not len(self.text.wanted(a, b)):
                yield from self._waited(waiting)
                waiting = None
                for _ in self._passed(ids, a, b):
                    if self._held():
                        return
                continue
            reference = self._begun_reference(ids, a, b)
            yield from self._waited(waiting)
            waiting = None
            for index in range(len(self.caches)):
                if self._held():
                    yield from self._waited(waiting)
                    return
                if self._is_out(index):
                    continue
                begun = self._begun_variant(ids, a, b, index, reference)
                yield from self._waited(waiting)
                waiting = begun
        yield from self._waited(waiting)

    def _waited(self, waiting: _Pass | None) -> Iterator[tuple[int, Positions]]:
        """The numbers of a pass that has begun, where there is one and they are still wanted."""
        if waiting is not None and not self._is_out(waiting.index):
            yield self._taken(waiting)

    def _begun_reference(self, ids: mx.array, a: int, b: int) -> ReferenceStep:
        began = time.perf_counter()
        with self._recording():
            logits = self.model(ids[None, a:b], cache=self.reference).squeeze(0)
        mx.async_eval(logits)
        self.reference_seconds += time.perf_counter() - began
        return ReferenceStep(logits, ids[a + 1 : b + 1])

    def _begun_variant(self, ids: mx.array, a: int, b: int, index: int, reference: ReferenceStep) -> _Pass:
        began = time.perf_counter()
        logits = self._variant(ids[None, a:b], index).squeeze(0)
        mx.async_eval(logits)
        self.seconds[index] += time.perf_counter() - began
        return _Pass(index, a, b, logits, reference)

    def _taken(self, done: _Pass) -> tuple[int, Positions]:
        """The numbers of a variant's step."""
        began = time.perf_counter()
        metrics = done.reference.compare(done.logits)
        mx.eval(*metrics)  # arrays of NumPy pass through
        if np.isnan(np.array(metrics.kl)).any():
            kl, entropy = done.reference.masked(done.logits)
            metrics = metrics._replace(kl=kl, entropy=entropy)
        rows = self.text.wanted(done.start, done.end)
        measured = {name: np.array(values)[rows] for name, values in metrics._asdict().items()}
        self._check(measured, done.start + rows)
        positions = self._positions(measured, done.start + rows)
        if (keeper := self._keepers[done.index]) is not None:
            _keep(keeper, positions, rows, done, metrics)
        self.seconds[done.index] += time.perf_counter() - began
        return done.index, positions

    def _recording(self) -> AbstractContextManager[Any]:
        wanted = {kept for kept in self._kept if kept}
        return self.replay.recording(self.reference, wanted) if self.replay and wanted else nullcontext()

    def _variant(self, ids: mx.array, index: int) -> mx.array:
        """Logits of one step of a variant, shape (1, T, V), not computed yet."""
        kept, cache = self._kept[index], self.caches[index]
        if not (self.replay and kept):
            return self.model(ids, cache=cache)
        with self.replay.replaying(kept):
            return self.model(ids, cache=self.replay.cache(cache, kept))

    def _positions(self, measured: Mapping[str, NDArray[Any]], depths: NDArray[np.intp]) -> Positions:
        n, text = len(depths), self.text
        here: dict[str, NDArray[Any]] = {
            "chunk": np.full(n, text.chunk),
            "depth": depths,
            "part": np.full(n, text.part),
            "token": text.tokens[depths + 1],
            "token_class": self._classes[depths + 1],
        }
        columns = {name: array.astype(DTYPES[name]) for name, array in {**here, **measured}.items()}
        return Positions.of(columns, text.part_names)

    def _check(self, measured: Mapping[str, NDArray[Any]], depths: NDArray[np.intp]) -> None:
        for name, column in (("reference", "nll_ref"), ("variant", "nll_quant"), (None, "kl")):
            bad = np.isnan(measured[column])
            if bad.any():
                raise NotANumberError(
                    f"the {name or 'comparison'} gave not-a-number at chunk {self.text.chunk + 1}, position "
                    f"{int(depths[bad.argmax()])}; the weights may be damaged or overflow in their format, "
                    "so try a fresh download or another model."
                )


def _keep(
    keeper: Keeper, positions: Positions, rows: NDArray[np.intp], done: _Pass, metrics: StepMetrics
) -> None:
    """The likeliest tokens of a step's ``positions``, at ``rows`` of its logits, that may be kept."""
    kept = keeper.wanted(positions)
    if len(kept):
        at = rows[kept]
        reference = likeliest(done.reference.logits, at, keeper.k, metrics.top1_ref, metrics.prob_ref)
        variant = likeliest(done.logits, at, keeper.k, metrics.top1_quant, metrics.prob_quant)
        keeper.add(positions, kept, reference, variant)
