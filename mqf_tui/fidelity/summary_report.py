"""A plan and its positions -> the report."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mqf_tui.fidelity.doubts import doubts
from mqf_tui.fidelity.events import Plan
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.provenance import versions
from mqf_tui.fidelity.quantizers import Quantizer
from mqf_tui.fidelity.recipes import runs
from mqf_tui.fidelity.settings import KEEP_TOP, KVSettings, share_word
from mqf_tui.fidelity.statistics import Summary, summarise
from mqf_tui.fidelity.text.words import as_path, text_words
from mqf_tui.reports.schema import SCHEMA_VERSION, LayerFormat, Layers, Report

if TYPE_CHECKING:
    from mqf_tui.fidelity.load import Load
    from mqf_tui.fidelity.stopping import Sureness


def build_report(
    plan: Plan,
    facts: ModelFacts,
    positions: Positions,
    seconds: float,
    bytes_measured: tuple[float, float] | None,
    *,
    sureness: Sureness | None = None,
    load: Load | None = None,
    partial: bool = False,
    reason: str | None = None,
) -> Report:
    """The report of at least one scored position; ``seconds`` is scoring time, pauses left out.

    ``sureness``: what ended, or would have ended, the measurement early; its intervals are then given.
    ``load``: what else the machine did meanwhile. ``reason``: why a partial measurement broke off.
    """
    settings = plan.settings
    policy = settings.policy
    summary = summarise(positions, settings.chunk_length, settings.first_scored, policy)
    if sureness is not None:
        summary = _as_looked_at(summary, sureness)
    stopping = sureness.stopping() if sureness else None
    found = doubts(plan, positions, n_chunks=summary.n_chunks, partial=partial, stopping=stopping, load=load)
    reference, variant = bytes_measured or (None, None)
    low, high = summary.flip_interval or (None, None)
    one = _one_quantizer(plan)
    return Report(
        schema_version=SCHEMA_VERSION,
        kind="kv",
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        model=facts.name,
        model_hash=facts.content_hash,
        model_revision=facts.revision,
        config_hash=facts.config_hash,
        weights_hash=facts.weights_hash,
        weights_bytes=facts.size_bytes,
        architecture=facts.architecture,
        weights=facts.weights,
        kv_bits=one.bits if one else None,
        kv_group_size=one.group_size if one else None,
        kv_format=_format(plan),
        kernel=None if plan.kernel == "auto" else plan.kernel,
        layers=_layers(plan),
        score_last=settings.score_last,
        sweep_id=plan.sweep_id or None,
        mode="deployment" if settings.quantize_start else "stress",
        quantize_start=settings.quantize_start,
        partial=partial,
        kl=summary.kl,
        kl_by_depth=list(summary.by_depth),
        drift=summary.drift,
        by_part=list(summary.by_part),
        by_entropy=list(summary.by_entropy),
        by_token_class=list(summary.by_token_class),
        flip_rate=summary.flip_rate,
        flip_ci_low=low,
        flip_ci_high=high,
        flips=summary.flips,
        delta_p=summary.delta_p,
        perplexity_ref=summary.perplexity_ref,
        perplexity_quant=summary.perplexity_quant,
        perplexity_delta=summary.perplexity_delta,
        perplexity=summary.perplexity,
        n_positions=summary.n_positions,
        n_positions_planned=plan.n_positions if plan.uneven else None,
        n_chunks=summary.n_chunks,
        n_chunks_planned=plan.n_chunks,
        verdict=summary.verdict,
        confidence=summary.confidence,
        thresholds=policy,
        stopping=stopping,
        kv_bytes_per_token=plan.kv_bytes.model_copy(
            update={"reference_measured": reference, "variant_measured": variant}
        ),
        corpus=plan.corpus,
        device=plan.device,
        memory_bytes=plan.memory_bytes or None,
        compute=plan.compute,
        cache=plan.cache,
        peak_memory_bytes=peak_memory_bytes(),
        seconds=seconds,
        positions_per_second=len(positions) / seconds if seconds else 0.0,
        versions=versions(),
        command=command(settings, plan.corpus.n_chunks or plan.n_chunks, facts.name),
        text_kept=plan.text_kept,
        warnings=[*plan.warnings, *found, *([reason] if reason else [])],
    )


def _as_looked_at(summary: Summary, sureness: Sureness) -> Summary:
    """The summary with intervals and a confidence that hold although one looked after each chunk."""
    low, high = sureness.kl_interval or (None, None)
    return replace(
        summary,
        kl=summary.kl.model_copy(update={"ci_low": low, "ci_high": high}),
        flip_interval=sureness.flip_interval,
        confidence=sureness.confidence(summary.verdict),
    )


def _one_quantizer(plan: Plan) -> Quantizer | None:
    """The affine quantizer of all that is quantized; None where there are several, or another mode."""
    found = {q for layer in plan.recipe.layers if not layer.full for q in (layer.keys, layer.values)}
    one = found.pop() if len(found) == 1 else None
    return one if one is not None and one.mode == "affine" else None


def _format(plan: Plan) -> str:
    words = {layer.word for layer in plan.recipe.layers if not layer.full}
    return words.pop() if len(words) == 1 else "recipe"


def _layers(plan: Plan) -> Layers:
    recipe = plan.recipe
    return Layers(
        n_layers=len(recipe.layers),
        n_quantized=recipe.n_quantized,
        words=plan.layers or "",
        recipe=[LayerFormat(layers=span, format=layer.word) for span, layer in runs(recipe)],
    )


def command(settings: KVSettings, n_chunks: int, model: str) -> str:
    """The command line that measures the same again; files and folders by their last part only.

    Empty where no word names the model: one that was in memory already.
    """
    if not settings.model:
        return ""
    words = ["mqf-tui", "kv", as_path(model, settings.model, ("demo",)), *_variant_words(settings)]
    words += ["--chunk-length", str(settings.chunk_length), "--max-chunks", str(n_chunks)]
    words += ["--quantize-start", str(settings.quantize_start)]
    words += text_words(settings.corpus, settings.text)
    return shlex.join([*words, *_further(settings)])


def _variant_words(settings: KVSettings) -> Iterator[str]:
    """The options that say what is quantized."""
    if settings.recipe is not None:
        yield from ("--layers", settings.recipe.sets)
    elif settings.kv is not None:
        yield from ("--kv", settings.kv.word)
    else:
        yield from ("--kv-bits", str(settings.kv_bits), "--kv-group-size", str(settings.kv_group_size))
    if settings.layers is not None:
        yield from ("--layers", settings.layers)
    if settings.kernel != "auto":
        yield from ("--kernel", settings.kernel)


def _further(settings: KVSettings) -> Iterator[str]:
    """The options that are rarely given."""
    if settings.score_last is not None:
        yield from ("--score-last", str(settings.score_last))
    if settings.trust_remote_code:
        yield "--trust-remote-code"
    if settings.until_sure:
        yield "--until-sure"
    if settings.precision is not None:
        yield from ("--precision", share_word(settings.precision))
    if settings.max_kl is not None:
        yield from ("--max-kl", repr(float(settings.max_kl)))
    if settings.max_flips is not None:
        yield from ("--max-flips", share_word(settings.max_flips))
    if settings.keep_top != KEEP_TOP:
        yield from ("--keep-top", str(settings.keep_top))


def peak_memory_bytes() -> int:
    """The most memory MLX has held since this measurement began."""
    import mlx.core as mx

    return int(mx.get_peak_memory())
