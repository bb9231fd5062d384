"""One run, or two on the same text, as what the screen walks through."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.app.exploring.measures import flip_kinds
from mqf_tui.app.exploring.respelling import respelled
from mqf_tui.app.exploring.spelling import Spelling, spelled
from mqf_tui.fidelity.errors import FidelityError, SaveError
from mqf_tui.fidelity.pairing import UnpairedError, check_reference, check_streams, keys, shared_places
from mqf_tui.fidelity.positions import Positions
from mqf_tui.library.runs import SavedRun


@dataclass(frozen=True)
class Answer:
    """The positions of a run in reading order (n,), at least one.

    ``order`` (n,): the index of each into the run's own positions. ``starts`` (g,): the place at which each
    chunk begins.
    """

    run: SavedRun
    positions: Positions
    order: NDArray[np.int64]
    starts: NDArray[np.int64]
    spelling: Spelling

    def __len__(self) -> int:
        return len(self.positions)

    @cached_property
    def flips(self) -> NDArray[np.int8]:
        """0: no flip, 1: a flip, 2: a confident one (n,)."""
        return flip_kinds(self.positions)

    def chunk_at(self, place: int) -> int:
        """Which of the chunks, counted from 0, a place is in."""
        return int(np.searchsorted(self.starts, place, "right")) - 1

    def bounds(self, chunk: int) -> tuple[int, int]:
        """The places of the chunk counted ``chunk``, as a half-open range."""
        end = self.starts[chunk + 1] if chunk + 1 < len(self.starts) else len(self)
        return int(self.starts[chunk]), int(end)

    def part_name(self, place: int) -> str:
        """The name of the part of the corpus, as it was saved; empty where there is none."""
        names, part = self.positions.part_names, int(self.positions.part[place])
        return names[part] if 0 <= part < len(names) else ""

    def place_of_index(self, index: int) -> int | None:
        """The place of an index into the run's own positions."""
        found = np.flatnonzero(self.order == index)
        return int(found[0]) if len(found) else None


@dataclass(frozen=True)
class Beside:
    """Another run on the same text. ``at`` (n,): the place in ``answer`` of each place of the first run, -1
    where it has none; ``kl`` (n,): its KL there, NaN where it has none."""

    answer: Answer
    at: NDArray[np.int64]
    kl: NDArray[np.float64]


def read(run: SavedRun) -> Answer:
    """The answer of a run; raises SaveError where it has no positions, or none that can be read."""
    if run.report.origin is None and not run.has_positions:
        raise SaveError(
            f"run {run.id} was saved without its positions; measure it again to walk in its text."
        )
    positions = run.positions()
    if not len(positions):
        raise SaveError(f"run {run.id} has no position to show; measure it again.")
    positions = respelled(run.report, positions)
    order = np.arange(len(positions))
    place = keys(positions)
    if (np.diff(place) < 0).any():
        order = np.argsort(place, kind="stable")
        positions = positions.where(order)
    starts = np.concatenate(([0], np.flatnonzero(np.diff(positions.chunk)) + 1))
    return Answer(run, positions, order, starts, spelled(positions))


def beside(first: Answer, second: Answer) -> Beside:
    """The second run at the places of the first; raises SaveError where they cannot stand side by side."""
    if first.run.id == second.run.id:
        raise SaveError("that is the run that is shown already; choose another one.")
    try:
        check_reference(first.run.report, second.run.report)
        check_streams(first.run.report, second.run.report)
        shared = shared_places(first.positions, second.positions)
    except UnpairedError as why:
        raise SaveError(
            f"runs {first.run.id} and {second.run.id} cannot be read side by side: {why}."
        ) from why
    except SaveError:
        raise
    except FidelityError as why:
        raise SaveError(str(why)) from why
    at = np.full(len(first), -1, np.int64)
    at[shared.first] = shared.second
    kl: NDArray[Any] = np.full(len(first), np.nan)
    kl[shared.first] = second.positions.kl[shared.second]
    return Beside(second, at, kl)
