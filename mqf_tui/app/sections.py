"""A report as tables of words: every figure with its interval, where it comes from, how it was made.

What a report does not have (version 1, imports from other tools) is left out, row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mqf_tui.reports.rows import between, bounds, figures
from mqf_tui.reports.schema import Group, KVBytes, Report, Versions
from mqf_tui.reports.text import UNKNOWN, counted, duration, inert, kl, percent, point_range, points, size

Row = tuple[str, ...]
GROUPS: Row = ("", "n", "KL mean", "95 %", "flips", "95 %")
SPREAD = ("min", "1", "5", "50", "95", "99", "max")


@dataclass(frozen=True)
class Section:
    """A title, the names of the columns (none: not shown), and rows of as many cells."""

    title: str
    columns: Row
    rows: tuple[Row, ...]


def sections(report: Report) -> Iterator[Section]:
    """All that has at least one row."""
    entropy = ((f"{c.low:.2f}–{c.high:.2f} nats", c) for c in report.by_entropy)
    depth = ((f"{b.start:,}–{b.end - 1:,}", b) for b in report.kl_by_depth)
    parts = ((inert(p.name), p) for p in report.by_part if len(report.by_part) > 1)
    classes = ((inert(c.name), c) for c in report.by_token_class)
    for found in (
        Section("Over the whole run", ("", "value", "95 % interval"), tuple(map(tuple, figures(report)))),
        *_spread(report),
        Section("By part of the corpus", GROUPS, _by(parts)),
        Section("By depth in the chunk", GROUPS, _by(depth)),
        Section("By the reference's entropy", GROUPS, _by(entropy)),
        Section("By class of the next token", GROUPS, _by(classes)),
        Section("Where it comes from", (), tuple(_provenance(report))),
    ):
        if found.rows:
            yield found


def _spread(r: Report) -> tuple[Section, ...]:
    """Δp in percentage points: how the text's own tokens fared, from the worst to the best."""
    found = r.delta_p.percentiles if r.delta_p else {}
    names = [name for name in SPREAD if name in found]
    heads = tuple(name if name in ("min", "max") else f"{name} %" for name in names)
    rows = [("Δp, pp", *(points(found[name]).removesuffix(" pp") for name in names))]
    if r.delta_p and (cis := r.delta_p.percentile_cis):
        rows.append(("95 %", *(point_range(cis.get(name)) for name in names)))
    return (
        (Section("How the probability of the text's own tokens moved", ("", *heads), tuple(rows)),)
        if names
        else ()
    )


def _by(groups: Iterable[tuple[str, Group]]) -> tuple[Row, ...]:
    return tuple(
        (
            name,
            f"{g.n_positions:,}",
            kl(g.kl_mean),
            between(bounds(g.ci_low, g.ci_high), kl) or UNKNOWN,
            percent(g.flip_rate),
            between(g.flip_ci, percent) or UNKNOWN,
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
