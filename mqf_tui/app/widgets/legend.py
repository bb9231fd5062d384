"""The scale of a heat-map on one line."""

from __future__ import annotations

from rich.text import Text

from mqf_tui.app.exploring.measures import DIFFERENCE, FLIP, HIGHEST, Colouring
from mqf_tui.app.widgets.heat import Heat

FLIP_NAMES = ("none", "flip", "confident flip")


def legend(colouring: Colouring, heat: Heat, width: int, right: str = "") -> Text:
    """The levels, each with its least number; the signs of flips where there is room; then ``right``."""
    found = Text(no_wrap=True, end="")
    title = "KL 2 − 1" if colouring is DIFFERENCE else colouring.title
    found.append(f"{title} ", style="bold")
    scale = list(zip(range(0, HIGHEST + 1, colouring.spread), FLIP_NAMES, strict=False))
    for level, word in scale if colouring is FLIP else colouring.scale():
        flip = level // colouring.spread if colouring is FLIP else 0
        found.append(f" {word.replace('0.', '.')} ", style=heat.style(level, flip))
    extras = [f" {colouring.unit}"] if colouring.unit else []
    room = width - len(right) - (1 if right else 0)
    for extra in extras:
        if found.cell_len + len(extra) <= room:
            found.append(extra)
    if colouring is not FLIP and found.cell_len + len("  flip  confident flip") <= room:
        found.append("  ")
        found.append("flip", style=heat.style(0, 1))
        found.append("  ")
        found.append("confident flip", style=heat.style(0, 2))
    if found.cell_len > room:
        found.truncate(max(0, room))
    found.append(" " * (width - len(right) - found.cell_len))
    found.append(right, style="bold")
    return found
