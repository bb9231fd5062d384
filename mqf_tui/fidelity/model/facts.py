"""What a model folder is and what can be measured on it, from its configuration and headers only."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqf_tui.fidelity import recipes
from mqf_tui.fidelity.errors import (
    BadSettingError,
    BrokenWeightsError,
    UnsupportedModelError,
)
from mqf_tui.fidelity.model import architectures, soundness, trust
from mqf_tui.fidelity.model.headers import (
    Weights,
    folder_name,
    hashes,
    parameters,
    read_config,
    read_weights,
    revision,
    weight_files,
)
from mqf_tui.fidelity.model.heads import Heads, count, heads_of
from mqf_tui.fidelity.model.papers import has_chat_template, licence_of
from mqf_tui.fidelity.model.weight_formats import (
    AFFINE,
    FLOATS,
    WeightFormat,
    default_format,
    own_groups,
    short_words,
    weight_formats,
)
from mqf_tui.fidelity.quantizers import LayerQuantizers
from mqf_tui.fidelity.recipes import BOUNDED, LayerKind, Recipe
from mqf_tui.fidelity.settings import KV_GROUP_SIZES, KVSettings

if TYPE_CHECKING:
    from mqf_tui.fidelity.model.shapes import Shape
    from mqf_tui.reports.schema import KVBytes

OWN_CACHES = frozenset({"LayerCache"})  # kinds that take no keys and values
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "tiktoken.model", "tekken.json")


@dataclass(frozen=True)
class ModelFacts:
    """One model folder. Sizes in bytes; ``context`` in tokens, None where the configuration has none.

    ``refusal`` is a sentence where no KV-cache measurement of it can work, whatever the setting.
    ``special`` names the kinds of cache beside the plain one that some layers may use, as far as mlx-lm's
    source tells; ``latent``: the cache holds compressed latents (MLA).
    ``revision`` is the commit of a snapshot in the hub's cache; for the hashes see ``headers.Weights``.
    ``weight_bits``, ``weight_group_size`` and ``weight_mode`` are the configuration's own, ``formats`` what
    the headers hold, empty where no matrix is quantized. ``licence``: empty where nothing tells.
    """

    folder: Path
    name: str
    architecture: str
    n_layers: int
    n_heads: int
    n_kv_heads: int
    head_dim: int
    v_head_dim: int
    vocab_size: int
    context: int | None
    weight_bits: int | None
    weight_group_size: int | None
    dtype: str
    size_bytes: int
    n_parameters: int
    content_hash: str
    refusal: str | None = None
    revision: str = ""
    config_hash: str = ""
    weights_hash: str = ""
    special: tuple[str, ...] = ()
    latent: bool = False
    weight_mode: str = ""
    formats: tuple[WeightFormat, ...] = ()
    chat_template: bool = False
    licence: str = ""

    @property
    def weights(self) -> str:
        """The weights in words: ``float16``, ``4-bit, group 64``, or ``4/6-bit, group 64`` of a mix."""
        if self.weight_bits is None:
            return self.dtype
        if self.formats:
            return short_words(self.formats)
        return WeightFormat(self.weight_bits, self.weight_group_size, self.weight_mode or AFFINE, 0).words

    @property
    def valid_groups(self) -> tuple[int, ...]:
        """The group sizes that divide this model's heads."""
        return tuple(g for g in KV_GROUP_SIZES if self.head_dim % g == 0 == self.v_head_dim % g)


def read_facts(
    folder: Path, name: str | None = None, *, trust_remote_code: bool = False, hashed: bool = True
) -> ModelFacts:
    """Read ``config.json``, then the weights' headers; ``name`` is what reports call the model.

    ``hashed``: the weights are sampled too, which takes longer; without, the hashes are empty: see
    ``identified``. Raises ModelNotFoundError, BrokenWeightsError, UnsupportedModelError, UntrustedCodeError.
    """
    config = read_config(folder)
    name = name or folder_name(folder)
    if glob.escape(str(folder)) != str(folder):
        raise UnsupportedModelError(
            f"the path of {name} has one of the characters * ? [ in it, with which mlx-lm finds no weights; "
            "rename the folder."
        )
    trust.check_code(folder, config, trust_remote_code)
    if not config.get("model_type"):
        raise UnsupportedModelError(
            f"config.json of {folder_name(folder)} names no model_type, so it is no language model; "
            "choose another folder."
        )
    if "model_file" not in config and not architectures.known(architectures.module_of(config)):
        raise UnsupportedModelError(
            f"the installed mlx-lm does not know the architecture {config['model_type']!r}; "
            "upgrade mlx-lm (pip install -U mlx-lm) or choose another model."
        )
    weights = read_weights(folder, hashed=hashed)
    if not any((folder / file).exists() for file in TOKENIZER_FILES):
        raise BrokenWeightsError(
            f"{folder_name(folder)} has no tokenizer (tokenizer.json or tokenizer.model); "
            "finish the download of the model."
        )
    soundness.check_files(folder)
    try:
        soundness.check_counts(config)
        soundness.check_fit(name, config, weights)
        return facts_from(folder, name, config, weights)
    except (ValueError, TypeError, ArithmeticError, LookupError, RecursionError) as error:
        # Both files may come from anywhere, so any value in them may be of any kind.
        raise UnsupportedModelError(
            f"the configuration or the weights' header of {folder_name(folder)} has an impossible value "
            f"({error}); download the model again."
        ) from error


def facts_from(folder: Path, name: str, config: dict[str, Any], weights: Weights) -> ModelFacts:
    """The facts of a configuration and what is known of the tensors.

    Raises ValueError, TypeError, ArithmeticError, LookupError or RecursionError where a value is impossible.
    """
    inner = architectures.language_config(config)
    heads = heads_of(config)
    vocabulary = count(inner, "vocab_size", "padded_vocab_size", default=_vocabulary(weights))
    bits, group, mode = default_format(config)
    special = architectures.special_caches(config)
    return ModelFacts(
        folder=folder,
        name=name,
        architecture=str(config["model_type"]),
        n_layers=heads.n_layers,
        n_heads=heads.n_heads,
        n_kv_heads=heads.n_kv_heads,
        head_dim=heads.head_dim,
        v_head_dim=heads.v_head_dim,
        vocab_size=vocabulary,
        context=count(inner, "max_position_embeddings", "n_positions", "max_seq_len", default=0) or None,
        weight_bits=bits,
        weight_group_size=group,
        dtype=_dtype(weights),
        size_bytes=weights.size_bytes,
        n_parameters=parameters(weights, group, own_groups(config)),
        content_hash=weights.content_hash,
        refusal=next(_refusals(config, heads, special), None),
        revision=revision(folder),
        config_hash=weights.config_hash,
        weights_hash=weights.weights_hash,
        special=tuple(sorted(special)),
        latent=architectures.latent_attention(config),
        weight_mode=mode,
        formats=weight_formats(config, weights),
        chat_template=has_chat_template(folder),
        licence=licence_of(folder),
    )


def identified(facts: ModelFacts) -> ModelFacts:
    """The facts with the hashes of what is in the model's folder; raises BrokenWeightsError, OSError."""
    content, config, weights = hashes(facts.folder, weight_files(facts.folder))
    return replace(facts, content_hash=content, config_hash=config, weights_hash=weights)


def check_setting(facts: ModelFacts, settings: KVSettings) -> None:
    """Raise UnsupportedModelError where this setting cannot work on this model; says what would."""
    recipe = settings.recipe
    layers = (settings.quantizers,) if recipe is None else recipe.layers
    if facts.refusal and OWN_CACHES.intersection(facts.special):
        raise UnsupportedModelError(facts.refusal)
    if facts.latent or (facts.n_heads and all(_fits(facts, layer) for layer in layers)):
        return
    if facts.refusal:
        raise UnsupportedModelError(facts.refusal)
    wrong = next(layer for layer in layers if not _fits(facts, layer))
    quantizer = wrong.values if wrong.keys is None or wrong.keys.fits(facts.head_dim) else wrong.keys
    group = quantizer.group_size if quantizer else 0
    fitting = " or ".join(map(str, facts.valid_groups))
    raise UnsupportedModelError(
        f"group size {group} does not divide the head size of {facts.head_dim} of this model; "
        f"use --kv-group-size {fitting}."
    )


def _fits(facts: ModelFacts, layer: LayerQuantizers) -> bool:
    sides = ((layer.keys, facts.head_dim), (layer.values, facts.v_head_dim))
    return all(quantizer is None or quantizer.fits(dim) for quantizer, dim in sides)


def check_length(facts: ModelFacts, chunk_length: int) -> None:
    """Raise BadSettingError where a chunk is longer than the model's context."""
    if facts.context and chunk_length > facts.context:
        raise BadSettingError(
            f"chunks of {chunk_length} tokens are longer than this model's context of {facts.context}; "
            f"use --chunk-length {facts.context} or less."
        )


def recipe_bytes_per_token(
    facts: ModelFacts,
    recipe: Recipe,
    kinds: Sequence[LayerKind],
    number_bytes: int,
    *,
    shape: Shape | None = None,
) -> float:
    """Bytes of keys and values that one token takes over the layers whose cache grows.

    ``number_bytes`` is the size of the cache's floating-point numbers: full-precision layers, and the scales
    and biases of affine groups. ``shape``: the model's, where it is known already; else the configuration is
    read. Where that tells of other layers than ``kinds``, it is only as good as its one figure for all.
    """
    from mqf_tui.fidelity.model.shapes import read_shape

    cache = (shape or read_shape(facts)).cache
    if len(cache) == len(recipe.layers) == len(kinds):
        told = zip(cache, kinds, recipe.layers, strict=True)
        growing = [(layer, q) for layer, kind, q in told if layer.bound is None and kind not in BOUNDED]
        return sum(layer.bytes(1, number_bytes, q) for layer, q in growing)
    dims = facts.n_kv_heads, facts.head_dim, facts.v_head_dim
    return recipes.kv_bytes_per_token(recipe, *dims, number_bytes, kinds)


def kv_bytes(
    facts: ModelFacts,
    recipe: Recipe,
    kinds: Sequence[LayerKind],
    number_bytes: int,
    *,
    shape: Shape | None = None,
) -> KVBytes:
    """The formula for the cache as it is here and for a 16-bit one; ``shape`` as in
    ``recipe_bytes_per_token``."""
    from mqf_tui.fidelity.model.shapes import read_shape
    from mqf_tui.reports.schema import KVBytes

    full, shape = Recipe.uniform(len(kinds), LayerQuantizers()), shape or read_shape(facts)

    def taken(by: Recipe, n_bytes: int) -> float:
        return recipe_bytes_per_token(facts, by, kinds, n_bytes, shape=shape)

    return KVBytes(
        reference=taken(full, number_bytes),
        variant=taken(recipe, number_bytes),
        number_bytes=number_bytes,
        reference_16bit=taken(full, 2),
        variant_16bit=taken(recipe, 2),
    )


def _refusals(config: dict[str, Any], heads: Heads, special: frozenset[str]) -> Iterator[str]:
    head, v_head = heads.head_dim, heads.v_head_dim
    if own := OWN_CACHES & special:
        yield (
            f"this {config['model_type']} model keeps its context in a cache of its own kind "
            f"({', '.join(sorted(own))}), which takes no keys and values to quantize; choose another model."
        )
    elif not all((heads.n_layers, heads.n_heads, heads.n_kv_heads, head, v_head)):
        yield (
            f"this {config['model_type']} model has no attention heads in its configuration, so it has no "
            "KV cache to quantize; choose a transformer model."
        )
    elif not any(head % g == 0 == v_head % g for g in KV_GROUP_SIZES):
        yield (
            f"its head size of {head if head % 32 else v_head} is not divisible by any group size "
            "(32, 64, 128), so MLX cannot quantize its KV cache; choose a model with heads of 64, 96 or 128."
        )


def _dtype(weights: Weights) -> str:
    kinds = Counter[str]()
    for (dtype, _), n in weights.kinds.items():
        kinds[dtype] += n
    return next((FLOATS[kind] for kind, _ in kinds.most_common() if kind in FLOATS), "unknown")


def _vocabulary(weights: Weights) -> int:
    return next((t.shape[0] for t in weights.tensors if "embed" in t.name and t.name.endswith("weight")), 0)
