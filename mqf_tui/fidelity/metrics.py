"""Logits of both runs -> a few numbers per position."""

from __future__ import annotations

from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np

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


def position_metrics(ref: mx.array, quant: mx.array, targets: mx.array) -> StepMetrics:
    """Compare two sets of logits of shape (T, V) against target ids of shape (T,).

    On a CPU the reductions are NumPy's, over the same memory: MLX's exponential is not vectorized
    there and takes twenty times as long (see benchmarks/README.md).
    """
    return _reduced(ref, quant, targets, ruled_out=False)


def masked(ref: mx.array, quant: mx.array) -> tuple[Any, Any]:
    """KL and the reference's entropy, both (T,), where logits of −inf are allowed.

    p = 0 adds nothing, p > 0 with q = 0 gives a KL of +inf. Slower than ``position_metrics``; only steps
    with rows that came out NaN there need it. A NaN logit stays NaN.
    """
    found = _reduced(ref, quant, mx.zeros(len(ref), mx.int32), ruled_out=True)
    return found.kl, found.entropy


def _reduced(ref: mx.array, quant: mx.array, targets: mx.array, *, ruled_out: bool) -> StepMetrics:
    r, q = ref.astype(mx.float32), quant.astype(mx.float32)
    if mx.default_device() != mx.cpu:
        return reduced(mx, r, q, targets, ruled_out=ruled_out)
    mx.eval(r, q, targets)
    # Infinities and NaN among the logits are the caller's to judge, not NumPy's to warn of.
    with np.errstate(all="ignore"):
        whole = np.asarray(r), np.asarray(q), np.asarray(targets)
        rows = max(1, BLOCK // r.shape[-1])
        blocks = (tuple(x[start : start + rows] for x in whole) for start in range(0, len(whole[0]), rows))
        found = [reduced(np, *block, ruled_out=ruled_out) for block in blocks]
    return StepMetrics(*map(np.concatenate, zip(*found, strict=True)))


def reduced(xp: Any, r: Any, q: Any, targets: Any, *, ruled_out: bool = False) -> StepMetrics:
    """The metrics of float32 logits r and q (T, V), computed with the array library ``xp``.

        KL(P ‖ Q) = Σ_v softmax(r)_v (r_v − q_v) − lse(r) + lse(q)

    over the whole vocabulary, each lse taken from its row's maximum. The sum is a row dot product (many
    times faster than multiply-and-sum); identical logits give exactly 0. KL is never negative, so the
    last rounding below 0 is cut. A row with a logit of −inf comes out NaN, unless ``ruled_out`` leaves
    tokens that the reference rules out out of the sums.
    """

    def at(array: Any, ids: Any) -> Any:
        return xp.take_along_axis(array, ids[:, None], axis=-1)

    top_r, top_q = xp.argmax(r, axis=-1), xp.argmax(q, axis=-1)
    max_r, max_q = at(r, top_r), at(q, top_q)
    shifted = r - max_r
    weights = xp.exp(shifted)
    # 50,000 terms summed in float32 would cost a small KL its second digit; a GPU has no float64.
    exact = {"dtype": np.float64} if xp is np else {}
    total_r, total_q = xp.sum(weights, axis=-1, **exact), xp.sum(xp.exp(q - max_q), axis=-1, **exact)
    log_r, log_q = xp.log(total_r), xp.log(total_q)
    difference = r - q
    if ruled_out:
        nothing = weights == 0
        difference, shifted = (xp.where(nothing, xp.zeros_like(x), x) for x in (difference, shifted))
    dot = xp.einsum("tv,tv->t", weights, difference, **exact) / total_r
    kl = dot - (max_r - max_q)[:, 0] - log_r + log_q
    entropy = log_r - xp.einsum("tv,tv->t", weights, shifted, **exact) / total_r
    nll_ref, nll_quant = log_r + (max_r - at(r, targets))[:, 0], log_q + (max_q - at(q, targets))[:, 0]
    count = np.count_nonzero if xp is np else mx.sum
    return StepMetrics(
        kl=xp.where(kl < 0, xp.zeros_like(kl), kl).astype(xp.float32),
        nll_ref=nll_ref,
        nll_quant=nll_quant,
        top1_ref=top_r,
        top1_quant=top_q,
        prob_ref=1 / total_r,
        prob_quant=1 / total_q,
        entropy=entropy,
        margin=(1 - _second(xp, weights, top_r)) / total_r,
        delta_p=xp.exp(-nll_quant) - xp.exp(-nll_ref),
        in_top5=count(q > at(q, top_r), axis=-1) < 5,
    )


def _second(xp: Any, weights: Any, top: Any) -> Any:
    """The second largest of each row of ``weights`` (T, V), which are given up for it."""
    nought = xp.zeros((len(top), 1), weights.dtype)
    if xp is np:
        np.put_along_axis(weights, top[:, None], nought, axis=-1)
    else:
        weights = mx.put_along_axis(weights, top[:, None], nought, axis=-1)
    return xp.max(weights, axis=-1)
