"""Deleted runs: ``trash/<id>.deleted-<time>`` in the data folder, for 30 days.

A run goes there and back by one rename, so no failure can leave half of it, and its folder stays as it was.
"""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from mqf_tui.fidelity.errors import SaveError
from mqf_tui.library.files import subfolders, sync_folder
from mqf_tui.library.runs import SavedRun, data_dir, find_run, try_load

KEPT = timedelta(days=30)
PURGING = ".purging-"
_NAME = re.compile(r"(?P<id>.+)\.deleted-(?P<when>[0-9]{8}T[0-9]{6}Z)", re.DOTALL)
_WHEN = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True)
class DeletedRun:
    """A run in the trash: ``run`` is as it was, or the reason why it cannot be read."""

    id: str
    folder: Path
    deleted: datetime
    run: SavedRun | str

    @property
    def gone_after(self) -> datetime:
        """From then on a purge removes it."""
        return self.deleted + KEPT


def delete_runs(
    run_ids: Sequence[str], root: Path | None = None, now: datetime | None = None
) -> list[DeletedRun]:
    """Move runs to the trash, all of them or, where a step fails, none; raises SaveError.

    Named by id, the beginning of it, or ``last``; a damaged run can be deleted too. What is older than 30
    days in the trash goes for good afterwards.
    """
    when = now or datetime.now(UTC)
    folders = list(dict.fromkeys(find_run(run_id, root) for run_id in run_ids))
    trash = _trash(root)
    moves = [(folder, trash / f"{folder.name}.deleted-{when:{_WHEN}}") for folder in folders]
    try:
        trash.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _failed("deleted", trash, error) from error
    _move("deleted", moves)
    moved = [_deleted(target) for _, target in moves]
    purge(root, when)
    return [run for run in moved if run is not None]


def restore_runs(run_ids: Sequence[str], root: Path | None = None) -> list[str]:
    """Move runs back out of the trash, all or none, and give their ids; raises SaveError.

    Named by id, the beginning of it, or ``last`` for the one deleted last.
    """
    chosen = list({run.folder: run for run in (_find(run_id, root) for run_id in run_ids)}.values())
    runs = (root or data_dir()) / "runs"
    moves = [(run.folder, runs / run.id) for run in chosen]
    for run, (_, target) in zip(chosen, moves, strict=True):
        if target.exists() or len([m for m in moves if m[1] == target]) > 1:
            raise SaveError(
                f"run {run.id} cannot be restored, since there is a run of that id; delete or rename "
                f"{target} first."
            )
    try:
        runs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _failed("restored", runs, error) from error
    _move("restored", moves)
    return [run.id for run in chosen]


def deleted_runs(root: Path | None = None, now: datetime | None = None) -> list[DeletedRun]:
    """What is in the trash, deleted last first; what is older than 30 days goes for good before."""
    purge(root, now)
    found = (_deleted(folder) for folder in subfolders(_trash(root)))
    return sorted(
        (run for run in found if run is not None), key=lambda run: (run.deleted, run.id), reverse=True
    )


def purge(root: Path | None = None, now: datetime | None = None) -> None:
    """Remove for good what was deleted more than 30 days ago. A failure is no matter: the next one comes."""
    trash, when = _trash(root), now or datetime.now(UTC)
    for folder in subfolders(trash):
        name = _NAME.fullmatch(folder.name)
        deleted = _time(name["when"]) if name else None
        if deleted is None or when - deleted <= KEPT:
            continue
        out_of_sight = trash / f"{PURGING}{secrets.token_hex(6)}"
        try:
            folder.rename(out_of_sight)
        except OSError:
            continue
        shutil.rmtree(out_of_sight, ignore_errors=True)
    try:
        leftovers = list(trash.glob(f"{PURGING}*"))
    except OSError:
        return
    for leftover in leftovers:
        shutil.rmtree(leftover, ignore_errors=True)


def _trash(root: Path | None) -> Path:
    return (root or data_dir()) / "trash"


def _find(run_id: str, root: Path | None) -> DeletedRun:
    found = deleted_runs(root)
    if run_id == "last" and found:
        return found[0]
    matches = [run for run in found if run_id in (run.id, run.folder.name)]
    matches = matches or [run for run in found if run_id and run.folder.name.startswith(run_id)]
    if not matches:
        raise SaveError(f"there is no deleted run {run_id!r}; `mqf-tui runs list --trash` shows all.")
    if len(matches) > 1:
        raise SaveError(
            f"{len(matches)} deleted runs begin with {run_id!r}; name more of it "
            f"({matches[0].folder.name}, …)."
        )
    return matches[0]


def _deleted(folder: Path) -> DeletedRun | None:
    name = _NAME.fullmatch(folder.name)
    when = _time(name["when"]) if name else None
    return DeletedRun(name["id"], folder, when, try_load(folder)) if name and when else None


def _time(word: str) -> datetime | None:
    try:
        when = datetime.strptime(word, _WHEN).replace(tzinfo=UTC)
        return when if when + KEPT else None
    except (ValueError, OverflowError):
        return None


def _move(done: str, moves: Sequence[tuple[Path, Path]]) -> None:
    moved: list[tuple[Path, Path]] = []
    for source, target in moves:
        try:
            # A rename onto an empty folder would replace it.
            if target.exists():
                raise FileExistsError(17, "there is one of that name already")
            source.rename(target)
        except OSError as error:
            stuck = [pair for pair in reversed(moved) if not _moved_back(*pair)]
            raise _failed(done, source, error, stuck) from error
        moved.append((source, target))
    for source, target in moves[:1]:
        sync_folder(target.parent)
        sync_folder(source.parent)


def _moved_back(source: Path, target: Path) -> bool:
    try:
        target.rename(source)
    except OSError:
        return False
    return True


def _failed(done: str, place: Path, error: OSError, stuck: Sequence[tuple[Path, Path]] = ()) -> SaveError:
    left = f"these were {done}: {', '.join(source.name for source, _ in stuck)}" if stuck else "nothing was"
    return SaveError(
        f"{place} could not be {done} ({error.strerror or error}); check the permissions of the folder it is "
        f"in; {left}{'' if stuck else f' {done}'}."
    )
