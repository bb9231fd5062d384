"""All saved runs as rows: what lists, filters and the models need of each, without opening its report.

The rows are kept in one file of the cache folder for each data folder. A row is used again while the files of
its run are as they were when it was read; whatever else is in that file, the runs on disk are what holds.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqf_tui import __version__
from mqf_tui.fidelity.errors import SaveError
from mqf_tui.library.files import replace_synced, subfolders
from mqf_tui.library.folders import data_dir
from mqf_tui.library.labels import LABELS_FILE

if TYPE_CHECKING:
    from mqf_tui.library.runs import SavedRun
    from mqf_tui.reports.schema import Verdict

INDEX_VERSION = 1  # raise it when rows get other fields, or the same ones from other rules
READ = ("report.json", LABELS_FILE)  # what a row is made of
COUNTED = ("positions.npz", "report.md", "files.json", "tops.npz")  # what else takes room

Interval = tuple[float, float]
Mark = list[list[int]]


@dataclass(frozen=True)
class RunRow:
    """One readable run. Of the figures None or NaN is not known; each interval is None where there is none.

    ``kl``, ``p99``: nats; ``flip_rate``: a share; ``ppl_change``: perplexity of the variant less that of the
    reference. ``bits`` where one number says it, ``format`` wherever it is known: ``4g64``, ``k8v4g64``,
    ``mxfp4``, ``recipe``. ``confidence``: the share of the row's own verdict; ``sureness``: that in words.
    ``settled``: None where no rule stopped the measurement. ``kv_bytes``: bytes per token of the variant's
    cache, in a 16-bit cache where that is known. ``origin``: the tool that made an imported report, else "".
    ``size``: bytes on disk. ``labels_problem``: why tags and note cannot be read.
    """

    id: str
    folder: Path
    created: str
    model: str
    variant_model: str
    model_hash: str
    architecture: str
    weights: str
    kind: str
    mode: str
    setting: str
    short_setting: str
    format: str
    bits: int | None
    group: int | None
    verdict: Verdict
    confidence: float | None
    sureness: str
    settled: bool | None
    kl: float
    kl_ci: Interval | None
    p99: float | None
    p99_ci: Interval | None
    flip_rate: float
    flip_ci: Interval | None
    ppl_change: float
    ppl_ci: Interval | None
    corpus: str
    chunk_length: int
    n_positions: int
    n_chunks: int
    n_chunks_planned: int
    kv_bytes: float | None
    partial: bool
    origin: str
    sweep_id: str
    tags: tuple[str, ...]
    note: str
    labels_problem: str
    has_positions: bool
    size: int

    @property
    def name(self) -> str:
        """The measured model, without what stands before it: ``SmolLM2-135M``."""
        return (self.variant_model or self.model).rsplit("/", 1)[-1]

    @cached_property
    def words(self) -> str:
        """What a word of a filter is looked for in, case-folded, one field a line."""
        fields = (self.model, self.variant_model, self.setting, self.short_setting, self.format, self.corpus)
        return "\n".join((*fields, " ".join(self.tags), self.note)).casefold()

    def load(self) -> SavedRun:
        """The run itself; raises SaveError where it is gone or damaged by now."""
        from mqf_tui.library.runs import SavedRun, try_load

        run = try_load(self.folder)
        if isinstance(run, SavedRun):
            return run
        raise SaveError(f"run {self.id} cannot be read: {run}.")


@dataclass(frozen=True)
class RunIndex:
    """All runs, newest first; ``broken``: name of each unreadable run, and why."""

    rows: tuple[RunRow, ...] = ()
    broken: tuple[tuple[str, str], ...] = ()


# Of these the folder tells each time.
_NOT_KEPT = ("id", "folder", "has_positions", "size")
_KEPT = tuple(f.name for f in dataclasses.fields(RunRow) if f.name not in _NOT_KEPT)
_LISTS = tuple(_KEPT.index(name) for name in ("kl_ci", "p99_ci", "flip_ci", "ppl_ci", "tags"))


def run_rows(root: Path | None = None) -> RunIndex:
    """The rows of all runs, and what cannot be read; raises SaveError where the folder cannot be listed."""
    home = (root or data_dir()) / "runs"
    folders = subfolders(home)
    file = _file(home)
    known = _stored(file)
    entries: dict[str, tuple[Mark | None, list[Any] | str]] = {}
    rows: list[RunRow] = []
    broken: list[tuple[str, str]] = []
    for folder in folders:
        # Before it is read: what is written in the meantime has another mark, and is read the next time.
        mark = _mark(folder)
        values = _reused(known.get(folder.name), mark)
        values = _read(folder) if values is None else values
        entries[folder.name] = (mark, values)
        row = values if isinstance(values, str) else _row(folder, values)
        if isinstance(row, str):
            broken.append((folder.name, row))
        else:
            rows.append(row)
    kept = {name: [mark, values] for name, (mark, values) in entries.items() if mark is not None}
    if kept != known:
        _store(file, kept)
    rows.sort(key=lambda row: (row.created, row.id), reverse=True)
    return RunIndex(tuple(rows), tuple(broken))


def _reused(entry: list[Any] | None, mark: Mark | None) -> list[Any] | str | None:
    return entry[1] if entry is not None and mark is not None and entry[0] == mark else None


def _mark(folder: Path) -> Mark | None:
    """What tells that the files are as they were, one list a file; None where there is no report.

    Size and time of change alone miss a file that was replaced within one tick of the clock.
    """
    marks: Mark = []
    for name in READ:
        try:
            found = os.stat(f"{folder}/{name}")
        except FileNotFoundError:
            marks.append([])
        except OSError:
            return None
        else:
            marks.append([found.st_mtime_ns, found.st_ctime_ns, found.st_ino, found.st_size])
    return marks if marks[0] else None


def _read(folder: Path) -> list[Any] | str:
    """The kept values of a run, from its report; or why it cannot be read."""
    from mqf_tui.library.runs import SavedRun, try_load

    run = try_load(folder)
    return _values(run) if isinstance(run, SavedRun) else run


def _values(run: SavedRun) -> list[Any]:
    from mqf_tui.reports.rows import bounds
    from mqf_tui.reports.text import sureness

    r = run.report
    kv = r.kv_bytes_per_token
    found: dict[str, Any] = {
        "created": r.created,
        "model": r.model,
        "variant_model": r.variant_model,
        "model_hash": r.model_hash,
        "architecture": r.architecture,
        "weights": r.weights,
        "kind": r.kind,
        "mode": r.mode or "",
        "setting": r.setting,
        "short_setting": r.short_setting,
        "format": r.kv_format or (f"{r.kv_bits}g{r.kv_group_size}" if r.kv_bits and r.kv_group_size else ""),
        "bits": r.kv_bits,
        "group": r.kv_group_size,
        "verdict": r.verdict,
        "confidence": r.confidence.of(r.verdict) if r.confidence else None,
        "sureness": sureness(r),
        "settled": r.stopping.settled if r.stopping else None,
        "kl": r.kl.mean,
        "kl_ci": bounds(r.kl.ci_low, r.kl.ci_high),
        "p99": r.kl.p99,
        "p99_ci": r.kl.p99_ci,
        "flip_rate": r.flip_rate,
        "flip_ci": bounds(r.flip_ci_low, r.flip_ci_high),
        "ppl_change": r.perplexity_delta,
        "ppl_ci": r.perplexity.delta_ci if r.perplexity else None,
        "corpus": r.corpus.name,
        "chunk_length": r.corpus.chunk_length,
        "n_positions": r.n_positions,
        "n_chunks": r.n_chunks,
        "n_chunks_planned": r.n_chunks_planned,
        "kv_bytes": (kv.variant_16bit or kv.variant) if kv else None,
        "partial": r.partial,
        "origin": r.origin.tool if r.origin else "",
        "sweep_id": r.sweep_id or "",
        "tags": list(run.tags),
        "note": run.note,
        "labels_problem": run.labels.problem or "",
    }
    # Lists, as the file gives them back, so that the two compare equal.
    return [list(v) if isinstance(v, tuple) else v for v in map(found.__getitem__, _KEPT)]


def _row(folder: Path, values: list[Any]) -> RunRow:
    fields = dict(zip(_KEPT, values, strict=True))
    for place in _LISTS:
        if values[place] is not None:
            fields[_KEPT[place]] = tuple(values[place])
    has_positions, size = _room(folder)
    return RunRow(id=folder.name, folder=folder, has_positions=has_positions, size=size, **fields)


def _room(folder: Path) -> tuple[bool, int]:
    """Whether there are positions, and the bytes of all files of the run."""
    positions, size = False, 0
    for name in (*READ, *COUNTED):
        with contextlib.suppress(OSError):
            found = os.stat(f"{folder}/{name}")
            size += found.st_size
            positions = positions or (name == COUNTED[0] and stat.S_ISREG(found.st_mode))
    return positions, size


def _file(home: Path) -> Path:
    from mqf_tui.library.tokens import cache_dir

    name = hashlib.sha256(os.fsencode(os.path.abspath(home))).hexdigest()[:16]
    return cache_dir() / "runs" / f"{name}.json"


def _stored(file: Path) -> dict[str, list[Any]]:
    """The entries of an index that this version wrote: [mark, values or reason] by name; else none."""
    try:
        head, _, body = file.read_bytes().partition(b"\n")
        return json.loads(body) if head == _head(body) else {}
    except (OSError, ValueError):
        return {}


def _store(file: Path, entries: Mapping[str, list[Any]]) -> None:
    """Write the index; where that fails, the next one reads the reports again."""
    body = json.dumps(entries).encode()
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        replace_synced(file, _head(body) + b"\n" + body)


def _head(body: bytes) -> bytes:
    """What tells that the body is whole, and of this version."""
    stamp = {"version": INDEX_VERSION, "mqf_tui": __version__, "fields": _KEPT}
    return json.dumps(stamp | {"sha256": hashlib.sha256(body).hexdigest()}).encode()
