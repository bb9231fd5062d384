"""Logits of both runs -> a few numbers per position."""

from __future__ import annotations

from typing import Any, NamedTuple

import mlx.core as mx
import numpy as np


class StepMetrics(NamedTuple):
    """Arrays of shape (T,), of MLX or of NumPy. KL and NLLs in nats, float32; top-1 are token ids."""

    kl: Any
    nll_ref: Any
    nll_quant: Any
    top1_ref: Any
    top1_quant: Any


def position_metrics(ref: mx.array, quant: mx.array, targets: mx.array) -> StepMetrics:
    """Compare two sets of logits of shape (T, V) against target ids of shape (T,).

    On a CPU the reductions are NumPy's, over the same memory: MLX's exponential is not vectorized
    there and takes twenty times as long (see benchmarks/README.md).
    """
    r, q = ref.astype(mx.float32), quant.astype(mx.float32)
    if mx.default_device() != mx.cpu:
        return reduced(mx, r, q, targets)
    mx.eval(r, q, targets)
    # Infinities and NaN among the logits are the caller's to judge, not NumPy's to warn of.
    with np.errstate(all="ignore"):
        return reduced(np, np.asarray(r), np.asarray(q), np.asarray(targets))


def reduced(xp: Any, r: Any, q: Any, targets: Any) -> StepMetrics:
    """The metrics of float32 logits r and q (T, V), computed with the array library ``xp``.

        KL(P ‖ Q) = Σ_v softmax(r)_v (r_v − q_v) − lse(r) + lse(q)

    over the whole vocabulary, each lse taken from its row's maximum. The sum is a row dot product (many
    times faster than multiply-and-sum); identical logits give exactly 0. KL is never negative, so the
    last rounding below 0 is cut. A row with a logit of −inf comes out NaN here: see ``masked_kl``.
    """

    def at(array: Any, ids: Any) -> Any:
        return xp.take_along_axis(array, ids[:, None], axis=-1)

    top_r, top_q = xp.argmax(r, axis=-1), xp.argmax(q, axis=-1)
    max_r, max_q = at(r, top_r), at(q, top_q)
    weights = xp.exp(r - max_r)
    total_r = xp.sum(weights, axis=-1)
    log_r, log_q = xp.log(total_r), xp.log(xp.sum(xp.exp(q - max_q), axis=-1))
    # 50,000 terms summed in float32 would cost a small KL its third digit; a GPU has no float64.
    exact = {"dtype": np.float64} if xp is np else {}
    dot = xp.einsum("tv,tv->t", weights, r - q, **exact) / total_r
    kl = dot - (max_r - max_q)[:, 0] - log_r + log_q
    return StepMetrics(
        xp.where(kl < 0, xp.zeros_like(kl), kl).astype(xp.float32),
        log_r + (max_r - at(r, targets))[:, 0],
        log_q + (max_q - at(q, targets))[:, 0],
        top_r,
        top_q,
    )


def masked_kl(ref: mx.array, quant: mx.array) -> mx.array:
    """KL of shape (T,) where logits of −inf are allowed: p = 0 adds nothing, p > 0 with q = 0 gives +inf.

    Slower than ``position_metrics``; only rows that came out NaN there need it. A NaN logit stays NaN.
    """
    r = ref.astype(mx.float32)
    q = quant.astype(mx.float32)
    log_p = r - mx.logsumexp(r, axis=-1, keepdims=True)
    log_q = q - mx.logsumexp(q, axis=-1, keepdims=True)
    p = mx.exp(log_p)
    kl = mx.sum(mx.where(p > 0, p * (log_p - log_q), mx.zeros_like(p)), axis=-1)
    broken = mx.any(mx.isnan(r) | mx.isnan(q), axis=-1)
    return mx.where(broken, mx.full(kl.shape, float("nan")), mx.maximum(kl, 0))
