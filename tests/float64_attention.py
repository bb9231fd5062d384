"""Attention and quantized numbers again, in float64 NumPy, from their definitions."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer

E2M1 = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6])
Seen = Callable[[int], np.ndarray]  # number of tokens -> which keys (columns) each query (row) sees


def float64(array: mx.array) -> np.ndarray:
    return np.array(array.astype(mx.float32)).astype(np.float64)


def e4m3(codes: np.ndarray) -> np.ndarray:
    """FP8 of OCP: sign, 4 bits of exponent over 7, 3 of fraction; no infinities."""
    sign = np.where(codes & 0x80, -1.0, 1.0)
    exponent, fraction = (codes >> 3) & 15, (codes & 7) / 8
    return sign * np.where(exponent == 0, fraction * 2.0**-6, (1 + fraction) * 2.0 ** (exponent - 7.0))


def e2m1(codes: np.ndarray) -> np.ndarray:
    return np.where(codes & 8, -1.0, 1.0) * E2M1[codes & 7]


def decoded(parts: Sequence[mx.array], q: Quantizer) -> np.ndarray:
    """The numbers behind what ``mx.quantize`` returned: codes lie end to end, lowest bit first."""
    words = np.ascontiguousarray(np.array(parts[0]).astype("<u4"))
    bits = np.unpackbits(words.view(np.uint8), axis=-1, bitorder="little")
    codes = bits.reshape(*words.shape[:-1], -1, q.bits) @ (1 << np.arange(q.bits))
    groups = codes.reshape(*codes.shape[:-1], -1, q.group_size)
    if q.mode == "affine":
        scales, biases = (float64(p)[..., None] for p in parts[1:])
        return (groups * scales + biases).reshape(codes.shape)
    scale_codes = np.array(parts[1]).astype(np.int64)
    scales = e4m3(scale_codes) if q.mode == "nvfp4" else 2.0 ** (scale_codes - 127.0)
    numbers = e4m3(groups) if q.mode == "mxfp8" else e2m1(groups)
    return (numbers * scales[..., None]).reshape(codes.shape)


def stored(rows: mx.array, q: Quantizer | None) -> np.ndarray:
    """What a cache gives back of these rows."""
    if q is None or not rows.shape[-1]:
        return float64(rows)
    return decoded(mx.quantize(rows, group_size=q.group_size, bits=q.bits, mode=q.mode), q)


def attention(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    scale: float,
    add: np.ndarray,
    sinks: np.ndarray | None = None,
) -> np.ndarray:
    """(B, H, T, D), (B, G, S, D), (B, G, S, E); ``add`` broadcasts to (B, H, T, S), -inf hides."""
    repeats = q.shape[1] // k.shape[1]
    k, v = (x.repeat(repeats, axis=1) for x in (k, v))
    scores = scale * np.einsum("bhtd,bhsd->bhts", q, k) + add
    if sinks is not None:
        extra = np.broadcast_to(sinks[None, :, None, None], (*scores.shape[:3], 1))
        scores = np.concatenate([scores, extra], axis=-1)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bhts,bhse->bhte", weights[..., : k.shape[2]], v)


def causal(n: int) -> np.ndarray:
    return np.tri(n, dtype=bool)


def window(size: int) -> Seen:
    """A query sees itself and the ``size - 1`` tokens before it."""
    return lambda n: np.tri(n, dtype=bool) & ~np.tri(n, k=-size, dtype=bool)


def chunks(size: int) -> Seen:
    """A query sees what came before it in its own chunk of ``size`` tokens."""
    return lambda n: np.tri(n, dtype=bool) & (np.arange(n)[:, None] // size == np.arange(n) // size)


def logits(
    model: Any,
    module: str,
    ids: np.ndarray,
    layers: Sequence[tuple[LayerQuantizers, Seen]],
    patch: pytest.MonkeyPatch,
    start: int = 0,
) -> np.ndarray:
    """The model in one pass without any cache; attention, its masks and what is stored are this module's.

    ``layers``: one entry per attention layer. Queries from ``start`` on meet what is stored, those before
    it the full-precision keys and values.
    """
    turn = itertools.cycle(layers)

    def ours(
        queries: Any, keys: Any, values: Any, cache: Any, scale: float, mask: Any, sinks: Any = None
    ) -> Any:
        assert cache is None
        quantizers, seen = next(turn)
        add = np.where(seen(queries.shape[2]), 0, -np.inf)
        taken = None if sinks is None else float64(sinks)
        pairs = [
            (float64(keys), float64(values)),
            (stored(keys, quantizers.keys), stored(values, quantizers.values)),
        ]
        full, packed = (attention(float64(queries), k, v, scale, add, taken) for k, v in pairs)
        return mx.array(np.concatenate([full[:, :, :start], packed[:, :, start:]], axis=2).astype(np.float32))

    with patch.context() as patched:
        patched.setattr(sys.modules[f"mlx_lm.models.{module}"], "scaled_dot_product_attention", ours)
        return float64(model(mx.array(ids)[None])[0])
