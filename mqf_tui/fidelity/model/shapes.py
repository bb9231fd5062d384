"""What one forward pass takes of a model, from its configuration and headers only (no mlx)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.model import architectures
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.model.heads import HIDDEN, Heads
from mqf_tui.fidelity.model.layouts import CacheLayer as CacheLayer
from mqf_tui.fidelity.model.layouts import cache_layers, number
from mqf_tui.fidelity.model.loaded import config_of
from mqf_tui.fidelity.quantizers import LayerQuantizers
from mqf_tui.fidelity.recipes import LayerKind

EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_USED = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k")


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
    """The shape of the model; what its configuration does not tell is taken as full."""
    try:
        config = config_of(facts)
    except FidelityError:
        config = {}
    return shape_of(facts, config)


def shape_of(facts: ModelFacts, config: dict[str, Any]) -> Shape:
    """The shape of a model with this configuration."""
    inner = architectures.language_config(config)
    hidden = number(inner, *HIDDEN)
    hidden = hidden or facts.n_heads * facts.head_dim
    head = facts.vocab_size * hidden
    tied = inner.get("tie_word_embeddings", True)
    body = facts.n_parameters - head * (1 if tied else 2) - _idle_experts(inner, facts, hidden)
    widest = number(inner, "intermediate_size", "n_inner", "ffn_dim") or 4 * hidden
    return Shape(
        n_heads=facts.n_heads,
        hidden=hidden,
        inner=max(widest, hidden),
        vocab_size=facts.vocab_size,
        body_parameters=max(body, facts.n_parameters // 100, 1),
        cache=cache_layers(config, _heads(facts)),
    )


def _heads(facts: ModelFacts) -> Heads:
    return Heads(facts.n_layers, facts.n_heads, facts.n_kv_heads, facts.head_dim, facts.v_head_dim)


def _idle_experts(inner: dict[str, Any], facts: ModelFacts, hidden: int) -> int:
    """Parameters of the experts that a position does not use: gate, up and down of each."""
    experts, used = number(inner, *EXPERTS), number(inner, *EXPERTS_USED)
    if experts <= used or not used:
        return 0
    width = number(inner, "moe_intermediate_size", "intermediate_size")
    layers = max(0, facts.n_layers - number(inner, "first_k_dense_replace"))
    return layers * (experts - used) * 3 * hidden * width
