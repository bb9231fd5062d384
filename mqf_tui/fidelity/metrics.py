"""Logits of both runs -> a few numbers per position (mlx)."""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx


class StepMetrics(NamedTuple):
    """Arrays of shape (T,). KL and NLLs in nats, float32; top-1 ids uint32."""

    kl: mx.array
    nll_ref: mx.array
    nll_quant: mx.array
    top1_ref: mx.array
    top1_quant: mx.array


def position_metrics(ref: mx.array, quant: mx.array, targets: mx.array) -> StepMetrics:
    """Compare two sets of logits of shape (T, V) against target ids of shape (T,).

    With r and q the logits less their row maximum,

        KL(P ‖ Q) = Σ_v softmax(r)_v (r_v − q_v) − lse(r) + lse(q)

    over the whole vocabulary. The sum is a row dot product (a matrix product, many times faster than
    multiply-and-sum on a CPU); identical logits give exactly 0. KL is never negative, so the last
    rounding below 0 is cut. A row in which a logit is −inf comes out NaN here: see ``masked_kl``.
    """
    r = ref.astype(mx.float32)
    q = quant.astype(mx.float32)
    r = r - mx.max(r, axis=-1, keepdims=True)
    q = q - mx.max(q, axis=-1, keepdims=True)
    weights = mx.exp(r)
    total_ref = mx.sum(weights, axis=-1)
    lse_ref = mx.log(total_ref)
    lse_quant = mx.logsumexp(q, axis=-1)
    dot = mx.einsum("tv,tv->t", weights, r - q) / total_ref
    kl = dot - lse_ref + lse_quant
    column = targets[:, None]
    return StepMetrics(
        mx.where(kl < 0, mx.zeros_like(kl), kl),
        lse_ref - mx.take_along_axis(r, column, axis=-1)[:, 0],
        lse_quant - mx.take_along_axis(q, column, axis=-1)[:, 0],
        mx.argmax(r, axis=-1),
        mx.argmax(q, axis=-1),
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
