"""The colours of pictures and pages, light and dark, and the style of a chart.

Verdicts are blue, amber and vermilion: apart for every common kind of colour blindness, and never told
by colour alone. ``tests/test_pictures.py`` holds the contrasts.
"""

from __future__ import annotations

from collections.abc import Mapping

LIGHT: dict[str, str] = {
    "background": "#ffffff",
    "panel": "#f6f8fa",
    "ink": "#1f2328",
    "muted": "#57606a",
    "grid": "#d8dee4",
    "bar": "#5b7fa6",
    "bar-edge": "#3b5a7c",
    "band": "#c9d8e8",
    "good": "#0a69a6",
    "marginal": "#8a5a00",
    "bad": "#b03f00",
    "on-verdict": "#ffffff",
    "good-zone": "#d3e8f6",
    "marginal-zone": "#fbe8bd",
    "bad-zone": "#f8d3c0",
}
DARK: dict[str, str] = {
    "background": "#0d1117",
    "panel": "#161b22",
    "ink": "#e6edf3",
    "muted": "#9aa4af",
    "grid": "#30363d",
    "bar": "#6d97c4",
    "bar-edge": "#a9c6e6",
    "band": "#24364b",
    "good": "#6cb8ec",
    "marginal": "#e3b341",
    "bad": "#ff9466",
    "on-verdict": "#0d1117",
    "good-zone": "#153a55",
    "marginal-zone": "#4a390c",
    "bad-zone": "#57291a",
}
FONT = "system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,'DejaVu Sans',sans-serif"
MONO = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"

# One hue from pale to deep, so that the order holds without seeing colours; each with its text colour.
HEAT_LIGHT: tuple[tuple[str, str], ...] = (
    ("#ffffff", "#1f2328"),
    ("#fff6e0", "#1f2328"),
    ("#fee8bc", "#1f2328"),
    ("#fdd48a", "#1f2328"),
    ("#fbb65a", "#1f2328"),
    ("#f08c3a", "#1f2328"),
    ("#c9500f", "#ffffff"),
    ("#8f2d06", "#ffffff"),
    ("#571604", "#ffffff"),
)
HEAT_DARK: tuple[tuple[str, str], ...] = (
    ("#0d1117", "#c4ccd4"),
    ("#1f1a14", "#dfe5ea"),
    ("#33261a", "#e6edf3"),
    ("#50341b", "#f0f3f6"),
    ("#75441a", "#ffffff"),
    ("#9d5414", "#ffffff"),
    ("#e08a2c", "#0d1117"),
    ("#f9bd6a", "#0d1117"),
    ("#ffedcf", "#0d1117"),
)

_CHART_STYLE = """
.c text{{font-family:{font};font-size:13px;fill:{ink}}}
.c .small{{font-size:12px;fill:{muted}}}
.c .zone{{font-size:12px}}
.c .halo{{stroke:{background};stroke-width:4px;stroke-linejoin:round;paint-order:stroke}}
.c .heading{{font-size:15px;font-weight:600}}
.c .grid{{stroke:{grid};stroke-width:1}}
.c .axis{{stroke:{muted};stroke-width:1}}
.c .bar{{fill:{bar}}}
.c .whisker{{stroke:{muted};stroke-width:2}}
.c .side{{fill:{bar-edge}}}
.c .gap{{fill:{background}}}
.c .band{{fill:{band}}}
.c .mark{{stroke:{ink};stroke-width:1.75;fill:none}}
.c .dashed{{stroke-dasharray:6 3}}
.c .dotted{{stroke-dasharray:1.5 3}}
.c .dot{{fill:{ink};stroke:{background};stroke-width:1.5}}
.c .curve{{stroke:{bar-edge};stroke-width:2;fill:none}}
.c .good-zone{{fill:{good-zone}}}
.c .marginal-zone{{fill:{marginal-zone}}}
.c .bad-zone{{fill:{bad-zone}}}
"""


def chart_style(colours: Mapping[str, str]) -> str:
    """The rules for charts in elements of class ``c``; colours by the names of ``LIGHT``."""
    return _CHART_STYLE.format(font=FONT, **colours).strip()


def variables(colours: Mapping[str, str]) -> str:
    """The colours as custom properties."""
    return "".join(f"--{name}:{value};" for name, value in colours.items())


def by_variable() -> dict[str, str]:
    """Each colour as a reference to its custom property, for a page that knows both themes."""
    return {name: f"var(--{name})" for name in LIGHT}
