"""A report as tables of words: every figure with its interval, where it comes from, how it was made.

What a report does not have (version 1, imports from other tools) is left out, row by row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from mqf_tui.reports.schema import Bounds, Estimate, Group, KVBytes, Report, Versions
from mqf_tui.reports.text import counted, duration, inert, kl, percent, perplexity, size

Row = tuple[str, ...]


@dataclass(frozen=True)
class Section:
    """A title, the names of the columns (none: not shown), and rows of as many cells."""

    title: str
    columns: Row
    rows: tuple[Row, ...]


def sections(report: Report) -> Iterator[Section]:
    """All that has at least one row."""
    figures = ("", "value", "95 % interval")
    groups = ("", "positions", "KL mean", "95 %", "flips", "95 %")
    by_entropy = [(f"{c.low:.2f}–{c.high:.2f} nats", c) for c in report.by_entropy]
    for found in (
        Section("KL divergence, nats", figures, tuple(_kl(report))),
        Section("Flips of the top-1 token", figures, tuple(_flips(report))),
        Section("Probability of the text's own tokens", figures, tuple(_tokens(report))),
        Section("By part of the corpus", groups, _by((inert(p.name), p) for p in report.by_part)),
        Section(
            "By depth in the chunk", groups, _by((f"{b.start}–{b.end - 1}", b) for b in report.kl_by_depth)
        ),
        Section("By the reference's entropy", groups, _by(by_entropy)),
        Section("By class of token", groups, _by((inert(c.name), c) for c in report.by_token_class)),
        Section("Where it comes from", (), tuple(_provenance(report))),
    ):
        if found.rows:
            yield found


def _kl(r: Report) -> Iterator[Row]:
    for name, value, ci in (
        ("mean", r.kl.mean, pair(r.kl.ci_low, r.kl.ci_high)),
        ("median", r.kl.median, r.kl.median_ci),
        ("p90", r.kl.p90, r.kl.p90_ci),
        ("p95", r.kl.p95, r.kl.p95_ci),
        ("p99", r.kl.p99, r.kl.p99_ci),
        ("p99.9", r.kl.p999, r.kl.p999_ci),
    ):
        if known(value):
            yield name, kl(value), _span(ci, kl)
    if known(r.kl.max):
        yield "largest", kl(r.kl.max), ""
    if known(r.kl.worst_share):
        yield "carried by the worst 1 %", percent(r.kl.worst_share), ""


def _flips(r: Report) -> Iterator[Row]:
    if known(r.flip_rate):
        yield "all", percent(r.flip_rate), _span(pair(r.flip_ci_low, r.flip_ci_high), percent)
    f = r.flips
    if f is None:
        return
    yield _row("confident: top-1 had 50 %", f.confident)
    yield _row("near ties: margin under 5 pp", f.near_tie)
    yield "text's token lost", f"{f.lost:,}", ""
    yield "text's token gained", f"{f.gained:,}", ""
    yield "neither, only changed", f"{f.changed:,}", ""
    yield "accuracy change", _points(f.accuracy_change.value), _span(f.accuracy_change.ci, _points)
    yield "lost against gained", f"p = {f.mcnemar_p:.2g}", "McNemar, exact"
    yield _row("old top-1 still in the top 5", f.top5_agreement)
    yield "longest run in a row", f"{f.longest_run:,}", ""


def _tokens(r: Report) -> Iterator[Row]:
    d, p = r.delta_p, r.perplexity
    if d is not None:
        yield "Δp mean", _points(d.mean.value), _span(d.mean.ci, _points)
        yield "Δp RMS", _points(d.rms.value).lstrip("+"), _span(d.rms.ci, lambda v: _points(v).lstrip("+"))
        for name, value in d.percentiles.items():
            word = {"min": "Δp least", "max": "Δp most", "50": "Δp median"}.get(name, f"Δp {name} %")
            if name in ("min", "1", "5", "50", "95", "99", "max"):
                yield word, _points(value), ""
    for name, value, ci in (
        ("perplexity, reference", r.perplexity_ref, p and p.ref_ci),
        ("perplexity, variant", r.perplexity_quant, p and p.quant_ci),
    ):
        if known(value):
            yield name, perplexity(value), _span(ci, perplexity)
    if known(r.perplexity_delta):
        yield "perplexity change", _signed(r.perplexity_delta), _span(p and p.delta_ci, _signed)
    if p is None:
        return
    yield "perplexity ratio", f"{p.ratio.value:.4f}", _span(p.ratio.ci, lambda v: f"{v:.4f}")
    yield "ln of the ratio", f"{p.ln_ratio.value:+.4f}", _span(p.ln_ratio.ci, lambda v: f"{v:+.4f}")
    if known(p.nll_correlation):
        yield "correlation of the NLLs", f"{p.nll_correlation:.4f}", ""


def _by(groups: Iterable[tuple[str, Group]]) -> tuple[Row, ...]:
    return tuple(
        (
            name,
            f"{g.n_positions:,}",
            kl(g.kl_mean),
            "–" if g.ci_low is None or g.ci_high is None else f"{kl(g.ci_low)}–{kl(g.ci_high)}",
            percent(g.flip_rate),
            f"{100 * g.flip_ci[0]:.2f}–{100 * g.flip_ci[1]:.2f} %" if g.flip_ci else "–",
        )
        for name, g in groups
    )


def _provenance(r: Report) -> Iterator[Row]:
    for name, parts in (
        ("imported", _origin(r)),
        ("model", _model(r)),
        ("KV cache", _kv(r.kv_bytes_per_token) if r.kv_bytes_per_token else ()),
        ("scored", _scored(r)),
        ("corpus", _corpus(r)),
        ("device", (r.device, f"{size(r.memory_bytes)} of memory" if r.memory_bytes else "", r.compute)),
        ("versions", _versions(r.versions)),
        ("made", (r.created,)),
        ("again", (r.command,)),
    ):
        words = ", ".join(inert(part) for part in parts if part)
        if words:
            yield name, words


def _origin(r: Report) -> Iterator[str]:
    if r.origin is not None:
        yield f"from {r.origin.tool} {r.origin.version}".rstrip()
        yield r.origin.form
        yield r.origin.file


def _model(r: Report) -> Iterator[str]:
    yield r.model
    yield f"against {r.variant_model}" if r.variant_model else ""
    yield r.architecture
    yield r.weights
    for name, value in (
        ("revision", r.model_revision),
        ("hash", r.model_hash),
        ("config", r.config_hash),
        ("weights", r.weights_hash),
    ):
        yield f"{name} {value}" if value else ""
    yield f"{size(r.weights_bytes)} of weights" if r.weights_bytes else ""
    yield f"{size(r.variant_weights_bytes)} as variant" if r.variant_weights_bytes else ""


def _scored(r: Report) -> Iterator[str]:
    yield counted(r.n_positions, "position") if r.n_positions else ""
    if r.n_chunks:
        planned = f" of {r.n_chunks_planned:,}" if r.n_chunks_planned > r.n_chunks else ""
        yield counted(r.n_chunks, "chunk") + (f"{planned} planned" if planned else "")
    yield duration(r.seconds) if r.seconds else ""
    yield f"{r.positions_per_second:,.0f} positions/s" if r.positions_per_second else ""
    yield f"peak {size(r.peak_memory_bytes)}" if r.peak_memory_bytes else ""


def _corpus(r: Report) -> Iterator[str]:
    c = r.corpus
    yield " ".join(word for word in (c.name, c.version, c.split) if word)
    yield f"chunks of {c.chunk_length:,} tokens" if c.chunk_length else ""
    for name, value in (
        ("text", c.content_hash),
        ("tokens", c.token_hash),
        ("BOS", c.bos_policy),
        ("last chunk", c.final_chunk_policy),
        ("join", c.join),
    ):
        yield f"{name} {value}" if value else ""


def _versions(v: Versions) -> Iterator[str]:
    for name, value in (
        ("mqf-tui", v.mqf_tui),
        ("mlx", v.mlx),
        ("mlx-lm", v.mlx_lm),
        ("Python", v.python),
        ("NumPy", v.numpy),
        ("transformers", v.transformers),
    ):
        yield f"{name} {value}" if value else ""
    yield v.system


def _kv(kv: KVBytes) -> Iterator[str]:
    if kv.reference_16bit and kv.variant_16bit and kv.number_bytes != 2:
        yield f"{size(kv.reference_16bit)} → {size(kv.variant_16bit)} per token (16-bit)"
    yield f"{size(kv.reference)} → {size(kv.variant)} per token as run ({8 * kv.number_bytes}-bit)"
    if kv.reference_measured and kv.variant_measured:
        yield f"{size(kv.reference_measured)} → {size(kv.variant_measured)} measured"


def pair(low: float | None, high: float | None) -> Bounds | None:
    """An interval of its two ends, if there are both."""
    return None if low is None or high is None else (low, high)


def known(value: float | None) -> bool:
    """Whether there is such a figure; an infinite one is a figure."""
    return value is not None and not math.isnan(value)


def _row(name: str, estimate: Estimate) -> Row:
    return name, percent(estimate.value), _span(estimate.ci, percent)


def _span(ci: Bounds | None, word: Callable[[float], str]) -> str:
    return "no interval" if ci is None else f"{word(ci[0])} to {word(ci[1])}"


def _points(share: float) -> str:
    """A difference of two shares, in percent points."""
    return f"{100 * share:+.2f} pp" if share else "0.00 pp"


def _signed(value: float) -> str:
    return ("+" if value > 0 else "") + perplexity(value)
