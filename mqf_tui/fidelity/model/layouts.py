"""What each layer of a model's cache keeps, from the configuration only (no mlx).

For plans, lists and proposals: the loaded model's own caches have the last word. What no rule here knows is
taken as full attention, which is never too little.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from mqf_tui.fidelity.model import architectures
from mqf_tui.fidelity.model.heads import Heads, group_of
from mqf_tui.fidelity.quantizers import LayerQuantizers
from mqf_tui.fidelity.recipes import BOUNDED, LayerKind

# Words in ``layer_types`` and the like; what none of them is in counts as full attention.
KINDS: tuple[tuple[str, LayerKind], ...] = (
    ("sliding", "sliding"),
    ("local", "sliding"),
    ("chunked", "chunked"),
    ("linear", "recurrent"),
    ("mamba", "recurrent"),
    ("recurrent", "recurrent"),
    ("conv", "recurrent"),
)
# Layers without a cache, in words and in the letters of ``hybrid_override_pattern``.
CACHELESS = frozenset({"mlp", "moe", "-", "E"})
LETTERS: dict[str, LayerKind] = {"M": "recurrent", "*": "full"}
TYPES = ("layers_block_type", "block_types", "_block_types", "layer_types")
WINDOWS = (
    *("sliding_window", "sliding_window_size", "attention_window_size", "loop_window_size", "window_size"),
)
SHARED = ("num_kv_shared_layers", "num_kv_reuse_layers")  # layers at the end that use an earlier one's cache
FOURTH_FULL: tuple[LayerKind, ...] = ("sliding", "sliding", "sliding", "full")
# What these do in turn where the configuration names no types.
IN_TURN: Mapping[str, tuple[LayerKind, ...]] = {
    "muse_glimmer": FOURTH_FULL,
    "olmo3": FOURTH_FULL,
    "spark2_5": FOURTH_FULL,
    "gpt_oss": ("sliding", "full"),
    "step3p5": ("sliding", "full"),
    "olmo_hybrid": ("recurrent", "recurrent", "recurrent", "full"),
}
CHUNKED_EVERY = 4  # the layer of Llama 4 that is not chunked


@dataclass(frozen=True)
class CacheLayer:
    """One layer of the cache: numbers that one token's keys and values take.

    ``bound``: tokens that it keeps at most, None where it grows with the context.
    """

    kind: LayerKind
    keys: int
    values: int
    bound: int | None = None

    def bytes(self, tokens: int, number_bytes: int, quantizers: LayerQuantizers | None = None) -> float:
        """Bytes that the layer holds of ``tokens`` tokens, in full precision or quantized."""
        kept = tokens if self.bound is None else min(tokens, self.bound)
        q = quantizers or LayerQuantizers()
        sides = ((self.keys, q.keys), (self.values, q.values))
        return kept * sum(
            n * (number_bytes if side is None else side.bytes_per_value(number_bytes)) for n, side in sides
        )


def cache_layers(config: dict[str, Any], heads: Heads) -> tuple[CacheLayer, ...]:
    """The layers of the cache of a model with this configuration, in their order."""
    if not config:
        plain = CacheLayer("full", heads.n_kv_heads * heads.head_dim, heads.n_kv_heads * heads.v_head_dim)
        return (plain,) * heads.n_layers
    return _Model(config, heads).layers()


@dataclass(frozen=True)
class _Model:
    config: dict[str, Any]
    heads: Heads

    @cached_property
    def inner(self) -> dict[str, Any]:
        return architectures.language_config(self.config)

    @cached_property
    def family(self) -> tuple[str, ...]:
        return architectures.family(self.config)

    @cached_property
    def latent(self) -> bool:
        return architectures.latent_attention(self.config)

    def layers(self) -> tuple[CacheLayer, ...]:
        special = architectures.special_caches(self.config)
        kinds = list(layer_kinds(self.config, self.heads.n_layers))
        made = [self._layer(i, kind) for i, kind in enumerate(kinds)]
        if blocks := _list(self.inner, "block_configs"):
            made = [layer for layer in made[: len(blocks)] if layer.keys]
        if "CacheList" in special:
            made = [self._composite(i, layer) for i, layer in enumerate(made)]
        if "LayerCache" in special:
            made = [replace(layer, kind="other", bound=None) for layer in made]
        if "iquestloopcoder" in self.family:  # each layer once more, with the window of a loop
            window = number(self.inner, *WINDOWS) or None
            made += [replace(layer, kind="sliding", bound=window) for layer in made]
        if "longcat_flash_ngram" in self.family:
            made.insert(0, CacheLayer("recurrent", 0, 0, 1))
        return tuple(made) * self._loops()

    def _layer(self, index: int, kind: LayerKind) -> CacheLayer:
        inner = self.inner
        keys, values = self._rows(index, kind)
        bounds = {
            "sliding": number(inner, *WINDOWS),
            "chunked": number(inner, "attention_chunk_size"),
            "recurrent": 1,
        }
        bound = bounds.get(kind) or None
        if bound is None and kind in BOUNDED:
            kind = "full"
        if kind == "full" and self.latent:
            latent, turned = number(inner, "kv_lora_rank"), number(inner, "qk_rope_head_dim")
            return CacheLayer("latent", latent, turned)
        return CacheLayer(kind, keys, values, bound)

    def _rows(self, index: int, kind: LayerKind) -> tuple[int, int]:
        """Numbers of one token's keys and values in one layer, where layers differ."""
        h, inner = self.heads, self.inner
        kv, head, v_head = h.n_kv_heads, h.head_dim, h.v_head_dim
        blocks = inner.get("block_configs")
        each = inner.get("num_kv_heads")
        if "gemma4_text" in self.family and kind == "full":
            head = v_head = number(inner, "global_head_dim") or head
            if inner.get("attention_k_eq_v") is True:
                kv = number(inner, "num_global_key_value_heads") or kv
        elif "mimo_v2_flash" in self.family and kind == "sliding":
            kv = number(inner, "swa_num_key_value_heads") or kv
            head, v_head = number(inner, "swa_head_dim") or head, number(inner, "swa_v_head_dim") or v_head
        elif "step3p5" in self.family and kind == "sliding":
            other = inner.get("attention_other_setting")
            kv = (number(other, "num_attention_groups") if isinstance(other, dict) else 0) or kv
        elif isinstance(blocks, list) and index < len(blocks):
            group = group_of(blocks[index])
            kv = h.n_heads // group if group else 0
        elif isinstance(each, list) and index < len(each) and type(each[index]) is int:
            kv = each[index]
        return kv * head, kv * v_head

    def _composite(self, index: int, layer: CacheLayer) -> CacheLayer:
        """One layer of several caches, of which those that hold keys and values count."""
        inner = self.inner
        keys, values, bound = layer.keys, layer.values, layer.bound
        if "longcat_flash" in self.family:
            keys, values = 2 * keys, 2 * values
        elif "deepseek_v32" in self.family:  # an indexer, which stores its keys twice
            keys, values = keys + number(inner, "index_head_dim"), values + number(inner, "index_head_dim")
        elif "minimax_m3_vl" in self.family:
            keys += _sparse_keys(inner, index)
        elif "baichuan_m1" in self.family and index in _list(inner, "sliding_window_layers"):
            bound = number(inner, *WINDOWS) or None
        return CacheLayer("composite", keys, values, bound)

    def _loops(self) -> int:
        if "nanbeige" not in self.family:
            return 1
        weights = _list(self.inner, "loop_loss_weights")
        return min(len(weights) + 1 if weights else number(self.inner, "num_loops") or 1, 64)


def layer_kinds(config: dict[str, Any], n_layers: int) -> tuple[LayerKind, ...]:
    """What each layer keeps, as far as the configuration tells: one entry per layer that has a cache."""
    found = tuple(_kinds(config, n_layers))
    inner = architectures.language_config(config)
    shared = max((number(inner, key) for key in SHARED if architectures.reads(config, key)), default=0)
    return found[: len(found) - shared] if shared < len(found) else found


def _kinds(config: dict[str, Any], n_layers: int) -> Sequence[LayerKind]:
    plain: tuple[LayerKind, ...] = ("full",) * n_layers
    if not config or not architectures.special_caches(config):
        return plain
    if architectures.recurrent_only(config):
        return ("recurrent",) * n_layers
    told = architectures.language_config(config)
    inner = {key: value for key, value in told.items() if architectures.reads(config, key)}
    for rule in _RULES:
        found = rule(inner, n_layers)
        if found:
            if architectures.keeps_plain_caches(config):
                return found
            return ["sliding" if kind == "full" else kind for kind in found]
    turns = (IN_TURN[module] for module in architectures.family(config) if module in IN_TURN)
    if turn := next(turns, None):
        return [turn[i % len(turn)] for i in range(n_layers)]
    return plain


Kinds = Sequence[LayerKind] | None


def _by_letters(inner: dict[str, Any], n_layers: int) -> Kinds:
    pattern = inner.get("hybrid_override_pattern")
    if isinstance(pattern, str | list):
        return [LETTERS.get(str(letter), "full") for letter in pattern if str(letter) not in CACHELESS]
    return None


def _by_types(inner: dict[str, Any], n_layers: int) -> Kinds:
    for key in TYPES:
        types = _list(inner, key)
        if types and "block_types" in key:  # over and over
            types = [types[i % len(types)] for i in range(n_layers)]
        if types and len(types) == n_layers:
            return [_kind(str(word)) for word in types if str(word) not in CACHELESS]
    return None


def _by_indices(inner: dict[str, Any], n_layers: int) -> Kinds:
    full = _list(inner, "full_attn_idxs")
    return ["full" if i in full else "recurrent" for i in range(n_layers)] if full else None


def _by_linear_layers(inner: dict[str, Any], n_layers: int) -> Kinds:
    """Kimi's counts its layers from one."""
    linear = inner.get("linear_attn_config")
    named = _list(linear, "kda_layers") if isinstance(linear, dict) else []
    return ["recurrent" if i + 1 in named else "full" for i in range(n_layers)] if named else None


def _by_flags(inner: dict[str, Any], n_layers: int) -> Kinds:
    flags = _list(inner, "hybrid_layer_pattern")
    return ["sliding" if flag == 1 else "full" for flag in flags] if len(flags) == n_layers else None


def _by_period(inner: dict[str, Any], n_layers: int) -> Kinds:
    period, offset = number(inner, "attn_layer_period"), number(inner, "attn_layer_offset")
    return [_full_if(i % period == offset, "recurrent") for i in range(n_layers)] if period else None


def _by_group(inner: dict[str, Any], n_layers: int) -> Kinds:
    """The last of each group is full, and so are all that make no whole group."""
    group = number(inner, "layer_group_size")
    if not group:
        return None
    whole = n_layers // group * group
    return [_full_if((i + 1) % group == 0 or i >= whole, "recurrent") for i in range(n_layers)]


def _by_step(inner: dict[str, Any], n_layers: int) -> Kinds:
    step = number(inner, "mamba_step")
    if step < 2 or inner.get("mamba_enabled") is False:
        return None
    return [_full_if(i % step == step // 2, "recurrent") for i in range(n_layers)]


def _by_pattern(inner: dict[str, Any], n_layers: int) -> Kinds:
    pattern = inner.get("sliding_window_pattern")
    if isinstance(pattern, str) and pattern:  # such as LLLG: local and global ones in turn
        return [_full_if(pattern[i % len(pattern)] == "G", "sliding") for i in range(n_layers)]
    every = number(inner, "sliding_window_pattern")
    return _every(every, "sliding", n_layers) if every else None


def _by_interval(inner: dict[str, Any], n_layers: int) -> Kinds:
    every = number(inner, "full_attention_interval")
    return _every(every, "recurrent", n_layers) if every else None


def _by_chunks(inner: dict[str, Any], n_layers: int) -> Kinds:
    return _every(CHUNKED_EVERY, "chunked", n_layers) if number(inner, "attention_chunk_size") else None


_RULES: tuple[Callable[[dict[str, Any], int], Kinds], ...] = (
    *(_by_letters, _by_types, _by_indices, _by_linear_layers, _by_flags, _by_period, _by_group, _by_step),
    *(_by_pattern, _by_interval, _by_chunks),
)


def _every(every: int, rest: LayerKind, n_layers: int) -> Sequence[LayerKind]:
    return [_full_if((i + 1) % every == 0, rest) for i in range(n_layers)]


def _full_if(full: bool, rest: LayerKind) -> LayerKind:
    return "full" if full else rest


def _kind(word: str) -> LayerKind:
    found: LayerKind | None = next((kind for part, kind in KINDS if part in word), None)
    return found or "full"


def _sparse_keys(inner: dict[str, Any], index: int) -> int:
    """Numbers of an indexer's key in one layer of MiniMax M3."""
    own = inner.get("sparse_attention_config")
    told = own if isinstance(own, dict) else {}
    if not (number(told, "sparse_block_size") or number(inner, "index_block_size")):
        return 0
    types = _list(inner, "layer_types")
    flags = _list(told, "sparse_attention_freq") or _list(inner, "sparse_attention_freq")
    sparse = types[index] != "full_attention" if index < len(types) else True
    if not types and index < len(flags):
        sparse = bool(flags[index])
    return (number(told, "sparse_index_dim") or number(inner, "index_head_dim")) if sparse else 0


def _list(config: dict[str, Any], key: str) -> list[Any]:
    entry = config.get(key)
    return entry if isinstance(entry, list) else []


def number(config: dict[str, Any], *keys: str) -> int:
    """The first of ``keys`` that is a positive whole number (a list counts by its largest); else 0."""
    for key in keys:
        entry = config.get(key)
        numbers = [n for n in (entry if isinstance(entry, list) else [entry]) if type(n) is int]
        if numbers and max(numbers) > 0:
            return max(numbers)
    return 0
