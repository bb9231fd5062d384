"""The report of a sweep as one page to share: it loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Iterator

from mqf_tui.reports.chart_parts import Chart
from mqf_tui.reports.colours import HEAT_DARK, HEAT_LIGHT
from mqf_tui.reports.comparison_report import kv_head
from mqf_tui.reports.deciding import SIGNS
from mqf_tui.reports.grid_picture import grid_picture
from mqf_tui.reports.html import POLICY
from mqf_tui.reports.html_style import page_style
from mqf_tui.reports.html_tables import table
from mqf_tui.reports.layer_strip import layer_strip
from mqf_tui.reports.markup import Markup, element, together
from mqf_tui.reports.pareto import pareto
from mqf_tui.reports.sweep_report import thresholds_words
from mqf_tui.reports.sweep_rows import (
    HEAD,
    HOW,
    doubts,
    heading,
    material,
    ordered,
    origin,
    rows,
    sensitivity_rows,
    sensitivity_sides,
)
from mqf_tui.reports.sweep_schema import SweepReport
from mqf_tui.reports.text import UNKNOWN, counted, inert

_WIDE, _NARROW = 832.0, 358.0


def to_html(report: SweepReport) -> str:
    """The report as an HTML document."""
    title = f"{_name(report)}: {heading(report)}"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", title),
        element("style", Markup(page_style() + _style())),
    )
    main = element("main", *_blocks(report))
    return f"<!DOCTYPE html>\n{element('html', head, element('body', main), lang='en')}\n"


def _name(report: SweepReport) -> str:
    return inert(report.model) or "unnamed model"


def _style() -> str:
    """What pictures of sweeps need beside the page's own rules; no text from outside goes in."""
    verdicts = "".join(f".c .v-{name}{{fill:var(--{name})}}\n" for name in SIGNS)
    return (
        f"{verdicts}"
        ".answer{font-size:19px;line-height:1.4;font-weight:600;overflow-wrap:anywhere}\n"
        ".c .sign{stroke:var(--background);stroke-width:1.5}\n"
        ".c .name{font-size:12px}\n"
        ".c .lead{stroke:var(--muted);stroke-width:1}\n"
        ".c .pale{opacity:.55}\n"
        ".c .empty{fill:var(--panel)}\n"
        ".c .cell{stroke:var(--grid);stroke-width:1}\n"
        ".c .framed{fill:none;stroke:var(--ink);stroke-width:3}\n"
        ".c .strong{font-weight:600}.c .sub{font-size:12px}\n"
        ".settings td,.settings th{text-align:left;font-size:13px;padding-right:12px}\n"
        ".settings td{white-space:nowrap}.settings tbody th{min-width:11em}\n"
        f"{_levels(HEAT_LIGHT)}@media (prefers-color-scheme:dark){{{_levels(HEAT_DARK)}}}\n"
        f"@media print{{{_levels(HEAT_LIGHT)}}}\n"
    )


def _levels(heat: tuple[tuple[str, str], ...]) -> str:
    return "".join(f".c .h{i}{{fill:{back}}}.c .t{i}{{fill:{ink}}}" for i, (back, ink) in enumerate(heat))


def _blocks(report: SweepReport) -> Iterator[Markup]:
    yield element(
        "header",
        element("h1", element("bdi", _name(report))),
        element("p", element("bdi", heading(report)), class_="setting"),
        element("p", element("bdi", inert(report.answer[:1].upper() + report.answer[1:])), class_="answer"),
        element("p", element("bdi", " ".join(material(report))), class_="muted"),
        element("p", element("bdi", inert(report.evidence))) if report.evidence else None,
    )
    if lines := doubts(report):
        items = (element("li", element("bdi", line)) for line in lines)
        yield element(
            "div", element("strong", "What to keep in mind"), element("ul", *items), class_="doubts"
        )
    if report.sensitivity is not None:
        yield from _layers(report)
    else:
        yield _both(pareto(report, _WIDE), pareto(report, _NARROW))
    for grid in report.grids:
        yield _both(grid_picture(grid, _WIDE), grid_picture(grid, _NARROW))
    if report.controls:
        yield element("h2", "Quantizer and kernel")
        yield element(
            "ul",
            *(
                element("li", element("bdi", f"{inert(c.setting)}: {inert(c.words)}."))
                for c in report.controls
            ),
        )
    yield element("h2", "All settings")
    yield _settings(report)
    yield element("p", HOW, class_="muted")
    if report.thresholds is not None:
        yield element("p", thresholds_words(report.thresholds), class_="muted")
    if report.ranking.advice and report.sensitivity is None:
        yield element("p", element("bdi", inert(report.ranking.advice)), class_="muted")
    yield element("h2", "Where it comes from")
    yield table(("", ""), list(origin(report)), "from")
    if report.command:
        yield element("h3", "To measure it again")
        yield element("pre", element("code", inert(report.command)))
    yield element(
        "footer", "KL in nats, KL(reference ‖ variant), over the whole vocabulary. Made by mqf-tui."
    )


def _both(wide: Chart, narrow: Chart) -> Markup:
    return together([wide.inline("wide"), narrow.inline("narrow")])


def _settings(report: SweepReport) -> Markup:
    """The setting names the row; its verdict has its sign."""
    head = HEAD._replace(kv_bytes=kv_head(report.ranking.kv_basis))
    body = [
        row._replace(verdict=f"{SIGNS[variant.verdict]} {row.verdict}")
        for row, (variant, _) in zip(rows(report), ordered(report), strict=True)
    ]
    used = [i for i in range(len(head)) if i == 1 or any(row[i] not in ("", UNKNOWN) for row in body)]
    order = [1, *(i for i in used if i != 1)]
    return table([head[i] for i in order], [[row[i] for i in order] for row in body], "settings")


def _layers(report: SweepReport) -> Iterator[Markup]:
    found = report.sensitivity
    assert found is not None
    yield _both(layer_strip(found, _WIDE), layer_strip(found, _NARROW))
    yield element("h3", f"Layer by layer, over {counted(found.n_positions, 'position')}")
    head = ("layer", *sensitivity_sides(report), "bytes saved per token")
    yield table(head, list(sensitivity_rows(report)), "figures")
