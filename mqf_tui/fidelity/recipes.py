"""Which quantizers each cache layer of one model gets (no mlx)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from mqf_tui.fidelity.errors import BadSettingError, UnsupportedModelError
from mqf_tui.fidelity.quantizers import LayerQuantizers, parsed
from mqf_tui.reports.text import counted

# What a cache layer of a model keeps: see caches.layer_kinds.
LayerKind = Literal["full", "sliding", "chunked", "recurrent", "latent", "composite", "other"]

FULL_ATTENTION = "full-attention"
ALL = "all"
# They hold the same however long the context is, so a token more costs no byte more.
BOUNDED: frozenset[LayerKind] = frozenset({"sliding", "chunked", "recurrent"})
KIND_WORDS: dict[LayerKind, str] = {
    "full": "full-attention",
    "sliding": "sliding-window",
    "chunked": "chunked-attention",
    "recurrent": "recurrent",
    "latent": "latent-attention",
    "composite": "composite",
    "other": "other",
}
MAX_WORDS = 4  # runs of layers that a sentence may list
_RANGE = re.compile(r"(\d{1,6})(?:(-)(\d{0,6}))?")
_WAYS_OUT = (
    f"use --layers {FULL_ATTENTION}, or --kernel emulated, which measures what the quantizer would cost"
)


@dataclass(frozen=True)
class Recipe:
    """One entry per layer of the model's cache, in its order."""

    layers: tuple[LayerQuantizers, ...]

    @classmethod
    def uniform(cls, n_layers: int, quantizers: LayerQuantizers) -> Recipe:
        """The same for every layer."""
        return cls((quantizers,) * n_layers)

    @property
    def n_quantized(self) -> int:
        """Layers of which keys or values are quantized."""
        return sum(not layer.full for layer in self.layers)

    @property
    def first_quantized(self) -> int:
        """Index of the first layer that is quantized; the number of layers where none is."""
        return next((i for i, layer in enumerate(self.layers) if not layer.full), len(self.layers))

    @property
    def sets(self) -> str:
        """The recipe as ``--layers`` takes it: runs of equal layers, such as ``0-3:8g64,4-29:k8v4g64``."""
        return ",".join(f"{span}:{layer.word}" for span, layer in runs(self))


def resolve(
    kinds: Sequence[LayerKind],
    main: LayerQuantizers,
    layers: str | None = None,
    *,
    group_size: int = 64,
    emulated: bool = False,
) -> Recipe:
    """The recipe that ``--layers`` means for a model with these cache layers.

    ``layers``: ``full-attention``, ``all``, or sets such as ``0-3:8,4-:k8v4g32``; a set without a format
    gets ``main``, and a layer in no set stays in full precision. None: the full-attention layers, or every
    quantizable one of an emulated model that has none of those. ``group_size`` is for formats that name
    none. Recurrent states are never quantized; bounded, latent and composite layers only where ``emulated``.

    Raises BadSettingError, and UnsupportedModelError where the model has no layer of the wanted kind.
    """
    match layers:
        case None:
            recipe = _every(kinds, main, "full" not in kinds, emulated)
        case word if word.strip().lower() == FULL_ATTENTION:
            recipe = _every(kinds, main, False, emulated)
        case word if word.strip().lower() == ALL:
            recipe = _every(kinds, main, True, emulated)
        case sets:
            recipe = Recipe(_from_sets(sets, len(kinds), main, group_size))
            check(recipe, kinds, emulated=emulated)
    if not recipe.n_quantized:
        raise BadSettingError(
            "no layer is quantized, so there is nothing to measure; use fewer bits than 16."
        )
    return recipe


def check(recipe: Recipe, kinds: Sequence[LayerKind], *, emulated: bool = False) -> None:
    """Raise BadSettingError where the recipe is of another model, or quantizes what cannot be."""
    if len(recipe.layers) != len(kinds):
        raise BadSettingError(
            f"the recipe has {counted(len(recipe.layers), 'layer')} and this model's cache has {len(kinds)}; "
            "use a recipe that was made for this model."
        )
    for index, (layer, kind) in enumerate(zip(recipe.layers, kinds, strict=True)):
        if layer.full or kind == "full" or (emulated and kind != "recurrent"):
            continue
        full = spans([i for i, k in enumerate(kinds) if k == "full"])
        has = f"the full-attention layers are {full}" if full else "it has no full-attention layers"
        if kind == "recurrent":
            raise BadSettingError(
                f"layer {index} keeps a recurrent state, which is never quantized; leave it out ({has})."
            )
        raise BadSettingError(f"layer {index} is a {KIND_WORDS[kind]} one ({has}); {_WAYS_OUT}.")


def layers_words(recipe: Recipe, kinds: Sequence[LayerKind]) -> str | None:
    """Which layers are quantized and why the rest is not; None where all are, and all alike."""
    n, n_quantized = len(recipe.layers), recipe.n_quantized
    formats = {layer for layer in recipe.layers if not layer.full}
    if n_quantized == n and len(formats) == 1:
        return None
    words = "all" if n_quantized == n else f"{n_quantized} of {n}"
    parts = [f"{words} {'layer' if n == 1 else 'layers'} quantized"]
    if len(formats) > 1:
        apart = [f"{span} at {layer.word}" for span, layer in runs(recipe) if not layer.full]
        parts[0] += f" ({', '.join(apart) if len(apart) <= MAX_WORDS else f'in {len(formats)} formats'})"
    left = Counter(k for k, layer in zip(kinds, recipe.layers, strict=True) if layer.full)
    for kind in sorted(BOUNDED & left.keys()):
        one = left[kind] == 1
        parts.append(
            f"the {left[kind]} {KIND_WORDS[kind]} {'one is' if one else 'ones are'} bounded and "
            f"{'stays' if one else 'stay'}"
        )
    if others := sum(count for kind, count in left.items() if kind not in BOUNDED):
        parts.append(f"{others} {'stays' if others == 1 else 'stay'} in full precision")
    return ", ".join(parts)


def kv_bytes_per_token(
    recipe: Recipe,
    n_kv_heads: int,
    head_dim: int,
    v_head_dim: int,
    number_bytes: int,
    kinds: Sequence[LayerKind] | None = None,
) -> float:
    """Bytes that one more token takes, over the layers that grow with the context.

    Σ over layers of n_kv_heads · (head_dim · bytes of a key's number + v_head_dim · those of a value's);
    see ``Quantizer.bytes_per_value``. Bounded layers (by ``kinds``; None: there are none) take nothing more.
    """
    total = 0.0
    for index, layer in enumerate(recipe.layers):
        if kinds is not None and kinds[index] in BOUNDED:
            continue
        for q, dim in ((layer.keys, head_dim), (layer.values, v_head_dim)):
            total += n_kv_heads * dim * (number_bytes if q is None else q.bytes_per_value(number_bytes))
    return total


def runs(recipe: Recipe) -> list[tuple[str, LayerQuantizers]]:
    """Neighbouring layers that are alike, as ``("0-3", …)``, in order."""
    alike = groupby(enumerate(recipe.layers), key=lambda pair: pair[1])
    return [(spans([i for i, _ in group]), layer) for layer, group in alike]


def spans(layers: Sequence[int]) -> str:
    """Ascending layer numbers in words: ``0-3,7``."""
    found: list[list[int]] = []
    for layer in layers:
        if found and layer == found[-1][-1] + 1:
            found[-1].append(layer)
        else:
            found.append([layer])
    return ",".join(str(s[0]) if len(s) == 1 else f"{s[0]}-{s[-1]}" for s in found)


def from_ranges(ranges: Mapping[str, LayerQuantizers], n_layers: int) -> Recipe:
    """A recipe from ranges such as ``0-3``, ``7`` or ``4-``; layers in none stay in full precision.

    Raises BadSettingError on a range that is none, is out of the model, or meets another.
    """
    given: dict[int, LayerQuantizers] = {}
    for word, quantizers in ranges.items():
        for index in _indices(word, n_layers):
            if index in given:
                raise BadSettingError(f"layer {index} is named twice among the layers; name each once.")
            given[index] = quantizers
    return Recipe(tuple(given.get(i, LayerQuantizers()) for i in range(n_layers)))


def _every(kinds: Sequence[LayerKind], main: LayerQuantizers, bounded: bool, emulated: bool) -> Recipe:
    """``main`` for the full-attention layers, or for all but the recurrent ones."""
    if not bounded and "full" not in kinds:
        raise UnsupportedModelError(
            "this model has no full-attention layers to quantize; use --layers all with --kernel emulated, "
            "which measures what the quantizer would cost."
        )
    chosen: set[LayerKind] = {kind for kind in kinds if kind == "full" or (bounded and kind != "recurrent")}
    if not chosen:
        raise UnsupportedModelError(
            "this model keeps recurrent states only, so it has no KV cache to quantize; choose a transformer."
        )
    if not emulated and chosen != {"full"}:
        counts: Counter[LayerKind] = Counter(kind for kind in kinds if kind in chosen and kind != "full")
        named = " and ".join(f"{n} {KIND_WORDS[kind]}" for kind, n in counts.items())
        noun = "layer" if sum(counts.values()) == 1 else "layers"
        only = f"--layers {FULL_ATTENTION}, or " if "full" in kinds else ""
        raise UnsupportedModelError(
            f"{named} {noun} of this model cannot hold a quantized cache; use {only}--kernel emulated, "
            "which measures what the quantizer would cost."
        )
    return Recipe(tuple(main if kind in chosen else LayerQuantizers() for kind in kinds))


def names_all_formats(layers: str | None) -> bool:
    """Whether layers are chosen by sets of which each names its format, so that nothing else says one."""
    words = [] if layers is None else layers.split(",")
    return bool(words) and all(":" in word for word in words)


def _from_sets(
    sets: str, n_layers: int, main: LayerQuantizers, group_size: int
) -> tuple[LayerQuantizers, ...]:
    ranges: dict[str, LayerQuantizers] = {}
    for item in sets.split(","):
        span, colon, word = (part.strip() for part in item.partition(":"))
        if span in ranges:
            raise BadSettingError(f"layers {span} are named twice in {sets!r}; name each once.")
        ranges[span] = parsed(word, group_size) if colon else main
    return from_ranges(ranges, n_layers).layers


def _indices(word: str, n_layers: int) -> range:
    found = _RANGE.fullmatch(word.strip())
    if not found:
        raise BadSettingError(
            f"{word!r} names no layers; use {FULL_ATTENTION}, {ALL}, or sets such as 0-3:8,4-:k8v4."
        )
    first = int(found[1])
    last = first if not found[2] else int(found[3]) if found[3] else n_layers - 1
    if max(first, last) >= n_layers:
        raise BadSettingError(
            f"layers {word} do not exist: this model's cache has {counted(n_layers, 'layer')}, "
            f"0 to {n_layers - 1}."
        )
    if last < first:
        raise BadSettingError(f"layers {word} run backwards; write {last}-{first}.")
    return range(first, last + 1)
