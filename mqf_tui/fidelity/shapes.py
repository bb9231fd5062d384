"""What one forward pass takes of a model, from its configuration and headers only (no mlx)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mqf_tui.fidelity import architectures
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.facts import ModelFacts
from mqf_tui.fidelity.headers import read_config
from mqf_tui.fidelity.quantizers import LayerQuantizers
from mqf_tui.fidelity.recipes import BOUNDED, LayerKind

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_USED = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k")
# Words in ``layer_types``; what none of them is in counts as full attention.
KINDS: tuple[tuple[str, LayerKind], ...] = (
    ("sliding", "sliding"),
    ("local", "sliding"),
    ("chunked", "chunked"),
    ("linear", "recurrent"),
    ("mamba", "recurrent"),
    ("recurrent", "recurrent"),
    ("conv", "recurrent"),
)


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


@dataclass(frozen=True)
class Shape:
    """Sizes of one forward pass.

    ``body_parameters``: those that each position is multiplied with, the output head apart; of a mixture of
    experts only the experts that a position uses. ``inner``: the widest row between two layers.
    """

    n_heads: int
    hidden: int
    inner: int
    vocab_size: int
    body_parameters: int
    cache: tuple[CacheLayer, ...]

    @property
    def head_parameters(self) -> int:
        """Parameters of the output head."""
        return self.vocab_size * self.hidden

    @property
    def kinds(self) -> tuple[LayerKind, ...]:
        """The kind of each layer of the cache."""
        return tuple(layer.kind for layer in self.cache)

    def cache_bytes(
        self, tokens: int, number_bytes: int, quantizers: tuple[LayerQuantizers, ...] | None = None
    ) -> float:
        """Bytes of a whole cache of ``tokens`` tokens; ``quantizers`` one per layer, None: full precision."""
        each = quantizers or (LayerQuantizers(),) * len(self.cache)
        pairs = zip(self.cache, each, strict=True)
        return sum(layer.bytes(tokens, number_bytes, q) for layer, q in pairs)


def read_shape(facts: ModelFacts) -> Shape:
    """The shape of the model in ``facts.folder``; what its configuration does not tell is taken as full."""
    try:
        config = read_config(facts.folder)
    except FidelityError:
        config = {}
    return shape_of(facts, config)


def shape_of(facts: ModelFacts, config: dict[str, Any]) -> Shape:
    """The shape of a model with this configuration."""
    inner = architectures.language_config(config)
    hidden = _number(inner, "hidden_size", "n_embd", "d_model", "dim", "model_dim")
    hidden = hidden or facts.n_heads * facts.head_dim
    head = facts.vocab_size * hidden
    tied = inner.get("tie_word_embeddings", True)
    body = facts.n_parameters - head * (1 if tied else 2) - _idle_experts(inner, facts, hidden)
    widest = _number(inner, "intermediate_size", "n_inner", "ffn_dim") or 4 * hidden
    return Shape(
        n_heads=facts.n_heads,
        hidden=hidden,
        inner=max(widest, hidden),
        vocab_size=facts.vocab_size,
        body_parameters=max(body, facts.n_parameters // 100, 1),
        cache=tuple(_cache(facts, config)),
    )


def _cache(facts: ModelFacts, config: dict[str, Any]) -> Iterator[CacheLayer]:
    inner = architectures.language_config(config)
    keys, values = facts.n_kv_heads * facts.head_dim, facts.n_kv_heads * facts.v_head_dim
    if config and architectures.latent_attention(config):
        latent, turned = _number(inner, "kv_lora_rank"), _number(inner, "qk_rope_head_dim")
        yield from (CacheLayer("latent", latent, turned),) * facts.n_layers
        return
    window = _number(inner, "sliding_window", "sliding_window_size")
    bounds = {"sliding": window, "chunked": _number(inner, "attention_chunk_size"), "recurrent": 1}
    for kind in layer_kinds(config, facts.n_layers):
        bound = bounds.get(kind) or None
        yield CacheLayer(kind if bound or kind not in BOUNDED else "full", keys, values, bound)


def layer_kinds(config: dict[str, Any], n_layers: int) -> tuple[LayerKind, ...]:
    """What each layer of the cache keeps, as far as the configuration tells.

    A guess for plans and proposals: the loaded model's own caches have the last word.
    """
    plain: tuple[LayerKind, ...] = ("full",) * n_layers
    if not config or not architectures.special_caches(config):
        return plain
    inner = architectures.language_config(config)
    types = inner.get("layer_types")
    if isinstance(types, list) and len(types) == n_layers:
        return tuple(_kind(str(word)) for word in types)
    rest: LayerKind
    pattern = inner.get("sliding_window_pattern")
    if isinstance(pattern, str) and pattern:  # such as LLLG: local and global ones in turn
        return tuple("full" if pattern[i % len(pattern)] == "G" else "sliding" for i in range(n_layers))
    if every := _number(inner, "sliding_window_pattern"):
        rest = "sliding"
    elif every := _number(inner, "full_attention_interval"):
        rest = "recurrent"
    elif _number(inner, "attention_chunk_size"):
        every, rest = 4, "chunked"
    else:
        return plain
    return tuple("full" if (i + 1) % every == 0 else rest for i in range(n_layers))


def _kind(word: str) -> LayerKind:
    found: LayerKind | None = next((kind for part, kind in KINDS if part in word), None)
    return found or "full"


def _idle_experts(inner: dict[str, Any], facts: ModelFacts, hidden: int) -> int:
    """Parameters of the experts that a position does not use: gate, up and down of each."""
    experts, used = _number(inner, *EXPERTS), _number(inner, *EXPERTS_USED)
    if experts <= used or not used:
        return 0
    width = _number(inner, "moe_intermediate_size", "intermediate_size")
    layers = max(0, facts.n_layers - _number(inner, "first_k_dense_replace"))
    return layers * (experts - used) * 3 * hidden * width


def _number(config: dict[str, Any], *keys: str) -> int:
    """The first of ``keys`` that is a positive whole number (a list counts by its largest); else 0."""
    for key in keys:
        entry = config.get(key)
        numbers = [n for n in (entry if isinstance(entry, list) else [entry]) if type(n) is int]
        if numbers and max(numbers) > 0:
            return max(numbers)
    return 0
