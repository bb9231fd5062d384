"""The caches of a recipe: made empty, converted from a full-precision one, and asked what they hold (mlx)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten
from mlx_lm.models.cache import (
    ArraysCache,
    CacheList,
    ChunkedKVCache,
    KVCache,
    QuantizedKVCache,
    RotatingKVCache,
    make_prompt_cache,
)
from mlx_lm.models.mla import MultiLinear, QuantizedMultiLinear

from mqf_tui.fidelity.emulated import EmulatedCache, copied, emulated
from mqf_tui.fidelity.errors import UnsupportedModelError, brief
from mqf_tui.fidelity.packed import DequantizedKVCache, PackedKVCache, SplitKVCache
from mqf_tui.fidelity.quantizers import Kernel, LayerQuantizers
from mqf_tui.fidelity.recipes import LayerKind, Recipe

Cache = list[Any]

_KINDS: dict[type, LayerKind] = {
    KVCache: "full",
    RotatingKVCache: "sliding",
    ChunkedKVCache: "chunked",
    ArraysCache: "recurrent",
    CacheList: "composite",
}
# What mlx-lm's models raise where they cannot compute with a cache.
_FAULTS = (ValueError, TypeError, AttributeError, NotImplementedError, RuntimeError)


def reference_cache(model: Any) -> Cache:
    """The full-precision cache of an empty chunk."""
    return make_prompt_cache(model)


def layer_kinds(model: Any) -> tuple[LayerKind, ...]:
    """What each cache layer of the model keeps."""
    latents = any(isinstance(part, MultiLinear | QuantizedMultiLinear) for part in model.modules())
    kinds = dict(_KINDS)
    if latents:
        kinds[KVCache] = "latent"
    return tuple(kinds.get(type(layer), "other") for layer in reference_cache(model))


def variant_cache(model: Any, recipe: Recipe, kernel: Kernel) -> Cache:
    """The quantized cache of an empty chunk (stress mode).

    ``kernel`` is not "auto". Raises UnsupportedModelError where a layer's cache cannot be quantized so.
    """
    return converted(reference_cache(model), recipe, kernel)


def converted(cache: Cache, recipe: Recipe, kernel: Kernel) -> Cache:
    """All that is stored, converted (deployment); ``cache`` itself stays as it is, and usable.

    ``kernel`` is not "auto". Raises UnsupportedModelError where a layer's cache cannot be quantized so.
    """
    pairs = zip(cache, recipe.layers, strict=True)
    return [_converted_layer(layer, quantizers, kernel) for layer, quantizers in pairs]


def _converted_layer(layer: Any, quantizers: LayerQuantizers, kernel: Kernel) -> Any:
    if quantizers.full:
        return copied(layer)
    if kernel == "emulated":
        return emulated(layer, quantizers)
    if type(layer) is not KVCache:
        raise UnsupportedModelError(
            f"this model keeps some of its context in {type(layer).__name__}, which cannot be quantized; "
            "use --layers full-attention, or --kernel emulated to measure what the quantizer would cost."
        )
    kind = DequantizedKVCache if kernel == "dequantized" else _quantized_kind(quantizers)
    if kind is QuantizedKVCache:
        assert quantizers.keys is not None
        return layer.to_quantized(group_size=quantizers.keys.group_size, bits=quantizers.keys.bits)
    return kind.of(layer, quantizers)


def _quantized_kind(quantizers: LayerQuantizers) -> Any:
    keys = quantizers.keys
    if keys is None or keys != quantizers.values or keys.mode != "affine":
        return SplitKVCache
    # mlx-lm's class allocates too few words a row for other widths.
    return QuantizedKVCache if 32 % keys.bits == 0 else PackedKVCache


def cache_name(recipe: Recipe, kernel: Kernel) -> str:
    """The variant's cache in words, for the report."""
    if kernel == "emulated":
        return (
            "emulated: the model's own caches, their keys and values quantized and dequantized on the way in"
        )
    if kernel == "dequantized":
        return "DequantizedKVCache: packed, and dequantized before standard attention"
    kinds = {_quantized_kind(layer) for layer in recipe.layers if not layer.full}
    names = {
        QuantizedKVCache: "QuantizedKVCache of mlx-lm",
        PackedKVCache: "PackedKVCache (mlx-lm's QuantizedKVCache, with room for every width)",
        SplitKVCache: "SplitKVCache (keys and values apart, attention by mx.quantized_matmul)",
    }
    return " and ".join(name for kind, name in names.items() if kind in kinds)


def check_cache(
    model: Any, recipe: Recipe, kernel: Kernel, vocab_size: int, *, deployment: bool | None = None
) -> None:
    """Score a few tokens with tiny caches; raise UnsupportedModelError where that cannot work.

    ``deployment``: whether the caches will be converted from a filled one, or be empty at first; None: both.
    Each pass reads all weights, so no more are made than this model needs.
    """
    tokens = mx.arange(4)[None] % vocab_size
    # Latents and states are attended to in another way one by one.
    pieces = [tokens] if set(layer_kinds(model)) == {"full"} else [tokens, tokens[:, :1]]
    try:
        tries: list[Cache] = []
        if deployment is not True:
            tries.append(variant_cache(model, recipe, kernel))
        if deployment is not False:
            cache = reference_cache(model)
            mx.eval(model(tokens, cache=cache))
            tries.append(converted(cache, recipe, kernel))
        for tried in tries:
            for piece in pieces:
                mx.eval(model(piece, cache=tried))
    except _FAULTS as error:
        words = _broken(model, tokens) or _refusal(recipe, kernel, error)
        raise UnsupportedModelError(words) from error


def _broken(model: Any, tokens: mx.array) -> str | None:
    """Why mlx-lm cannot run the model here at all, with its own cache; None where it can."""
    try:
        mx.eval(model(tokens, cache=reference_cache(model)))
    except _FAULTS as error:
        if "No Metal back-end" in str(error):
            return (
                "mlx-lm computes this model with kernels for Apple GPUs (Metal), which this machine does not "
                "have; measure it on a Mac, or choose another model."
            )
        return (
            f"mlx-lm cannot run this model, whatever its cache ({why(error)}); upgrade mlx-lm or choose "
            "another model."
        )
    return None


def _refusal(recipe: Recipe, kernel: Kernel, error: Exception) -> str:
    word = next((layer.word for layer in recipe.layers if not layer.full), "16")
    if "attention sinks" in str(error):
        return (
            "this model has attention sinks, which mlx-lm's quantized attention does not support; "
            "--kernel emulated or --kernel dequantized measures what the quantizer would cost."
        )
    if kernel == "emulated":
        return f"this model cannot run with an emulated {word} cache ({why(error)}); choose another model."
    if kernel == "dequantized":
        return (
            f"this model cannot run with a dequantized {word} cache ({why(error)}); try --kernel emulated, "
            "or another model."
        )
    return (
        f"mlx-lm cannot run this model with a {word} cache ({why(error)}); --kernel dequantized or "
        "--kernel emulated measures what the quantizer would cost."
    )


def why(error: BaseException) -> str:
    """What another library says went wrong, without the signatures that nanobind lists."""
    words = brief(error)
    for mark in (" The following argument types", " Invoked with"):
        words = words.partition(mark)[0]
    if words.startswith("'tuple' object") or "incompatible function arguments" in words:
        return "the model computes with its keys and values itself, which are packed there"
    return words.rstrip(".")


def bytes_per_token(cache: Cache) -> float:
    """Bytes of keys and values (scales and biases too) that a filled cache holds for one token.

    Only layers that grow with the context count. An emulated layer holds full precision, and counts so.
    """
    total = 0.0
    for layer in _layers(cache):
        if isinstance(layer, KVCache | QuantizedKVCache | SplitKVCache):
            # A cache hands out its whole room; only what is filled counts.
            held: Any = layer.state if isinstance(layer, SplitKVCache) else (layer.keys, layer.values)
            flat: Any = tree_flatten(held)
            total += sum(array.nbytes / array.shape[-2] for _, array in flat if array.size)
    return total


def nbytes(cache: Cache) -> int:
    """Bytes of all that a cache holds, its spare room too."""
    return sum(_nbytes(layer) for layer in _layers(cache))


def _nbytes(layer: Any) -> int:
    flat: Any = tree_flatten(layer.state)
    return sum(array.nbytes for _, array in flat if isinstance(array, mx.array))


def eval_cache(cache: Sequence[Any]) -> None:
    """Compute what the caches hold, and nothing else (no logits)."""
    mx.eval([layer.state for layer in cache])


def _layers(cache: Sequence[Any]) -> Iterator[Any]:
    """Every cache that holds arrays, out of its wrapping."""
    for layer in cache:
        if isinstance(layer, CacheList):
            yield from _layers(layer.caches)
        else:
            yield layer.inner if isinstance(layer, EmulatedCache) else layer
