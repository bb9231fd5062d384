"""All formats of a report by the names that the command line knows; each is imported when it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from mqf_tui.fidelity.positions import Positions
    from mqf_tui.reports.schema import Report

Rows = Literal["runs", "positions"]
Renderer = Callable[["Report", "Positions | None", bool], str]


class Format(NamedTuple):
    """How a format is made, and how its files end, no two alike."""

    ending: str
    render: Renderer
    pictures: bool = False  # it draws single positions


def _md(report: Report, positions: Positions | None, dark: bool) -> str:
    from mqf_tui.reports.markdown import to_markdown

    return to_markdown(report)


def _card(report: Report, positions: Positions | None, dark: bool) -> str:
    from mqf_tui.reports.card import to_card

    return to_card(report)


def _json(report: Report, positions: Positions | None, dark: bool) -> str:
    from mqf_tui.reports.json_report import to_json

    return to_json(report)


def _csv(report: Report, positions: Positions | None, dark: bool) -> str:
    from mqf_tui.reports.csv_report import to_csv

    return to_csv([report])


def _badge(report: Report, positions: Positions | None, dark: bool) -> str:
    from mqf_tui.reports.badge import to_badge

    return to_badge(report)


def _badge_json(report: Report, positions: Positions | None, dark: bool) -> str:
    from mqf_tui.reports.badge import to_badge_json

    return to_badge_json(report)


def _svg(report: Report, positions: Positions | None, dark: bool) -> str:
    from mqf_tui.reports.svg import to_svg

    return to_svg(report, positions, dark=dark)


def _html(report: Report, positions: Positions | None, dark: bool) -> str:
    from mqf_tui.reports.html import to_html

    return to_html(report, positions)


FORMATS: dict[str, Format] = {
    "md": Format("md", _md),
    "card": Format("card.md", _card),
    "json": Format("json", _json),
    "csv": Format("csv", _csv),
    "badge": Format("badge.svg", _badge),
    "badge-json": Format("badge.json", _badge_json),
    "svg": Format("svg", _svg, pictures=True),
    "html": Format("html", _html, pictures=True),
}


def render(
    name: str,
    report: Report,
    positions: Positions | None = None,
    *,
    dark: bool = False,
    rows: Rows = "runs",
) -> str:
    """The report in one format. ``dark`` is for svg, ``rows`` for csv, which then needs ``positions``.

    Raises KeyError for a format that there is not, ValueError where positions are needed and missing.
    """
    if rows == "positions":
        from mqf_tui.reports.csv_report import positions_csv

        if name != "csv" or positions is None:
            raise ValueError("one row a position is for csv, and needs positions")
        return positions_csv(positions, words=report.text_kept is not False)
    return FORMATS[name].render(report, positions, dark)


def needs_positions(name: str, rows: Rows = "runs") -> bool:
    """Whether the format shows single positions."""
    return rows == "positions" or FORMATS[name].pictures


def ending(name: str, rows: Rows = "runs", *, dark: bool = False) -> str:
    """How a file of the format is named at its end, such that no two formats fall on one name."""
    before = "positions." if rows == "positions" else "dark." if dark and name == "svg" else ""
    return before + FORMATS[name].ending
