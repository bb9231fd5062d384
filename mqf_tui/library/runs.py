"""Saved runs: one folder each, with report.json, report.md and positions.npz. There is never half a run."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mqf_tui.fidelity.errors import SaveError
from mqf_tui.reports.json_report import from_json, to_json
from mqf_tui.reports.markdown import to_markdown
from mqf_tui.reports.schema import Report

if TYPE_CHECKING:
    from mqf_tui.fidelity.positions import Positions

TEMPORARY = ".writing-"


@dataclass(frozen=True)
class SavedRun:
    """A run on disk; the positions are read when asked for."""

    id: str
    folder: Path
    report: Report

    def positions(self) -> Positions:
        """The per-position numbers; raises SaveError where the file is damaged."""
        import numpy as np

        from mqf_tui.fidelity.positions import ARRAYS, Positions

        try:
            with np.load(self.folder / "positions.npz", allow_pickle=False) as stored:
                names = tuple(str(name) for name in stored["part_names"])
                columns = {name: stored[name] for name in ARRAYS if name in stored}
                texts = json.loads(stored["texts"].tobytes()) if "entropy" in stored else {}
                return Positions.of(columns, names, {int(token): str(t) for token, t in texts.items()})
        except Exception as error:  # zipfile, zlib and NumPy each raise kinds of their own for damage
            raise SaveError(f"the positions of run {self.id} cannot be read; measure it again.") from error


def data_dir() -> Path:
    """Where this user's data lives; ``MQF_TUI_DATA_DIR`` overrides."""
    import platformdirs

    override = os.environ.get("MQF_TUI_DATA_DIR")
    return (
        Path(os.path.expanduser(override))
        if override
        else Path(platformdirs.user_data_dir("mqf-tui", appauthor=False))
    )


def save_run(report: Report, positions: Positions, root: Path | None = None) -> SavedRun:
    """Write a run under a temporary name, sync it, rename it. Raises SaveError, leaving nothing behind."""
    runs = (root or data_dir()) / "runs"
    temporary = runs / f"{TEMPORARY}{secrets.token_hex(6)}"
    try:
        temporary.mkdir(parents=True)
        for name, content in _files(report, positions):
            _write_synced(temporary / name, content)
        run_id = _free_id(runs, report)
        target = runs / run_id
        temporary.rename(target)
        _sync_folder(runs)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise SaveError(
            f"the run could not be saved in {runs} ({error.strerror or error}); make room there or set "
            "MQF_TUI_DATA_DIR to another folder."
        ) from error
    return SavedRun(run_id, target, report)


def list_runs(root: Path | None = None) -> list[SavedRun]:
    """All readable runs, newest first."""
    found = [run for run in (_try_load(folder) for folder in _folders(root)) if isinstance(run, SavedRun)]
    return sorted(found, key=lambda run: (run.report.created, run.id), reverse=True)


def broken_runs(root: Path | None = None) -> list[tuple[str, str]]:
    """Name of each unreadable run, and why."""
    return [(folder.name, run) for folder in _folders(root) if isinstance(run := _try_load(folder), str)]


def load_run(run_id: str, root: Path | None = None) -> SavedRun:
    """A run by its id, the beginning of it, or ``last``; raises SaveError."""
    if run_id == "last":
        saved = list_runs(root)
        if saved:
            return saved[0]
        raise SaveError("there are no runs yet; `mqf-tui demo` makes one.")
    folders = {folder.name: folder for folder in _folders(root)}
    matches = (
        [run_id] if run_id in folders else [name for name in folders if run_id and name.startswith(run_id)]
    )
    if not matches:
        raise SaveError(f"there is no run {run_id!r}; `mqf-tui runs list` shows all.")
    if len(matches) > 1:
        raise SaveError(
            f"{len(matches)} runs begin with {run_id!r}; name more of it ({sorted(matches)[0]}, …)."
        )
    run = _try_load(folders[matches[0]])
    if isinstance(run, str):
        raise SaveError(f"run {matches[0]} cannot be read: {run}.")
    return run


def _files(report: Report, positions: Positions) -> Iterator[tuple[str, bytes]]:
    import numpy as np

    from mqf_tui.fidelity.positions import ARRAYS

    buffer = io.BytesIO()
    arrays = {name: getattr(positions, name) for name in ARRAYS}
    # JSON bears the lone surrogates of texts that are no whole character; UTF-8 would not.
    texts = np.frombuffer(json.dumps(dict(positions.texts)).encode("ascii"), np.uint8)
    names = np.array(positions.part_names, dtype=np.str_)
    np.savez_compressed(buffer, **arrays, part_names=names, texts=texts)
    yield "positions.npz", buffer.getvalue()
    yield "report.md", to_markdown(report).encode()
    yield "report.json", to_json(report).encode()


def _free_id(runs: Path, report: Report) -> str:
    stamp = re.sub(r"\D", "", report.created[:19])
    model = re.sub(r"[^A-Za-z0-9.]+", "-", report.model.rsplit("/", 1)[-1]).strip("-.")[:40] or "model"
    while True:
        run_id = f"{stamp[:8]}-{stamp[8:]}-{model}-{report.kv_bits}bit-{secrets.token_hex(2)}"
        if not (runs / run_id).exists():
            return run_id


def _folders(root: Path | None) -> list[Path]:
    runs = (root or data_dir()) / "runs"
    try:
        return sorted(p for p in runs.iterdir() if p.is_dir() and not p.name.startswith("."))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SaveError(f"{runs} cannot be read ({error.strerror}); check its permissions.") from error


def _try_load(folder: Path) -> SavedRun | str:
    try:
        return SavedRun(folder.name, folder, from_json((folder / "report.json").read_bytes()))
    except OSError as error:
        return f"report.json: {error.strerror}"
    except ValueError as error:
        return str(error)


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    # Some file systems cannot sync a folder; the run is there all the same.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
