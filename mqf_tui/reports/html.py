"""The report as one page to share: it loads nothing, runs nothing, and reads on a phone and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mqf_tui.reports.chart_parts import Chart, level
from mqf_tui.reports.deciding import SIGNS, deciding, setting_line
from mqf_tui.reports.depth_curve import depth_curve
from mqf_tui.reports.distribution import distribution
from mqf_tui.reports.heatmap import heatmap, worst_positions
from mqf_tui.reports.html_style import page_style
from mqf_tui.reports.html_tables import breakdowns, figures_table, provenance, table
from mqf_tui.reports.markup import Markup, element, together
from mqf_tui.reports.schema import Report
from mqf_tui.reports.setting_words import UNKEPT, notes
from mqf_tui.reports.text import counted, inert, stopping_words, verdict_words

if TYPE_CHECKING:
    from mqf_tui.fidelity.positions import Positions

# Should an escape ever fail, the browser still runs and loads nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_WIDE, _NARROW = 832.0, 358.0


def to_html(report: Report, positions: Positions | None) -> str:
    """The report as an HTML document; the token heat-map needs positions."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="referrer", content="no-referrer"),
        element("title", f"{_name(report)}: {report.setting}, {report.verdict}"),
        element("style", Markup(page_style())),
    )
    main = element("main", *_blocks(report, positions))
    return f"<!DOCTYPE html>\n{element('html', head, element('body', main), lang='en')}\n"


def _name(report: Report) -> str:
    return inert(report.model) or "unnamed model"


def _blocks(report: Report, positions: Positions | None) -> Iterator[Markup]:
    yield _header(report)
    if report.warnings:
        doubts = (element("li", element("bdi", inert(warning))) for warning in report.warnings)
        yield element(
            "div", element("strong", "What to keep in mind"), element("ul", *doubts), class_="doubts"
        )
    yield from _charts(report, positions)
    yield _titled("All figures")
    yield figures_table(report)
    for heading, content in breakdowns(report):
        yield element("h3", heading)
        yield content
    if report.text_kept is False:
        yield element("p", f"{UNKEPT[0].upper()}{UNKEPT[1:]}.", class_="muted")
    elif positions is not None and len(positions):
        yield from _tokens(positions)
    yield _titled("Where it comes from")
    if report.origin is not None:
        yield element("p", _origin(report))
    yield table(("", ""), list(provenance(report)), "from")
    if report.command:
        yield element("h3", "To measure it again")
        yield element("pre", element("code", inert(report.command)))
    yield element(
        "footer", "KL in nats, KL(reference ‖ variant), over the whole vocabulary. Made by mqf-tui."
    )


def _titled(words: str) -> Markup:
    return element("h2", words)


def _header(report: Report) -> Markup:
    verdict = f"{SIGNS[report.verdict]} {verdict_words(report)}"
    stopped = stopping_words(report)
    return element(
        "header",
        element("h1", element("bdi", _name(report))),
        element("p", element("bdi", setting_line(report)), class_="setting"),
        element(
            "p",
            element("span", verdict, class_=f"verdict {report.verdict}"),
            element("span", f"  thresholds: {inert(report.thresholds.policy)}", class_="muted"),
        ),
        element("p", stopped[0].upper() + stopped[1:] + ".", class_="muted") if stopped else None,
        *(element("p", element("bdi", f"{note[0].upper()}{note[1:]}.")) for note in notes(report)),
        element("div", *_cards(report), class_="cards"),
    )


def _cards(report: Report) -> Iterator[Markup]:
    for name, value, words, interval, limits, allowed in deciding(report):
        reached = None
        if value is not None:
            verdict = level(value, limits)
            reached = element("span", f"{SIGNS[verdict]} {verdict}", class_=f"reached {verdict}")
        yield element(
            "div",
            reached,
            element("span", name),
            element("b", words),
            element("span", interval),
            element("span", allowed),
            class_="card",
        )


def _charts(report: Report, positions: Positions | None) -> Iterator[Markup]:
    def both(wide: Chart, narrow: Chart) -> Markup:
        return together([wide.inline("wide"), narrow.inline("narrow")])

    yield both(distribution(report, positions, _WIDE), distribution(report, positions, _NARROW))
    if report.kl_by_depth:
        yield both(depth_curve(report, _WIDE), depth_curve(report, _NARROW))


def _tokens(positions: Positions) -> Iterator[Markup]:
    yield _titled("Where the text suffers")
    yield element(
        "p",
        "The chunks of the highest mean KL. Each token has the colour of the KL at its prediction, from the "
        "tokens before it; a ring marks a flip. Point at a token for its figures.",
        class_="muted",
    )
    yield heatmap(positions)
    rows = list(worst_positions(positions))
    yield element("h3", f"The worst {counted(len(rows), 'position')}")
    yield _worst(rows)


def _worst(rows: list[tuple[str, str, str, str, str, str]]) -> Markup:
    names = ("chunk / depth", "text before", "next token", "KL", "reference's top-1", "variant's top-1")
    body = [
        element(
            "tr",
            element("td", where, class_="num"),
            element("td", element("bdi", f"…{before}"), class_="text"),
            element("td", element("code", element("bdi", token))),
            element("td", kl, class_="num"),
            *(element("td", element("code", element("bdi", top))) for top in tops),
        )
        for where, before, token, kl, *tops in rows
    ]
    head = element("thead", element("tr", *(element("th", name, scope="col") for name in names)))
    whole = element("table", head, element("tbody", *body), class_="worst")
    return element("div", whole, class_="scroll", tabindex="0")


def _origin(report: Report) -> str:
    origin = report.origin
    if origin is None:
        return ""
    tool = " ".join(word for word in (inert(origin.tool), inert(origin.version)) if word)
    rest = ", ".join(word for word in (inert(origin.form), inert(origin.file)) if word)
    return f"Imported from {tool}" + (f" ({rest})" if rest else "") + "; nothing of it was measured here."
