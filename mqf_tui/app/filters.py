"""What is drawn, brought down to what the terminal can show: ASCII only, 16 colours, or no colour at all.

The filters work on the finished lines, so that they hold for every widget, Textual's own too. Widgets that
have a better plain form of their own (``capabilities.mark``, ``capabilities.bar``) leave them nothing to do.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import lru_cache

from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.color_triplet import ColorTriplet
from rich.segment import Segment
from rich.style import Style
from textual.color import Color
from textual.filter import LineFilter

from mqf_tui.app.capabilities import MARKS, Capabilities

Background = Callable[[], Color]

_SIMILAR = {
    "-": "‐‑‒–—−⁻",
    "|": "▏▎▍▌▋▊▉▐▕‖¦⋮",
    "+": "▗▖▝▘▛▜▙▟",
    "#": "█▆▇▓■▄▅",
    "_": "▁▂▃␣",
    ".": "░·•‣▪∙⋅◦",
    ":": "▒",
    " ": "▔▀\u00a0",
    "^": "↑▲△⌃",
    "v": "↓▼▽⌄",
    "<": "←‹«◀◁≤⟨",
    ">": "→›»▶▷≥⟩⇥",
    "[": "⟦",
    "]": "⟧",
    "o": "●○◉⭘⬤◌",
    "*": "✓✔◆◇★☆⭑†",
    "x": "✕✖✗✘×",
    "~": "…≈∼±∞",
    "=": "≡",
    "%": "◐◑◒◓",
    "!": "⚠≠",
    "'": "‘’′",
    '"': "“”″",
    "d": "Δ",
    "a": "α",
    "S": "Σ",
    "u": "µμ",
    "V": "√",
    "/": "↵¶",
    "> ": "🔎",  # two columns
}
BOX_DRAWING = range(0x2500, 0x2580)


def _similar_line(one: str) -> str:
    """A sign for a line of a box: how it runs is in its name."""
    name = unicodedata.name(one)
    if "DIAGONAL" in name:
        return "x" if "CROSS" in name else "/" if "RIGHT TO" in name else "\\"
    across = any(word in name for word in ("HORIZONTAL", "LEFT", "RIGHT"))
    down = any(word in name for word in ("VERTICAL", "UP", "DOWN"))
    return "+" if across and down else "-" if across else "|"


# One column for one: some signs are short of what they mean, but the layout stays.
ASCII = {
    **{chr(code): _similar_line(chr(code)) for code in BOX_DRAWING},
    **{one: plain for plain, several in _SIMILAR.items() for one in several},
    **{shown: plain for shown, plain in MARKS.values() if not shown.isascii()},
}


class AsciiFilter(LineFilter):
    """Only ASCII: signs become similar ones, letters lose their accents, the rest becomes ``?``."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same columns in ASCII."""
        return [
            segment
            if segment.text.isascii()
            else Segment(plain(segment.text), segment.style, segment.control)
            for segment in segments
        ]


@lru_cache(4096)
def plain(text: str) -> str:
    """``text`` in ASCII, as many columns wide."""
    return "".join(one if one.isascii() else _plain_one(one) for one in text)


def _plain_one(one: str) -> str:
    if (similar := ASCII.get(one)) is not None:
        return similar
    columns = cell_len(one)
    if 0x2800 <= ord(one) <= 0x28FF:  # braille, as plots use it
        return " :"[ord(one) > 0x2800]
    letters = "".join(c for c in unicodedata.normalize("NFKD", one) if c.isascii() and c.isprintable())
    return letters if letters and len(letters) == columns else "?" * columns


class Restyled(LineFilter):
    """The same text in styles that this terminal has; ``restyle`` makes one of a style and the background."""

    def __init__(self, background: Background, restyle: Callable[[Style, ColorTriplet], Style]) -> None:
        super().__init__()
        self._background, self._restyle = background, restyle

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        """The same text in other styles."""
        base = _triplet(self._background())
        return [
            segment
            if segment.style is None
            else Segment(segment.text, self._restyle(segment.style, base), segment.control)
            for segment in segments
        ]


def filters(capabilities: Capabilities, background: Background) -> list[LineFilter]:
    """The filters for such a terminal; ``background`` gives the current theme's."""
    found: list[LineFilter] = []
    if not capabilities.unicode:
        found.append(AsciiFilter())
    if capabilities.colour == "none":
        found.append(Restyled(background, no_colours))
    elif capabilities.colour == "16":
        found.append(Restyled(background, few_colours))
    return found


STANDS_OUT = 1.9  # contrast of two backgrounds from which on they are told apart
BLACK, RED, GREEN, YELLOW, BLUE, MAGENTA, CYAN, WHITE = range(8)
BRIGHT = 8
_PLAIN = Style.from_color(RichColor.default(), RichColor.default())


@lru_cache(4096)
def no_colours(style: Style, base: ColorTriplet) -> Style:
    """``style`` without colours, on a screen whose background is ``base``."""
    other = style.bgcolor is not None and contrast(_rgb(style.bgcolor, base), base) >= STANDS_OUT
    return style + _PLAIN + Style(reverse=bool(style.reverse) != other)


@lru_cache(4096)
def few_colours(style: Style, base: ColorTriplet) -> Style:
    """``style`` in the 16 colours, on a screen whose background is ``base``."""
    colour, behind = style.color, style.bgcolor
    if (colour is not None and colour.triplet is None) or (behind is not None and behind.triplet is None):
        return style  # the terminal's colours already
    ground = _ground(_rgb(behind, base), base)
    front = _front(_rgb(colour, base), ground, base) if colour is not None else None
    return style + Style.from_color(
        None if front is None else RichColor.from_ansi(front), RichColor.from_ansi(ground)
    )


def _ground(colour: ColorTriplet, base: ColorTriplet) -> int:
    """Backgrounds are the first eight: some consoles have no others."""
    usual = BLACK if luminance(base) < 0.2 else WHITE
    if contrast(colour, base) < STANDS_OUT:
        return usual
    hue = _hue(colour)
    if hue is not None:
        return hue
    return WHITE if usual == BLACK else BLACK


def _front(colour: ColorTriplet, ground: int, base: ColorTriplet) -> int:
    """What can be read on that background in every usual palette."""
    hue = _hue(colour)
    if ground == BLACK:
        if hue is not None:
            return BRIGHT + hue
        return BRIGHT + WHITE if contrast(colour, base) > 9 else WHITE
    if ground == WHITE:
        # The others are too pale on it in most palettes.
        return hue if hue in (RED, BLUE) else BLACK
    return BRIGHT + WHITE if ground in (RED, BLUE, MAGENTA) else BLACK


def _hue(colour: ColorTriplet) -> int | None:
    """Which of the six colours; None for greys."""
    red, green, blue = colour
    high, low = max(colour), min(colour)
    if high - low < 0.25 * high or high < 48:
        return None
    spread = high - low
    if high == red:
        sixth = ((green - blue) / spread) % 6
    elif high == green:
        sixth = (blue - red) / spread + 2
    else:
        sixth = (red - green) / spread + 4
    # Oranges count as yellow: they are warnings.
    starts = ((0.28, RED), (1.25, YELLOW), (2.6, GREEN), (3.4, CYAN), (4.5, BLUE), (5.4, MAGENTA))
    return next((name for end, name in starts if sixth < end), RED)


def luminance(colour: ColorTriplet) -> float:
    """Relative luminance as WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: ColorTriplet, other: ColorTriplet) -> float:
    """Contrast as WCAG 2 defines it, 1 to 21."""
    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def _rgb(colour: RichColor | None, base: ColorTriplet) -> ColorTriplet:
    if colour is None or colour.is_default:
        return base
    return colour.triplet or colour.get_truecolor()


def _triplet(colour: Color) -> ColorTriplet:
    return ColorTriplet(*colour.rgb)
