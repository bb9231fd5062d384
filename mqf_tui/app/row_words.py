"""A saved run in words: figures with half of their interval, the cells of its row, its lines of detail."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import TYPE_CHECKING

from mqf_tui.app.capabilities import mark
from mqf_tui.library.index import RunRow
from mqf_tui.reports.rows import between, known
from mqf_tui.reports.text import UNKNOWN, Judged, change, counted, inert, kl, likely, percent, size

if TYPE_CHECKING:
    from mqf_tui.reports.schema import Bounds, Stopping

SHORTEST_SETTING = 14  # columns of a setting that a narrow table shows


def short_words(judged: Judged, stopping: Stopping | None = None) -> str:
    """Verdict and how sure it is for a narrow column: ``good 98%``, ``good, not settled``."""
    if stopping is not None and not stopping.settled:
        return f"{judged.verdict}, not settled"
    c = judged.confidence
    return judged.verdict if c is None else f"{judged.verdict} {_short(likely(c.of(judged.verdict)))}"


def row_verdict(row: RunRow) -> str:
    """As ``short_words``, of a row of the index."""
    if row.settled is False:
        return f"{row.verdict}, not settled"
    return row.verdict if row.confidence is None else f"{row.verdict} {_short(likely(row.confidence))}"


def kl_words(value: float | None, ci: Bounds | None) -> str:
    """KL in nats and half its interval as a share of it: ``0.264 ±38%``."""
    if value is None or ci is None or not 0 < value < math.inf or not math.isfinite(ci[1]):
        return kl(value)
    return f"{kl(value)} ±{_half(value, ci) / value:.0%}"


def flip_words(rate: float, ci: Bounds | None) -> str:
    """The flip rate and half its interval, in per cent of all positions: ``2.50 ±1.50 %``."""
    if not known(rate):
        return UNKNOWN
    if ci is None:
        return percent(rate)
    return f"{100 * rate:.2f} ±{percent(_half(rate, ci))}"


def row_forms(row: RunRow, *, unicode: bool) -> Mapping[str, tuple[str, ...]]:
    """What can stand in each column of the table of runs, the shortest form first.

    Harmless whatever the run's own words hold.
    """
    sign = mark(row.verdict, unicode)
    when = local_time(row.created)
    return {
        "verdict": (f"{sign} {row.verdict}", f"{sign} {row_verdict(row)}"),
        "signs": ("".join(mark(name, unicode) for name in sign_names(row)),),
        "model": (inert(row.name),),
        "setting": (row.short_setting,),
        "KL mean": (kl(row.kl), kl_words(row.kl, row.kl_ci)),
        "flips": (flip_words(row.flip_rate, None), flip_words(row.flip_rate, row.flip_ci)),
        "p99": (kl(row.p99), kl_words(row.p99, row.p99_ci)),
        "Δ ppl": (change(row.ppl_change) if known(row.ppl_change) else UNKNOWN,),
        "KV/token": (UNKNOWN if row.kv_bytes is None else size(row.kv_bytes),),
        "corpus": (inert(row.corpus),),
        "tags": (inert(" ".join(row.tags)),),
        "when": (when[:10], when),
    }


def sign_names(row: RunRow) -> tuple[str, ...]:
    """The names of the marks behind the verdict."""
    there = {"partial": row.partial, "imported": bool(row.origin), "same": bool(row.sweep_id)}
    return tuple("down" if name == "imported" else name for name, is_so in there.items() if is_so)


def detail_words(row: RunRow, shown: Collection[str], *, unicode: bool = True) -> str:
    """What the table has no room for, and what its signs mean, in three lines; ``shown``: its columns."""
    mean = "" if "KL mean" in shown else f"KL mean {kl_words(row.kl, row.kl_ci)}"
    flips = "" if "flips" in shown else f"flips {flip_words(row.flip_rate, row.flip_ci)}"
    p99 = between(row.p99_ci, kl)
    figure = "" if row.p99 is None else f"KL p99 {kl(row.p99)}" + (f" ({p99})" if p99 else "")
    setting = row.short_setting if len(row.short_setting) > SHORTEST_SETTING else ""
    perplexity = f"perplexity {change(row.ppl_change)}" if known(row.ppl_change) else ""
    tags = inert(" ".join(f"#{tag}" for tag in row.tags))
    lines = (
        (inert(row.variant_model or row.model), inert(row.corpus), local_time(row.created)),
        (setting, mean, flips, figure, perplexity, *_signs(row, unicode)),
        (tags, inert(row.note), row.id),
    )
    dot = f" {mark('dot', unicode)} "
    return "\n".join(dot.join(part for part in line if part) for line in lines)


def local_time(created: str) -> str:
    """Date and minute where the reader is."""
    try:
        return datetime.fromisoformat(created).astimezone().strftime("%Y-%m-%d %H:%M")
    except (ValueError, OverflowError):
        return inert(created[:16])


def _signs(row: RunRow, unicode: bool) -> tuple[str, ...]:
    planned = f" of {row.n_chunks_planned:,}" if row.n_chunks_planned else ""
    half, down, same = (mark(name, unicode) for name in ("partial", "down", "same"))
    partial = f"{half} partial, {row.n_chunks:,}{planned} chunks" if planned else f"{half} partial"
    return (
        partial if row.partial else counted(row.n_chunks, "chunk") if row.n_chunks else "",
        f"{down} imported from {inert(row.origin)}" if row.origin else "",
        f"{same} sweep {inert(row.sweep_id)}" if row.sweep_id else "",
    )


def _half(value: float, ci: Bounds) -> float:
    """Half an interval; one that ends at 0 was cut there, and its upper half was not."""
    return (ci[1] - ci[0]) / 2 if ci[0] > 0 else ci[1] - value


def _short(words: str) -> str:
    return words.replace(" %", "%").replace("over ", ">").replace("under ", "<")
