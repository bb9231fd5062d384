"""The likeliest tokens of positions: what was saved with the runs, and what was scored again since."""

from __future__ import annotations

from collections.abc import Mapping

from mqf_tui.fidelity.tops import Likeliest, Tops

MOST = 64  # lists of a run that were asked for; the oldest go first


class TopsKept:
    """Lists by run, each for some of the run's positions."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._saved: dict[str, Tops | None] = {}
        self._asked: dict[str, list[Tops]] = {}

    def has_saved(self, run: str) -> bool:
        """Whether it is known what was saved with a run."""
        return run in self._saved

    def add_saved(self, run: str, tops: Tops | None) -> None:
        """What was saved with a run."""
        self._saved[run] = tops

    def add(self, run: str, tops: Tops) -> None:
        """What was scored again of a run."""
        kept = self._asked.setdefault(run, [])
        kept.append(tops)
        del kept[: -self._most]

    def at(self, run: str, index: int) -> tuple[Likeliest, Likeliest] | None:
        """The lists (K,) of reference and variant at an index into a run's positions, None where unknown."""
        for tops in self._of(run):
            found = tops.at(index)
            if found is not None:
                return found
        return None

    def texts(self, run: str, index: int) -> Mapping[int, str]:
        """What the ids of the lists at that index spell."""
        return next((tops.texts for tops in self._of(run) if tops.at(index) is not None), {})

    def _of(self, run: str) -> list[Tops]:
        saved = self._saved.get(run)
        return [*([saved] if saved is not None else []), *reversed(self._asked.get(run, []))]


SESSION = TopsKept()
"""What this process knows: scoring again is slow, and a screen may be left and opened again."""
