"""Take in what other tools wrote: all the files that were named, or none of them."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.runs import SavedRun, list_runs, save_runs
from mqf_tui.reports.foreign import MAX_BYTES, NotAReportError, Reading, Readings, read
from mqf_tui.reports.schema import SCHEMA_VERSION, Report
from mqf_tui.reports.text import readable

# What a report says of itself, beside what was measured.
_ABOUT = {"schema_version", "created", "origin", "warnings", "verdict", "thresholds", "confidence"}


class BadImportError(FidelityError):
    """A file that is missing, broken or of no known kind."""


@dataclass(frozen=True)
class Imported:
    """What became of one report of a file: ``run`` is the new run, or the one that was here before."""

    file: str
    run: SavedRun
    is_new: bool


@dataclass(frozen=True)
class Import:
    """What came of all files; ``left_out`` names entries that hold no measurement: file, entry and why."""

    reports: tuple[Imported, ...]
    left_out: tuple[tuple[str, str], ...]


def import_files(paths: Sequence[Path], root: Path | None = None, now: datetime | None = None) -> Import:
    """Read and check all files, then save what is new, as runs without positions.

    A report that is here already, imported or measured, is not saved again. Raises BadImportError or
    SaveError; then nothing was saved.
    """
    when = now or datetime.now(UTC)
    left_out: list[tuple[str, str]] = []
    reports: list[tuple[str, Report]] = []
    for path in paths:
        name, readings = readable(path.name), _readings(path)
        left_out += [(name, entry) for entry in readings.left_out]
        reports += [(name, _report(path, reading, when)) for reading in readings.found]
    known = {_fingerprint(run.report): run for run in list_runs(root)}
    new = {_fingerprint(report): report for _, report in reversed(reports)}
    fresh = {mark: report for mark, report in reversed(new.items()) if mark not in known}
    saved = save_runs([(report, None) for report in fresh.values()], root) if fresh else ()
    known |= dict(zip(fresh, saved, strict=True))
    return Import(tuple(_outcomes(reports, known, set(fresh))), tuple(left_out))


def _outcomes(
    reports: Iterable[tuple[str, Report]], known: dict[str, SavedRun], fresh: set[str]
) -> Iterator[Imported]:
    for name, report in reports:
        mark = _fingerprint(report)
        yield Imported(name, known[mark], mark in fresh)
        fresh.discard(mark)  # the same report once more among the files is here by then


def _readings(path: Path) -> Readings:
    try:
        if path.is_dir():
            raise BadImportError(f"{path} is a folder; name the file in it, such as {path / 'report.json'}.")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        why = getattr(error, "strerror", None) or str(error)
        raise BadImportError(
            f"{path} cannot be read ({why}), so nothing was imported; check its name and permissions."
        ) from error
    try:
        return read(content)
    except NotAReportError as error:
        raise _bad(path, str(error)) from error


def _report(path: Path, reading: Reading, when: datetime) -> Report:
    """The report of what was read, judged where it is not by its own thresholds; raises BadImportError."""
    added: dict[str, Any] = {}
    if "thresholds" not in reading.fields:
        # The verdict is taken below, when the figures are known to be some.
        added = {"schema_version": SCHEMA_VERSION, "created": when.isoformat("T", "seconds")}
        added |= {"thresholds": _policy(reading), "verdict": "bad"}
    if reading.fields.get("origin") is None:
        added["origin"] = {
            "tool": reading.tool,
            "form": reading.form,
            "file": readable(path.name),
            "version": reading.version,
        }
    try:
        report = Report.model_validate(reading.fields | added)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise _bad(path, f"its {where} is not what {reading.tool} writes ({first['msg']})") from error
    _check(path, report)
    return _judged(report, reading)


def _policy(reading: Reading) -> dict[str, Any]:
    from mqf_tui.fidelity.verdict import KV_POLICY, WEIGHTS_POLICY

    return (WEIGHTS_POLICY if reading.fields["kind"] == "weights" else KV_POLICY).model_dump()


def _check(path: Path, report: Report) -> None:
    """Raise BadImportError where the figures that everything rests on cannot be such figures."""
    p99 = report.kl.p99
    # llama.cpp stores the reference in 16 bits, so that its KL may come out a little below 0.
    if not report.kl.mean > -0.01:
        raise _bad(path, f"its mean KL is {report.kl.mean}, and KL is 0 or more")
    if p99 is None or not p99 > -0.01:
        raise _bad(path, f"its 99th percentile of KL is {'missing' if p99 is None else p99}")
    if not 0 <= report.flip_rate <= 1:
        raise _bad(path, f"its share of flips is {report.flip_rate}, and shares lie between 0 and 1")
    for which, value in (("reference", report.perplexity_ref), ("variant", report.perplexity_quant)):
        if value <= 0:
            raise _bad(path, f"the perplexity of its {which} is {value}, and perplexities are 1 or more")
    for name in ("n_positions", "n_chunks", "n_chunks_planned", "quantize_start", "peak_memory_bytes"):
        if getattr(report, name) < 0:
            raise _bad(path, f"its {name} is {getattr(report, name)}, and counts are 0 or more")


def _judged(report: Report, reading: Reading) -> Report:
    """With the verdict by its thresholds; where the file says another, a warning tells."""
    from mqf_tui.fidelity.verdict import verdict

    p99 = report.kl.p99
    found = verdict(report.kl.mean, math.nan if p99 is None else p99, report.flip_rate, report.thresholds)
    said = report.verdict if "thresholds" in reading.fields else reading.verdict
    warnings = list(report.warnings)
    if said is not None and said != found:
        warnings.append(
            f"{reading.tool} itself judged this {said!r}; by policy {report.thresholds.policy} it is {found}"
        )
    return report.model_copy(update={"verdict": found, "warnings": warnings})


def _fingerprint(report: Report) -> str:
    """The same for two reports of the same measurement, whenever and from wherever they came here."""
    data = report.model_dump(mode="json", exclude=_ABOUT)
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _bad(path: Path, why: str) -> BadImportError:
    return BadImportError(
        f"{path} cannot be imported ({why}), so nothing was; take JSON of mqf-tui or mlx-quant-fidelity, or "
        "what llama.cpp printed for --kl-divergence."
    )
