"""A saved sweep in words: the cells of its table, and what is said of one setting below it."""

from __future__ import annotations

from collections.abc import Iterator

from mqf_tui.app.columns import LAST
from mqf_tui.app.row_words import kl_words
from mqf_tui.reports.comparison_schema import Row, Side
from mqf_tui.reports.rows import between
from mqf_tui.reports.sweep_schema import Step, SweepReport, SweepVariant
from mqf_tui.reports.text import UNKNOWN, counted, duration, inert, kl, likely, p_value, percent, size

# From left to right; the number says in which order they go where there is no room (0: never).
COLUMNS = {
    "": 0,
    "rank": LAST + 2,
    "setting": 0,
    "KL mean": LAST + 3,
    "flips": 3,
    "KV/token": LAST + 1,
    "smaller": 2,
    "frontier": LAST,
    "verdict": 0,
    "positions": 1,
}


def cells(report: SweepReport, row: Row, variant: SweepVariant) -> dict[str, str]:
    """A ranked setting by column."""
    kv = row.kv
    smaller = f"{kv.reference / kv.bytes:.1f}×" if kv and kv.reference and kv.bytes else UNKNOWN
    ranks = f"{row.rank_first}–{row.rank_last} tie" if row.rank_last > row.rank_first else str(row.rank_first)
    choice = report.ranking.choice
    return {
        "": "→" if choice is not None and choice.run == row.side.run else "",
        "rank": ranks,
        "setting": inert(variant.short_setting),
        "KL mean": kl_words(variant.kl.value, variant.kl.ci),
        "flips": percent(variant.flips.value),
        "KV/token": size(variant.kv_bytes) if variant.kv_bytes is not None else UNKNOWN,
        "smaller": smaller,
        "frontier": "◆" if variant.on_frontier else "",
        "verdict": verdict_words(row.side) + (" ✕" if variant.dropped else " ◐" if variant.partial else ""),
        "positions": f"{variant.n_positions:,}",
    }


def unranked_cells(variant: SweepVariant) -> dict[str, str]:
    """A setting that is measured but not ranked: a control, or one outside of the limits."""
    return dict.fromkeys(COLUMNS, "") | {
        "rank": UNKNOWN,
        "setting": inert(variant.short_setting),
        "KL mean": kl_words(variant.kl.value, variant.kl.ci),
        "flips": percent(variant.flips.value),
        "KV/token": size(variant.kv_bytes) if variant.kv_bytes is not None else UNKNOWN,
        "verdict": variant.verdict,
        "positions": f"{variant.n_positions:,}",
    }


def verdict_words(side: Side) -> str:
    """Verdict and how sure it is for a narrow column: ``good 98%``, ``good, not settled``."""
    if side.settled is False:
        return f"{side.verdict}, not settled"
    if side.sure is None:
        return side.verdict
    sure = likely(side.sure).replace(" %", "%").replace("over ", ">").replace("under ", "<")
    return f"{side.verdict} {sure}"


def detail_words(report: SweepReport, variant: SweepVariant) -> str:
    """What the table has no room for, of one setting."""
    return "\n".join(line for line in _details(report, variant) if line)


def _details(report: SweepReport, variant: SweepVariant) -> Iterator[str]:
    if variant.next_cheaper is not None:
        yield step_words(report, variant.next_cheaper)
    row = next((row for row in report.ranking.rows if row.side.run == variant.run), None)
    if row is not None and row.kv is not None and row.kv.dominated_by is not None:
        by = row.kv.dominated_by
        worse = "its KL is within the error of this one's" if by.tie else "it is better"
        yield f"off the frontier: {_name(report, by.run, by.setting)} costs no more, and {worse}"
    if variant.dropped:
        yield f"✕ dropped on the way: {inert(variant.dropped)}"
    if variant.control_of is not None:
        yield f"the control of {_name(report, variant.control_of, variant.control_of)}"
    yield f"run {inert(variant.run)}" if variant.run else ""


def step_words(report: SweepReport, step: Step) -> str:
    """What the next cheaper setting would change."""
    d = step.difference
    moved = ("+" if d.value > 0 else "") + kl(d.value)
    sure = ", ".join(filter(None, (between(d.ci, kl), p_value(d.p) if d.p is not None else "")))
    return (
        f"next cheaper: {_name(report, step.run, step.setting)}, {size(step.bytes_saved)} less per token, "
        f"mean KL {moved}{f' ({sure})' if sure else ''}{', a tie' if step.tie else ''}"
    )


def _name(report: SweepReport, run: str, otherwise: str) -> str:
    return inert(next((v.short_setting for v in report.variants if v.run == run), otherwise))


def origin_words(report: SweepReport) -> str:
    """How it was made, in a line or two."""
    p, n = report.passes, len(report.variants)
    lines = (
        f"{counted(n, 'setting')} on {inert(report.corpus.name)}, chunks of {report.chunk_length:,} tokens: "
        f"{p.reference:,} passes of the reference and {p.variants:,} of variants in "
        f"{duration(report.seconds)}",
        f"sweep {inert(report.sweep_id)}",
    )
    return "\n".join(lines)
