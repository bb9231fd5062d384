"""What is quantized, and how a cache for it is made (mlx)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map
from mlx_lm.models.cache import KVCache, QuantizedKVCache, make_prompt_cache

from mqf_tui.fidelity.errors import UnsupportedModelError, brief
from mqf_tui.fidelity.settings import KVSettings

Cache = list[Any]


class PackedKVCache(QuantizedKVCache):
    """mlx-lm's quantized cache with room for every width.

    The stock class allocates ``dim // (32 // bits)`` words a row, which is too few where ``bits`` does
    not divide 32. Here the room takes its shape from what ``mx.quantize`` returned.
    """

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[Any, Any]:
        """Quantize and store ``keys`` and ``values`` of shape (B, heads, T, dim); return all so far."""
        start, end = self.offset, self.offset + keys.shape[-2]
        new = tuple(mx.quantize(x, group_size=self.group_size, bits=self.bits) for x in (keys, values))
        held: Any = (self.keys, self.values) if self.keys is not None else None
        room = held[0][0].shape[-2] if held else 0
        if end > room:
            more = -(-(end - room) // self.step) * self.step

            def widen(part: mx.array, old: mx.array | None) -> mx.array:
                blank = mx.zeros((*part.shape[:-2], more, part.shape[-1]), dtype=part.dtype)
                return blank if old is None else mx.concatenate([old, blank], axis=-2)

            held = tree_map(widen, new, held) if held else tree_map(lambda part: widen(part, None), new)
        for whole, part in zip(held, new, strict=True):
            for target, piece in zip(whole, part, strict=True):
                target[..., start:end, :] = piece
        self.keys, self.values = held
        self.offset = end
        return tree_map(lambda x: x[..., :end, :], (self.keys, self.values))


def reference_cache(model: Any) -> Cache:
    """The full-precision cache of an empty chunk."""
    return make_prompt_cache(model)


def variant_cache(model: Any, settings: KVSettings) -> Cache:
    """The quantized cache of an empty chunk (stress mode)."""
    bits, group = settings.kv_bits, settings.kv_group_size
    kind = QuantizedKVCache if stock_holds(bits) else PackedKVCache
    return [kind(group_size=group, bits=bits) for _ in reference_cache(model)]


def converted(cache: Cache, settings: KVSettings) -> Cache:
    """The whole stored cache converted, as mlx-lm does it (deployment); ``cache`` itself stays as it is."""
    return [c.to_quantized(group_size=settings.kv_group_size, bits=settings.kv_bits) for c in cache]


def stock_holds(bits: int) -> bool:
    """Whether mlx-lm's own class allocates the right room for this width."""
    return 32 % bits == 0


def cache_name(settings: KVSettings) -> str:
    """The variant's cache in words, for the report."""
    if stock_holds(settings.kv_bits) or settings.quantize_start:
        return "QuantizedKVCache of mlx-lm"
    return f"PackedKVCache (mlx-lm's QuantizedKVCache, allocated for {settings.kv_bits} bits)"


def check_cache(model: Any, settings: KVSettings, vocab_size: int) -> None:
    """Score a few tokens with tiny caches; raise UnsupportedModelError where that cannot work."""
    kinds = sorted({type(c).__name__ for c in reference_cache(model) if type(c) is not KVCache})
    if kinds:
        raise UnsupportedModelError(
            f"this model keeps its context in {', '.join(kinds)}, which mlx-lm cannot quantize; "
            "only models whose every layer has a plain KV cache can be measured."
        )
    tokens = mx.arange(4)[None] % vocab_size
    try:
        cache = reference_cache(model)
        mx.eval(model(tokens, cache=cache))
        tried = converted(cache, settings) if settings.quantize_start else variant_cache(model, settings)
        mx.eval(model(tokens, cache=tried))
    except (ValueError, TypeError, AttributeError, NotImplementedError, RuntimeError) as error:
        raise UnsupportedModelError(
            f"mlx-lm cannot run this model with a {settings.kv_bits}-bit cache in groups of "
            f"{settings.kv_group_size} ({brief(error)}); try 8 bits, group 64, or another model."
        ) from error


def bytes_per_token(cache: Cache) -> float:
    """Bytes of keys and values (scales and biases too) that a filled cache holds for one token."""
    total = 0.0
    for layer in cache:
        # The stock class hands out its whole room; only what is filled counts.
        flat: Any = tree_flatten((layer.keys, layer.values))
        for _, array in flat:
            total += array.nbytes / array.shape[-2]
    return total


def eval_cache(cache: Sequence[Any]) -> None:
    """Compute what the caches hold, and nothing else (no logits)."""
    mx.eval([(c.keys, c.values) for c in cache])
