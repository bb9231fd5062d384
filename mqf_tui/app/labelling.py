"""Tags and notes from a screen: ask, write, and know the way back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.fidelity.errors import FidelityError, SaveError
from mqf_tui.library.labels import set_note, set_tags
from mqf_tui.reports.text import counted, inert

T = TypeVar("T")


class Labelled(Protocol):
    """A saved run, or its row."""

    @property
    def id(self) -> str:
        """Its id."""
        ...

    @property
    def folder(self) -> Path:
        """Where it lies."""
        ...

    @property
    def tags(self) -> tuple[str, ...]:
        """Its tags."""
        ...

    @property
    def note(self) -> str:
        """Its note."""
        ...


def ask_tags(
    screen: BaseScreen, runs: Sequence[Labelled], known: Sequence[str], then: Callable[[], object]
) -> None:
    """Ask for the tags that these runs share; what is added or taken away is so on each. ``known``: tags in
    use; ``then`` is called when something was written."""
    from mqf_tui.app.screens.entry import TagsScreen

    shared = [tag for tag in runs[0].tags if all(tag in run.tags for run in runs)]

    def answered(tags: tuple[str, ...] | None) -> None:
        if tags is None or list(tags) == shared:
            return
        changed = [(run, _changed(run.tags, shared, tags)) for run in runs]
        _write(screen, "tags", [(run, run.tags, new) for run, new in changed if new != run.tags], set_tags)
        then()

    screen.app.push_screen(TagsScreen(_named(runs), shared, known), answered)


def ask_note(screen: BaseScreen, run: Labelled, then: Callable[[], object]) -> None:
    """Ask for the note of a run; ``then`` is called when it was written."""
    from mqf_tui.app.screens.entry import NoteScreen

    def answered(note: str | None) -> None:
        if note is None or note == run.note:
            return
        _write(screen, "note", [(run, run.note, note)], set_note)
        then()

    screen.app.push_screen(NoteScreen(_named([run]), run.note), answered)


def _changed(old: Sequence[str], shared: Sequence[str], wanted: Sequence[str]) -> tuple[str, ...]:
    """A run's tags where ``wanted`` takes the place of those that it shares with others."""
    own = [tag for tag in old if tag not in shared]
    return (*wanted, *(tag for tag in own if tag not in wanted))


def _write(
    screen: BaseScreen,
    what: str,
    changes: Sequence[tuple[Labelled, T, T]],
    write: Callable[[Path, T], object],
) -> None:
    """Write each change, as far as it goes, and remember how it was before."""
    written: list[tuple[Labelled, T]] = []
    try:
        for run, old, new in changes:
            write(run.folder, new)
            written.append((run, old))
    except FidelityError as error:
        screen.notify(str(error), severity="error", markup=False)
    if not written:
        return
    words = f"{what} of {_named([run for run, _ in written])}"

    def back() -> None:
        for run, old in written:
            if not run.folder.is_dir():
                raise SaveError(f"run {run.id} is not there any more.")
            write(run.folder, old)

    screen.mqf.undoing.did(f"The {words} as before.", back)


def _named(runs: Sequence[Labelled]) -> str:
    return inert(runs[0].id) if len(runs) == 1 else counted(len(runs), "run")
