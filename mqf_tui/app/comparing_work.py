"""The slow part of a comparison, in steps; each gives what is known by then. Not for the app's own thread."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from threading import Lock

from mqf_tui.app.comparing import Compared
from mqf_tui.fidelity.comparison import compare, shared
from mqf_tui.fidelity.comparison_details import Gap, details, widest_gap
from mqf_tui.fidelity.errors import BadSettingError, FidelityError
from mqf_tui.fidelity.pairing import Subject, UnpairedError, check_reference
from mqf_tui.fidelity.positions import Positions
from mqf_tui.library.runs import SavedRun
from mqf_tui.library.subjects import subject
from mqf_tui.reports.comparison_schema import Difference


class Reading:
    """The positions of the runs, each read once, from any thread."""

    def __init__(self, runs: Sequence[SavedRun]) -> None:
        self.runs = tuple(runs)
        self._read: dict[str, Positions | None] = {}
        self.problems: dict[str, str] = {}  # by the run's id
        self._lock = Lock()

    def positions(self, place: int) -> Positions | None:
        """Those of a run, or None where it has none that can be read."""
        run = self.runs[place]
        with self._lock:
            if run.id not in self._read:
                try:
                    found = subject(run).load()
                except FidelityError as error:
                    self.problems[run.id] = str(error)
                    found = None
                self._read[run.id] = found if found is not None and len(found) else None
            return self._read[run.id]

    def subject(self, place: int) -> Subject:
        """A run as a subject of a comparison."""
        run = self.runs[place]
        return Subject(run.id, run.report, lambda: self.positions(place))


def begun(runs: Sequence[SavedRun], baseline: int) -> Compared:
    """What the reports alone say; no file is read."""
    return Compared(
        tuple(run.report for run in runs), baseline, refused=_refused(runs, baseline), pending=True
    )


def compared(reading: Reading, baseline: int) -> Iterator[Compared]:
    """First every difference of means, then run by run those that take longer; of the last nothing pends."""
    runs = reading.runs
    start = begun(runs, baseline)
    others = [place for place in range(len(runs)) if place != baseline and place not in start.refused]
    found = compare([reading.subject(place) for place in (baseline, *others)])
    read = {place: p for place in range(len(runs)) if (p := reading.positions(place)) is not None}
    known = replace(
        start,
        comparison=found,
        pairs=dict(zip(others, found.pairs, strict=True)),
        problems=tuple(reading.problems.values()),
    )
    yield known
    first = reading.subject(baseline)
    more: dict[int, Mapping[str, Difference]] = {}
    for place, pair in known.pairs.items():
        if pair.paired and not pair.same_run:
            more[place] = details(*shared(first, read[baseline], reading.subject(place), read[place]))
            yield replace(known, details=dict(more))
    yield replace(known, details=more, pending=False)


def gap(reading: Reading, first: int, second: int) -> Gap | None:
    """Where two runs differ most: see ``widest_gap``. Raises FidelityError where they share no positions."""
    a, b = reading.positions(first), reading.positions(second)
    for place, positions in ((first, a), (second, b)):
        if positions is None:
            run = reading.runs[place]
            why = reading.problems.get(
                run.id, f"run {run.id} has no positions, so there is no place to go to."
            )
            raise FidelityError(why)
    assert a is not None
    assert b is not None
    try:
        return widest_gap(a, b)
    except UnpairedError as why:
        raise FidelityError(
            f"runs {first + 1} and {second + 1} cannot be set side by side: {why}; compare runs of one text."
        ) from why


def _refused(runs: Sequence[SavedRun], baseline: int) -> dict[int, str]:
    """By place, why a run cannot be compared with the baseline at all."""
    found: dict[int, str] = {}
    for place, run in enumerate(runs):
        try:
            check_reference(runs[baseline].report, run.report)
        except BadSettingError as why:
            found[place] = str(why)
    return found
