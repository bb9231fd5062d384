"""Logits of both runs -> a few numbers per position."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

from mqf_tui.fidelity import metal_reduction

# Logits that NumPy reduces at a time: what comes between then stays in the cache, and in memory that the
# process has already. The whole step at once takes nearly twice as long (see benchmarks/README.md).
BLOCK = 2**20


class StepMetrics(NamedTuple):
    """Arrays of shape (T,), of MLX or of NumPy. KL, NLLs and entropy in nats; top-1 are ids.

    ``prob_*``: the probability of each run's own top-1. ``margin``: the reference's top-1 less its second
    probability. ``delta_p``: the target's probability, variant less reference. ``in_top5``: fewer than
    five tokens are likelier in the variant than the reference's top-1.
    """

    kl: Any
    nll_ref: Any
    nll_quant: Any
    top1_ref: Any
    top1_quant: Any
    prob_ref: Any
    prob_quant: Any
    entropy: Any
    margin: Any
    delta_p: Any
    in_top5: Any


class _Reference(NamedTuple):
    """What every variant needs of the reference's logits r (T, V): computed once a step."""

    r: Any
    targets: Any
    top: Any
    max: Any  # (T, 1)
    weights: Any  # exp(r − max), (T, V)
    total: Any
    log: Any
    nll: Any
    entropy: Any
    margin: Any


class ReferenceStep:
    """The reference's logits of one step, shape (T, V), to compare any number of variants with.

    ``targets`` (T,) are the ids of the text's own next tokens. On a CPU the reductions are NumPy's, over the
    same memory: MLX's exponential is not vectorized there and takes twenty times as long (see
    benchmarks/README.md). On Metal they are one kernel, see ``metal_reduction``.
    """

    def __init__(self, logits: mx.array, targets: mx.array) -> None:
        self._r, self._targets = logits.astype(mx.float32), targets

    @property
    def logits(self) -> mx.array:
        """The logits (T, V) in float32."""
        return self._r

    @functools.cached_property
    def _blocks(self) -> list[_Reference]:
        return list(self._reference(ruled_out=False))

    def compare(self, quant: mx.array) -> StepMetrics:
        """The metrics of a variant's logits of shape (T, V)."""
        if mx.default_device() != mx.cpu and metal_reduction.trusted():
            return metal_reduction.compare(self._r, quant.astype(mx.float32), self._targets)
        return self._compared(self._blocks, quant, ruled_out=False)

    def masked(self, quant: mx.array) -> tuple[Any, Any]:
        """KL and the reference's entropy, both (T,), where logits of −inf are allowed.

        p = 0 adds nothing, p > 0 with q = 0 gives a KL of +inf. Only steps with rows that came out NaN
        from ``compare`` need it. A NaN logit stays NaN.
        """
        found = self._compared(list(self._reference(ruled_out=True)), quant, ruled_out=True)
        return found.kl, found.entropy

    def _reference(self, *, ruled_out: bool) -> Iterator[_Reference]:
        if mx.default_device() != mx.cpu:
            yield _of_reference(mx, self._r, self._targets, ruled_out=ruled_out)
            return
        mx.eval(self._r, self._targets)
        whole = np.asarray(self._r), np.asarray(self._targets)
        rows = max(1, BLOCK // self._r.shape[-1])
        with np.errstate(all="ignore"):
            for start in range(0, len(whole[0]), rows):
                r, targets = (x[start : start + rows] for x in whole)
                yield _of_reference(np, r, targets, ruled_out=ruled_out)

    def _compared(self, blocks: list[_Reference], quant: mx.array, *, ruled_out: bool) -> StepMetrics:
        q = quant.astype(mx.float32)
        if mx.default_device() != mx.cpu:
            return _of_variant(mx, blocks[0], q, ruled_out=ruled_out)
        mx.eval(q)
        whole, start = np.asarray(q), 0
        found: list[StepMetrics] = []
        # Infinities and NaN among the logits are the caller's to judge, not NumPy's to warn of.
        with np.errstate(all="ignore"):
            for block in blocks:
                end = start + len(block.targets)
                found.append(_of_variant(np, block, whole[start:end], ruled_out=ruled_out))
                start = end
        return StepMetrics(*map(np.concatenate, zip(*found, strict=True)))


def position_metrics(ref: mx.array, quant: mx.array, targets: mx.array) -> StepMetrics:
    """Compare two sets of logits of shape (T, V) against target ids of shape (T,)."""
    return ReferenceStep(ref, targets).compare(quant)


def masked(ref: mx.array, quant: mx.array) -> tuple[Any, Any]:
    """KL and the reference's entropy, both (T,), where logits of −inf are allowed (see ReferenceStep)."""
    return ReferenceStep(ref, mx.zeros(len(ref), mx.int32)).masked(quant)


def reduced(xp: Any, r: Any, q: Any, targets: Any, *, ruled_out: bool = False) -> StepMetrics:
    """The metrics of float32 logits r and q (T, V), computed with the array library ``xp``.

        KL(P ‖ Q) = Σ_v softmax(r)_v (r_v − q_v) − lse(r) + lse(q)

    over the whole vocabulary, each lse taken from its row's maximum. The sum is a row dot product (many
    times faster than multiply-and-sum); identical logits give exactly 0. KL is never negative, so the
    last rounding below 0 is cut. A row with a logit of −inf comes out NaN, unless ``ruled_out`` leaves
    tokens that the reference rules out out of the sums.
    """
    return _of_variant(xp, _of_reference(xp, r, targets, ruled_out=ruled_out), q, ruled_out=ruled_out)


def _of_reference(xp: Any, r: Any, targets: Any, *, ruled_out: bool) -> _Reference:
    top = xp.argmax(r, axis=-1)
    peak = _at(xp, r, top)
    shifted = r - peak
    weights = xp.exp(shifted)
    total = xp.sum(weights, axis=-1, **_exact(xp))
    log = xp.log(total)
    if ruled_out:
        shifted = xp.where(weights == 0, xp.zeros_like(shifted), shifted)
    return _Reference(
        r=r,
        targets=targets,
        top=top,
        max=peak,
        weights=weights,
        total=total,
        log=log,
        nll=log + (peak - _at(xp, r, targets))[:, 0],
        entropy=log - xp.einsum("tv,tv->t", weights, shifted, **_exact(xp)) / total,
        margin=(1 - _second(xp, weights, top)) / total,
    )


def _of_variant(xp: Any, ref: _Reference, q: Any, *, ruled_out: bool) -> StepMetrics:
    top = xp.argmax(q, axis=-1)
    peak = _at(xp, q, top)
    total = xp.sum(xp.exp(q - peak), axis=-1, **_exact(xp))
    log = xp.log(total)
    difference = ref.r - q
    if ruled_out:
        difference = xp.where(ref.weights == 0, xp.zeros_like(difference), difference)
    dot = xp.einsum("tv,tv->t", ref.weights, difference, **_exact(xp)) / ref.total
    kl = dot - (ref.max - peak)[:, 0] - ref.log + log
    nll = log + (peak - _at(xp, q, ref.targets))[:, 0]
    count = np.count_nonzero if xp is np else mx.sum
    return StepMetrics(
        kl=xp.where(kl < 0, xp.zeros_like(kl), kl).astype(xp.float32),
        nll_ref=ref.nll,
        nll_quant=nll,
        top1_ref=ref.top,
        top1_quant=top,
        prob_ref=1 / ref.total,
        prob_quant=1 / total,
        entropy=ref.entropy,
        margin=ref.margin,
        delta_p=xp.exp(-nll) - xp.exp(-ref.nll),
        in_top5=count(q > _at(xp, q, ref.top), axis=-1) < 5,
    )


def _at(xp: Any, array: Any, ids: Any) -> Any:
    return xp.take_along_axis(array, ids[:, None], axis=-1)


def _exact(xp: Any) -> dict[str, Any]:
    # 50,000 terms summed in float32 would cost a small KL its second digit; a GPU has no float64.
    return {"dtype": np.float64} if xp is np else {}


def _second(xp: Any, weights: Any, top: Any) -> Any:
    """The second largest of each row of ``weights`` (T, V), whose largest is 1."""
    nought = xp.zeros((len(top), 1), weights.dtype)
    if xp is not np:
        return xp.max(mx.put_along_axis(weights, top[:, None], nought, axis=-1), axis=-1)
    np.put_along_axis(weights, top[:, None], nought, axis=-1)
    second = np.max(weights, axis=-1)
    np.put_along_axis(weights, top[:, None], nought + 1, axis=-1)
    return second
