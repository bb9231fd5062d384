"""A grid of characters to draw pictures on where each point must be found again: by eye, key or mouse."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.style import Style
from rich.text import Text

UNTOUCHED = ""
FINE_STEPS = (1.0, 2.0, 5.0)  # ticks of a log axis that spans a decade or two
FINE_DECADES = 1.6
MOST_DECADES = 9.0


class Canvas:
    """``width`` times ``height`` cells; x counts from the left, y from the top. What lies outside is cut."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self._cells = [[UNTOUCHED] * width for _ in range(height)]
        self._styles: list[list[Style | None]] = [[None] * width for _ in range(height)]

    def put(self, x: int, y: int, sign: str, style: Style | None = None) -> None:
        """One character of one column; another is shown as ``?``."""
        if 0 <= x < self.width and 0 <= y < self.height:
            self._cells[y][x] = sign if cell_len(sign) == 1 and len(sign) == 1 else "?"
            self._styles[y][x] = style

    def write(self, x: int, y: int, words: str, style: Style | None = None) -> None:
        """Words from x on."""
        for place, sign in enumerate(words, x):
            self.put(place, y, sign, style)

    def at(self, x: int, y: int) -> str:
        """The character there; a blank where there is none."""
        inside = 0 <= x < self.width and 0 <= y < self.height
        return (self._cells[y][x] if inside else UNTOUCHED) or " "

    def free(self, x: int, y: int, n: int) -> bool:
        """Whether ``n`` cells from x on lie within and nothing was put there, not even a blank."""
        if not (0 <= y < self.height and x >= 0 and x + n <= self.width):
            return False
        return all(sign == UNTOUCHED for sign in self._cells[y][x : x + n])

    def line(self, start: tuple[int, int], end: tuple[int, int], sign: str, style: Style | None) -> None:
        """A straight line through cells that are free, both ends included."""
        (x, y), (to_x, to_y) = start, end
        n = max(abs(to_x - x), abs(to_y - y), 1)
        for i in range(n + 1):
            at_x, at_y = x + round((to_x - x) * i / n), y + round((to_y - y) * i / n)
            if self.free(at_x, at_y, 1):
                self.put(at_x, at_y, sign, style)

    def text(self) -> Text:
        """All of it."""
        drawn = Text(no_wrap=True, end="")
        for number, (signs, styles) in enumerate(zip(self._cells, self._styles, strict=True)):
            drawn.append("\n" if number else "")
            for words, style in _stretches(signs, styles):
                drawn.append(words, style)
        return drawn


def _stretches(signs: Sequence[str], styles: Sequence[Style | None]) -> Iterator[tuple[str, Style | None]]:
    """Neighbours of one style together."""
    start = 0
    for end in range(1, len(signs) + 1):
        if end == len(signs) or styles[end] != styles[start]:
            yield "".join(sign or " " for sign in signs[start:end]), styles[start]
            start = end


@dataclass(frozen=True)
class LogScale:
    """Positive values between ``low`` and ``high`` on ``cells`` cells; 0 on the first, +inf on the last."""

    low: float
    high: float
    cells: int

    @classmethod
    def over(cls, values: Sequence[float], cells: int) -> LogScale:
        """A scale that holds all positive finite values, with a little room; at most nine decades of them."""
        known = [math.log10(v) for v in values if 0 < v < math.inf] or [0.0]
        high = max(known)
        low = max(min(known), high - MOST_DECADES)
        room = max(0.05 * (high - low), 0.15)
        return cls(10.0 ** (low - room), 10.0 ** (high + room), cells)

    def at(self, value: float) -> int:
        """The cell of a value, counted from the low end."""
        if not value > self.low:
            return 0
        if value >= self.high:
            return self.cells - 1
        share = math.log10(value / self.low) / math.log10(self.high / self.low)
        return min(int(share * self.cells), self.cells - 1)

    def ticks(self, most: int) -> list[float]:
        """Round values in sight, at most about ``most``: powers of ten, and 2 and 5 times them where the
        scale is short."""
        low, high = math.log10(self.low), math.log10(self.high)
        steps = FINE_STEPS if high - low <= FINE_DECADES else (1.0,)
        found = [
            step * 10.0**k
            for k in range(math.floor(low), math.ceil(high) + 1)
            for step in steps
            if self.low <= step * 10.0**k <= self.high
        ]
        return found[:: max(1, math.ceil(len(found) / max(most, 1)))]


@dataclass(frozen=True)
class LinearScale:
    """Values between ``low`` and ``high`` on ``cells`` cells."""

    low: float
    high: float
    cells: int

    @classmethod
    def over(cls, values: Sequence[float], cells: int) -> LinearScale:
        """A scale that holds all values, with a little room at both ends."""
        least, most = min(values), max(values)
        room = 0.06 * ((most - least) or abs(most) or 1.0)
        return cls(least - room, most + room, cells)

    def at(self, value: float) -> int:
        """The cell of a value, counted from the low end."""
        share = (value - self.low) / (self.high - self.low)
        return min(max(int(share * self.cells), 0), self.cells - 1)

    def ticks(self, most: int) -> list[float]:
        """Round values in sight, at most ``most``."""
        raw = (self.high - self.low) / max(most, 1)
        scale = 10.0 ** math.floor(math.log10(raw))
        step = next(s * scale for s in (1, 2, 5, 10) if s * scale >= raw * (1 - 1e-9))
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def tick_word(value: float) -> str:
    """A tick of a log axis: ``0.02``, ``1e-6``."""
    if value == 0 or 1e-3 <= value < 1e4:
        return f"{value:g}"
    mantissa, _, exponent = f"{value:.0e}".partition("e")
    return f"{mantissa}e{int(exponent)}"
