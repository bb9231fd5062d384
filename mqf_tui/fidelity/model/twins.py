"""A model beside another one: the same arrays in modules of its own (mlx).

A measurement puts layers aside for a while, sets the mode of every module and may compute in another format.
On a twin it may; the model itself belongs to whoever loaded it.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map


def twin(model: nn.Module, dtype: Any = None) -> nn.Module:
    """A copy of ``model``'s modules, lists and dictionaries in evaluation mode; the arrays are the same ones.

    ``dtype``: the twin's floating-point parameters have this format. Those that had it already are shared,
    the others are made anew (and computed when first needed). What modules hold beside arrays and modules is
    shared as it is.
    """
    made: Any = _copied(model, {})
    if dtype is not None:
        made.update(tree_map(lambda array: _cast(array, dtype), made.parameters()))
    made.eval()
    return made


def _cast(array: mx.array, dtype: Any) -> mx.array:
    floating = mx.issubdtype(array.dtype, mx.floating) and array.dtype != dtype
    return array.astype(dtype) if floating else array


def _copied(value: Any, seen: dict[int, Any]) -> Any:
    """The value with modules and containers of its own; one that is there twice stays one."""
    if id(value) in seen:
        return seen[id(value)]
    if isinstance(value, nn.Module):
        kind: Any = type(value)
        made = seen[id(value)] = kind.__new__(kind)
        own = vars(value)
        vars(made).update({name: set(entry) if type(entry) is set else entry for name, entry in own.items()})
        dict.update(made, {key: _copied(entry, seen) for key, entry in dict.items(value)})
        return made
    if type(value) is dict:
        made = seen[id(value)] = {}
        made.update({key: _copied(entry, seen) for key, entry in value.items()})
        return made
    if type(value) is list:
        made = seen[id(value)] = []
        made.extend(_copied(entry, seen) for entry in value)
        return made
    if type(value) is tuple:
        return tuple(_copied(entry, seen) for entry in value)
    return value
