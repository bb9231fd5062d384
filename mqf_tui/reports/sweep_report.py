"""The report of a sweep in each of its formats; Markdown, JSON and CSV are made here."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pydantic import ValidationError

from mqf_tui.reports.comparison_report import kv_head, table, title
from mqf_tui.reports.csv_report import written
from mqf_tui.reports.escaping import fenced, said
from mqf_tui.reports.json_report import seen, wrong
from mqf_tui.reports.rows import spread
from mqf_tui.reports.schema import Bounds, Thresholds
from mqf_tui.reports.sweep_rows import (
    HEAD,
    HOW,
    chosen_run,
    doubts,
    heading,
    material,
    ordered,
    origin,
    rows,
    sensitivity_rows,
    sensitivity_sides,
)
from mqf_tui.reports.sweep_schema import Grid, GridCell, SweepReport
from mqf_tui.reports.text import UNKNOWN, counted, inert, kl, percent

FEWER = "†"
FORMATS = ("md", "json", "html", "csv")
CSV_COLUMNS = (
    *("sweep_id", "model", "run", "setting", "short_setting", "keys", "values", "kernel", "control_of"),
    *("rank_first", "rank_last", "error_known", "kl_mean", "kl_ci_low", "kl_ci_high", "flip_rate"),
    *("flip_ci_low", "flip_ci_high", "verdict", "sure", "settled", "kv_bytes_per_token", "kv_basis"),
    *("on_frontier", "chosen", "next_cheaper", "next_cheaper_kl", "next_cheaper_kl_ci_low"),
    *("next_cheaper_kl_ci_high", "next_cheaper_p", "next_cheaper_bytes_saved", "n_positions", "n_planned"),
    *("n_chunks", "partial", "dropped", "left_out"),
)


def render_sweep(name: str, report: SweepReport) -> str:
    """The report in one of ``FORMATS``; raises KeyError for another."""
    made: dict[str, Callable[[SweepReport], str]] = {
        "md": to_markdown,
        "json": to_json,
        "html": _html,
        "csv": to_csv,
    }
    return made[name](report)


def _html(report: SweepReport) -> str:
    from mqf_tui.reports.sweep_html import to_html

    return to_html(report)


def to_markdown(report: SweepReport) -> str:
    """The answer, the table, grids, controls, layers, doubts, the command; where it comes from folded."""
    return "\n\n".join(_blocks(report)) + "\n"


def to_json(report: SweepReport) -> str:
    """As JSON text; infinities as strings."""
    return seen(report.model_dump_json(indent=2)) + "\n"


def from_json(text: str | bytes) -> SweepReport:
    """A report from its JSON; raises ValueError with one clause about "it" that says what is wrong."""
    try:
        return SweepReport.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(wrong(error) if text.strip() else "it is empty") from error


def to_csv(report: SweepReport) -> str:
    """One row a setting, the ranked ones first; what is not known is empty."""
    return written(CSV_COLUMNS, _csv_rows(report))


def _csv_rows(report: SweepReport) -> Iterator[list[object]]:
    chosen = chosen_run(report)
    left_out = {out.run: out.why for out in report.ranking.left_out}
    for v, row in ordered(report):
        step, side = v.next_cheaper, row.side if row else None
        d = step.difference if step else None
        yield [
            *(report.sweep_id, report.model, v.run, v.setting, v.short_setting, v.keys, v.values, v.kernel),
            v.control_of,
            *((row.rank_first, row.rank_last, row.error_known) if row else (None, None, None)),
            *(v.kl.value, *_ends(v.kl.ci), v.flips.value, *_ends(v.flips.ci), v.verdict),
            *((side.sure, side.settled) if side else (None, None)),
            *(v.kv_bytes, report.ranking.kv_basis if v.kv_bytes is not None else None),
            *(v.on_frontier, v.run == chosen),
            *((step.run, d.value, *_ends(d.ci), d.p, step.bytes_saved) if step and d else (None,) * 6),
            *(v.n_positions, v.n_planned, v.n_chunks, v.partial, v.dropped, left_out.get(v.run)),
        ]


def _ends(ci: Bounds | None) -> tuple[float | None, float | None]:
    return ci or (None, None)


def _blocks(report: SweepReport) -> Iterator[str]:
    yield f"### {title(report.model)}: {heading(report)}"
    yield f"**{said(report.answer[:1].upper() + report.answer[1:])}**"
    if report.ranking.advice and report.sensitivity is None:
        yield said(report.ranking.advice[:1].upper() + report.ranking.advice[1:])
    yield " ".join(map(said, material(report)))
    if report.evidence:
        yield said(report.evidence)
    if report.sensitivity is not None:
        yield from _layers(report)
        yield from _folded("All settings, ranked", _settings(report))
    else:
        yield from _settings(report)
    for grid in report.grids:
        yield from _grid(grid, report)
    if report.controls:
        yield "Quantizer and kernel:"
        yield "\n".join(f"- {said(c.setting)}: {said(c.words)}." for c in report.controls)
    if lines := doubts(report):
        yield "\n>\n".join(f"> ⚠ {said(line)}" for line in lines)
    if report.command:
        yield fenced(report.command, "sh")
    from_where = [(name, said(words)) for name, words in origin(report)]
    yield from _folded("Where it comes from", [table(("", ""), from_where, "ll")])


def _settings(report: SweepReport) -> Iterator[str]:
    head = list(HEAD._replace(kv_bytes=kv_head(report.ranking.kv_basis)))
    body = [[said(cell) for cell in row] for row in rows(report)]
    align = "llrrlrllrl"
    used = [i for i in range(len(head)) if any(row[i] not in ("", UNKNOWN) for row in body)]
    yield table(
        [head[i] for i in used],
        [[row[i] for i in used] for row in body],
        "".join(align[i] for i in used),
    )
    yield HOW
    if report.thresholds is not None:
        yield said(thresholds_words(report.thresholds))


def thresholds_words(t: Thresholds) -> str:
    """What is good, in a sentence of plain text."""
    good = f"mean KL at most {t.kl_mean[0]:g} nats, p99 {t.kl_p99[0]:g}, flips {percent(t.flip_rate[0])}"
    return f"Thresholds {inert(t.policy)}: good is {good}."


def _grid(grid: Grid, report: SweepReport) -> Iterator[str]:
    """Rows are the keys' formats, columns the values'."""
    words = f" ({said(grid.words)})" if grid.words else ""
    yield f"#### Keys by values{words}"
    yield (
        f"In each cell: mean KL, verdict, {kv_head(report.ranking.kv_basis)}. Bold: the cheapest good one."
        f"{fewer_words(grid)}"
    )
    cells = {(cell.row, cell.column): cell for cell in grid.cells}
    body = [
        [f"keys {said(row)}", *(_cell(grid, cells, i, j) for j in range(len(grid.columns)))]
        for i, row in enumerate(grid.rows)
    ]
    head = ["", *(f"values {said(column)}" for column in grid.columns)]
    yield table(head, body, "l" + "r" * len(grid.columns))


def _cell(grid: Grid, cells: dict[tuple[int, int], GridCell], i: int, j: int) -> str:
    cell = cells.get((i, j))
    if cell is None:
        return "reference" if is_reference(grid, i, j) else UNKNOWN
    words = ", ".join([kl(cell.kl.value), cell.verdict, *bytes_of(cell)]) + f" {FEWER}" * cell.fewer
    return f"**{words} ← cheapest good**" if cell.cheapest_good else words


def fewer_words(grid: Grid) -> str:
    """What the sign of fewer chunks means, a sentence after others; empty where no cell has it."""
    if not any(cell.fewer for cell in grid.cells):
        return ""
    return f" {FEWER} fewer chunks (out of the race, or stopped), so over less of the text than the others."


def is_reference(grid: Grid, row: int, column: int) -> bool:
    """Whether nothing is quantized there."""
    return grid.rows[row].startswith("16") and grid.columns[column].startswith("16")


def bytes_of(cell: GridCell) -> list[str]:
    """The bytes of a cell as one word, none where they are not known."""
    return [] if cell.kv_bytes is None else [f"{cell.kv_bytes:,.0f}"]


def _layers(report: SweepReport) -> Iterator[str]:
    found = report.sensitivity
    assert found is not None
    sides = sensitivity_sides(report)
    yield (
        f"Each layer alone at {said(found.format)}, the others in full precision: mean KL in nats over "
        f"{counted(found.n_positions, 'position')}."
    )
    worst = sorted(found.layers, key=lambda cost: -cost.kl.value)[:5]
    listed = [f"layer {c.layer} {c.side} {spread(c.kl.value, c.kl.ci, kl)}" for c in worst]
    yield f"What hurts most: {'; '.join(listed)}."
    body = [list(map(said, row)) for row in sensitivity_rows(report)]
    whole = table(["layer", *sides, "bytes saved per token"], body, "r" * (1 + len(sides)) + "l")
    yield from _folded("Layer by layer", [whole])


def _folded(summary: str, blocks: Iterator[str] | list[str]) -> Iterator[str]:
    yield f"<details>\n<summary>{summary}</summary>"
    yield from blocks
    yield "</details>"
