"""Numbers and names as words, the same in every report and on every screen."""

from __future__ import annotations

import math
import unicodedata

UNKNOWN = "—"


def kl(value: float | None) -> str:
    """A KL divergence in nats with three significant digits: ``0.00123``, ``1.23e-06``, ``0``."""
    if value is None:
        return UNKNOWN
    if not math.isfinite(value):
        return str(value)
    if value == 0:
        return "0"
    if abs(value) < 1e-4:
        return f"{value:.2e}"
    digits = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:.{digits}f}"


def percent(share: float | None) -> str:
    """A share as per cent: ``1.23 %``."""
    if share is None:
        return UNKNOWN
    return f"{100 * share:.2f} %" if math.isfinite(share) else str(share)


def perplexity(value: float) -> str:
    """A perplexity, with sense at every size."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.2e}" if abs(value) >= 1e5 else f"{value:.3f}"


def change(value: float) -> str:
    """A signed difference."""
    return ("+" if value > 0 else "") + perplexity(value)


def counted(n: int, noun: str) -> str:
    """``1 chunk``, ``2 chunks``."""
    return f"{n:,} {noun}" + ("" if n == 1 else "s")


def size(n_bytes: float) -> str:
    """Bytes in decimal units: ``1.9 GB``."""
    value = float(n_bytes)
    if not math.isfinite(value):
        return str(value)
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 999.5:
            return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def duration(seconds: float) -> str:
    """Seconds as ``42 s``, ``3 min 05 s``, ``2 h 05 min``."""
    if not math.isfinite(seconds):
        return "?"
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def interval(low: float | None, high: float | None, *, rate: bool = False) -> str:
    """A 95 % interval; there is none over one chunk, nor of an infinite mean."""
    if low is None or high is None:
        return "no interval"
    word = percent if rate else kl
    return f"{word(low)} to {word(high)}"


def inert(text: str) -> str:
    """``text`` on one line without control characters, so that a name cannot drive a terminal."""
    spaced = "".join(" " if c in "\n\r\t\u2028\u2029" else c for c in text)
    return "".join(c for c in spaced if unicodedata.category(c)[0] != "C")


def readable(name: str) -> str:
    """A file's name with its undecodable bytes as ``?``, so that it can be written as UTF-8."""
    return name.encode(errors="replace").decode()
