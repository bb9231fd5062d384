"""A ranking as Markdown, JSON and CSV."""

from __future__ import annotations

from collections.abc import Iterator

from mqf_tui.reports.comparison_report import kv_head, kv_words, table, title, verdict_of
from mqf_tui.reports.comparison_schema import Cost, Ranking, Row
from mqf_tui.reports.csv_report import written
from mqf_tui.reports.escaping import said
from mqf_tui.reports.json_report import seen
from mqf_tui.reports.rows import known, spread
from mqf_tui.reports.text import UNKNOWN, counted, kl, percent

CSV_COLUMNS = (
    *("rank_first", "rank_last", "error_known", "setting", "run", "model", "kl_mean", "kl_ci_low"),
    *("kl_ci_high", "flip_rate", "flip_ci_low", "flip_ci_high", "verdict", "sure", "settled"),
    *("kv_bytes_per_token", "kv_basis", "kv_dominated_by", "weight_bytes", "weights_dominated_by"),
    *("near", "chosen"),
)
HOW = (
    "Ranks that are a tie: of each the mean KL is within the error (p ≥ 0.05) of the best one in the tie. "
    "On the frontier: no other setting needs fewer bytes at a mean KL that is lower, or within the error "
    "with no worse a verdict or rank."
)


def to_markdown(ranking: Ranking) -> str:
    """The answer in a sentence, the table, how to read it, doubts, what was left out."""
    return "\n\n".join(_blocks(ranking)) + "\n"


def to_json(ranking: Ranking) -> str:
    """As JSON text; infinities as strings."""
    return seen(ranking.model_dump_json(indent=2)) + "\n"


def to_csv(ranking: Ranking) -> str:
    """One row a setting, best first; what is not known is empty."""
    chosen = ranking.choice.run if ranking.choice else None
    return written(CSV_COLUMNS, (_values(row, chosen, ranking.kv_basis) for row in ranking.rows))


def rank_words(row: Row) -> str:
    """``2``, ``2–3 (tie)``; ``2?`` where no error is known."""
    doubt = "" if row.error_known else "?"
    if row.rank_first == row.rank_last:
        return f"{row.rank_first}{doubt}"
    return f"{row.rank_first}–{row.rank_last} (tie){doubt}"


def _values(row: Row, chosen: str | None, basis: str | None) -> Iterator[object]:
    side = row.side
    yield from (row.rank_first, row.rank_last, row.error_known, side.setting, side.run, side.model)
    yield from (side.kl_mean, *(side.kl_ci or (None, None)))
    yield from (side.flip_rate, *(side.flip_ci or (None, None)), side.verdict, side.sure, side.settled)
    for cost, of in ((row.kv, (basis if row.kv else None,)), (row.weights, ())):
        by = cost.dominated_by if cost else None
        yield from (cost.bytes if cost else None, *of, by.run if by else None)
    yield from (row.near, side.run == chosen)


def _blocks(ranking: Ranking) -> Iterator[str]:
    rows = ranking.rows
    yield f"### {title(ranking.model)}: {counted(len(rows), 'setting')} ranked"
    yield f"**{said(ranking.answer[:1].upper() + ranking.answer[1:])}**"
    if ranking.advice:
        yield said(ranking.advice[:1].upper() + ranking.advice[1:])
    if ranking.group:
        yield said(ranking.group)
    if rows:
        yield _table(ranking)
        yield HOW
    if t := ranking.thresholds:
        good = f"mean KL at most {t.kl_mean[0]:g} nats, p99 {t.kl_p99[0]:g}, flips {percent(t.flip_rate[0])}"
        yield f"Thresholds {said(t.policy)}: good is {good}."
    if ranking.warnings:
        yield "\n>\n".join(f"> ⚠ {said(warning + '.')}" for warning in ranking.warnings)
    if ranking.left_out:
        yield f"<details>\n<summary>{counted(len(ranking.left_out), 'run')} left out</summary>"
        yield table(
            ("run", "setting", "why"),
            [(said(o.run), said(o.setting), said(o.why)) for o in ranking.left_out],
            "lll",
        )
        yield "</details>"


def _table(ranking: Ranking) -> str:
    costs = [
        (word, [row.kv if word.startswith("KV") else row.weights for row in ranking.rows])
        for word in (kv_head(ranking.kv_basis), "weight bytes")
    ]
    # Weights that are the same for all say nothing.
    shown = [
        (w, c) for w, c in costs if any(c) and (w.startswith("KV") or len({x and x.bytes for x in c}) > 1)
    ]
    head = ["rank", "setting", "KL mean (nats)", "flips", "verdict"]
    cells = [_cells(row) for row in ranking.rows]
    for word, column in shown:
        head += [word, "dominated by"]
        for row, cost in zip(cells, column, strict=True):
            row += [kv_words(cost and cost.bytes, cost and cost.reference), _dominated(cost)]
    head.append("run")
    for row, ranked in zip(cells, ranking.rows, strict=True):
        row.append(said(ranked.side.run))
    return table(head, cells, "llrrl" + "rl" * len(shown) + "l")


def _cells(row: Row) -> list[str]:
    s = row.side
    marks = [word for word, on in (("imported", s.imported), ("partial", s.partial)) if on]
    flips = spread(s.flip_rate, s.flip_ci, percent) if known(s.flip_rate) else UNKNOWN
    moved = spread(s.kl_mean, s.kl_ci, kl)
    return [rank_words(row), said(", ".join([s.setting, *marks])), moved, flips, verdict_of(s)]


def _dominated(cost: Cost | None) -> str:
    if cost is None:
        return UNKNOWN
    by = cost.dominated_by
    return "— (frontier)" if by is None else said(by.setting) + (" (KL within the error)" if by.tie else "")
