"""Attention heads as a configuration gives them, whatever the keys that an architecture uses (no mlx)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from mqf_tui.fidelity.model import architectures

HEADS = ("num_attention_heads", "n_head", "n_heads", "num_heads", "num_query_heads")
KV_HEADS = ("num_key_value_heads", "n_kv_heads", "num_kv_heads", "num_attention_groups")
LAYERS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "num_transformer_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "model_dim", "hidden_dim")
HEAD_DIM = ("head_dim", "hidden_size_per_head")
LARGEST = 10**40  # products of larger ones are beyond a float


@dataclass(frozen=True)
class Heads:
    """Heads of a model, one figure for all layers: the largest where they differ.

    ``head_dim`` and ``v_head_dim``: numbers of one key and one value of a head. All but ``n_layers`` are 0 in
    a model without attention.
    """

    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    v_head_dim: int


def heads_of(config: dict[str, Any]) -> Heads:
    """The heads of the model of this configuration; raises ValueError where a number is impossible."""
    inner = architectures.language_config(config)
    layers = count(inner, *LAYERS, default=_listed(inner))
    if architectures.recurrent_only(config):
        return Heads(layers, 0, 0, 0, 0)
    heads = count(inner, *HEADS)
    head, v_head = _head_sizes(inner, heads)
    return Heads(layers, heads, _kv_heads(inner, heads), head, v_head)


def count(config: dict[str, Any], *keys: str, default: int = 0) -> int:
    """The first of ``keys`` that is there; a list (one value a layer) counts by its largest.

    Raises ValueError where it is no whole number, less than none or more than ``LARGEST``.
    """
    for key in keys:
        entry = config.get(key)
        value: Any = max(entry) if isinstance(entry, list) and entry else entry
        if value is not None:
            if isinstance(value, bool) or int(value) != value or not 0 <= value <= LARGEST:
                raise ValueError(f"{key} is {value!r}")
            return int(value)
    return default


def _kv_heads(config: dict[str, Any], heads: int) -> int:
    if config.get("multi_query") is True:
        return count(config, *KV_HEADS, default=1)
    if shared := count(config, "n_shared_head"):  # PLaMo: query heads that share one of keys
        return math.ceil(heads / shared)
    blocks = config.get("block_configs")
    if isinstance(blocks, list):  # Nemotron: each block has its own
        return max((heads // group for block in blocks if (group := group_of(block))), default=heads)
    nested = config.get("attn_config")
    if isinstance(nested, dict) and nested.get("kv_n_heads") is not None:  # DBRX
        return count(nested, "kv_n_heads")
    return count(config, *KV_HEADS, default=heads)


def group_of(block: Any) -> int:
    """Query heads that share keys in one block of Nemotron's; 0 where it has no attention."""
    attention = block.get("attention") if isinstance(block, dict) else None
    return count(attention, "n_heads_in_group") if isinstance(attention, dict) else 0


def _head_sizes(config: dict[str, Any], heads: int) -> tuple[int, int]:
    """Sizes of one key and one value as they lie in the cache."""
    plain = count(config, *HIDDEN) // max(heads, 1)
    turned, straight = count(config, "qk_rope_head_dim"), count(config, "qk_nope_head_dim")
    if turned and straight:
        return turned + straight, count(config, "v_head_dim", default=plain)
    head = count(config, *HEAD_DIM, default=plain)
    return head, count(config, "v_head_dim", default=head)


def _listed(config: dict[str, Any]) -> int:
    """Layers that are only told by what each is."""
    entries = (config.get(key) for key in ("hybrid_override_pattern", "layers_block_type", "layer_types"))
    return next((len(entry) for entry in entries if isinstance(entry, str | list)), 0)
