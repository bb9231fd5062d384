"""A saved run in a row of the table: figures with half of their interval; the row's line of detail."""

from __future__ import annotations

import math
from collections.abc import Collection
from datetime import datetime

from mqf_tui.library.runs import SavedRun
from mqf_tui.reports.rows import between, bounds, known
from mqf_tui.reports.schema import Bounds, Report, Stopping
from mqf_tui.reports.text import UNKNOWN, Judged, counted, inert, kl, likely, percent

SHORTEST_SETTING = 14  # columns of a setting that a narrow table shows


def short_words(judged: Judged, stopping: Stopping | None = None) -> str:
    """Verdict and how sure it is for a narrow column: ``good 98%``, ``good, not settled``."""
    if stopping is not None and not stopping.settled:
        return f"{judged.verdict}, not settled"
    c = judged.confidence
    return judged.verdict if c is None else f"{judged.verdict} {_short(likely(c.of(judged.verdict)))}"


def kl_words(value: float | None, ci: Bounds | None) -> str:
    """KL in nats and half its interval as a share of it: ``0.264 ±38%``."""
    if value is None or ci is None or not 0 < value < math.inf or not math.isfinite(ci[1]):
        return kl(value)
    return f"{kl(value)} ±{_half(value, ci) / value:.0%}"


def flip_words(report: Report, *, error: bool = True) -> str:
    """The flip rate and half its interval, in per cent of all positions: ``2.50 ±1.50 %``."""
    if not known(report.flip_rate):
        return UNKNOWN
    ci = bounds(report.flip_ci_low, report.flip_ci_high)
    if ci is None or not error:
        return percent(report.flip_rate)
    return f"{100 * report.flip_rate:.2f} ±{percent(_half(report.flip_rate, ci))}"


def detail_words(run: SavedRun, shown: Collection[str]) -> str:
    """What the table has no room for, and what its signs mean, in two lines; ``shown``: its columns."""
    r = run.report
    model = "" if "model" in shown else inert((r.variant_model or r.model).rsplit("/", 1)[-1])
    mean = "" if "KL mean" in shown else f"KL mean {kl_words(r.kl.mean, bounds(r.kl.ci_low, r.kl.ci_high))}"
    p99 = between(r.kl.p99_ci, kl)
    figure = "" if r.kl.p99 is None else f"KL p99 {kl(r.kl.p99)}" + (f" ({p99})" if p99 else "")
    setting = r.short_setting if len(r.short_setting) > SHORTEST_SETTING else ""
    parts = (
        model,
        setting,
        inert(r.corpus.name),
        local_time(r.created),
        mean,
        figure,
        inert(" ".join(run.tags)),
    )
    return "\n".join(" · ".join(part for part in line if part) for line in (parts, (*_signs(r), run.id)))


def local_time(created: str) -> str:
    """Date and minute where the reader is."""
    try:
        return datetime.fromisoformat(created).astimezone().strftime("%Y-%m-%d %H:%M")
    except ValueError:
        return inert(created[:16])


def _signs(r: Report) -> tuple[str, ...]:
    planned = f" of {r.n_chunks_planned:,}" if r.n_chunks_planned else ""
    partial = f"◐ partial, {r.n_chunks:,}{planned} chunks" if planned else "◐ partial"
    return (
        partial if r.partial else counted(r.n_chunks, "chunk") if r.n_chunks else "",
        f"↓ imported from {inert(r.origin.tool)}" if r.origin else "",
        f"≡ sweep {inert(r.sweep_id)}" if r.sweep_id else "",
    )


def _half(value: float, ci: Bounds) -> float:
    """Half an interval; one that ends at 0 was cut there, and its upper half was not."""
    return (ci[1] - ci[0]) / 2 if ci[0] > 0 else ci[1] - value


def _short(words: str) -> str:
    return words.replace(" %", "%").replace("over ", ">").replace("under ", "<")
