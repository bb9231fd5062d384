"""The verdict as a badge: a picture of our own, and what shields.io's endpoint badge reads."""

from __future__ import annotations

import json

from mqf_tui.reports.colours import FONT, LIGHT
from mqf_tui.reports.markup import Markup, element, text_width
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import inert, kl, on_edge, verdict_words

SIZE, HEIGHT, PAD = 11, 20, 7
LABEL = "#444c56"


def words(report: Report) -> tuple[str, str]:
    """Left and right half: ``4-bit KV cache, group 64``, ``good, 98 % · KL 0.00123``."""
    *others, last = on_edge(report) or ("",)
    verdict = f"{', '.join(others)} or {last}" if last else verdict_words(report)
    marks = " · partial" * report.partial + " · dropped" * bool(report.dropped)
    return report.setting, f"{verdict} · KL {kl(report.kl.mean)}{marks}"


def to_badge(report: Report) -> str:
    """An SVG document of one line that needs no font of its own and no other file."""
    halves = words(report)
    # Rounded up to whole pixels: both halves meet on one.
    lengths = [round(text_width(text, SIZE)) for text in halves]
    left, right = (length + 2 * PAD for length in lengths)
    colour = LIGHT[report.verdict]
    said = f"{inert(report.model)}: {halves[0]}: {halves[1]}"
    # Badges of other widths may stand in the same page.
    clip = f"round-{left + right}"
    picture = element(
        "svg",
        element("title", said),
        element("clipPath", element("rect", width=left + right, height=HEIGHT, rx=3), id=clip),
        element(
            "g",
            element("rect", width=left, height=HEIGHT, fill=LABEL),
            element("rect", x=left, width=right, height=HEIGHT, fill=colour),
            clip_path=f"url(#{clip})",
        ),
        element(
            "g",
            _text(halves[0], left / 2, lengths[0]),
            _text(halves[1], left + right / 2, lengths[1]),
            fill="#fff",
            text_anchor="middle",
            font_family=FONT,
            font_size=SIZE,
        ),
        xmlns="http://www.w3.org/2000/svg",
        width=left + right,
        height=HEIGHT,
        role="img",
        aria_label=said,
    )
    return f"{picture}\n"


def _text(text: str, middle: float, length: float) -> Markup:
    # The given length makes the text fit whichever font there is.
    return element("text", text, x=middle, y=14, textLength=length, lengthAdjust="spacingAndGlyphs")


def to_badge_json(report: Report) -> str:
    """For https://img.shields.io/endpoint?url=…: its schema version 1."""
    label, message = words(report)
    content = {
        "schemaVersion": 1,
        "label": label,
        "message": message,
        "color": LIGHT[report.verdict].removeprefix("#"),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"
