"""The report as a Hugging Face model card section: metadata the hub reads, and the Markdown report."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from mqf_tui.reports.markdown import body, title
from mqf_tui.reports.rows import bounds, known
from mqf_tui.reports.schema import Bounds, Estimate, Report
from mqf_tui.reports.setting_words import assistant_only
from mqf_tui.reports.text import inert

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# The hub takes a source's name only together with an address.
SOURCES = {
    "llama.cpp": "https://github.com/ggml-org/llama.cpp",
    "mlx-quant-fidelity": "https://github.com/IonDen/mlx-quant-fidelity",
}
# Corpora that are data sets of the hub.
DATASETS = {"wikitext-2": ("Salesforce/wikitext", "wikitext-2-raw-v1")}
DIGITS = 6


def to_card(report: Report) -> str:
    """YAML front matter with a ``model-index``, then the report under a heading of the second level."""
    from huggingface_hub import ModelCardData

    name = inert(report.variant_model or report.model) or "unnamed model"
    data = ModelCardData(model_name=name, eval_results=list(_results(report)))
    blocks = (f"---\n{data.to_yaml()}\n---", f"## {title(report)}", *body(report))
    return "\n\n".join(blocks) + "\n"


def _results(report: Report) -> Iterator[EvalResult]:
    """One entry for each metric, all of one task and data set."""
    from huggingface_hub import EvalResult

    c = report.corpus
    dataset, config = DATASETS.get(c.name, (_slug(c.name), None))
    origin = report.origin
    tool = inert(origin.tool) if origin else "mqf-tui"
    arguments: dict[str, Any] = {
        "measured_with": f"{tool} {inert(report.versions.mqf_tui)}".strip() if origin is None else tool,
        "chunk_length": c.chunk_length or None,
        "chunks": report.n_chunks or None,
        "positions": report.n_positions or None,
        "mode": report.mode,
        "kernel": report.kernel,
        "score_last": report.score_last,
        "assistant_only": assistant_only(c) or None,
        "stride": c.stride if c.stride < c.chunk_length else None,
        "last_chunk": c.final_chunk_policy if c.final_chunk_policy == "padded" else None,
        "token_hash": inert(c.token_hash) or None,
    }
    for kind, name, value, ci in _metrics(report):
        yield EvalResult(
            task_type="text-generation",
            task_name="Text Generation",
            dataset_type=dataset,
            dataset_name=inert(c.name) or "not known",
            dataset_config=config,
            dataset_split=inert(c.split) if c.split else None,
            dataset_args={key: value for key, value in arguments.items() if value is not None} or None,
            metric_type=kind,
            metric_name=f"{name} ({report.setting})",
            metric_value=_number(value),
            metric_args={"ci_95": [_number(end) for end in ci]} if ci else None,
            source_name=tool if tool in SOURCES else None,
            source_url=SOURCES.get(tool),
        )


def _metrics(report: Report) -> Iterator[tuple[str, str, float, Bounds | None]]:
    """Type, name, value and interval of each figure that is known."""
    k, p = report.kl, report.perplexity
    flips = bounds(report.flip_ci_low, report.flip_ci_high)
    for kind, name, value, ci in (
        (
            "kl_divergence",
            "Mean KL divergence from full precision, nats",
            k.mean,
            bounds(k.ci_low, k.ci_high),
        ),
        ("kl_divergence_p99", "99th percentile of the KL divergence, nats", k.p99, k.p99_ci),
        ("top1_flip_rate", "Share of positions whose top token changes", report.flip_rate, flips),
        *_estimates(report),
        ("perplexity", "Perplexity", report.perplexity_quant, p and p.quant_ci),
        ("perplexity_reference", "Perplexity in full precision", report.perplexity_ref, p and p.ref_ci),
    ):
        if value is not None and known(value):
            yield kind, name, value, ci


def _estimates(report: Report) -> Iterator[tuple[str, str, float, Bounds | None]]:
    flips, delta_p = report.flips, report.delta_p
    figures: list[tuple[str, str, Estimate]] = []
    if flips is not None:
        figures += [
            ("confident_flip_rate", "Share of positions whose sure top token changes", flips.confident),
            ("top5_agreement", "Full-precision top token among the top 5", flips.top5_agreement),
        ]
    if delta_p is not None:
        figures.append(("delta_p_rms", "RMS change of the next token's probability", delta_p.rms))
    for kind, name, figure in figures:
        yield kind, name, figure.value, figure.ci


def _number(value: float) -> float | str:
    """Six significant digits; the hub's JSON knows no infinity."""
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else str(value)


def _slug(name: str) -> str:
    """A data set's id as the hub allows it."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", name.encode("ascii", "ignore").decode()).strip("-.") or "text"
