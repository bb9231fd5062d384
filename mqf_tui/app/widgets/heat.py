"""The styles of a token heat-map in the colours of a theme, or without colours."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from rich.style import Style
from textual.color import BLACK, WHITE, Color

from mqf_tui.app.capabilities import Colour
from mqf_tui.app.exploring.measures import HIGHEST, UNKNOWN

LEAST_CONTRAST = 4.5  # of text and what is behind it
# How far each level but the last is from the background to the hue; the last lies beyond it.
_TO_HUE = (0.0, 0.10, 0.20, 0.32, 0.46, 0.62, 0.80, 0.97)
_BEYOND = 0.45
_SOME, _MUCH = 3, 6  # levels from which on a terminal of few colours marks a token


class Heat:
    """Styles of tokens. ``variables``: the colours of the theme by name."""

    def __init__(self, variables: Mapping[str, str], colours: Colour = "true") -> None:
        self.background = Color.parse(variables["background"])
        # Where the terminal's own colours are used nobody knows what can be read on them.
        self._colours: Colour = "none" if self.background.ansi is not None else colours
        self.foreground = readable(Color.parse(variables["foreground"]), self.background)
        self.quiet = _quiet(self.foreground, self.background)
        self._rising = _ramp(self.background, Color.parse(variables["warning"]))
        self._falling = _ramp(self.background, Color.parse(variables["primary"]))
        candidates = [Color.parse(variables[name]) for name in ("accent", "success", "error", "foreground")]
        self._cursor = max(candidates, key=self._apart)

    def _apart(self, colour: Color) -> float:
        """How far a colour is from all levels: the cursor must not look like one of them."""
        levels = (*self._rising, *self._falling)
        return min(sum((a - b) ** 2 for a, b in zip(colour.rgb, level.rgb, strict=True)) for level in levels)

    @lru_cache(maxsize=1024)  # noqa: B019 (one Heat lives as long as its theme)
    def style(self, level: int, flip: int = 0, *, inside: bool = True, cursor: bool = False) -> Style:
        """Of a token of a level. ``flip``: 1, or 2 for a confident one; ``inside``: the filter keeps it."""
        if self._colours == "none":
            return self._plain(level, flip, inside, cursor)
        underline, bold = flip > 0, flip > 1
        if cursor and self._colours == "16":
            return _styled(self.foreground, self.background, bold=True, underline=underline, reverse=True)
        if cursor:
            back, ink = self._cursor, readable(self.background, self._cursor)
            return _styled(ink, back, bold=True, underline=underline)
        if not inside:
            return _styled(self.quiet, self.background, underline=underline)
        if self._colours == "16":
            return self._few(level, underline)
        back = (
            self.background
            if level == UNKNOWN
            else (self._rising if level > 0 else self._falling)[abs(level)]
        )
        return _styled(readable(self.foreground, back), back, bold=bold, underline=underline)

    def _few(self, level: int, underline: bool) -> Style:
        """Three steps that stay apart when every colour becomes the nearest of sixteen."""
        hue = (self._rising if level > 0 else self._falling)[HIGHEST - 1]
        amount = 0 if level == UNKNOWN else abs(level)
        if amount >= _MUCH:
            return _styled(readable(BLACK, hue), hue, bold=True, underline=underline)
        if amount >= _SOME:
            return _styled(readable(hue, self.background), self.background, bold=True, underline=underline)
        return _styled(self.foreground, self.background, underline=underline)

    def _plain(self, level: int, flip: int, inside: bool, cursor: bool) -> Style:
        """Bold, then underlined; reverse is the cursor's alone."""
        del flip
        amount = 0 if level == UNKNOWN else abs(level)
        if not inside and not cursor:
            return _styled(self.quiet, self.background, dim=True)
        return _styled(
            self.foreground,
            self.background,
            bold=amount >= _SOME or cursor,
            underline=amount >= _MUCH,
            reverse=cursor,
        )


def readable(ink: Color, back: Color) -> Color:
    """``ink`` where it can be read on ``back``, else black or white."""
    if contrast(ink, back) >= LEAST_CONTRAST:
        return ink
    return max((BLACK, WHITE), key=lambda colour: contrast(colour, back))


def contrast(one: Color, other: Color) -> float:
    """The contrast ratio of two colours by WCAG 2, from 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(colour: Color) -> float:
    def linear(share: float) -> float:
        return share / 12.92 if share <= 0.03928 else ((share + 0.055) / 1.055) ** 2.4

    red, green, blue = colour.normalized
    return 0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)


def _ramp(background: Color, hue: Color) -> list[Color]:
    """From the background over the hue on to white or black: each level is lighter than the one before it,
    or each is darker, so that the order can be seen without seeing colours."""
    end = WHITE if _luminance(hue) > _luminance(background) else BLACK
    return [*(background.blend(hue, share, 1.0) for share in _TO_HUE), hue.blend(end, _BEYOND, 1.0)]


def _quiet(foreground: Color, background: Color) -> Color:
    """The foreground as faint as can still be read."""
    for share in (0.55, 0.45, 0.35, 0.25, 0.15):
        faint = foreground.blend(background, share, 1.0)
        if contrast(faint, background) >= LEAST_CONTRAST:
            return faint
    return foreground


def _styled(
    ink: Color,
    back: Color,
    *,
    bold: bool = False,
    underline: bool = False,
    dim: bool = False,
    reverse: bool = False,
) -> Style:
    return Style(
        color=ink.rich_color,
        bgcolor=back.rich_color,
        bold=bold,
        underline=underline,
        dim=dim,
        reverse=reverse,
    )
