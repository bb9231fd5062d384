"""From what each layer costs alone to the table that formats are chosen from (no mlx).

Widths that were not measured follow a rule. A uniform quantizer of b bits rounds within a step of
(max - min)/(2^b - 1), so the variance of its error is proportional to (2^b - 1)^-2, and for small errors KL
is proportional to that variance. Between two measured widths log KL is interpolated linearly in
log(2^b - 1); outside of them the rule's own slope of -2 goes on from the nearest. What comes of a rule is
a prediction: a recipe is measured as a whole before anything is said of it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mqf_tui.fidelity.greedy import Choice, Option
from mqf_tui.fidelity.model.shapes import CacheLayer
from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer
from mqf_tui.fidelity.recipes import Recipe
from mqf_tui.fidelity.sensitivity import NUMBER_BYTES
from mqf_tui.reports.sensitivity_schema import CacheSide, Sensitivity

SLOPE = -2.0  # of log KL over log(2^b - 1)
FULL = "16"
RULE = (
    "KL at widths that were not measured alone is predicted: it falls as the variance of rounding does, with "
    "the square of the number of steps (2 to the power of bits, less 1), and between two measured widths it "
    "is interpolated on a log scale."
)


@dataclass(frozen=True)
class Table:
    """What may be done to each side of each layer. Bytes are KV bytes per token of a 16-bit cache.

    ``parts`` and ``options`` go together; ``fixed_bytes`` is what the layers take that are left as they are.
    """

    n_layers: int
    parts: tuple[tuple[int, CacheSide], ...]
    options: tuple[tuple[Option, ...], ...]
    quantizers: Mapping[str, Quantizer | None]
    fixed_bytes: float

    @classmethod
    def of(
        cls, sensed: Sequence[Sensitivity], bits: Sequence[int], group_size: int, cache: Sequence[CacheLayer]
    ) -> Table:
        """From sensitivities at one width or more, all of affine quantizers with ``group_size``."""
        candidates = [Quantizer(b, group_size) for b in sorted(set(bits), reverse=True)]
        words = {LayerQuantizers(q, q).word: q for q in candidates}
        measured = _by_part(sensed)
        options: list[tuple[Option, ...]] = []
        for (layer, side), known in measured.items():
            full = Option(FULL, 0.0, _bytes(cache[layer], side, None))
            made = (Option(w, kl_at(known, q.bits), _bytes(cache[layer], side, q)) for w, q in words.items())
            options.append((full, *made))
        tuned = {layer for layer, _ in measured}
        growing = [c for i, c in enumerate(cache) if i not in tuned and c.bound is None]
        return cls(
            n_layers=len(cache),
            parts=tuple(measured),
            options=tuple(options),
            quantizers={FULL: None, **words},
            fixed_bytes=sum(c.bytes(1, NUMBER_BYTES) for c in growing),
        )

    @property
    def full_bytes(self) -> float:
        """KV bytes per token where nothing is quantized."""
        return self.fixed_bytes + sum(options[0].bytes for options in self.options)

    def bytes(self, choice: Choice) -> float:
        """KV bytes per token of a choice, over all layers that grow."""
        return self.fixed_bytes + choice.bytes

    def recipe(self, choice: Choice) -> Recipe:
        """The choice as a recipe of the whole cache."""
        layers = [LayerQuantizers()] * self.n_layers
        for (layer, side), option in zip(self.parts, choice.options, strict=True):
            q, old = self.quantizers[option.format], layers[layer]
            layers[layer] = LayerQuantizers(
                q if side != "values" else old.keys, q if side != "keys" else old.values
            )
        return Recipe(tuple(layers))

    def choice(self, quantizers: LayerQuantizers) -> Choice:
        """The same two quantizers for every part; both must be among the candidates."""
        words = {q: word for word, q in self.quantizers.items()}
        wanted = {"keys": words[quantizers.keys], "values": words[quantizers.values]}
        wanted["both"] = wanted["keys"]
        return Choice(
            tuple(
                next(option for option in options if option.format == wanted[side])
                for (_, side), options in zip(self.parts, self.options, strict=True)
            )
        )


def kl_at(measured: Mapping[int, float], bits: int) -> float:
    """Mean KL at ``bits`` from that at one or more measured widths, by the rule of this module."""
    if bits in measured:
        return measured[bits]
    fewer = max((b for b in measured if b < bits), default=None)
    more = min((b for b in measured if b > bits), default=None)
    if fewer is not None and more is not None and measured[fewer] > 0 and measured[more] > 0:
        share = (_x(bits) - _x(fewer)) / (_x(more) - _x(fewer))
        return math.exp((1 - share) * math.log(measured[fewer]) + share * math.log(measured[more]))
    # Of two the one with more KL: what moves nothing tells nothing of other widths.
    near = max((b for b in (fewer, more) if b is not None), key=lambda b: measured[b])
    return measured[near] * math.exp(SLOPE * (_x(bits) - _x(near)))


def _x(bits: int) -> float:
    return math.log(2**bits - 1)


def _by_part(sensed: Sequence[Sensitivity]) -> dict[tuple[int, CacheSide], dict[int, float]]:
    from mqf_tui.fidelity.quantizers import parsed

    found: dict[tuple[int, CacheSide], dict[int, float]] = {}
    for sensitivity in sensed:
        quantizer = parsed(sensitivity.format).keys
        assert quantizer is not None
        for cost in sensitivity.layers:
            found.setdefault((cost.layer, cost.side), {})[quantizer.bits] = cost.kl.value
    return dict(sorted(found.items()))


def _bytes(layer: CacheLayer, side: CacheSide, q: Quantizer | None) -> float:
    one = NUMBER_BYTES if q is None else q.bytes_per_value(NUMBER_BYTES)
    numbers = (layer.keys if side != "values" else 0) + (layer.values if side != "keys" else 0)
    return numbers * one
