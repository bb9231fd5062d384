"""Is a run still what was saved? Its files, their hashes, the schema, and every number recomputed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqf_tui import __version__
from mqf_tui.fidelity.errors import brief
from mqf_tui.library.runs import (
    HASHES_FILE,
    POSITIONS_FILE,
    REPORT_FILE,
    TEXT_FILE,
    TOPS_FILE,
    SavedRun,
    recorded_hashes,
    try_load,
    unpacked,
)
from mqf_tui.reports.plausible import plausible
from mqf_tui.reports.schema import SCHEMA_VERSION, Report

if TYPE_CHECKING:
    from mqf_tui.fidelity.positions import Positions
    from mqf_tui.fidelity.statistics import Summary

# Sums of the same float64 values may differ in the last digits from one processor to another.
TOLERANCE = 1e-9
BOOTSTRAPPED = ("median_ci", "p90_ci", "p95_ci", "p99_ci", "p999_ci")


class _UnreadableError(Exception):
    """A file of positions that holds none."""


@dataclass(frozen=True)
class Verification:
    """What differs (none: all is well) and what could not be checked, one sentence each.

    ``computed_otherwise``: numbers that the version that saved the run, ``saved_by``, computed in another
    way than this one, from files that are as they were: no damage.
    """

    id: str
    differences: tuple[str, ...] = ()
    unchecked: tuple[str, ...] = ()
    computed_otherwise: tuple[str, ...] = ()
    saved_by: str = ""


def verify(folder: Path) -> Verification:
    """Check the run in a folder; damage is reported, never raised."""
    differences = list(_missing_and_changed(folder))
    unchecked: list[str] = []
    otherwise: list[str] = []
    run = try_load(folder)
    if isinstance(run, str):
        return Verification(folder.name, tuple(dict.fromkeys((*differences, run))))
    recorded = (folder / HASHES_FILE).is_file()
    if not recorded:
        unchecked.append("hashes (not recorded by the version that saved it)")
    saved_by = run.report.versions.mqf_tui
    intact = recorded and not differences
    if run.labels.problem is not None:
        differences.append(f"labels.json cannot be read: {run.labels.problem}")
    differences += _contradictions(run.report)
    if run.has_positions:
        try:
            found = list(_recomputed(run, unchecked))
            (otherwise if intact and saved_by not in ("", __version__) else differences).extend(found)
        except _UnreadableError as error:
            differences.append(str(error))
        except (ArithmeticError, LookupError, TypeError, ValueError) as error:
            # A report that was changed by hand may ask for anything, such as chunks of 10^30 tokens.
            differences.append(f"the numbers cannot be recomputed by what the report says: {brief(error)}")
    elif run.report.origin is not None:
        unchecked.append(f"numbers (imported from {run.report.origin.tool} without positions)")
    else:
        differences.append(f"{POSITIONS_FILE} is missing")
    return Verification(
        folder.name, tuple(dict.fromkeys(differences)), tuple(unchecked), tuple(otherwise), saved_by
    )


def _missing_and_changed(folder: Path) -> Iterator[str]:
    if not (folder / TEXT_FILE).is_file():
        yield f"{TEXT_FILE} is missing"
    try:
        hashes = recorded_hashes(folder)
    except (OSError, ValueError):
        yield f"{HASHES_FILE} cannot be read"
        return
    if hashes is None:
        return
    for name in (POSITIONS_FILE, TOPS_FILE, REPORT_FILE):
        try:
            content = (folder / name).read_bytes()
        except FileNotFoundError:
            if name in hashes:
                yield f"{name} is missing"
            continue
        except OSError as error:
            yield f"{name} cannot be read: {error.strerror}"
            continue
        if name not in hashes:
            yield f"{name} was not there when the run was saved"
        elif hashlib.sha256(content).hexdigest() != hashes[name]:
            yield f"{name} has changed since the run was saved (SHA-256)"


def _contradictions(report: Report) -> Iterator[str]:
    """What a report says against itself; needs no positions."""
    from mqf_tui.fidelity.verdict import verdict

    yield from plausible(report)
    if report.kl.p99 is not None:
        found = verdict(report.kl.mean, report.kl.p99, report.flip_rate, report.thresholds)
        if found != report.verdict:
            yield f"verdict: {report.verdict} in the report, {found} by its thresholds and figures"


def _recomputed(run: SavedRun, unchecked: list[str]) -> Iterator[str]:
    from mqf_tui.fidelity.depth import LONG
    from mqf_tui.fidelity.statistics import summarise

    report, positions = run.report, _positions(run.folder)
    if len(positions) == 0:
        yield f"{POSITIONS_FILE} holds no positions"
        return
    if report.schema_version > SCHEMA_VERSION:
        unchecked.append("what a newer version measures")
    length = max(2, report.corpus.chunk_length)
    summary = summarise(positions, length, _first_scored(report, length), report.thresholds)
    expected = _expected(summary)
    if report.schema_version < 3 and length > LONG:
        unchecked.append("KL by depth (in other buckets)")
        del expected["kl_by_depth"]
    _settle_intervals(expected, report, positions, unchecked)
    yield from _differing(report.model_dump(exclude_unset=True), expected, "")


def _first_scored(report: Report, chunk_length: int) -> int:
    """The first depth of a chunk that was scored."""
    last = chunk_length - 1 - report.score_last if report.score_last else 0
    return max(report.quantize_start, last)


def _positions(folder: Path) -> Positions:
    """What the file holds, whether or not that is what was saved; raises _UnreadableError."""
    try:
        return unpacked((folder / POSITIONS_FILE).read_bytes())
    except Exception as error:  # zipfile, zlib and NumPy each raise kinds of their own for damage
        raise _UnreadableError(f"{POSITIONS_FILE} cannot be read: {brief(error)}") from error


def _expected(summary: Summary) -> dict[str, Any]:
    """The report's own keys with what the positions say."""
    low, high = summary.flip_interval or (None, None)
    found: dict[str, Any] = {
        "kl": summary.kl.model_dump(),
        "kl_by_depth": [bucket.model_dump() for bucket in summary.by_depth],
        "drift": summary.drift and summary.drift.model_dump(),
        "by_part": [part.model_dump() for part in summary.by_part],
        "by_entropy": [part.model_dump() for part in summary.by_entropy],
        "by_token_class": [part.model_dump() for part in summary.by_token_class],
        "flip_rate": summary.flip_rate,
        "flip_ci_low": low,
        "flip_ci_high": high,
        "flips": summary.flips and summary.flips.model_dump(),
        "delta_p": summary.delta_p.model_dump(),
        "perplexity_ref": summary.perplexity_ref,
        "perplexity_quant": summary.perplexity_quant,
        "perplexity_delta": summary.perplexity_delta,
        "perplexity": summary.perplexity.model_dump(),
        "n_positions": summary.n_positions,
        "n_chunks": summary.n_chunks,
        "verdict": summary.verdict,
        "confidence": summary.confidence and summary.confidence.model_dump(),
    }
    return found


def _settle_intervals(
    expected: dict[str, Any], report: Report, positions: Positions, unchecked: list[str]
) -> None:
    """Put the intervals that this report must have into ``expected``, or leave out what cannot be said."""
    from mqf_tui.fidelity.bootstrap import REPLICATES, SEED

    if report.schema_version < 2 and report.flip_rate in (0.0, 1.0):
        # Version 1 gave an interval of no width where every chunk agreed.
        del expected["flip_ci_low"], expected["flip_ci_high"]
    if report.stopping is not None:
        _settle_stopping(expected, report, positions, unchecked)
    sure = report.confidence
    drawn = sure is None or sure.method != "bootstrap" or (sure.seed, sure.replicates) == (SEED, REPLICATES)
    if not drawn:
        unchecked.append("bootstrap intervals (drawn with another seed)")
        del expected["confidence"]
        for name in BOOTSTRAPPED:
            del expected["kl"][name]


def _settle_stopping(
    expected: dict[str, Any], report: Report, positions: Positions, unchecked: list[str]
) -> None:
    from mqf_tui.fidelity.stopping import METHOD, Sureness

    stopping = report.stopping
    assert stopping is not None
    for_sequence = ("flip_ci_low", "flip_ci_high", "confidence")
    if stopping.method != METHOD or not 0 < stopping.alpha < 1:
        unchecked.append("intervals (by another stopping rule)")
        for name in for_sequence:
            del expected[name]
        del expected["kl"]["ci_low"], expected["kl"]["ci_high"]
        return
    sureness = Sureness(report.thresholds, stopping.precision, stopping.alpha, both=stopping.rule == "both")
    chunks = sorted(set(positions.chunk.tolist()))
    for chunk in chunks[: stopping.n_chunks]:
        sureness.add(positions.where(positions.chunk == chunk))
    expected["kl"]["ci_low"], expected["kl"]["ci_high"] = sureness.kl_interval or (None, None)
    expected["flip_ci_low"], expected["flip_ci_high"] = sureness.flip_interval or (None, None)
    expected["stopping"] = {"settled": sureness.settled, "n_chunks": sureness.n_chunks}
    sure = sureness.confidence(expected["verdict"])
    expected["confidence"] = sure and sure.model_dump(exclude_unset=True)


def _differing(said: Any, expected: Any, where: str) -> Iterator[str]:
    """Where ``said`` differs from ``expected``; keys that only one of them has are passed over."""
    if isinstance(said, Mapping) and isinstance(expected, Mapping):
        for key, value in expected.items():
            if key in said:
                yield from _differing(said[key], value, f"{where}.{key}" if where else str(key))
    elif _is_list(said) and _is_list(expected):
        if len(said) != len(expected):
            yield f"{where}: {len(said)} entries in the report, {len(expected)} by the positions"
            return
        for index, (one, other) in enumerate(zip(said, expected, strict=True)):
            yield from _differing(one, other, f"{where}[{index}]")
    elif not _same(said, expected):
        yield f"{where}: {_word(said)} in the report, {_word(expected)} by the positions"


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def _same(one: Any, other: Any) -> bool:
    if _is_number(one) and _is_number(other):
        if math.isnan(one) or math.isnan(other):
            return math.isnan(one) and math.isnan(other)
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-12)
    return bool(one == other)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _word(value: Any) -> str:
    return f"{value:.9g}" if isinstance(value, float) else "nothing" if value is None else str(value)
