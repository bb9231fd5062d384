"""Elements of XML and HTML as strings: whatever comes from outside is escaped and inert, always."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from xml.sax.saxutils import escape, quoteattr

_VOID = frozenset({"meta", "br", "hr", "img"})
# Joiners shape Persian, Indic scripts and emoji; they turn nothing round.
_KEPT = frozenset("\n\t\u200c\u200d")


class Markup(str):
    """Text that is markup already. Only this module and constants of the program make it."""

    __slots__ = ()


def element(tag: str, *children: str | None, **attributes: str | float | None) -> Markup:
    """One element. Plain strings among the children are escaped, ``None`` is passed over.

    Attribute names: a trailing underscore falls away, others become hyphens (``class_``,
    ``stroke_width``). Attributes that are None stay away.
    """
    words = [tag]
    for name, value in attributes.items():
        if value is not None:
            word = value if isinstance(value, str) else number(value)
            words.append(f"{name.rstrip('_').replace('_', '-')}={quoteattr(clean(word))}")
    opening = f"<{' '.join(words)}>"
    return Markup(opening if tag in _VOID else f"{opening}{together(children)}</{tag}>")


def together(children: Iterable[str | None]) -> Markup:
    """The children one after the other, each escaped unless it is Markup."""
    return Markup(
        "".join(c if isinstance(c, Markup) else escape(clean(c)) for c in children if c is not None)
    )


def clean(text: str) -> str:
    """``text`` without what markup must not hold, or what would drive a terminal or turn the line round."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c for c in text if c in _KEPT or unicodedata.category(c)[0] != "C")


def number(value: float) -> str:
    """A coordinate or length: two decimals at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if value % 1 else str(int(value))


def text_width(text: str, size: float, *, bold: bool = False) -> float:
    """About how wide ``text`` runs in a sans-serif font of ``size``; rather too wide than too narrow."""
    return (1.12 if bold else 1.0) * size * sum(_em(c) for c in text)


def fitting(text: str, size: float, width: float, *, bold: bool = False) -> str:
    """``text``, its middle left out where it would run wider than ``width``."""
    if text_width(text, size, bold=bold) <= width:
        return text
    keep = len(text) - 1
    while keep > 1 and text_width(_shortened(text, keep), size, bold=bold) > width:
        keep -= 1
    return _shortened(text, keep)


def _shortened(text: str, keep: int) -> str:
    tail = keep // 2
    return text[: keep - tail].rstrip() + "…" + (text[-tail:].lstrip() if tail else "")


def _em(character: str) -> float:
    if character in "iljtfrI.,:;|'!()[]/ -·":
        return 0.36
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0.0
    if unicodedata.east_asian_width(character) in "WF":
        return 1.05
    return 0.95 if character in "mwMW@%<>=+~…&" else 0.7 if character.isupper() else 0.61
