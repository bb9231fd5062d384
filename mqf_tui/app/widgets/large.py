"""Numbers for large digits: as many as fit, with a power of ten in the title where they would not."""

from __future__ import annotations

import math
from dataclasses import dataclass

from textual.renderables.digits import Digits

from mqf_tui.fidelity.intervals import Interval
from mqf_tui.reports.text import UNKNOWN

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
TOO_LARGE = 10_000
ENOUGH = 2  # significant digits, kept before a power of ten is put into the title


@dataclass(frozen=True)
class Large:
    """``text`` is the number divided by 10^``exponent``."""

    text: str
    exponent: int = 0


def cells(text: str) -> int:
    """Columns that large digits take."""
    return Digits.get_width(text)


def large(
    value: float, room: int, *, least: float, beside: Interval | None = None, signed: bool = False
) -> Large:
    """``value`` within ``room`` columns of large digits.

    Numbers under ``least`` and from 10,000 on get a power of ten: that of the largest of the value and of
    what stands ``beside`` it. Where three digits of that one have no room, decimals give way while two
    significant digits of the value are left; then the value's own power of ten is taken.
    """
    if not math.isfinite(value):
        return Large(UNKNOWN if math.isnan(value) else f"{value:+}" if signed else str(value))
    largest = max([abs(value), *(abs(end) for end in beside or () if math.isfinite(end))])
    exponent = 0 if largest == 0 or least <= largest < TOO_LARGE - 0.5 else magnitude(largest)
    decimals = max(2 - (magnitude(largest) - exponent), 0) if largest else 2
    mantissa = value / 10.0**exponent
    keep = min(_significant(mantissa, decimals), ENOUGH)
    for fewer in range(decimals, -1, -1):
        text = _fixed(mantissa, fewer, signed=signed)
        if _significant(mantissa, fewer) < keep:
            break
        if cells(text) <= room:
            return Large(text, exponent)
    exponent = magnitude(value)
    texts = [_fixed(value / 10.0**exponent, decimals, signed=signed) for decimals in (2, 1, 0)]
    return Large(next((text for text in texts if cells(text) <= room), texts[-1]), exponent)


def rate(share: float, room: int) -> str:
    """A share as per cent, with at most two decimals."""
    if not math.isfinite(share):
        return UNKNOWN
    texts = [f"{100 * share:.{decimals}f}%" for decimals in (2, 1, 0)]
    return next((text for text in texts if cells(text) <= room), texts[-1])


def times(exponent: int) -> str:
    """`` ×10⁻³`` for a title."""
    return f" ×10{str(exponent).translate(SUPERSCRIPTS)}" if exponent else ""


def span(interval: Interval | None, factor: float, sign: str = "-", *, most: int = 4, room: int = 16) -> str:
    """Both ends times ``factor``, with as many decimals (at ``most``) as the larger one needs for three
    digits, fewer where ``room`` columns do not hold them; empty where there is no finite interval."""
    if interval is None or not all(map(math.isfinite, interval)):
        return ""
    ends = [end * factor for end in interval]
    largest = max(map(abs, ends))
    decimals = min(max(2 - magnitude(largest), 0), most) if largest else 0
    texts = [" to ".join(f"{end:{sign}.{d}f}" for end in ends) for d in range(decimals, -1, -1)]
    short = "…".join(f"{end:{sign}.0e}" for end in ends)
    return next((text for text in texts if len(text) <= room), short)


def magnitude(value: float) -> int:
    """The power of ten of a number that is rounded to three digits: 0 for 1.5, 1 for 9.999."""
    return int(f"{value:.2e}".partition("e")[2])


def _significant(value: float, decimals: int) -> int:
    """How many significant digits ``decimals`` decimals show."""
    rounded = f"{abs(value):.{decimals}f}"
    return len(rounded.replace(".", "").lstrip("0"))


def _fixed(value: float, decimals: int, *, signed: bool) -> str:
    text = f"{value:{'+' if signed else '-'}.{decimals}f}"
    return text if text.strip("+-0.") else text.lstrip("+-")  # a zero has no sign
