"""Axes: values to places, and where to put ticks."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

SIDE = 40.0  # width of the columns for 0 and for +inf
MOST_DECADES = 16
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


@dataclass(frozen=True)
class LogAxis:
    """Decades ``low``…``high`` (powers of ten) between ``left`` and ``right``, with room for 0 and +inf."""

    low: int
    high: int
    left: float
    right: float
    zero: bool
    infinite: bool

    @classmethod
    def over(cls, values: Iterable[float], left: float, right: float, *, zero: bool = False) -> LogAxis:
        """An axis that holds all ``values`` (nats, 0 or more), the lowest left out beyond sixteen decades."""
        given = [v for v in values if not math.isnan(v)]
        finite = [v for v in given if 0 < v < math.inf] or [1.0]
        high = math.ceil(math.log10(max(finite)))
        low = math.floor(math.log10(min(finite)))
        low = max(min(low, high - 1), high - MOST_DECADES)
        under = any(v < 10.0**low for v in given)
        return cls(low, high, left, right, zero or under, any(v == math.inf for v in given))

    @property
    def start(self) -> float:
        """Where the lowest decade begins."""
        return self.left + (SIDE + 16 if self.zero else 0)

    @property
    def end(self) -> float:
        """Where the highest decade ends."""
        return self.right - (SIDE + 16 if self.infinite else 0)

    def at(self, value: float) -> float:
        """The place of a value; under the lowest decade it is the column for 0."""
        if value == math.inf:
            return self.right - SIDE / 2 if self.infinite else self.right
        if value < 10.0**self.low:
            return self.left + SIDE / 2 if self.zero else self.left
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + min(share, 1.0) * (self.end - self.start)

    def ticks(self, room: float) -> list[tuple[float, str]]:
        """Place and words of each labelled decade; ``room`` is what a label needs."""
        decades = self.high - self.low
        step = max(1, math.ceil(decades * room / (self.end - self.start)))
        return [(self.at(10.0**k), power(k)) for k in range(self.low, self.high + 1) if k % step == 0]


def power(k: int) -> str:
    """10 to the power k: ``0.01``, ``1``, ``10⁻⁶``."""
    return f"{10.0**k:g}" if -3 <= k <= 3 else "10" + str(k).translate(_SUPERSCRIPTS)


def nice_ticks(top: float, most: int) -> list[float]:
    """Round values from 0 to at least ``top``, at most ``most`` steps of them."""
    if not 0 < top < math.inf:
        return [0.0, 1.0]
    raw = top / most
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(s * scale for s in (1, 2, 5, 10) if s * scale >= raw * (1 - 1e-9))
    return [step * i for i in range(math.ceil(top / step - 1e-9) + 1)]


def tick_words(values: list[float]) -> list[str]:
    """The values of ``nice_ticks`` with as many digits as their step needs."""
    step = values[1]
    if step < 1e-4 or values[-1] >= 1e5:
        return [f"{v:.2g}" if v else "0" for v in values]
    digits = max(0, -math.floor(math.log10(step)))
    if round(step, digits) != step:
        digits += 1
    return [f"{v:.{digits}f}" if v else "0" for v in values]
