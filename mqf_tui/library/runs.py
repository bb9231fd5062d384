"""Saved runs: one folder each. There is never half a run.

A folder holds report.json, report.md, positions.npz (not where the report was imported), tops.npz (where any
of the likeliest tokens were kept), files.json (the SHA-256 of all but report.md; ``verifying`` reads it) and,
once the user wrote any, labels.json.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mqf_tui.fidelity.errors import SaveError
from mqf_tui.library.files import TEMPORARY, subfolders, sync_folder, write_synced
from mqf_tui.library.folders import data_dir
from mqf_tui.library.labels import Labels, read_labels
from mqf_tui.reports.json_report import from_json, to_json
from mqf_tui.reports.markdown import to_markdown
from mqf_tui.reports.schema import Report

if TYPE_CHECKING:
    from mqf_tui.fidelity.positions import Positions
    from mqf_tui.fidelity.tops import Tops

REPORT_FILE, TEXT_FILE, POSITIONS_FILE = "report.json", "report.md", "positions.npz"
TOPS_FILE = "tops.npz"
HASHES_FILE = "files.json"
HASHES_VERSION = 1
T = TypeVar("T")


@dataclass(frozen=True)
class SavedRun:
    """A run on disk; the positions are read when asked for."""

    id: str
    folder: Path
    report: Report
    labels: Labels = field(default_factory=Labels)

    @property
    def tags(self) -> tuple[str, ...]:
        """The user's tags."""
        return self.labels.tags

    @property
    def note(self) -> str:
        """The user's note, empty where there is none."""
        return self.labels.note

    @property
    def has_positions(self) -> bool:
        """Whether there is a file of positions; imported reports come without one."""
        return (self.folder / POSITIONS_FILE).is_file()

    def positions(self) -> Positions:
        """The per-position numbers as they were saved; raises SaveError where there are none, or others."""
        if self.report.origin is not None and not self.has_positions:
            raise SaveError(
                f"run {self.id} was imported from {self.report.origin.tool} without its positions; measure "
                "it here to have them."
            )
        return self._read(POSITIONS_FILE, "positions", unpacked)

    def tops(self) -> Tops | None:
        """The likeliest tokens that were kept; None where none were. Raises SaveError for a damaged file."""
        if not (self.folder / TOPS_FILE).is_file():
            return None
        from mqf_tui.library import tops

        return self._read(TOPS_FILE, "likeliest tokens", tops.unpacked)

    def _read(self, name: str, what: str, unpack: Callable[[bytes], T]) -> T:
        try:
            content = (self.folder / name).read_bytes()
            found = unpack(content)
        except Exception as error:  # zipfile, zlib and NumPy each raise kinds of their own for damage
            raise SaveError(f"the {what} of run {self.id} cannot be read; measure it again.") from error
        if not _as_recorded(self.folder, name, content):
            raise SaveError(
                f"the {what} of run {self.id} do not match what was saved with it; `mqf-tui runs verify "
                f"{self.id}` tells more, and measuring again gives new ones."
            )
        return found


def save_run(
    report: Report, positions: Positions | None, root: Path | None = None, *, tops: Tops | None = None
) -> SavedRun:
    """Save one run: see ``save_runs``."""
    return save_runs([(report, positions)], root, tops=[tops])[0]


def save_runs(
    runs: Sequence[tuple[Report, Positions | None]],
    root: Path | None = None,
    *,
    tops: Sequence[Tops | None] = (),
) -> tuple[SavedRun, ...]:
    """Write each run under a temporary name, sync it, and when all are there rename them.

    None for the positions: the report was imported. ``tops``: one for each run, or none at all. Raises
    SaveError, leaving nothing of any of them behind.
    """
    home = (root or data_dir()) / "runs"
    temporaries = [home / f"{TEMPORARY}{secrets.token_hex(6)}" for _ in runs]
    saved: list[SavedRun] = []
    try:
        lists = tops or [None] * len(runs)
        for temporary, (report, positions), each in zip(temporaries, runs, lists, strict=True):
            _write_run(temporary, report, positions, each)
        for temporary, (report, _) in zip(temporaries, runs, strict=True):
            run_id = _free_id(home, report)
            saved.append(SavedRun(run_id, home / run_id, report))
            temporary.rename(home / run_id)
        sync_folder(home)
    except BaseException as error:
        for run, temporary in zip(saved, temporaries, strict=False):
            # Out of sight first: removing a folder takes several steps.
            with contextlib.suppress(OSError):
                run.folder.rename(temporary)
        for temporary in temporaries:
            shutil.rmtree(temporary, ignore_errors=True)
        if not isinstance(error, OSError):
            raise
        raise SaveError(
            f"the run could not be saved in {home} ({error.strerror or error}); make room there or set "
            "MQF_TUI_DATA_DIR to another folder."
        ) from error
    return tuple(saved)


def all_runs(root: Path | None = None) -> tuple[list[SavedRun], list[tuple[str, str]]]:
    """All readable runs, newest first; and name of each unreadable run, and why."""
    runs: list[SavedRun] = []
    broken: list[tuple[str, str]] = []
    for folder in run_folders(root):
        run = try_load(folder)
        if isinstance(run, SavedRun):
            runs.append(run)
        else:
            broken.append((folder.name, run))
    return sorted(runs, key=lambda run: (run.report.created, run.id), reverse=True), broken


def list_runs(root: Path | None = None) -> list[SavedRun]:
    """All readable runs, newest first."""
    return all_runs(root)[0]


def broken_runs(root: Path | None = None) -> list[tuple[str, str]]:
    """Name of each unreadable run, and why."""
    return all_runs(root)[1]


def load_run(run_id: str, root: Path | None = None) -> SavedRun:
    """A run by its id, the beginning of it, or ``last``; raises SaveError."""
    if run_id == "last":
        saved = list_runs(root)
        if saved:
            return saved[0]
        raise SaveError("there are no runs yet; `mqf-tui demo` makes one.")
    folder = find_run(run_id, root)
    run = try_load(folder)
    if isinstance(run, str):
        raise SaveError(f"run {folder.name} cannot be read: {run}.")
    return run


def find_run(run_id: str, root: Path | None = None) -> Path:
    """The folder of a run, readable or not, by its id, the beginning of it, or ``last``; raises SaveError."""
    if run_id == "last":
        return load_run(run_id, root).folder
    folders = {folder.name: folder for folder in run_folders(root)}
    matches = (
        [run_id] if run_id in folders else [name for name in folders if run_id and name.startswith(run_id)]
    )
    if not matches:
        raise SaveError(f"there is no run {run_id!r}; `mqf-tui runs list` shows all.")
    if len(matches) > 1:
        raise SaveError(
            f"{len(matches)} runs begin with {run_id!r}; name more of it ({sorted(matches)[0]}, …)."
        )
    return folders[matches[0]]


def run_folders(root: Path | None = None) -> list[Path]:
    """The folders of all runs, readable or not; raises SaveError."""
    return subfolders((root or data_dir()) / "runs")


def try_load(folder: Path) -> SavedRun | str:
    """The run in a folder, or why it cannot be read."""
    try:
        report = from_json((folder / REPORT_FILE).read_bytes())
    except FileNotFoundError:
        return f"{REPORT_FILE} is missing"
    except OSError as error:
        return f"{REPORT_FILE} cannot be opened ({error.strerror})"
    except ValueError as error:
        return f"{REPORT_FILE} is damaged ({error})"
    return SavedRun(folder.name, folder, report, read_labels(folder))


def recorded_hashes(folder: Path) -> dict[str, str] | None:
    """The SHA-256 that each file had when the run was saved, or None where none was recorded.

    Raises ValueError where the record is damaged, OSError where it cannot be read.
    """
    try:
        record = json.loads((folder / HASHES_FILE).read_bytes())
        hashes = record["sha256"]
    except FileNotFoundError:
        return None
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("no record of hashes") from error
    if not isinstance(hashes, dict) or not hashes:
        raise ValueError("no record of hashes")
    return {str(name): str(value) for name, value in hashes.items()}


def unpacked(content: bytes) -> Positions:
    """The positions in the bytes of a positions.npz; raises errors of many kinds where they are damaged."""
    import numpy as np

    from mqf_tui.fidelity.positions import ARRAYS, Positions

    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        names = tuple(str(name) for name in stored["part_names"])
        columns = {name: stored[name] for name in ARRAYS if name in stored}
        texts = json.loads(stored["texts"].tobytes()) if "entropy" in stored else {}
    found = Positions.of(columns, names, {int(token): str(t) for token, t in texts.items()})
    ids = (found.token, found.top1_ref, found.top1_quant, found.chunk, found.depth)
    if np.isnan(found.kl).any() or any((column < 0).any() for column in ids):
        raise ValueError("a KL that is NaN, or a token, chunk or depth below 0")
    return found


def check_writable(root: Path | None = None) -> None:
    """Raise SaveError where no run could be saved: better known before a measurement than after it."""
    home = (root or data_dir()) / "runs"
    probe = home / f"{TEMPORARY}{secrets.token_hex(6)}"
    try:
        probe.mkdir(parents=True)
        try:
            (probe / REPORT_FILE).write_bytes(b"{}")
        finally:
            shutil.rmtree(probe, ignore_errors=True)
    except OSError as error:
        raise SaveError(
            f"no run can be saved in {home} ({error.strerror or error}); make room there, check its "
            "permissions or set MQF_TUI_DATA_DIR to another folder."
        ) from error


def _as_recorded(folder: Path, name: str, content: bytes) -> bool:
    """Whether a file is what was saved, as far as it is known; ``verifying`` tells of a damaged record."""
    try:
        hashes = recorded_hashes(folder)
    except (OSError, ValueError):
        return True
    return hashes is None or hashes.get(name) == hashlib.sha256(content).hexdigest()


def _write_run(folder: Path, report: Report, positions: Positions | None, tops: Tops | None) -> None:
    folder.mkdir(parents=True)
    hashes: dict[str, str] = {}
    for name, content in _files(report, positions, tops):
        write_synced(folder / name, content)
        if name != TEXT_FILE:
            hashes[name] = hashlib.sha256(content).hexdigest()
    record = {"version": HASHES_VERSION, "sha256": hashes}
    write_synced(folder / HASHES_FILE, (json.dumps(record, indent=2) + "\n").encode())


def _files(report: Report, positions: Positions | None, tops: Tops | None) -> Iterator[tuple[str, bytes]]:
    if positions is not None:
        yield POSITIONS_FILE, packed(positions)
    if tops is not None:
        from mqf_tui.library.tops import packed as packed_tops

        yield TOPS_FILE, packed_tops(tops)
    yield TEXT_FILE, to_markdown(report).encode()
    yield REPORT_FILE, to_json(report).encode()


def packed(positions: Positions) -> bytes:
    """Positions as the bytes of a positions.npz."""
    import numpy as np

    from mqf_tui.fidelity.positions import ARRAYS

    buffer = io.BytesIO()
    arrays = {name: getattr(positions, name) for name in ARRAYS}
    # JSON bears the lone surrogates of texts that are no whole character; UTF-8 would not.
    texts = np.frombuffer(json.dumps(dict(positions.texts)).encode("ascii"), np.uint8)
    names = np.array(positions.part_names, dtype=np.str_)
    np.savez_compressed(buffer, **arrays, part_names=names, texts=texts)
    return buffer.getvalue()


def _free_id(runs: Path, report: Report) -> str:
    stamp = re.sub(r"[^0-9]", "", report.created[:19])
    name = (report.variant_model or report.model).rsplit("/", 1)[-1]
    model = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-.")[:40] or "model"
    bits = f"{report.kv_bits}bit" if report.kv_bits else re.sub(r"[^a-z0-9]", "", report.kv_format)
    words = [stamp[:8], stamp[8:14], model, bits]
    words.append("weights" if report.kind == "weights" else "")
    while True:
        run_id = "-".join([*filter(None, words), secrets.token_hex(2)])
        if not (runs / run_id).exists():
            return run_id
