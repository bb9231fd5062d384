"""Which columns of a table find room."""

from __future__ import annotations

from collections.abc import Mapping

PADDING = 2  # of a cell, both sides together
SCROLLBAR = 2


def fitting(order: Mapping[str, int], widths: Mapping[str, int], room: int) -> list[str]:
    """The columns that find room, of these widths; the least important ones are left out.

    ``order``: the columns from left to right, each with its turn to go where there is no room (0: never).
    """
    shown = [name for name in order if name in widths]
    for name in sorted((n for n in shown if order[n]), key=lambda n: order[n]):
        if sum(widths[n] + PADDING for n in shown) <= room:
            break
        shown.remove(name)
    return shown
