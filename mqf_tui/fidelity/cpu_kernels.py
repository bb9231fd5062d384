"""Attention and SwiGLU in float32 on a CPU device: exponentials by NumPy, over MLX's own memory.

MLX's portable CPU build takes one exponential after the other, which is most of what attention costs
there and a good part of a gated MLP; NumPy's are vectorised. Products stay MLX's, so that one BLAS has the
cores. Scores are made block by block and stay small at any window.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 21  # scores held at a time: 8 MiB
PIECE = 1 << 17  # scores that NumPy goes over at a time: they stay in the processor's cache
# Weights below exp(-64) of a row's largest are taken for that: however many, they change no bit of a float32
# sum, and what is smaller yet becomes subnormal, which processors multiply many times slower.
LEAST = np.float32(-64)

_Floats = NDArray[np.float32]
_Block = tuple[slice, slice, slice]  # groups, query heads of each, positions


def floats(*arrays: Any) -> bool:
    """Whether these are float32 arrays on a CPU device, which this module is for."""
    return mx.default_device() == mx.cpu and all(
        isinstance(a, mx.array) and a.dtype == mx.float32 for a in arrays
    )


def swiglu(gate: mx.array, x: mx.array) -> mx.array:
    """gate · sigmoid(gate) · x, elementwise, as mlx-lm's function of this name."""
    given, factor = _views(gate, x)
    out = np.negative(given)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        np.exp(out, out=out)
        out += 1
        np.divide(given, out, out=out)
        out *= factor
    return mx.array(out)


def attends(queries: Any, keys: Any, values: Any, mask: Any, sinks: Any) -> bool:
    """Whether ``attend`` computes this: float32 throughout on a CPU device, and a mask of a known kind."""
    if not floats(queries, keys, values, *([] if sinks is None else [sinks])):
        return False
    if isinstance(mask, mx.array):
        whole = mask.ndim and mask.shape[-1] == keys.shape[-2]
        return bool(whole) and mask.dtype in (mx.bool_, mx.float32) and mask.ndim <= 4
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
    shape = groups, heads // groups, n
    asked = (queries * scale).reshape(batch, *shape, dim)
    seen = _seen(mask, batch, shape)
    taken = None if sinks is None else _views(sinks.reshape(groups, -1, 1, 1))[0]
    out = np.empty((batch, *shape, values.shape[-1]), np.float32)
    for b in range(batch):
        for block in _blocks(*shape, m):
            out[b][block] = _attended(
                asked[b][block],
                keys[b, block[0]],
                values[b, block[0]],
                None if seen is None else seen[b][block],
                None if taken is None else taken[block[:2]],
            )
    return mx.array(out.reshape(batch, heads, n, -1))


def _attended(
    asked: mx.array, keys: mx.array, values: mx.array, seen: NDArray[Any] | None, sinks: _Floats | None
) -> _Floats:
    """One block: queries (g, r, t, D), keys (g, S, D), values (g, S, E); returns (g, r, t, E)."""
    shape = asked.shape[:3]
    product = asked.reshape(shape[0], -1, asked.shape[-1]) @ keys.swapaxes(-1, -2)
    scores = _views(product)[0].reshape(*shape, -1)
    if seen is not None:
        _hide(scores, seen)
    total = _weigh(scores, sinks)
    summed = _views(product @ values)[0]  # the product's memory holds the weights by now
    return summed.reshape(*shape, -1) / total


def _views(*arrays: mx.array) -> list[Any]:
    """NumPy's views of evaluated arrays: the same memory."""
    mx.eval(*arrays)
    return [np.array(a, copy=False) for a in arrays]


def _seen(mask: mx.array | str | None, batch: int, shape: tuple[int, int, int]) -> NDArray[Any] | None:
    """The mask, of shape (B, G, H/G, T, columns); it covers the last columns, as many as it has."""
    groups, repeats, n = shape
    if mask is None:
        return None
    # Only a step's own keys can lie in the future of one of its queries.
    array = np.tri(n, dtype=np.bool_) if isinstance(mask, str) else _views(mask)[0]
    wide = np.broadcast_to(array, (batch, groups * repeats, n, array.shape[-1]))
    return wide.reshape(batch, *shape, -1)


def _blocks(groups: int, repeats: int, n: int, m: int) -> Iterator[_Block]:
    """Pieces of (groups, repeats, n) rows, of at most BLOCK scores or one row each."""
    fit = max(1, BLOCK // m)
    rows = min(n, fit)
    heads = min(repeats, max(1, fit // n))
    some = min(groups, max(1, fit // (n * repeats)))
    for g in range(0, groups, some):
        for h in range(0, repeats, heads):
            for t in range(0, n, rows):
                yield (
                    slice(g, min(g + some, groups)),
                    slice(h, min(h + heads, repeats)),
                    slice(t, min(t + rows, n)),
                )


def _hide(scores: _Floats, seen: NDArray[Any]) -> None:
    """Apply the mask to the scores, in place."""
    covered = scores[..., scores.shape[-1] - seen.shape[-1] :]
    if seen.dtype == np.bool_:
        np.copyto(covered, np.finfo(np.float32).min, where=~seen)
    else:
        covered += seen


def _weigh(scores: _Floats, sinks: _Floats | None) -> _Floats:
    """Replace scores by their exponentials over the row's largest; return the rows' sums, (…, 1)."""
    m = scores.shape[-1]
    total = np.empty((*scores.shape[:-1], 1), np.float32)
    rows, sums = scores.reshape(-1, m), total.reshape(-1, 1)
    extra = None if sinks is None else np.broadcast_to(sinks, total.shape).reshape(-1, 1)
    some = max(1, PIECE // m)
    # What is not a number stays so, and is found in the logits.
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        for a in range(0, len(rows), some):
            piece = rows[a : a + some]
            largest = piece.max(-1, keepdims=True)
            if extra is not None:
                np.maximum(largest, extra[a : a + some], out=largest)
            piece -= largest
            np.maximum(piece, LEAST, out=piece)
            np.exp(piece, out=piece)
            piece.sum(-1, keepdims=True, out=sums[a : a + some])
            if extra is not None:
                sums[a : a + some] += np.exp(extra[a : a + some] - largest)
    return total
