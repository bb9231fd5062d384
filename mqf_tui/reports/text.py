"""Numbers and names as words, the same in every report and on every screen."""

from __future__ import annotations

import math
import re
import unicodedata
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mqf_tui.reports.schema import Confidence, Report, Stopping, Verdict

UNKNOWN = "—"
EDGE = 0.10  # a second verdict at least that likely makes a run stand on the edge between the two
NOT_SETTLED = "not settled"


class Judged(Protocol):
    """A verdict and how sure it is: a report, or the numbers of a measurement that still runs."""

    @property
    def verdict(self) -> Verdict:
        """Good, marginal or bad."""
        ...

    @property
    def confidence(self) -> Confidence | None:
        """How sure that is, where it is known."""
        ...

    @property
    def stopping(self) -> Stopping | None:
        """The rule that decides when it ends, where there is one."""
        ...


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


def count_words(n: int) -> str:
    """A large number of things in few characters: ``135 M``, ``7.62 B``."""
    for unit, name in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if n >= unit:
            return f"{n / unit:.3g} {name}"
    return str(n)


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


def point_range(ci: tuple[float, float] | None) -> str:
    """The interval of a share's difference in percentage points, for a narrow cell: ``-4.33 to -1.15``."""
    return "" if ci is None else " to ".join(points(end).removesuffix(" pp") for end in ci)


def points(share: float) -> str:
    """A signed difference of two shares in percentage points: ``-2.74 pp``."""
    if not math.isfinite(share):
        return str(share)
    rounded = round(100 * share, 2)
    return f"{rounded:+.2f} pp" if rounded else "0.00 pp"


def ratio(value: float) -> str:
    """A ratio near 1, or its logarithm near 0, with four decimals: ``1.2276``."""
    if not math.isfinite(value):
        return str(value)
    return f"{value:.3g}" if abs(value) >= 1e4 else f"{value:.4f}".replace("-0.0000", "0.0000")


def p_value(p: float) -> str:
    """``p = 0.032``, ``p < 0.0001``."""
    if not math.isfinite(p):
        return f"p = {p}"
    if p < 1e-4:
        return "p < 0.0001"
    return f"p = {p:.2f}" if p >= 0.1 else f"p = {p:.2g}"


def likely(share: float) -> str:
    """A probability in whole per cent that never claims to be certain: ``98 %``, ``over 99 %``."""
    if not math.isfinite(share):
        return UNKNOWN
    if share > 0.99:
        return "over 99 %"
    return f"{100 * share:.0f} %" if share >= 0.01 else "under 1 %"


def unsettled(report: Judged) -> bool:
    """Whether a stopping rule looked at it again and again and did not come to this verdict.

    A bootstrap's shares say nothing then: they do not allow for the looking.
    """
    c = report.confidence
    return report.stopping is not None and (c is None or c.method == "bootstrap")


def on_edge(report: Judged) -> tuple[Verdict, ...]:
    """The verdicts with a share of EDGE or more, best first, where there are two or three; else none."""
    c = report.confidence
    if c is None or unsettled(report):
        return ()
    shares: dict[Verdict, float] = {"good": c.good, "marginal": c.marginal, "bad": c.bad}
    found: list[Verdict] = [verdict for verdict, share in shares.items() if share >= EDGE]
    return tuple(found) if len(found) > 1 else ()


def edge_words(report: Judged) -> str:
    """``on the edge between good and marginal``; empty where it is on none."""
    edge = on_edge(report)
    if len(edge) > 2:
        return f"anything from {edge[0]} to {edge[-1]}"
    return f"on the edge between {' and '.join(edge)}" if edge else ""


def sureness(report: Judged) -> str:
    """How sure the verdict is: ``98 %``, ``at least 95 %`` where it was settled; empty where not known."""
    c = report.confidence
    if unsettled(report):
        return NOT_SETTLED
    if c is None:
        return ""
    share = c.of(report.verdict)
    return f"at least {100 * share:.3g} %" if c.method == "anytime" else likely(share)


def verdict_words(report: Judged) -> str:
    """``good, 98 %``, ``good, not settled``, or ``on the edge between good and marginal (good, 62 %)``."""
    said = ", ".join(word for word in (report.verdict, sureness(report)) if word)
    edge = edge_words(report)
    return f"{edge} ({said})" if edge else said


def stopping_words(report: Report) -> str:
    """How a measurement that goes on until it is sure ended, as a clause; empty where it was none."""
    s = report.stopping
    if s is None:
        return ""
    planned = counted(max(report.n_chunks_planned, s.n_chunks), "chunk")
    if report.dropped:
        left = "the race" if s.rule == "race" else "its sweep"
        return f"left {left} after {s.n_chunks} of {planned}: {inert(report.dropped)}"
    if s.rule == "race" and s.settled and s.n_chunks < report.n_chunks_planned:
        return f"verdict and place in the race were settled after {s.n_chunks} of {planned}"
    word = "" if s.settled else " not"
    verdict = f"the verdict was{word} settled" if s.rule != "precision" else ""
    reached = " settled" if s.precision is None else f" known to within {100 * s.precision:.3g} %"
    mean = f"mean KL was{word}{reached}" if s.rule in ("precision", "both") else ""
    if s.settled:
        when = " and ".join(clause for clause in (verdict, mean) if clause)
        return f"stopped after {s.n_chunks} of {planned}, when {when}"
    if verdict and mean:  # one of the two may have been reached
        verdict, mean = verdict if unsettled(report) else "", "" if _precise(report) else mean
    missed = " and ".join(clause for clause in (verdict, mean) if clause)
    return f"{missed or 'it was not settled'} after {counted(s.n_chunks, 'chunk')}"


def _precise(report: Report) -> bool:
    """Whether mean KL is known to the precision that was asked for."""
    s, k = report.stopping, report.kl
    if s is None or s.precision is None or k.ci_low is None or k.ci_high is None:
        return False
    return (k.ci_high - k.ci_low) / 2 <= s.precision * k.mean


def inert(text: str) -> str:
    """``text`` on one line without control characters, so that a name cannot drive a terminal."""
    spaced = "".join(" " if c in "\n\r\t\u2028\u2029" else c for c in text)
    return "".join(c for c in spaced if unicodedata.category(c)[0] != "C")


def readable(name: str) -> str:
    """A file's name with its undecodable bytes as ``?``, so that it can be written as UTF-8."""
    return name.encode(errors="replace").decode()


_SIDE = r"(\d+|mxfp4|mxfp8|nvfp4)(?:g(\d+))?"


def kv_format_words(word: str, formats: tuple[str, ...] = ()) -> str:
    """A KV format in words: ``k8v4g64`` is ``8-bit keys, 4-bit values, group 64``.

    ``formats``: those of the layers, for a recipe. A word that it does not know is given back as it is.
    """
    if word == "recipe":
        kinds = sorted(set(formats))
        return f"mixed KV cache ({', '.join(map(inert, kinds[:3]))}{', …' * (len(kinds) > 3)})"
    if match := re.fullmatch(_SIDE, word):
        group = f", group {match[2]}" if match[2] else ""
        return f"{match[1]}{'-bit' * match[1].isdigit()} KV cache{group}"
    if match := re.fullmatch(f"k{_SIDE}v{_SIDE}", word):
        k, k_group, v, v_group = match.groups()
        if k_group and v_group:
            return f"{_side_words(k)} keys (group {k_group}), {_side_words(v)} values (group {v_group})"
        group = f", group {v_group or k_group}" if v_group or k_group else ""
        return f"{_side_words(k)} keys, {_side_words(v)} values{group}"
    return inert(word)


def _side_words(word: str) -> str:
    return "full-precision" if word == "16" else f"{word}-bit" if word.isdigit() else word
