"""The report as Markdown, made to be pasted into an issue or a model card."""

from __future__ import annotations

import re
from collections.abc import Iterator

from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import change, counted, inert, interval, kl, percent, perplexity, size


def to_markdown(report: Report) -> str:
    """One title, the verdict, one table, depth and parts, provenance, the command."""
    return "\n\n".join(_blocks(report)) + "\n"


def headline(report: Report) -> str:
    """The verdict in a sentence."""
    said = f"**{report.verdict}**: mean KL {kl(report.kl.mean)} nats, p99 {kl(report.kl.p99)}, "
    said += f"flips {percent(report.flip_rate)}"
    if report.partial:
        said += f" (partial: {report.n_chunks} of {report.n_chunks_planned} chunks begun)"
    return said + "."


def _blocks(report: Report) -> Iterator[str]:
    yield f"### {_cell(report.model)}: {report.setting}, {_mode(report)}"
    yield headline(report)
    yield "\n".join(_table(report))
    if report.kl_by_depth:
        yield "\n".join(_depth(report))
    if len(report.by_part) > 1:
        yield "\n".join(_parts(report))
    yield _provenance(report)
    if report.warnings:
        yield "\n".join(f"> {_cell(warning)}" for warning in report.warnings)
    yield f"```sh\n{inert(report.command)}\n```"


def _mode(report: Report) -> str:
    return "stress" if report.mode == "stress" else f"deployment from position {report.quantize_start}"


def _table(report: Report) -> Iterator[str]:
    r = report
    yield "| | value | 95 % interval |"
    yield "| --- | ---: | ---: |"
    yield f"| KL mean (nats) | {kl(r.kl.mean)} | {interval(r.kl.ci_low, r.kl.ci_high)} |"
    yield f"| KL median, p90, p95 | {kl(r.kl.median)}, {kl(r.kl.p90)}, {kl(r.kl.p95)} | |"
    yield f"| KL p99, max | {kl(r.kl.p99)}, {kl(r.kl.max)} | |"
    yield f"| top-1 flips | {percent(r.flip_rate)} | {interval(r.flip_ci_low, r.flip_ci_high, rate=True)} |"
    yield (
        f"| perplexity | {perplexity(r.perplexity_ref)} → {perplexity(r.perplexity_quant)} "
        f"({change(r.perplexity_delta)}) | |"
    )
    kv = r.kv_bytes_per_token
    if kv is None:
        return
    if kv.reference_16bit and kv.variant_16bit:
        yield f"| KV cache per token (16-bit) | {_bytes(kv.reference_16bit, kv.variant_16bit)} | |"
    if kv.number_bytes != 2 or not kv.reference_16bit:
        here = f", as run ({8 * kv.number_bytes}-bit)" if kv.number_bytes != 2 else ""
        yield f"| KV cache per token{here} | {_bytes(kv.reference, kv.variant)} | |"


def _bytes(full: float, packed: float) -> str:
    share = f" ({packed / full:.0%})" if full else ""
    return f"{size(full)} → {size(packed)}{share}"


def _depth(report: Report) -> Iterator[str]:
    yield "| depth | " + " | ".join(f"{b.start}–{b.end - 1}" for b in report.kl_by_depth) + " |"
    yield "| --- |" + " ---: |" * len(report.kl_by_depth)
    yield "| KL mean | " + " | ".join(kl(b.kl_mean) for b in report.kl_by_depth) + " |"


def _parts(report: Report) -> Iterator[str]:
    yield "| part | chunks | KL mean | 95 % interval | flips |"
    yield "| --- | ---: | ---: | ---: | ---: |"
    for p in report.by_part:
        yield (
            f"| {_cell(p.name)} | {p.n_chunks} | {kl(p.kl_mean)} "
            f"| {'—' if p.ci_low is None else interval(p.ci_low, p.ci_high)} "
            f"| {percent(p.flip_rate)} |"
        )


def _provenance(report: Report) -> str:
    c, v = report.corpus, report.versions
    return _cell(
        f"{counted(report.n_positions, 'position')} in {counted(report.n_chunks, 'chunk')} of "
        f"{c.chunk_length} tokens of {c.name} "
        f"({c.content_hash}, tokens {c.token_hash}, BOS {c.bos_policy}, join {c.join}) · "
        f"model {report.model_hash}, {report.architecture}, {report.weights} · "
        f"{report.device}, {report.compute} · "
        f"mqf-tui {v.mqf_tui}, mlx {v.mlx}, mlx-lm {v.mlx_lm}, Python {v.python}"
    )


def _cell(text: str) -> str:
    # Every sign that could end a cell or begin a link, an image, code or HTML.
    return re.sub(r"([\\|`*\[\]])", r"\\\1", inert(text)).replace("<", "&lt;")
