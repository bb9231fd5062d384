"""In which order the runs are listed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from mqf_tui.library.index import RunRow

Key = tuple[object, ...]


@dataclass(frozen=True)
class Sorting:
    """By a column of the table; ``backwards``: the other way round than that column begins with."""

    column: str = "when"
    backwards: bool = False

    @property
    def words(self) -> str:
        """What comes first: ``newest first``."""
        return _WORDS[self.column][self.backwards]

    @property
    def falling(self) -> bool:
        """Whether the largest is first: what the arrow in the header tells."""
        return (self.column == "when") != self.backwards

    def next(self) -> Sorting:
        """By the next column."""
        names = list(_KEYS)
        return Sorting(names[(names.index(self.column) + 1) % len(names)])

    def by(self, column: str) -> Sorting:
        """By this column, or the other way round where it is so already; itself where it cannot be."""
        if column == self.column:
            return replace(self, backwards=not self.backwards)
        return Sorting(column) if column in _KEYS else self

    def ordered(self, rows: Iterable[RunRow]) -> list[RunRow]:
        """The rows, newest first, in this order; those whose figure is not known come last."""
        newest = sorted(rows, key=lambda row: (row.created, row.id), reverse=True)
        if self.column == "when":
            return newest[::-1] if self.backwards else newest
        key = _KEYS[self.column]
        known = [row for row in newest if key(row) is not None]
        unknown = [row for row in newest if key(row) is None]
        return sorted(known, key=lambda row: key(row) or (), reverse=self.backwards) + unknown


def _figure(read: Callable[[RunRow], float | None]) -> Callable[[RunRow], Key | None]:
    def key(row: RunRow) -> Key | None:
        value = read(row)
        return None if value is None or math.isnan(value) else (value,)

    return key


def _natural(words: str) -> Key:
    """Numbers in words by their size: ``4-bit`` before ``16-bit``."""
    return tuple(
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", words.casefold())
    )


# In the order in which the key for it goes through them.
_KEYS: dict[str, Callable[[RunRow], Key | None]] = {
    "when": lambda row: (row.created,),
    "KL mean": _figure(lambda row: row.kl),
    "flips": _figure(lambda row: row.flip_rate),
    "model": lambda row: (_natural(row.name), row.kl),
    "setting": lambda row: (_natural(row.short_setting), row.kl),
    "KV/token": _figure(lambda row: row.kv_bytes),
}
_WORDS = {
    "when": ("newest first", "oldest first"),
    "KL mean": ("least KL first", "most KL first"),
    "flips": ("least flips first", "most flips first"),
    "model": ("by model", "by model, backwards"),
    "setting": ("by setting", "by setting, backwards"),
    "KV/token": ("fewest KV bytes first", "most KV bytes first"),
}
