"""Which columns of a table find room."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from rich.text import Text

PADDING = 2  # of a cell, both sides together
SCROLLBAR = 2
LAST = 10  # columns of this turn and later ones go only when cells have been made brief
BRIEF = ("verdict", "KL mean")  # cells that keep only their first field where there is no room, in this order


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


def taken(widths: Mapping[str, int]) -> int:
    """How many columns of text these columns of a table take."""
    return sum(width + PADDING for width in widths.values())


def narrowed(
    order: Mapping[str, int],
    rows: Sequence[dict[str, Text]],
    measure: Callable[[Sequence[str]], dict[str, int]],
    room: int,
) -> dict[str, int]:
    """The columns that find room and their widths; where too few go, cells in ``rows`` lose whole fields.

    ``measure``: the widths of all columns, given the names of those whose cells are brief.
    """
    early = staying(order)
    found = _fitted(early, measure(()), room)
    for n, name in enumerate(BRIEF, 1):
        if taken(found) <= room:
            return found
        for row in rows:
            row[name] = brief(row[name])
        found = _fitted(early, measure(BRIEF[:n]), room)
    return found if taken(found) <= room else _fitted(order, measure(BRIEF), room)


def staying(order: Mapping[str, int]) -> dict[str, int]:
    """``order``, but for the columns that do not go before cells are brief: they stay."""
    return {name: turn if turn < LAST else 0 for name, turn in order.items()}


def _fitted(order: Mapping[str, int], widths: Mapping[str, int], room: int) -> dict[str, int]:
    return {name: widths[name] for name in fitting(order, widths, room)}


def brief(cell: Text) -> Text:
    """Its first field: ``marginal`` of ``marginal >99%`` and of ``marginal, not settled``."""
    first = cell.plain.split(" ")[0].rstrip(",")
    return cell[: len(first)] if first else cell
