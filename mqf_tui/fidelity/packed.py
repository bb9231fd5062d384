"""Caches whose keys and values are quantized, each side in a format of its own (mlx)."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import create_attention_mask

from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer

STEP = 256  # rows of room that a cache grows by, as in mlx-lm


def packed(rows: mx.array, quantizer: Quantizer) -> tuple[mx.array, ...]:
    """``mx.quantize`` of the last axis: words of 32 bits, scales, and biases where the format has them."""
    return tuple(mx.quantize(rows, group_size=quantizer.group_size, bits=quantizer.bits, mode=quantizer.mode))


def unpacked(parts: tuple[mx.array, ...], quantizer: Quantizer, dtype: mx.Dtype) -> mx.array:
    """What ``packed`` kept, as numbers of ``dtype``."""
    return mx.dequantize(
        *parts, group_size=quantizer.group_size, bits=quantizer.bits, mode=quantizer.mode, dtype=dtype
    )


def rounded(rows: mx.array, quantizer: Quantizer | None) -> mx.array:
    """Quantized and dequantized again; as they are without a quantizer, or where a row holds nothing."""
    if quantizer is None or not rows.shape[-1]:
        return rows
    return unpacked(packed(rows, quantizer), quantizer, rows.dtype)


class Side:
    """The keys or the values of one layer, shape (B, heads, T, dim): packed, or as they are."""

    def __init__(self, quantizer: Quantizer | None) -> None:
        self.quantizer = quantizer
        self.parts: tuple[mx.array, ...] = ()
        self.dtype: mx.Dtype = mx.float32

    def write(self, rows: mx.array, start: int) -> None:
        """Store ``rows`` from row ``start`` on; only they are quantized."""
        new = self._kept(rows)
        end = start + rows.shape[-2]
        if not self.parts or end > self.parts[0].shape[-2]:
            more = -(-rows.shape[-2] // STEP) * STEP
            self.parts = tuple(_widened(whole, part, start, more) for whole, part in self._beside(new))
        for whole, part in zip(self.parts, new, strict=True):
            whole[..., start:end, :] = part

    def fill(self, rows: mx.array) -> None:
        """Take ``rows`` for all that is stored."""
        self.parts = self._kept(rows)

    def read(self, end: int) -> tuple[mx.array, ...]:
        """The first ``end`` rows as they are stored: one array, or what ``mx.quantize`` gives."""
        return tuple(part[..., :end, :] for part in self.parts)

    def _kept(self, rows: mx.array) -> tuple[mx.array, ...]:
        self.dtype = rows.dtype
        return (rows[...],) if self.quantizer is None else packed(rows, self.quantizer)

    def _beside(self, new: tuple[mx.array, ...]) -> list[tuple[mx.array | None, mx.array]]:
        return list(zip(self.parts or (None,) * len(new), new, strict=True))

    @property
    def nbytes(self) -> int:
        """Bytes of all the room."""
        return sum(part.nbytes for part in self.parts)


def _widened(whole: mx.array | None, like: mx.array, end: int, more: int) -> mx.array:
    # Which width a row takes is asked of mx.quantize: where bits do not divide 32 it is no plain quotient.
    blank = mx.zeros((*like.shape[:-2], more, like.shape[-1]), dtype=like.dtype)
    return blank if whole is None else mx.concatenate([whole[..., :end, :], blank], axis=-2)


class SplitKVCache:
    """Keys and values apart, each packed by its own quantizer or kept in full precision.

    ``update_and_fetch`` gives what is stored: for a quantized side the tuple that ``mx.quantized_matmul``
    takes, for a full one the array. attention.py knows how to attend to them; mlx-lm does not.
    """

    def __init__(self, quantizers: LayerQuantizers) -> None:
        self.quantizers = quantizers
        self.offset = 0
        self.sides = Side(quantizers.keys), Side(quantizers.values)

    @classmethod
    def of(cls, cache: Any, quantizers: LayerQuantizers) -> SplitKVCache:
        """Everything that mlx-lm's plain ``cache`` holds, converted; ``cache`` stays as it is."""
        made = cls(quantizers)
        made.offset = cache.offset
        if cache.offset:
            for side, rows in zip(made.sides, cache.keys_and_values(), strict=True):
                side.fill(rows)
        return made

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Any, Any]:
        """Store ``keys`` and ``values`` of shape (B, heads, T, dim); return all so far."""
        start = self.offset
        self.offset += keys.shape[-2]
        for side, rows in zip(self.sides, (keys, values), strict=True):
            side.write(rows, start)
        return self.keys_and_values()

    def keys_and_values(self) -> tuple[Any, Any]:
        """All so far, as ``update_and_fetch`` gives it."""
        keys, values = (self._given(side) for side in self.sides)
        return keys, values

    def _given(self, side: Side) -> Any:
        parts = side.read(self.offset)
        return parts[0] if side.quantizer is None else parts

    @property
    def state(self) -> tuple[tuple[mx.array, ...], tuple[mx.array, ...]]:
        """The stored arrays of keys and of values."""
        return self.sides[0].parts, self.sides[1].parts

    @property
    def nbytes(self) -> int:
        """Bytes of all the room."""
        return sum(side.nbytes for side in self.sides)

    def make_mask(self, *args: Any, **kwargs: Any) -> Any:
        """As mlx-lm's plain cache."""
        return create_attention_mask(*args, offset=self.offset, **kwargs)

    def size(self) -> int:
        """Rows held."""
        return self.offset

    def empty(self) -> bool:
        """Whether nothing was stored yet."""
        return not self.offset


class PackedKVCache(SplitKVCache):
    """Keys and values in one affine format, as mlx-lm's QuantizedKVCache, with room for every width.

    The stock class allocates ``dim // (32 // bits)`` words a row, which is too few where ``bits`` does not
    divide 32. ``bits`` and ``group_size`` are what mlx-lm's own quantized attention asks a cache for.
    """

    def __init__(self, quantizers: LayerQuantizers) -> None:
        super().__init__(quantizers)
        assert quantizers.keys is not None
        self.bits, self.group_size = quantizers.keys.bits, quantizers.keys.group_size


class DequantizedKVCache(SplitKVCache):
    """Stored packed and handed out as numbers, so that standard attention runs (sinks and all)."""

    def _given(self, side: Side) -> Any:
        parts = side.read(self.offset)
        return parts[0] if side.quantizer is None else unpacked(parts, side.quantizer, side.dtype)
