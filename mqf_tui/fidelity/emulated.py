"""Quantize and dequantize on the way into a model's own cache, whatever kind that is (mlx)."""

from __future__ import annotations

import copy
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.models.cache import ArraysCache, CacheList

from mqf_tui.fidelity.errors import UnsupportedModelError
from mqf_tui.fidelity.packed import rounded
from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer


class EmulatedCache:
    """Stands in front of a cache: what comes in is rounded as a quantizer would, all else is its own."""

    inner: Any
    quantizers: LayerQuantizers

    def __init__(self, inner: Any, quantizers: LayerQuantizers) -> None:
        vars(self).update(inner=inner, quantizers=quantizers)

    def update_and_fetch(self, keys: mx.array, values: mx.array) -> tuple[mx.array, mx.array]:
        """Store ``keys`` and ``values`` of shape (B, heads, T, dim), rounded; return what attention needs.

        Raises UnsupportedModelError where rows are no whole groups.
        """
        keys = fitting(keys, self.quantizers.keys, "keys")
        values = fitting(values, self.quantizers.values, "values")
        return self.inner.update_and_fetch(keys, values)

    def __getattr__(self, name: str) -> Any:
        if "inner" not in vars(self):  # while it is being copied
            raise AttributeError(name)
        return getattr(self.inner, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.inner, name, value)

    def __getitem__(self, index: Any) -> Any:
        return self.inner[index]

    def __setitem__(self, index: Any, value: Any) -> None:
        self.inner[index] = value


def fitting(rows: mx.array, quantizer: Quantizer | None, side: str) -> mx.array:
    """``rounded``, or UnsupportedModelError where rows are no whole groups."""
    dim = rows.shape[-1]
    if quantizer is not None and dim and not quantizer.fits(dim):
        raise UnsupportedModelError(
            f"the {side} of this model's cache have rows of {dim} numbers, which are no whole groups of "
            f"{quantizer.group_size}; use a group size that divides {dim}."
        )
    return rounded(rows, quantizer)


def emulated(cache: Any, quantizers: LayerQuantizers) -> Any:
    """One layer's own cache, empty or filled, with its keys and values rounded; ``cache`` stays as it is.

    Recurrent states are left alone. Raises UnsupportedModelError where a cache takes no keys and values.
    """
    own = copied(cache)
    if isinstance(own, CacheList):
        own.caches = tuple(
            part if isinstance(part, ArraysCache) else emulated(part, quantizers) for part in own.caches
        )
        return own
    if not hasattr(own, "update_and_fetch"):
        raise UnsupportedModelError(
            f"this model keeps its context in {type(own).__name__}, which takes no keys and values to "
            "quantize; leave those layers out with --layers, or choose another model."
        )
    for side in ("keys", "values"):
        rows = getattr(own, side, None)
        if rows is not None:
            setattr(own, side, fitting(rows, getattr(quantizers, side), side))
    return EmulatedCache(own, quantizers)


def copied(cache: Any) -> Any:
    """A cache that starts with the same arrays and then goes its own way.

    MLX's item assignment changes the Python object it is called on, so no two caches may share one;
    the memory behind is shared until one of them writes.
    """
    own = copy.copy(cache)
    vars(own).update(tree_map(_apart, dict(vars(cache))))
    return own


def _apart(value: Any) -> Any:
    if isinstance(value, mx.array):
        return value[...]
    return copied(value) if hasattr(value, "state") else value
