"""What each layer alone costs as a strip: layers across, keys and values down, colour by mean KL."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from mqf_tui.reports.chart_parts import Chart, frame, label, rect
from mqf_tui.reports.markup import Markup, element, text_width, together
from mqf_tui.reports.sensitivity_schema import CacheSide, LayerCost, Sensitivity
from mqf_tui.reports.text import inert, kl

LEVELS = 9
_TOP, _LEFT, _HEIGHT, _WIDEST = 54.0, 58.0, 40.0, 34.0
_SIDES: tuple[CacheSide, ...] = ("keys", "values", "both")


def layer_strip(found: Sensitivity, width: float) -> Chart:
    """One cell a layer and side; the darker the worse, on a log scale from the least to the most."""
    heading = f"Each layer alone at {inert(found.format)}"
    costs = [cost for cost in found.layers if not math.isnan(cost.kl.value)]
    if not costs or found.n_layers < 1:
        said = "no layer was tried"
        return Chart(frame(heading, said, width), width, 42.0, f"{heading}: {said}.")
    sides = [side for side in _SIDES if any(cost.side == side for cost in costs)]
    # Layers beyond n_layers would be drawn outside; what is written has none.
    costs = [cost for cost in costs if 0 <= cost.layer < found.n_layers]
    scale = Scale.over(costs)
    column = min(_WIDEST, (width - _LEFT - 4) / found.n_layers)
    worst = max(costs, key=lambda cost: cost.kl.value, default=None)
    said = "mean KL in nats, the others in full precision; ringed: what hurts most"
    bottom = _TOP + _HEIGHT * len(sides)
    parts = [
        *(label(_LEFT - 8, _TOP + (i + 0.6) * _HEIGHT, side, "end") for i, side in enumerate(sides)),
        rect(_LEFT, _TOP, column * found.n_layers, _HEIGHT * len(sides), "empty"),
        *(_cell(cost, sides.index(cost.side), column, scale) for cost in costs),
        *([_ring(worst, sides.index(worst.side), column)] if worst else []),
        *_ticks(found.n_layers, column, bottom),
        *_legend(scale, bottom + 42, width),
    ]
    described = "; ".join(f"layer {cost.layer} {cost.side}: {kl(cost.kl.value)}" for cost in costs)
    return Chart(
        together([frame(heading, said, width), *parts]),
        width,
        bottom + 42 + 34,
        f"{heading}. {described}.",
    )


class Scale:
    """Nine levels, equal on a log scale between the least and the most of these costs."""

    def __init__(self, low: float, high: float) -> None:
        self.low, self.high = low, high

    @classmethod
    def over(cls, costs: Sequence[LayerCost]) -> Scale:
        """A scale of at least a decade, so that costs that are nearly alike look alike."""
        values = [c.kl.value for c in costs if 0 < c.kl.value < math.inf] or [1.0]
        return cls(min(min(values), max(values) / 10), max(values))

    def level(self, value: float) -> int:
        """The level of a mean KL, 0 to 8."""
        if value <= self.low:
            return 0
        if value >= self.high:
            return LEVELS - 1
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return min(int(share * LEVELS), LEVELS - 1)

    def edges(self) -> list[float]:
        """Where each level begins."""
        return [self.low * (self.high / self.low) ** (i / LEVELS) for i in range(LEVELS)]


def _cell(cost: LayerCost, row: int, column: float, scale: Scale) -> Markup:
    ends = f" ({kl(cost.kl.ci[0])} to {kl(cost.kl.ci[1])})" if cost.kl.ci else ""
    tip = element("title", f"layer {cost.layer}, {cost.side}: {kl(cost.kl.value)} nats{ends}")
    gap = 1 if column > 6 else 0
    return element(
        "rect",
        tip,
        x=_LEFT + cost.layer * column,
        y=_TOP + row * _HEIGHT,
        width=max(column - gap, 0.5),
        height=_HEIGHT - 1,
        class_=f"cell h{scale.level(cost.kl.value)}",
    )


def _ring(cost: LayerCost, row: int, column: float) -> Markup:
    return element(
        "rect",
        x=_LEFT + cost.layer * column - 1,
        y=_TOP + row * _HEIGHT - 1,
        width=column + 1,
        height=_HEIGHT + 1,
        class_="framed",
    )


def _ticks(n_layers: int, column: float, y: float) -> Iterator[Markup]:
    """Numbers of layers, as many as have room."""
    step = next((s for s in (1, 2, 5, 10, 20, 50, 100) if s * column >= 24), 200)
    for layer in range(0, n_layers, step):
        yield label(_LEFT + (layer + 0.5) * column, y + 16, str(layer), "middle", small=True)
    yield label(_LEFT - 8, y + 16, "layer", "end", small=True)


def _legend(scale: Scale, y: float, width: float) -> Iterator[Markup]:
    """The levels as one bar, with its ends and its middle in nats."""
    wide = min(260.0, width - _LEFT - 4) / LEVELS
    for i in range(LEVELS):
        yield rect(_LEFT + i * wide, y - 12, wide, 12, f"cell h{i}")
    edges = [*scale.edges(), scale.high]
    for i, anchor in ((0, "start"), (LEVELS // 2, "middle"), (LEVELS, "end")):
        x = _LEFT + (i + (0.5 if i == LEVELS // 2 else 0)) * wide
        words = kl(edges[i] if i != LEVELS // 2 else math.sqrt(scale.low * scale.high))
        if text_width(words, 12) * 3 < wide * LEVELS or i != LEVELS // 2:
            yield label(x, y + 15, words, anchor, small=True)
