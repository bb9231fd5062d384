"""Which keys a footer shows where not all of them have room."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from rich.cells import cell_len
from textual.binding import ActiveBinding, Binding

from mqf_tui.app.actions import EVERYWHERE

PALETTE = len("▏: All ")  # what Textual puts at its right end


def fitted(
    active: Mapping[str, ActiveBinding],
    less: Sequence[str],
    room: int,
    display: Callable[[Binding], str],
    *,
    compact: bool,
) -> dict[str, ActiveBinding]:
    """The bindings, with those not shown that a footer of ``room`` columns has no room for.

    First go those of ``less`` (ids, in this order), then the last before the keys that hold everywhere.
    ``display``: what stands for a key; ``compact``: whether the keys stand close.
    """
    blanks = 2 if compact else 3
    found = dict(active)
    shown = {one.binding.action: one.binding for one in active.values() if one.binding.show}
    last = [one.id for one in reversed(shown.values()) if not (one.id or "").startswith(f"{EVERYWHERE}.")]
    for name in (*less, *last):
        widths = (cell_len(display(one)) + cell_len(one.description) + blanks for one in shown.values())
        if sum(widths) + PALETTE <= room:
            break
        gone = [key for key, one in found.items() if one.binding.id == name]
        for key in gone:
            shown.pop(found[key].binding.action, None)
            found[key] = found[key]._replace(binding=replace(found[key].binding, show=False))
    return found
