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
from mqf_tui.reports.foreign.own import TOOL as OWN
from mqf_tui.reports.json_report import wrong
from mqf_tui.reports.plausible import plausible
from mqf_tui.reports.schema import SCHEMA_VERSION, Report, Verdict
from mqf_tui.reports.text import readable

# Of what another tool measured, these tell when and how it came here.
_ABOUT_FOREIGN = {"created", "schema_version"}
UNLIKELY = 0.05  # a verdict that its own figures give is never that unlikely by their confidence


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
        # As JSON and strictly, for a number is no text, nor a text a number.
        report = Report.model_validate_json(json.dumps(reading.fields | added), strict=True)
    except ValidationError as error:
        raise _bad(path, wrong(error)) from error
    p99 = report.kl.p99
    if p99 is None or math.isnan(p99):
        raise _bad(path, "its kl.p99 is missing, and without it there is no verdict")
    for mistake in plausible(report):
        raise _bad(path, f"its {mistake}")
    return _judged(report, reading)


def _policy(reading: Reading) -> dict[str, Any]:
    from mqf_tui.fidelity.verdict import KV_POLICY, WEIGHTS_POLICY

    return (WEIGHTS_POLICY if reading.fields["kind"] == "weights" else KV_POLICY).model_dump()


def _judged(report: Report, reading: Reading) -> Report:
    """With the verdict by its thresholds and what does not fit it taken away; warnings tell of both."""
    from mqf_tui.fidelity.verdict import verdict

    p99 = report.kl.p99
    found = verdict(report.kl.mean, math.nan if p99 is None else p99, report.flip_rate, report.thresholds)
    said = report.verdict if "thresholds" in reading.fields else reading.verdict
    changes: dict[str, Any] = {"verdict": found}
    more: list[str] = []
    if report.schema_version > SCHEMA_VERSION:
        more.append(
            f"a newer version wrote this (schema {report.schema_version}, here {SCHEMA_VERSION}): what is "
            "new in it was kept and not checked"
        )
    if said is not None and said != found:
        more.append(
            f"{reading.tool} itself judged this {said[:40]!r}; by policy {report.thresholds.policy} it is "
            f"{found}"
        )
    unfit = _unfit(report, found, said if "thresholds" in reading.fields else None)
    if unfit:
        more.append(f"its {' and '.join(unfit)} did not fit its figures and verdict and was left out")
        changes |= dict.fromkeys(unfit)
    # Exported and imported again, it says so once.
    changes["warnings"] = [*report.warnings, *(text for text in more if text not in report.warnings)]
    return report.model_copy(update=changes)


def _unfit(report: Report, found: Verdict, said: str | None) -> list[str]:
    """Which of confidence and stopping speak of other figures than the report's."""
    sure, stopping = report.confidence, report.stopping
    judged_otherwise = said is not None and said != found
    stopped_elsewhere = stopping is not None and stopping.n_chunks > report.n_chunks
    # What settles a verdict names it alone.
    least = 0.5 if sure is not None and sure.method == "anytime" else UNLIKELY
    unsure = sure is not None and (
        not sure.of(found) >= least or (sure.method == "anytime" and stopping is None)
    )
    both = judged_otherwise or stopped_elsewhere or unsure
    settles = stopping is not None and both
    return [*(["confidence"] if sure is not None and both else []), *(["stopping"] if settles else [])]


def _fingerprint(report: Report) -> str:
    """The same for two reports that say the same, from whatever file they came here.

    Of our own only the origin, which an import adds, does not matter: with another time, verdict or version
    it is another report.
    """
    own = report.origin is None or report.origin.tool == OWN
    data = report.model_dump(mode="json", exclude={"origin"} if own else {"origin", *_ABOUT_FOREIGN})
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _bad(path: Path, why: str) -> BadImportError:
    return BadImportError(
        f"{path} cannot be imported ({why}), so nothing was; take JSON of mqf-tui or mlx-quant-fidelity, or "
        "what llama.cpp printed for --kl-divergence."
    )
