"""Everything that is known of a model without loading it, in words and as plain data (no mlx)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.model.architectures import attention_sinks
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.model.loaded import config_of
from mqf_tui.fidelity.model.shapes import CacheLayer, shape_of
from mqf_tui.fidelity.quantizers import FIXED, MODES, LayerQuantizers, Quantizer
from mqf_tui.fidelity.recipes import BOUNDED, KIND_WORDS, LayerKind
from mqf_tui.fidelity.settings import KV_BITS
from mqf_tui.reports.text import count_words, inert, size

LOAD_MARGIN = 1.1  # weights, and a little for caches and logits
FULL = 16  # bits of a number of a cache that is not quantized, as it is counted here
FULL_WORD = f"{FULL}-bit"


@dataclass(frozen=True)
class KVCost:
    """What one more token takes of a cache of this format, in bytes; ``quantizer`` None: full precision."""

    quantizer: Quantizer | None
    n_bytes: float

    @property
    def word(self) -> str:
        """``16-bit``, ``8-bit, group 64`` or ``mxfp4``."""
        q = self.quantizer
        if q is None:
            return FULL_WORD
        return f"{q.bits}-bit, group {q.group_size}" if q.mode == "affine" else q.mode


@dataclass(frozen=True)
class About:
    """The facts of a model, the layers of its cache, and whether its attention has sinks."""

    facts: ModelFacts
    cache: tuple[CacheLayer, ...]
    sinks: bool

    @classmethod
    def of(cls, facts: ModelFacts) -> About:
        """Its configuration is read once more; what that does not tell is taken as full attention."""
        try:
            config = config_of(facts)
        except FidelityError:
            config = {}
        return cls(facts, shape_of(facts, config).cache, bool(config) and attention_sinks(config))

    @property
    def kinds(self) -> dict[LayerKind, int]:
        """How many layers of each kind the cache has."""
        return dict(Counter(layer.kind for layer in self.cache))

    @property
    def window(self) -> int | None:
        """Tokens that a sliding-window layer keeps; None where there is none."""
        return max((one.bound or 0 for one in self.cache if one.kind == "sliding"), default=0) or None

    @property
    def quantizable(self) -> int:
        """Layers that mlx-lm can keep quantized."""
        return self.kinds.get("full", 0)

    @property
    def measured(self) -> str:
        """What can be measured, as a sentence with its reason; the refusal where nothing can."""
        if self.facts.refusal:
            return self.facts.refusal
        others = [f"{n} {KIND_WORDS[kind]}" for kind, n in self.kinds.items() if kind != "full"]
        if not self.quantizable:
            kinds = " and ".join(KIND_WORDS[kind] for kind in self.kinds)
            if set(self.kinds) <= {"recurrent"}:
                return f"nothing: its {kinds} layers keep no keys and values.".replace("  ", " ")
            return f"with --kernel emulated only: mlx-lm cannot quantize its {kinds} layers."
        sinks = ""
        if self.sinks:
            sinks = "; on a GPU not with --kernel quantized, since its attention has sinks"
        if not others:
            return f"every format, in all layers{sinks}."
        return (
            f"every format, in the {self.quantizable} full-attention layers; the {' and '.join(others)} ones "
            f"stay as they are{sinks}."
        )

    def load_bytes(self, is_cpu: bool) -> int:
        """Bytes of memory that it takes to load it: a CPU device computes in float32."""
        return load_bytes(self.facts, is_cpu)

    def cost(self, quantizer: Quantizer | None) -> KVCost:
        """Of one format, for keys and values alike, over the layers that grow and can have it."""
        grown = 0.0
        for layer in self.cache:
            if layer.kind not in BOUNDED:
                plain = layer.kind == "full" or not self.quantizable
                grown += layer.bytes(1, FULL // 8, LayerQuantizers(quantizer, quantizer) if plain else None)
        return KVCost(quantizer, grown)

    def costs(self) -> Iterator[KVCost]:
        """Of every format whose groups divide the model's heads, full precision first."""
        yield self.cost(None)
        for bits in sorted(KV_BITS, reverse=True):
            for group in self.facts.valid_groups:
                yield self.cost(Quantizer(bits, group))
        for mode in MODES:
            fixed = Quantizer.fixed(mode) if mode in FIXED else None
            if fixed is not None and fixed.fits(self.facts.head_dim) and fixed.fits(self.facts.v_head_dim):
                yield self.cost(fixed)

    def rows(self) -> Iterator[tuple[str, str]]:
        """Names and values of all facts but the costs, for people."""
        f = self.facts
        yield "architecture", inert(f.architecture)
        mixed = f.formats if f.weight_bits is not None else ()
        yield "weights", inert(mixed[0].words if mixed else f.weights)
        for one in mixed[1:]:
            n_matrices = sum(each.n_matrices for each in mixed)
            yield "", inert(f"{one.words} in {one.n_matrices} of {n_matrices} matrices: {one.where}")
        yield "parameters", count_words(f.n_parameters)
        yield "size on disk", size(f.size_bytes)
        yield "to load it", f"{size(self.load_bytes(False))} on a GPU, {size(self.load_bytes(True))} on a CPU"
        yield "measurable", inert(self.measured)
        yield "layers", f"{f.n_layers}{self._kinds_words()}"
        if self.window:
            yield "window", f"{self.window:,} tokens"
        if f.n_heads:
            latent = ", as latents (MLA)" if f.latent else ""
            own = f", values {f.v_head_dim}" if f.v_head_dim != f.head_dim else ""
            yield "heads", f"{f.n_heads}, {f.n_kv_heads} of K and V{latent}"
            yield "head size", f"{f.head_dim}{own}"
            yield "groups", ", ".join(map(str, f.valid_groups)) or "none fits"
        yield "vocabulary", f"{f.vocab_size:,}"
        yield "context", f"{f.context:,} tokens" if f.context else "not stated"
        yield "chat template", "yes" if f.chat_template else "none"
        yield "licence", inert(f.licence) or "not stated"
        if f.revision:
            yield "revision", f.revision[:12]

    def data(self) -> dict[str, Any]:
        """All facts under stable names, as plain data; sizes in bytes."""
        f = self.facts
        return {
            "architecture": f.architecture,
            "weights": f.weights,
            "weight_bits": f.weight_bits,
            "weight_group_size": f.weight_group_size,
            "weight_mode": f.weight_mode or None,
            "weight_formats": [vars(one) for one in f.formats],
            "dtype": f.dtype,
            "n_parameters": f.n_parameters,
            "size_bytes": f.size_bytes,
            "load_bytes": {"gpu": self.load_bytes(False), "cpu": self.load_bytes(True)},
            "n_layers": f.n_layers,
            "cache_layers": self.kinds,
            "sliding_window": self.window,
            "n_heads": f.n_heads,
            "n_kv_heads": f.n_kv_heads,
            "head_dim": f.head_dim,
            "v_head_dim": f.v_head_dim,
            "latent_attention": f.latent,
            "kv_groups": list(f.valid_groups),
            "vocab_size": f.vocab_size,
            "context": f.context,
            "chat_template": f.chat_template,
            "license": f.licence or None,
            "revision": f.revision or None,
            "measurable": self.measured,
            "kv_bytes_per_token": {cost.word: cost.n_bytes for cost in self.costs()},
        }

    def _kinds_words(self) -> str:
        said = ""
        for kind, n in self.kinds.items():
            if kind != "full":
                said += f", {'all' if n == len(self.cache) else n} {KIND_WORDS[kind]}"
        return said


def load_bytes(facts: ModelFacts, is_cpu: bool) -> int:
    """Bytes of memory that it takes to load a model, as far as its headers tell."""
    return int(LOAD_MARGIN * (facts.n_parameters * 4 if is_cpu else facts.size_bytes))
