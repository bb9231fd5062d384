"""What the text can be coloured by: for each position a level, and what the levels mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.flips import CONFIDENT
from mqf_tui.fidelity.positions import Positions
from mqf_tui.reports.heatmap import EDGES

UNKNOWN = -128  # the level where a run does not know the number
HIGHEST = len(EDGES)  # the level of the most, up or down
Measure = Literal["kl", "delta_p", "entropy", "flip", "difference"]


@dataclass(frozen=True)
class Colouring:
    """A number of each position as levels: 0 under the first of ``edges``, one more from each edge on.

    ``signed``: numbers of either sign have levels; positive levels are the worse ones, those of positive
    numbers or, where ``less_is_worse``, of negative ones. Where there are fewer edges than HIGHEST, each
    counts for several levels.
    """

    measure: Measure
    title: str
    unit: str
    edges: tuple[float, ...]
    signed: bool = False
    less_is_worse: bool = False

    @property
    def spread(self) -> int:
        """How many of HIGHEST levels one of these takes."""
        return HIGHEST // len(self.edges)

    def levels(self, values: NDArray[Any]) -> NDArray[np.int8]:
        """The level of each value (n,): UNKNOWN where it is NaN, else up to HIGHEST either way."""
        found = (
            np.searchsorted(np.array(self.edges), np.abs(values.astype(np.float64)), "right") * self.spread
        )
        if self.signed:
            found = np.where((values < 0) != self.less_is_worse, -found, found)
        return np.where(np.isnan(values), UNKNOWN, found).astype(np.int8)

    def scale(self) -> list[tuple[int, str]]:
        """The levels from the lowest to the highest, and the least number of each in words."""
        rising = [(0, "0"), *((self.spread * n, f"{edge:g}") for n, edge in enumerate(self.edges, 1))]
        if not self.signed:
            return rising
        worse = -1 if self.less_is_worse else 1
        falling = [(-worse * level, f"−{word}") for level, word in rising[:0:-1]]
        return [*falling, *((worse * level, f"+{word}" if level else word) for level, word in rising)]


KL = Colouring("kl", "KL", "nats", EDGES)
DELTA_P = Colouring(
    "delta_p", "Δp", "of the text's own token", (0.01, 0.03, 0.1, 0.3), signed=True, less_is_worse=True
)
ENTROPY = Colouring("entropy", "entropy", "nats, reference", (0.1, 0.3, 0.6, 1.0, 2.0, 3.0, 4.0, 6.0))
FLIP = Colouring("flip", "flips", "", (1.0, 2.0))
DIFFERENCE = Colouring("difference", "KL", "nats", (0.01, 0.05, 0.2, 1.0), signed=True)
ALONE: Sequence[Colouring] = (KL, DELTA_P, ENTROPY, FLIP)


def flip_kinds(positions: Positions) -> NDArray[np.int8]:
    """0: no flip, 1: a flip, 2: a confident one (n,)."""
    flip = positions.flip
    # A probability that is not known makes no flip a confident one.
    return flip.astype(np.int8) + (flip & (positions.prob_ref >= CONFIDENT))


def values(positions: Positions, colouring: Colouring, rival_kl: NDArray[Any] | None = None) -> NDArray[Any]:
    """The number of each position (n,); ``rival_kl`` (n,): of the other run, NaN where it has none."""
    if colouring.measure == "flip":
        return flip_kinds(positions).astype(np.float32)
    if colouring.measure == "difference":
        if rival_kl is None:
            raise ValueError("a difference wants two runs")
        return difference(positions.kl, rival_kl)
    return getattr(positions, colouring.measure)


def difference(first: NDArray[Any], second: NDArray[Any]) -> NDArray[np.float64]:
    """``second`` less ``first`` (n,); 0 where both are infinite, NaN where either is."""
    x, y = first.astype(np.float64), second.astype(np.float64)
    return np.subtract(y, x, where=x != y, out=np.zeros_like(x))


def described(level: int, colouring: Colouring) -> str:
    """A level in words, for whoever sees no colours: ``level 5 of 8``."""
    if level == UNKNOWN:
        return "not known"
    n, most = level // colouring.spread, len(colouring.edges)
    n = -n if colouring.less_is_worse else n
    return (
        f"level {n} of {most}"
        if not colouring.signed
        else f"level {n:+d} of ±{most}".replace("+0", "0").replace("-", "−")
    )
