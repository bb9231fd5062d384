"""Attention in float32 on a CPU device: NumPy over MLX's own memory.

MLX's portable CPU build spends most of attention on the exponential, one number after the other; NumPy's
is vectorised. Scores are made block by block, so that they stay small at any window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 23  # scores held at a time: 32 MiB

_Floats = NDArray[np.float32]
_Rows = tuple[slice, slice]  # query heads of one group, and positions


def takes(queries: Any, keys: Any, values: Any, mask: Any, sinks: Any) -> bool:
    """Whether ``attend`` computes this: a CPU device, float32 throughout, and a mask of a known kind."""
    if mx.default_device() != mx.cpu:
        return False
    arrays = [queries, keys, values] + ([] if sinks is None else [sinks])
    if not all(isinstance(a, mx.array) and a.dtype == mx.float32 for a in arrays):
        return False
    if isinstance(mask, mx.array):
        return mask.dtype in (mx.bool_, mx.float32) and mask.ndim <= 4
    return mask is None or (mask == "causal" and queries.shape[-2] <= keys.shape[-2])


def attend(
    queries: mx.array,
    keys: mx.array,
    values: mx.array,
    scale: float,
    mask: mx.array | str | None,
    sinks: mx.array | None = None,
) -> mx.array:
    """softmax(scale · queries · keysᵀ + mask) · values, as ``mx.fast.scaled_dot_product_attention``.

    Shapes (B, H, T, D), (B, G, S, D) and (B, G, S, E) with H a multiple of G; ``mask`` "causal", or
    broadcastable to (B, H, T, S): booleans (True: seen) or numbers to add; ``sinks`` (H,): logits that
    take a share of each row's weight and give nothing. Returns (B, H, T, E).
    """
    batch, heads, n, dim = queries.shape
    groups, m = keys.shape[1:3]
    repeats = heads // groups
    q, k, v = _views((queries * scale).reshape(batch, groups, repeats, n, dim), keys, values)
    shown = _seen(mask, (batch, groups, repeats, n, m))
    taken = None if sinks is None else _views(sinks.reshape(groups, repeats, 1, 1))[0]
    out = np.empty((batch, groups, repeats, n, v.shape[-1]), np.float32)
    room = np.empty(min(repeats * n * m, max(BLOCK, m)), np.float32)
    for b, g in np.ndindex(batch, groups):
        for rows in _blocks(repeats, n, m):
            asked = q[b, g][rows]
            shape = (*asked.shape[:2], m)
            flat = room[: shape[0] * shape[1] * m].reshape(-1, m)
            np.matmul(asked.reshape(-1, dim), k[b, g].T, out=flat)
            if shown is not None:
                _hide(flat.reshape(shape), shown[b, g][rows])
            total = _weigh(flat.reshape(shape), None if taken is None else taken[g][rows[0]])
            out[b, g][rows] = np.matmul(flat, v[b, g]).reshape(*shape[:2], -1) / total
    return mx.array(out.reshape(batch, heads, n, -1))


def _views(*arrays: mx.array) -> list[Any]:
    """NumPy's views of evaluated arrays: the same memory."""
    mx.eval(*arrays)
    return [np.array(a, copy=False) for a in arrays]


def _seen(mask: mx.array | str | None, shape: tuple[int, ...]) -> NDArray[Any] | None:
    """The mask of shape (B, G, H/G, T, columns); it covers the last columns, as many as it has."""
    batch, groups, repeats, n, _ = shape
    if mask is None:
        return None
    # Only a step's own keys can lie in the future of one of its queries.
    array = np.tri(n, dtype=np.bool_) if isinstance(mask, str) else _views(mask)[0]
    wide = np.broadcast_to(array, (batch, groups * repeats, n, array.shape[-1]))
    return wide.reshape(batch, groups, repeats, n, -1)


def _blocks(repeats: int, n: int, m: int) -> Iterator[_Rows]:
    """The rows of one group in pieces of at most BLOCK scores, or of one row."""
    fit = max(1, BLOCK // m)
    some_heads, some_rows = min(repeats, max(1, fit // n)), min(n, fit)
    for head in range(0, repeats, some_heads):
        for row in range(0, n, some_rows):
            yield slice(head, min(head + some_heads, repeats)), slice(row, min(row + some_rows, n))


def _hide(scores: _Floats, seen: NDArray[Any]) -> None:
    """Apply the mask to the scores, in place."""
    covered = scores[..., scores.shape[-1] - seen.shape[-1] :]
    if seen.dtype == np.bool_:
        np.copyto(covered, np.finfo(np.float32).min, where=~seen)
    else:
        covered += seen


def _weigh(scores: _Floats, sinks: _Floats | None) -> _Floats:
    """Replace scores by their exponentials over the row's largest; return the rows' sums, (…, 1)."""
    largest = scores.max(-1, keepdims=True)
    if sinks is not None:
        largest = np.maximum(largest, sinks)
    with np.errstate(over="ignore", invalid="ignore"):  # what is not a number stays so, and is found later
        scores -= largest
        np.exp(scores, out=scores)
        total = scores.sum(-1, keepdims=True)
        return total if sinks is None else total + np.exp(sinks - largest)
