"""What the terminal can show, told from the environment, and the marks that widgets draw, in two forms."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mqf_tui.app.served import served

Colour = Literal["none", "16", "256", "true"]

# Consoles whose fonts have hardly more than ASCII, whatever the locale says.
POOR_FONTS = ("dumb", "unknown", "linux", "cons25", "ansi", "vt100", "vt102", "vt220", "vt320")
NO_COLOURS = ("dumb", "unknown", "vt100", "vt102", "vt220", "vt320")

# name: (Unicode, ASCII), both one column wide.
MARKS: Mapping[str, tuple[str, str]] = {
    "good": ("●", "o"),
    "marginal": ("▲", "^"),
    "bad": ("■", "#"),
    "chosen": ("✓", "*"),
    "no": ("✕", "x"),
    "marked": ("◆", "*"),
    "running": ("▶", ">"),
    "paused": ("‖", "="),
    "waiting": ("·", "."),
    "partial": ("◐", "%"),
    "same": ("≡", "="),
    "warning": ("⚠", "!"),
    "up": ("↑", "^"),
    "down": ("↓", "v"),
    "left": ("←", "<"),
    "right": ("→", ">"),
    "into": ("›", ">"),
    "minus": ("−", "-"),
    "times": ("×", "x"),
    "dot": ("·", "-"),
    "ellipsis": ("…", "~"),
    "full": ("█", "#"),
    "empty": ("░", "."),
    "slot": ("▁", "_"),
    "line": ("─", "-"),
    "tick": ("│", "|"),
    "cross": ("┼", "+"),
    "knob": ("●", "O"),
}
EIGHTHS = " ▏▎▍▌▋▊▉"
TALL_EIGHTHS = " ▁▂▃▄▅▆▇█"
TALL_ASCII = " ..::++##"


@dataclass(frozen=True)
class Capabilities:
    """What can be shown: characters beyond ASCII or not, and how many colours."""

    unicode: bool = True
    colour: Colour = "true"


def capabilities(environment: Mapping[str, str], unicode: bool | None = None) -> Capabilities:
    """What a terminal with this environment can show; ``unicode`` is the user's word, if any."""
    if unicode is None:
        unicode = _has_unicode(environment)
    return Capabilities(unicode, _colours(environment))


def has_unicode(app: object) -> bool:
    """Whether this app's terminal shows more than ASCII; so it is taken of apps that do not know."""
    return getattr(app, "capabilities", Capabilities()).unicode


def mark(name: str, unicode: bool) -> str:
    """The mark of this name in MARKS, one column wide; raises KeyError for an unknown name."""
    return MARKS[name][0 if unicode else 1]


def bar(share: float, width: int, unicode: bool) -> str:
    """A bar over ``share`` (0 to 1, beyond is cut) of ``width`` columns, filled up with blanks."""
    return unicode_bar(share, width) if unicode else ascii_bar(share, width)


def unicode_bar(share: float, width: int) -> str:
    """A bar to the eighth of a column."""
    eighths = round(_within(share) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (EIGHTHS[rest] if rest else "")).ljust(width)


def ascii_bar(share: float, width: int) -> str:
    """A bar to the half of a column."""
    full, rest = divmod(round(_within(share) * width * 2), 2)
    return ("#" * full + "-" * rest).ljust(width)


def tall(share: float, unicode: bool) -> str:
    """One column of a picture one line high, filled from below to ``share`` (0 to 1)."""
    levels = TALL_EIGHTHS if unicode else TALL_ASCII
    return levels[round(_within(share) * (len(levels) - 1))]


def _within(share: float) -> float:
    return 0.0 if math.isnan(share) else min(1.0, max(0.0, share))


def _has_unicode(environment: Mapping[str, str]) -> bool:
    if served(environment):
        return True
    if environment.get("TERM", "").lower() in POOR_FONTS:
        return False
    names = (environment.get(name, "") for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    locale = next((name for name in names if name), "").lower()
    # No locale at all says nothing about the terminal, and those of today show UTF-8.
    return not locale or "utf8" in locale.replace("-", "")


def _colours(environment: Mapping[str, str]) -> Colour:
    # An empty NO_COLOR counts here as well, since it does for Textual, which draws.
    if "NO_COLOR" in environment:
        return "none"
    if served(environment):
        return "true"
    term = environment.get("TERM", "").lower()
    if term in NO_COLOURS:
        return "none"
    if environment.get("COLORTERM", "").strip().lower() in ("truecolor", "24bit") or term.endswith("-direct"):
        return "true"
    if "256color" in term or "kitty" in term:
        return "256"
    return "16"
