"""Which columns of the runs find room, how wide they are, and in which form their cells stand there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

# From left to right. Each name is the column's title too, but for those that have none.
ORDER = (
    "mark", "verdict", "signs", "model", "setting", "KL mean", "flips", "p99", "Δ ppl", "KV/token", "corpus",
    "tags", "when",
)  # fmt: skip
UNTITLED = ("mark", "signs")
CUT = ("model", "setting", "corpus", "tags")  # words that may lose their ends; numbers never do
RIGHT = ("KV/token", "Δ ppl")
EDGE = 1  # the blank before the first column
NO_LIMIT = 10_000


@dataclass(frozen=True)
class Wish:
    """A column in one of its forms (0: the shortest), at most ``limit`` columns of text wide."""

    name: str
    form: int = 0
    limit: int = NO_LIMIT


# In this order, each as far as there is room for it.
WISHES = (
    Wish("verdict"),
    Wish("mark"),
    Wish("KL mean"),
    Wish("setting", limit=10),
    Wish("signs"),
    Wish("model", limit=12),
    Wish("flips"),
    Wish("setting", limit=14),
    Wish("verdict", 1),
    Wish("KL mean", 1),
    Wish("when"),
    Wish("model", limit=18),
    Wish("tags", limit=10),
    Wish("flips", 1),
    Wish("corpus", limit=12),
    Wish("p99"),
    Wish("model", limit=24),
    Wish("p99", 1),
    Wish("setting", limit=28),
    Wish("tags", limit=24),
    Wish("KV/token"),
    Wish("when", 1),
    Wish("Δ ppl"),
    Wish("model", limit=48),
    Wish("corpus", limit=32),
)
FIRST = 11  # with two blanks between columns only where all up to here have room; else with one


@dataclass(frozen=True)
class Place:
    """A column that is shown."""

    name: str
    form: int
    width: int
    gap: int


def widest(rows: Iterable[Mapping[str, tuple[str, ...]]]) -> dict[str, tuple[int, ...]]:
    """The widest cell of each form of each column; columns that are empty in all rows are left out."""
    found: dict[str, tuple[int, ...]] = {"mark": (1,)}
    for row in rows:
        for name, forms in row.items():
            widths = tuple(map(cell_len, forms))
            before = found.get(name)
            found[name] = widths if before is None else tuple(map(max, before, widths))
    return {name: widths for name, widths in found.items() if any(widths)}


def layout(widths: Mapping[str, tuple[int, ...]], room: int, sorted_by: str = "") -> list[Place]:
    """The columns that find room, from left to right; the one that is sorted by goes before others."""
    wishes = [*WISHES[:2], *[w for w in WISHES if w.name == sorted_by and w.form == 0][:1], *WISHES[2:]]
    places, missed = _granted(wishes, widths, room, sorted_by, 2)
    if any(wish in missed for wish in wishes[:FIRST]):
        places, _ = _granted(wishes, widths, room, sorted_by, 1)
    return places


def _granted(
    wishes: Sequence[Wish], widths: Mapping[str, tuple[int, ...]], room: int, sorted_by: str, gap: int
) -> tuple[list[Place], list[Wish]]:
    found: dict[str, Place] = {}
    missed: list[Wish] = []
    for wish in wishes:
        if wish.name not in widths:
            continue
        title = 0 if wish.name in UNTITLED else len(wish.name) + 2 * (wish.name == sorted_by)
        width = max(title, min(widths[wish.name][wish.form], wish.limit))
        before = found.get(wish.name)
        if before is not None and before.form == wish.form and before.width >= width:
            continue
        trial = found | {wish.name: Place(wish.name, wish.form, width, gap)}
        if EDGE + sum(place.width + gap for place in trial.values()) - gap <= room:
            found = trial
        else:
            missed.append(wish)
    return [found[name] for name in ORDER if name in found], missed


def cell(place: Place, forms: Mapping[str, tuple[str, ...]]) -> str:
    """What stands in a column of a row."""
    words = forms[place.name][place.form]
    return cut(words, place.width) if place.name in CUT else words


def cut(words: str, width: int) -> str:
    """Words with their middle left out where they are wider: names of models differ at their ends."""
    if cell_len(words) <= width:
        return words
    end = (width - 1) // 3
    return f"{set_cell_size(words, width - 1 - end)}…{words[len(words) - end :]}"
