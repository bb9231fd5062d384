"""All runs of a model that were measured alike, as points of KL against bytes. Slow: reads reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mqf_tui.app.widgets.pareto_plot import ParetoPoint
from mqf_tui.fidelity.costs import kv_bytes, weight_bytes
from mqf_tui.fidelity.errors import BadSettingError, SaveError
from mqf_tui.fidelity.pairing import Subject, UnpairedError, check_reference, check_streams, same_name
from mqf_tui.fidelity.ranking import rank
from mqf_tui.library.index import RunRow, run_rows
from mqf_tui.library.runs import SavedRun
from mqf_tui.library.shortlist import newest
from mqf_tui.reports.comparison_schema import Ranking
from mqf_tui.reports.rows import bounds
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import counted, inert


@dataclass(frozen=True)
class Frontier:
    """``points`` and their ``runs`` in one order; ``words``: what is shown and what is not."""

    points: tuple[ParetoPoint, ...]
    runs: tuple[SavedRun, ...]
    unit: str
    limits: tuple[float, float] | None
    words: str


def frontier(chosen: Sequence[SavedRun], baseline: int) -> Frontier:
    """The chosen runs of the baseline's model, and of its other runs the best of each setting.

    Others are shown where they have the baseline's text, mode and kind: only then points lie beside each
    other. Which are on the frontier is told from the reports, without pairing positions. Raises SaveError
    where the runs cannot be listed.
    """
    base = chosen[baseline].report
    marked = {run.id: run for run in chosen if of_model(base, run.report)}
    others, n_other = _measured_alike(base, marked)
    alike = [run for run in [*marked.values(), *others] if measured_alike(base, run.report)]
    shortlist = newest(sorted(alike, key=lambda run: run.report.created, reverse=True)).runs
    ranked = {run.id: run for run in shortlist}
    ranking = rank([Subject(run.id, run.report, lambda: None) for run in ranked.values()])
    shown = {**ranked, **marked}
    points = {run.id: _point(run, ranking, base.kind, run.id in marked) for run in shown.values()}
    known = {run_id: point for run_id, point in points.items() if point is not None}
    limits = ranking.thresholds.kl_mean if ranking.thresholds else None
    return Frontier(
        tuple(known.values()),
        tuple(shown[run_id] for run_id in known),
        "bytes per token" if base.kind == "kv" else "bytes of weights",
        limits,
        _words(len(known), len(points) - len(known), n_other, base),
    )


def of_model(base: Report, other: Report) -> bool:
    """Whether both have one reference model."""
    try:
        check_reference(base, other)
    except BadSettingError:
        return False
    return True


def measured_alike(base: Report, other: Report) -> bool:
    """Whether the figures of both can lie in one picture: one model, text, mode and kind."""
    try:
        check_streams(base, other)
    except UnpairedError:
        return False
    how = [(r.kind, r.quantize_start, r.score_last) for r in (base, other)]
    return how[0] == how[1] and of_model(base, other)


def _measured_alike(base: Report, marked: dict[str, SavedRun]) -> tuple[list[SavedRun], int]:
    """The other whole runs that can lie beside the baseline, and how many runs of the model cannot."""
    found: list[SavedRun] = []
    n_other = 0
    for row in run_rows().rows:
        if row.id in marked or not row_of_model(base, row):
            continue
        try:
            run = row.load()
        except SaveError:
            continue  # Runs tells of it
        if run.report.partial or not measured_alike(base, run.report):
            n_other += 1
        else:
            found.append(run)
    return found, n_other


def row_of_model(base: Report, row: RunRow) -> bool:
    """``of_model`` from the index, which opens no report."""
    if base.model_hash and row.model_hash:
        return base.model_hash == row.model_hash
    return same_name(base.model, row.model)


def _point(run: SavedRun, ranking: Ranking, kind: str, marked: bool) -> ParetoPoint | None:
    report = run.report
    row = next((row for row in ranking.rows if row.side.run == run.id), None)
    cost = kv_bytes(ranking.kv_basis)(report) if kind == "kv" else weight_bytes(report)
    if cost is None:
        return None
    ranked = (row.kv if kind == "kv" else row.weights) if row is not None else None
    return ParetoPoint(
        name=report.short_setting,
        bytes=cost[0],
        kl=report.kl.mean,
        ci=bounds(report.kl.ci_low, report.kl.ci_high),
        verdict=row.side.verdict if row is not None else report.verdict,
        frontier=ranked is not None and ranked.dominated_by is None,
        marked=marked,
    )


def _words(n_shown: int, n_without: int, n_other: int, base: Report) -> str:
    said = [f"{counted(n_shown, 'run')} of this model over {inert(base.corpus.name) or 'one text'}"]
    if n_other:
        others = "other run is" if n_other == 1 else "other runs are"
        said.append(f"{n_other:,} {others} partial or of another text, mode or kind, and not shown")
    if n_without:
        said.append(f"of {n_without:,} the bytes are not known")
    return "; ".join(said)
