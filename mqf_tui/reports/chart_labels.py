"""Where the names of points go, so that none lies on another, on a point or on its error bar."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from mqf_tui.reports.markup import text_width

SIZE = 12.0
HEIGHT = 14.0
_ROOMS = (11.0, 20.0, 32.0, 48.0, 66.0)
# Right and left of a point first, then above and below it, then aslant.
_WAYS = ((1, 0), (-1, 0), (0, -1), (0, 1), (1, -1), (1, 1), (-1, -1), (-1, 1))


class Box(NamedTuple):
    """A rectangle, ``y`` downwards."""

    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        """Whether the two have an inner point in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )

    def within(self, other: Box) -> bool:
        """Whether it lies in the other one."""
        return (
            self.left >= other.left
            and self.right <= other.right
            and self.top >= other.top
            and self.bottom <= other.bottom
        )


class Label(NamedTuple):
    """A name that found room: of which point, its box, and whether a line must lead there."""

    point: int
    box: Box
    led: bool


def placed(
    points: Sequence[tuple[float, float]], names: Sequence[str], taken: Iterable[Box], inside: Box
) -> Iterator[Label]:
    """A label for each point that has room for one, those named first before the others.

    ``taken``: what no label may cover. A point without room has no label; the caller says what it is.
    """
    covered = list(taken)
    for index, ((x, y), name) in enumerate(zip(points, names, strict=True)):
        found = _place(x, y, text_width(name, SIZE), covered, inside)
        if found is not None:
            box, led = found
            covered.append(box)
            yield Label(index, box, led)


def _place(x: float, y: float, width: float, taken: Sequence[Box], inside: Box) -> tuple[Box, bool] | None:
    for room in _ROOMS:
        for dx, dy in _WAYS:
            box = _box(x, y, width, dx, dy, room / math.hypot(dx, dy) if dx and dy else room)
            if box.within(inside) and not any(box.meets(other) for other in taken):
                return box, room > _ROOMS[1]
    return None


def _box(x: float, y: float, width: float, dx: int, dy: int, room: float) -> Box:
    middle_x, middle_y = x + dx * (room + width / 2), y + dy * (room + HEIGHT / 2)
    if not dx:
        middle_x = x
    if not dy:
        middle_y = y
    half = width / 2
    return Box(middle_x - half, middle_y - HEIGHT / 2, middle_x + half, middle_y + HEIGHT / 2)
