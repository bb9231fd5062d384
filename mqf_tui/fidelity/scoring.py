"""The paired teacher-forced loop over one chunk (mlx)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import NotANumberError
from mqf_tui.fidelity.metrics import StepMetrics, masked, position_metrics
from mqf_tui.fidelity.positions import DTYPES, Positions
from mqf_tui.fidelity.settings import STEP, KVSettings
from mqf_tui.fidelity.variants import Cache, converted, eval_cache, reference_cache, variant_cache
from mqf_tui.fidelity.vocabulary import UNKNOWN_CLASS


def steps(start: int, end: int, size: int = STEP) -> Iterator[tuple[int, int]]:
    """Slices ``[a, b)`` of at most ``size`` positions that cover ``[start, end)``."""
    for a in range(start, end, size):
        yield a, min(a + size, end)


class ChunkScorer:
    """Scores one chunk, step by step; both caches live as long as the chunk.

    ``tokens`` has shape (L,); position i predicts token i+1. Memory: the two caches and the logits of
    one step. Iterating yields the Positions of each step; a stop asked for through ``control`` ends
    the iteration between steps.
    """

    def __init__(
        self,
        model: Any,
        tokens: NDArray[np.int32],
        settings: KVSettings,
        control: Control,
        *,
        chunk: int = 0,
        part: int = 0,
        part_names: tuple[str, ...] = (),
        token_class: NDArray[np.int8] | None = None,
        step_size: int = STEP,
    ) -> None:
        self.model = model
        self.tokens = tokens
        self.settings = settings
        self.control = control
        self.chunk, self.part, self.part_names = chunk, part, part_names
        self.token_class = np.full(len(tokens), UNKNOWN_CLASS) if token_class is None else token_class
        self.step_size = step_size
        self.reference: Cache = reference_cache(model)
        self.variant: Cache | None = None

    def __iter__(self) -> Iterator[Positions]:
        ids = mx.array(self.tokens)
        self._prefill(ids)
        if self.control.stopped:
            return
        if self.variant is None:
            self.variant = variant_cache(self.model, self.settings)
        for a, b in steps(self.settings.quantize_start, len(self.tokens) - 1, self.step_size):
            self.control.wait()
            if self.control.stopped:
                return
            yield self._score(ids, a, b)

    def _prefill(self, ids: mx.array) -> None:
        """Deployment: the first positions once, for both (they are the same), without logits."""
        for a, b in steps(0, self.settings.quantize_start, self.step_size):
            self.control.wait()
            if self.control.stopped:
                return
            self.model(ids[None, a:b], cache=self.reference)
            eval_cache(self.reference)
        if self.settings.quantize_start:
            self.variant = converted(self.reference, self.settings)

    def _score(self, ids: mx.array, a: int, b: int) -> Positions:
        ref = self.model(ids[None, a:b], cache=self.reference)[0]
        quant = self.model(ids[None, a:b], cache=self.variant)[0]
        metrics = position_metrics(ref, quant, ids[a + 1 : b + 1])
        mx.eval(*metrics)  # arrays of NumPy pass through
        if np.isnan(np.array(metrics.kl)).any():
            kl, entropy = masked(ref, quant)
            metrics = metrics._replace(kl=kl, entropy=entropy)
        self._check(metrics, a)
        return self._positions(metrics, a, b)

    def _positions(self, metrics: StepMetrics, a: int, b: int) -> Positions:
        n = b - a
        here = {
            "chunk": np.full(n, self.chunk),
            "depth": np.arange(a, b),
            "part": np.full(n, self.part),
            "token": self.tokens[a + 1 : b + 1],
            "token_class": self.token_class[a + 1 : b + 1],
        }
        measured = {name: np.array(values) for name, values in metrics._asdict().items()}
        columns = {name: array.astype(DTYPES[name]) for name, array in (here | measured).items()}
        return Positions.of(columns, self.part_names)

    def _check(self, metrics: StepMetrics, a: int) -> None:
        pairs = (("reference", metrics.nll_ref), ("variant", metrics.nll_quant), (None, metrics.kl))
        for name, values in pairs:
            bad = np.isnan(np.array(values))
            if bad.any():
                raise NotANumberError(
                    f"the {name or 'comparison'} gave not-a-number at chunk {self.chunk + 1}, position "
                    f"{a + int(bad.argmax())}; the weights may be damaged or overflow in their format, "
                    "so try a fresh download or another model."
                )
