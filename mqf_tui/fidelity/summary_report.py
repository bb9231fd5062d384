"""A plan and its positions -> the report."""

from __future__ import annotations

import platform
import shlex
from datetime import UTC, datetime
from importlib.metadata import version

from mqf_tui import __version__
from mqf_tui.fidelity.events import Plan
from mqf_tui.fidelity.facts import ModelFacts
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.fidelity.statistics import summarise
from mqf_tui.fidelity.verdict import KV_POLICY
from mqf_tui.reports.schema import KVBytes, Report, Versions
from mqf_tui.reports.text import readable


def build_report(
    plan: Plan,
    facts: ModelFacts,
    positions: Positions,
    seconds: float,
    bytes_measured: tuple[float, float] | None,
    *,
    partial: bool = False,
) -> Report:
    """The report of at least one scored position; ``seconds`` is scoring time, pauses left out."""
    settings = plan.settings
    summary = summarise(positions, settings.chunk_length, settings.quantize_start)
    reference, variant = bytes_measured or (None, None)
    low, high = summary.flip_interval or (None, None)
    return Report(
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        model=facts.name,
        model_hash=facts.content_hash,
        architecture=facts.architecture,
        weights=facts.weights,
        kv_bits=settings.kv_bits,
        kv_group_size=settings.kv_group_size,
        mode="deployment" if settings.quantize_start else "stress",
        quantize_start=settings.quantize_start,
        partial=partial,
        kl=summary.kl,
        kl_by_depth=list(summary.by_depth),
        by_part=list(summary.by_part),
        flip_rate=summary.flip_rate,
        flip_ci_low=low,
        flip_ci_high=high,
        perplexity_ref=summary.perplexity_ref,
        perplexity_quant=summary.perplexity_quant,
        perplexity_delta=summary.perplexity_delta,
        n_positions=summary.n_positions,
        n_chunks=summary.n_chunks,
        n_chunks_planned=plan.n_chunks,
        verdict=summary.verdict,
        thresholds=KV_POLICY,
        kv_bytes_per_token=KVBytes(
            reference=plan.kv_bytes_reference,
            variant=plan.kv_bytes_variant,
            reference_measured=reference,
            variant_measured=variant,
        ),
        corpus=plan.corpus,
        device=plan.device,
        compute=plan.compute,
        cache=plan.cache,
        peak_memory_bytes=peak_memory_bytes(),
        seconds=seconds,
        positions_per_second=len(positions) / seconds if seconds else 0.0,
        versions=Versions(
            mqf_tui=__version__,
            mlx=version("mlx"),
            mlx_lm=version("mlx-lm"),
            python=platform.python_version(),
        ),
        command=command(settings, plan.n_chunks, facts.name),
        warnings=list(plan.warnings),
    )


def command(settings: KVSettings, n_chunks: int, model: str) -> str:
    """The command line that measures the same again; files and folders by their last part only."""
    corpus = readable(settings.corpus).replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    words = ["mqf-tui", "kv", model, "--kv-bits", str(settings.kv_bits)]
    words += ["--kv-group-size", str(settings.kv_group_size), "--chunk-length", str(settings.chunk_length)]
    words += ["--max-chunks", str(n_chunks), "--quantize-start", str(settings.quantize_start)]
    words += ["--corpus", corpus]
    return shlex.join([*words, "--trust-remote-code"] if settings.trust_remote_code else words)


def peak_memory_bytes() -> int:
    """The most memory MLX has held in this process so far."""
    import mlx.core as mx

    return int(mx.get_peak_memory())
