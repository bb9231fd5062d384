"""Figures that no measurement can give: ends of intervals swapped, shares above 1, a mean above the maximum.

NaN stands for what is not known, and is passed over where a report may lack the figure.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import pairwise

from mqf_tui.reports.schema import Bounds, Estimate, Group, Part, Report
from mqf_tui.reports.text import inert

MAX_NAME = 300
MAX_TEXT = 5000
# llama.cpp stores the reference in 16 bits, so that its KL may come out a little below 0.
_ROUNDING = {"llama.cpp": 1e-3}
_NAMES = {"model", "variant_model", "model_revision", "architecture", "weights", "name", "policy", "device"}
_COUNTS = ("n_positions", "n_chunks", "n_chunks_planned", "quantize_start", "peak_memory_bytes")
_SIZES = ("kv_bits", "kv_group_size", "weights_bytes", "variant_weights_bytes", "memory_bytes")
_CORPUS_COUNTS = ("n_tokens", "chunk_length", "stride")
_GROUPS = ("kl_by_depth", "by_part", "by_entropy", "by_token_class")


def plausible(report: Report) -> list[str]:
    """What of a report cannot be, one clause each that begins with the field's name; none: all can."""
    return [*_texts(report), *_kl(report), *_flips(report), *_others(report), *_groups(report)]


def _rounding(report: Report) -> float:
    return _ROUNDING.get(report.origin.tool, 1e-6) if report.origin else 1e-6


def _kl(report: Report) -> Iterator[str]:
    k, slack = report.kl, _rounding(report)
    if math.isnan(k.mean):
        yield "kl.mean is nan, and without a mean KL there is no report"
    ordered = [(name, getattr(k, name)) for name in ("median", "p90", "p95", "p99", "p999", "max")]
    known = [(name, value) for name, value in ordered if value is not None and not math.isnan(value)]
    for name, value in (("mean", k.mean), *known):
        if value < -slack:
            yield f"kl.{name} is {value}, and KL is 0 or more"
    for (one, low), (other, high) in pairwise(known):
        if _above(low, high, slack):
            yield f"kl.{one} is {low} and kl.{other} {high}, which cannot be lower"
    if k.max is not None and _above(k.mean, k.max, slack):
        yield f"kl.mean is {k.mean} and kl.max {k.max}, which cannot be lower"
    ends = _bounds(k.ci_low, k.ci_high)
    yield from _interval("kl.mean", None if report.stopping else k.mean, ends, slack)
    for name, _ in ordered[:-1]:
        yield from _interval(f"kl.{name}", None, getattr(k, f"{name}_ci"), slack)
    yield from _within("kl.worst_share", k.worst_share, 0, 1)


def _flips(report: Report) -> Iterator[str]:
    if math.isnan(report.flip_rate):
        yield "flip_rate is nan, and without a share of flips there is no report"
    for name in ("flip_rate", "flip_ci_low", "flip_ci_high"):
        yield from _within(name, getattr(report, name), 0, 1)
    ends = _bounds(report.flip_ci_low, report.flip_ci_high)
    # The intervals of a sequence are those of all looks so far; the last mean may lie outside.
    yield from _interval("flip_rate", None if report.stopping else report.flip_rate, ends, 1e-6)
    flips = report.flips
    if flips is None:
        return
    for name in ("confident", "near_tie", "top5_agreement"):
        yield from _estimate(f"flips.{name}", getattr(flips, name), 0, 1)
    yield from _estimate("flips.accuracy_change", flips.accuracy_change, -1, 1)
    yield from _within("flips.mcnemar_p", flips.mcnemar_p, 0, 1)
    yield from _counted("flips", flips, ("lost", "gained", "changed", "longest_run"))


def _others(report: Report) -> Iterator[str]:
    yield from _counted("", report, _COUNTS)
    yield from _counted("", report, (*_SIZES, "seconds", "positions_per_second"))
    yield from _counted("corpus", report.corpus, _CORPUS_COUNTS)
    p = report.perplexity
    for name, value, ci in (
        ("perplexity_ref", report.perplexity_ref, p and p.ref_ci),
        ("perplexity_quant", report.perplexity_quant, p and p.quant_ci),
    ):
        if value < 1 - 1e-6:
            yield f"{name} is {value}, and perplexities are 1 or more"
        yield from _interval(name, value, ci, 1e-6)
    if p is not None:
        yield from _estimate("perplexity.ratio", p.ratio, 0, math.inf)
        yield from _estimate("perplexity.ln_ratio", p.ln_ratio, -math.inf, math.inf)
        yield from _within("perplexity.nll_correlation", p.nll_correlation, -1, 1)
    if report.delta_p is not None:
        yield from _estimate("delta_p.mean", report.delta_p.mean, -1, 1)
        yield from _estimate("delta_p.rms", report.delta_p.rms, 0, 1)
        for name, value in report.delta_p.percentiles.items():
            yield from _within(f"delta_p.percentiles.{inert(name)[:20]}", value, -1, 1)
    sure = report.confidence
    if sure is not None:
        for name, value in (("good", sure.good), ("marginal", sure.marginal), ("bad", sure.bad)):
            yield from _within(f"confidence.{name}", value, 0, 1)
        if sure.good + sure.marginal + sure.bad > 1 + 1e-6:
            yield "confidence has shares that make more than 1 together"
    for name in ("kl_mean", "kl_p99", "flip_rate"):
        good, marginal = getattr(report.thresholds, name)
        if not 0 <= good <= marginal:
            yield f"thresholds.{name} is {good} and {marginal}, which must rise from 0"


def _groups(report: Report) -> Iterator[str]:
    slack = _rounding(report)
    for field in _GROUPS:
        groups: list[Group] = getattr(report, field)
        for index, group in enumerate(groups):
            where = f"{field}[{index}]"
            yield from _counted(where, group, ("n_positions", "n_chunks", "kl_mean"), slack)
            yield from _interval(
                f"{where}.kl_mean", group.kl_mean, _bounds(group.ci_low, group.ci_high), slack
            )
            yield from _within(f"{where}.flip_rate", group.flip_rate, 0, 1)
            yield from _interval(f"{where}.flip_rate", group.flip_rate, group.flip_ci, 1e-6)


def _texts(report: Report) -> Iterator[str]:
    if not inert(report.model).strip():
        yield "model is empty, and figures of no model are none"
    for where, text in _all_texts(report, ""):
        most = MAX_NAME if where.rpartition(".")[2] in _NAMES else MAX_TEXT
        if len(text) > most:
            yield f"{where} has {len(text):,} signs, and at most {most:,} fit"


def _all_texts(part: Part, before: str) -> Iterator[tuple[str, str]]:
    """Every text in the fields that the schema names; what a newer version added is only kept."""
    for name in type(part).model_fields:
        value = getattr(part, name)
        items = [(name, value)]
        if isinstance(value, list):
            items = [(f"{name}[{index}]", item) for index, item in enumerate(value)]
        for where, item in items:
            if isinstance(item, str):
                yield before + where, item
            elif isinstance(item, Part):
                yield from _all_texts(item, f"{before}{where}.")


def _counted(where: str, part: Part, names: Iterable[str], slack: float = 0.0) -> Iterator[str]:
    for name in names:
        value = getattr(part, name)
        if value is not None and value < -slack:
            yield f"{f'{where}.' if where else ''}{name} is {value}, and it is 0 or more"


def _estimate(name: str, figure: Estimate, low: float, high: float) -> Iterator[str]:
    yield from _within(f"{name}.value", figure.value, low, high)
    yield from _interval(name, figure.value, figure.ci, 1e-6)


def _within(name: str, value: float | None, low: float, high: float) -> Iterator[str]:
    if value is not None and (value < low - 1e-6 or value > high + 1e-6):
        span = f"between {low} and {high}" if math.isfinite(high) else f"{low} or more"
        yield f"{name} is {value}, and it is {span}"


def _interval(name: str, value: float | None, ends: Bounds | None, slack: float) -> Iterator[str]:
    """The ends in their order, and the value (None: passed over) between them."""
    if ends is None:
        return
    low, high = ends
    if low > high:
        yield f"{name} has an interval from {low} to {high}, which is lower"
    elif value is not None and (_above(low, value, slack) or _above(value, high, slack)):
        yield f"{name} is {value}, outside its own interval from {low} to {high}"


def _bounds(low: float | None, high: float | None) -> Bounds | None:
    return None if low is None or high is None else (low, high)


def _above(one: float, other: float, slack: float) -> bool:
    """Whether ``one`` lies above ``other`` by more than rounding; infinities of one sign are alike."""
    return one > other and not (one - other <= slack + 1e-6 * abs(other))
