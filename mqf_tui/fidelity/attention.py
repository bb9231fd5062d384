"""Attention for the caches of a measurement, put in place of mlx-lm's for one model at a time (mlx)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import mlx.core as mx
from mlx_lm.models import activations, base

from mqf_tui.fidelity import cpu_kernels
from mqf_tui.fidelity.packed import DequantizedKVCache, PackedKVCache, SplitKVCache
from mqf_tui.fidelity.quantizers import Quantizer

_STOCK_ATTENTION = base.scaled_dot_product_attention
_STOCK_SWIGLU = activations.swiglu


def scaled_dot_product_attention(
    queries: Any,
    keys: Any,
    values: Any,
    cache: Any,
    scale: float,
    mask: Any,
    sinks: Any = None,
) -> mx.array:
    """mlx-lm's function of this name, which also knows keys and values of formats apart.

    On a CPU device standard attention in float32 goes another way to the same numbers. Raises ValueError
    for attention sinks with keys or values that stay packed, as mlx-lm does.
    """
    if isinstance(cache, SplitKVCache) and not isinstance(cache, PackedKVCache | DequantizedKVCache):
        if sinks is not None:
            raise ValueError("Quantized SDPA does not support attention sinks.")
        return split_attention(queries, keys, values, cache, scale, mask)
    if not hasattr(cache, "bits") and cpu_kernels.attends(queries, keys, values, mask, sinks):
        return cpu_kernels.attend(queries, keys, values, scale, mask, sinks)
    return _STOCK_ATTENTION(queries, keys, values, cache, scale, mask, sinks)


def split_attention(
    queries: mx.array, keys: Any, values: Any, cache: SplitKVCache, scale: float, mask: mx.array | str | None
) -> mx.array:
    """Attention over what a SplitKVCache gives, each side by the product of its own format.

    ``queries`` (B, H, T, D), H a multiple of the cache's heads; ``mask`` "causal", or broadcastable to
    (B, H, T, S): booleans (True: seen) or numbers to add. Returns (B, H, T, dim of a value).
    """
    batch, heads, n, _ = queries.shape
    groups = (keys[0] if isinstance(keys, tuple) else keys).shape[-3]
    # Query heads that share keys are one axis, which the keys do not have.
    grouped = (queries * scale).reshape(batch, groups, heads // groups, n, -1)
    scores = _product(grouped, keys, cache.quantizers.keys, transpose=True)
    weights = mx.softmax(_masked(scores, mask), axis=-1, precise=True)
    out = _product(weights, values, cache.quantizers.values, transpose=False)
    return out.reshape(batch, heads, n, -1)


def _product(x: mx.array, stored: Any, quantizer: Quantizer | None, *, transpose: bool) -> mx.array:
    """``x`` (B, G, H/G, T, …) times one side of a cache (B, G, S, dim)."""
    if quantizer is None:
        whole = mx.expand_dims(stored, -3)
        return x @ (whole.swapaxes(-1, -2) if transpose else whole)
    parts = [mx.expand_dims(part, -3) for part in stored]
    return mx.quantized_matmul(
        x,
        *parts,
        transpose=transpose,
        group_size=quantizer.group_size,
        bits=quantizer.bits,
        mode=quantizer.mode,
    )


def _masked(scores: mx.array, mask: mx.array | str | None) -> mx.array:
    if mask is None:
        return scores
    _, groups, repeats, n, m = scores.shape
    if isinstance(mask, str):
        mask = mx.arange(m - n, m)[:, None] >= mx.arange(m)
    elif mask.ndim > 2 and mask.shape[-3] > 1:
        mask = mask.reshape(-1, groups, repeats, *mask.shape[-2:])
    elif mask.ndim > 2:
        mask = mx.expand_dims(mask, -3)
    if mask.dtype == mx.bool_:
        return mx.where(mask, scores, mx.finfo(scores.dtype).min)
    return scores + mask


def swiglu(gate: Any, x: Any) -> mx.array:
    """mlx-lm's function of this name; on a CPU device float32 goes another way to the same numbers."""
    return cpu_kernels.swiglu(gate, x) if cpu_kernels.floats(gate, x) else _STOCK_SWIGLU(gate, x)


_OURS: tuple[tuple[str, Any, Any], ...] = (
    ("scaled_dot_product_attention", _STOCK_ATTENTION, scaled_dot_product_attention),
    ("swiglu", _STOCK_SWIGLU, swiglu),
)


# How many hold each name of each namespace in place.
_holders: Counter[tuple[int, str]] = Counter()


@contextmanager
def installed(model: Any) -> Generator[None]:
    """Within it, ``model`` computes with this module's functions; mlx-lm is as it was afterwards.

    Models of one architecture share a module: it stays changed until the last of them is done.
    """
    # mlx-lm's modules import both by name, so each has its own reference to them.
    places = [
        (names, name, stock, ours)
        for names in _globals(model)
        for name, stock, ours in _OURS
        if names.get(name) in (stock, ours)
    ]
    for names, name, _, ours in places:
        _holders[id(names), name] += 1
        names[name] = ours
    try:
        yield
    finally:
        for names, name, stock, _ in places:
            _holders[id(names), name] -= 1
            if not _holders[id(names), name]:
                names[name] = stock


def _globals(model: Any) -> list[dict[str, Any]]:
    """The namespaces in which the methods of the model's parts look up names."""
    kinds = {kind for part in model.modules() for kind in type(part).__mro__}
    found = (
        function.__globals__
        for kind in kinds
        for function in vars(kind).values()
        if isinstance(function, FunctionType)
    )
    return list({id(names): names for names in found}.values())
