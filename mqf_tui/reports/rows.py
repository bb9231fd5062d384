"""Every figure of a report as a row of words: its name, its value, its 95 % interval.

Plain text, the same for every format; what a report does not know has no row.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from mqf_tui.reports.text import change, counted, kl, p_value, percent, perplexity, points, ratio, size

if TYPE_CHECKING:
    from mqf_tui.reports.schema import Bounds, DeltaP, Estimate, Flips, Report

NO_INTERVAL = "none"


class Row(NamedTuple):
    """One figure in words."""

    name: str
    value: str
    interval: str = ""


def figures(report: Report) -> Iterator[Row]:
    """All figures over the whole run, KL first."""
    yield from _kl(report)
    if known(report.flip_rate):
        ends = between(bounds(report.flip_ci_low, report.flip_ci_high), percent)
        yield Row("flips", percent(report.flip_rate), ends or _missing(report))
    if report.flips is not None:
        yield from _flips(report.flips)
    if report.delta_p is not None:
        yield from _delta_p(report.delta_p)
    yield from _perplexity(report)
    yield from _sizes(report)


def known(value: float | None) -> bool:
    """Whether there is such a figure; NaN stands for one that an import does not have."""
    return value is not None and not math.isnan(value)


def bounds(low: float | None, high: float | None) -> Bounds | None:
    """The two ends as one, where both are there."""
    return None if low is None or high is None else (low, high)


def between(ci: Bounds | None, word: Callable[[float], str]) -> str:
    """``0.164 to 0.364``; a unit that both ends share is said once. Empty without an interval."""
    if ci is None:
        return ""
    low, high = word(ci[0]), word(ci[1])
    unit = next((u for u in (" %", " pp") if low.endswith(u) and high.endswith(u)), "")
    return f"{low.removesuffix(unit)} to {high}"


def spread(value: float, ci: Bounds | None, word: Callable[[float], str]) -> str:
    """A figure with its error: ``0.264 ± 0.100``, or ``0.264 (0.1 to 0.9)`` where the interval is uneven."""
    said = word(value)
    if ci is None:
        return said
    number, _, unit = said.partition(" ")
    below, above = value - ci[0], ci[1] - value
    plain = re.fullmatch(r"-?\d+(?:\.(\d+))?", number)
    if plain and abs(above - below) <= 0.02 * max(above, below):
        half = (below + above) / 2 * (100 if unit == "%" else 1)
        return f"{number} ± {half:.{len(plain[1] or '')}f} {unit}".rstrip()
    return f"{said} ({between(ci, word)})"


def _missing(report: Report) -> str:
    # Of what was measured here one must hear that there is none; of an import it is just not known.
    return "" if report.origin else NO_INTERVAL


def _kl(report: Report) -> Iterator[Row]:
    k = report.kl
    yield Row("KL mean (nats)", kl(k.mean), between(bounds(k.ci_low, k.ci_high), kl) or _missing(report))
    for name, value, ci in (
        ("median", k.median, k.median_ci),
        ("p90", k.p90, k.p90_ci),
        ("p95", k.p95, k.p95_ci),
        ("p99", k.p99, k.p99_ci),
        ("p99.9", k.p999, k.p999_ci),
        ("max", k.max, None),
    ):
        if known(value):
            yield Row(f"KL {name}", kl(value), between(ci, kl))
    if known(k.worst_share):
        yield Row("share of KL in the worst 1 %", percent(k.worst_share))


def _estimate(name: str, figure: Estimate, word: Callable[[float], str]) -> Iterator[Row]:
    if known(figure.value):
        yield Row(name, word(figure.value), between(figure.ci, word))


def _flips(flips: Flips) -> Iterator[Row]:
    yield from _estimate("confident flips (reference gave ≥ 0.5)", flips.confident, percent)
    yield from _estimate("near-tie flips (margin < 0.05)", flips.near_tie, percent)
    counts = f"{flips.lost:,}, {flips.gained:,}, {flips.changed:,}"
    yield Row("text's own token lost, gained, neither", counts)
    for row in _estimate("accuracy change", flips.accuracy_change, points):
        test = f" ({p_value(flips.mcnemar_p)})" if known(flips.mcnemar_p) else ""
        yield row._replace(value=row.value + test)
    yield Row("longest run of flips", counted(flips.longest_run, "position"))
    yield from _estimate("top-5 agreement", flips.top5_agreement, percent)


def _delta_p(delta_p: DeltaP) -> Iterator[Row]:
    yield from _estimate("Δp mean", delta_p.mean, points)
    yield from _estimate("Δp RMS", delta_p.rms, lambda share: points(share).removeprefix("+"))


def _perplexity(report: Report) -> Iterator[Row]:
    p = report.perplexity
    for name, value, ci, word in (
        ("perplexity, reference", report.perplexity_ref, p and p.ref_ci, perplexity),
        ("perplexity, variant", report.perplexity_quant, p and p.quant_ci, perplexity),
        ("perplexity difference", report.perplexity_delta, p and p.delta_ci, change),
    ):
        if known(value) or not report.origin:
            yield Row(name, word(value), between(ci, word))
    if p is not None:
        yield from _estimate("perplexity ratio", p.ratio, ratio)
        yield from _estimate("mean ln ratio", p.ln_ratio, ratio)
        if known(p.nll_correlation):
            yield Row("correlation of the NLLs", f"{p.nll_correlation:.5f}")


def _sizes(report: Report) -> Iterator[Row]:
    if report.weights_bytes and report.variant_weights_bytes:
        yield Row("weights", _smaller(report.weights_bytes, report.variant_weights_bytes))
    kv = report.kv_bytes_per_token
    if kv is None:
        return
    if kv.reference_16bit and kv.variant_16bit:
        yield Row("KV cache per token (16-bit)", _smaller(kv.reference_16bit, kv.variant_16bit))
    if kv.number_bytes != 2 or not kv.reference_16bit:
        here = f", as run ({8 * kv.number_bytes}-bit)" if kv.number_bytes != 2 else ""
        yield Row(f"KV cache per token{here}", _smaller(kv.reference, kv.variant))


def _smaller(full: float, packed: float) -> str:
    share = f" ({packed / full:.0%})" if full else ""
    return f"{size(full)} → {size(packed)}{share}".replace("%", " %")
