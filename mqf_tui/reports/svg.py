"""The report as one picture: verdict, distribution of KL, depth curve. Light or dark, nothing loaded."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from mqf_tui.reports.chart_parts import label, level, line
from mqf_tui.reports.colours import DARK, FONT, LIGHT, chart_style
from mqf_tui.reports.deciding import SIGNS, deciding, setting_line
from mqf_tui.reports.depth_curve import depth_curve
from mqf_tui.reports.distribution import distribution
from mqf_tui.reports.markup import Markup, element, fitting, text_width, together
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import inert, verdict_words

if TYPE_CHECKING:
    from mqf_tui.fidelity.positions import Positions

WIDTH = 800
_PAD = 24
_INNER = WIDTH - 2 * _PAD


def to_svg(report: Report, positions: Positions | None, *, dark: bool = False) -> str:
    """The report as an SVG document, 800 wide; without positions it shows what the report itself knows."""
    colours = DARK if dark else LIGHT
    head, y = _head(report)
    upper = distribution(report, positions, _INNER)
    lower = depth_curve(report, _INNER)
    height = y + upper.height + 30 + lower.height + _PAD
    title = f"{inert(report.model)}: {report.setting}, {report.verdict}"
    picture = element(
        "svg",
        element("title", title),
        element("style", Markup(chart_style(colours) + _style(colours))),
        element("rect", x=0.5, y=0.5, width=WIDTH - 1, height=height - 1, rx=10, class_="sheet"),
        head,
        upper.placed(_PAD, y),
        lower.placed(_PAD, y + upper.height + 30),
        xmlns="http://www.w3.org/2000/svg",
        width=WIDTH,
        height=height,
        viewBox=f"0 0 {WIDTH} {height:g}",
        class_="c",
        role="img",
    )
    return f"{picture}\n"


def _style(colours: dict[str, str]) -> str:
    rules = f"""
.c .sheet{{fill:{colours["background"]};stroke:{colours["grid"]}}}
.c .name{{font-family:{FONT};font-size:19px;font-weight:600}}
.c .strong{{font-weight:600}}
.c .figure{{font-size:19px;font-weight:600}}
.c .on{{fill:{colours["on-verdict"]};font-size:14px;font-weight:600}}
"""
    verdicts = "".join(f".c .v-{name}{{fill:{colours[name]}}}\n" for name in SIGNS)
    return rules + verdicts


def _head(report: Report) -> tuple[Markup, float]:
    """Model, setting, verdict and the three figures that decide it; and where the charts begin."""
    name = fitting(inert(report.model) or "unnamed model", 19, _INNER, bold=True)
    parts = [element("text", name, x=_PAD, y=40, class_="name")]
    parts.append(label(_PAD, 62, fitting(setting_line(report), 13, _INNER)))
    pill = f"{SIGNS[report.verdict]} {verdict_words(report)}"
    wide = text_width(pill, 14, bold=True) + 24
    parts.append(element("rect", x=_PAD, y=76, width=wide, height=28, rx=14, class_=f"v-{report.verdict}"))
    parts.append(element("text", pill, x=_PAD + wide / 2, y=95, text_anchor="middle", class_="on"))
    rest = fitting(f"thresholds: {inert(report.thresholds.policy)}", 13, _INNER - wide - 12)
    parts.append(label(_PAD + wide + 12, 95, rest))
    parts += _deciding(report, 128)
    parts.append(line(_PAD, 204, WIDTH - _PAD, 204, "grid"))
    return together(parts), 222.0


def _deciding(report: Report, y: float) -> Iterator[Markup]:
    column = _INNER / 3
    for i, (name, value, words, interval, limits, allowed) in enumerate(deciding(report)):
        x = _PAD + i * column
        yield label(x, y, name, small=True)
        yield element("text", words, x=x, y=y + 23, class_="figure")
        yield label(x, y + 43, interval, small=True)
        yield label(x, y + 61, allowed, small=True)
        if value is not None:
            verdict = level(value, limits)
            reached = f"{SIGNS[verdict]} {verdict}"
            edge = x + column - (48 if i < 2 else 0)
            yield element("text", reached, x=edge, y=y + 22, text_anchor="end", class_=f"v-{verdict} strong")
