"""A report as tables of words: every figure with its interval, where it comes from, how it was made.

What a report does not have (version 1, imports from other tools) is left out, row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mqf_tui.reports.html_tables import provenance
from mqf_tui.reports.rows import between, bounds, figures
from mqf_tui.reports.schema import Group, KVBytes, Report
from mqf_tui.reports.text import UNKNOWN, counted, inert, kl, percent, point_range, points, size

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
    yield from _said(("imported", _origin(r)))
    yield from provenance(r)
    kv = _kv(r.kv_bytes_per_token) if r.kv_bytes_per_token else ()
    yield from _said(("KV cache", kv), ("scored", _scored(r)), ("again", (r.command,)))


def _said(*rows: tuple[str, Iterable[str]]) -> Iterator[Row]:
    """Those that have something to say."""
    for name, parts in rows:
        words = ", ".join(inert(part) for part in parts if part)
        if words:
            yield name, words


def _origin(r: Report) -> Iterator[str]:
    if r.origin is not None:
        yield f"from {r.origin.tool} {r.origin.version}".rstrip()
        yield r.origin.form
        yield r.origin.file


def _scored(r: Report) -> Iterator[str]:
    yield counted(r.n_positions, "position") if r.n_positions else ""
    if r.n_chunks:
        planned = f" of {r.n_chunks_planned:,}" if r.n_chunks_planned > r.n_chunks else ""
        yield counted(r.n_chunks, "chunk") + (f"{planned} planned" if planned else "")
    yield f"{counted(r.score_last, 'position')} of each" if r.score_last else ""


def _kv(kv: KVBytes) -> Iterator[str]:
    if kv.reference_16bit and kv.variant_16bit and kv.number_bytes != 2:
        yield f"{size(kv.reference_16bit)} → {size(kv.variant_16bit)} per token (16-bit)"
    yield f"{size(kv.reference)} → {size(kv.variant)} per token as run ({8 * kv.number_bytes}-bit)"
    if kv.reference_measured and kv.variant_measured:
        yield f"{size(kv.reference_measured)} → {size(kv.variant_measured)} measured"
