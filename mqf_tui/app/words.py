"""What the app says of a verdict, of how sure it is, and of when a measurement stops."""

from __future__ import annotations

import math
import re

from mqf_tui.app.snapshots import VariantState
from mqf_tui.app.tally import Looked, Running
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.reports.schema import Report, Thresholds
from mqf_tui.reports.text import counted, inert, kv_format_words, perplexity, verdict_words

# What the settings are called where they are chosen, not typed.
FLAGS = {
    "--chunk-length": "a chunk length of",
    "--kv-group-size": "a group size of",
    "--corpus": "the corpus",
    "--max-chunks": "more chunks",
    "--assistant-only": "the choice of the assistant alone",
    "--keep-text": "the text kept",
    **{f"--{name}": f"the {name}" for name in ("field", "glob", "stride", "documents", "rest", "seed")},
    "--bos": "BOS",
}
FEW = 5  # chunks: fewer make the resampled share rough


def without_flags(clause: str) -> str:
    """A doubt or an error without the command line's options: those in brackets go, others get a name."""
    bare = re.sub(r" \(--[a-z-]+\)", "", clause)
    return re.sub(r"--[a-z-]+", lambda found: FLAGS.get(found[0], found[0]), bare)


def so_far_words(running: Running, *, stops_early: bool) -> str:
    """The verdict of a measurement that still runs.

    Where it stops by itself, the resampled share is left out: looked at after every chunk, it would
    sooner or later mislead. Over very few chunks the share is rough, and they are named.
    """
    if stops_early:
        return running.verdict
    few = f" (only {counted(running.n_resampled, 'chunk')})" if 0 < running.n_resampled < FEW else ""
    return verdict_words(running) + few


def undecided_words(looked: Looked | None, least: int) -> str:
    """What a measurement that stops by itself still waits for; ``least``: chunks that it wants at least."""
    if looked is None:
        return f"stops when sure, not before {least} chunks"
    if looked.settled:
        return "settled; stops when each part of the text has had its turn"
    if looked.wanted is not None:
        have = f"±{100 * looked.half_width:.3g} %" if math.isfinite(looked.half_width) else "not known yet"
        also = " and when one verdict is left" if looked.both and len(looked.possible) > 1 else ""
        return f"mean KL {have}; stops at ±{100 * looked.wanted:g} %{also}"
    if len(looked.possible) == 1:
        return f"only {looked.possible[0]} is left; stops after {least} chunks"
    *others, last = looked.possible
    return f"may still be {', '.join(others)} or {last}; stops when one is left"


def policy_words(limits: Thresholds) -> str:
    """The thresholds that were applied: name, and the most that is still good or marginal."""
    pairs = (limits.kl_mean, limits.kl_p99, tuple(100 * v for v in limits.flip_rate))
    good, marginal = (f"mean {pairs[0][k]:g}, p99 {pairs[1][k]:g}, flips {pairs[2][k]:g} %" for k in (0, 1))
    return f"{inert(limits.policy)}: good up to {good}; marginal up to {marginal}"


def perplexity_words(report: Report) -> str:
    """Both perplexities; empty where they are not known."""
    both = report.perplexity_ref, report.perplexity_quant
    if any(map(math.isnan, both)):
        return ""
    return f"perplexity {perplexity(both[0])} → {perplexity(both[1])}, reference → variant"


def setting_words(report: Report) -> str:
    """The variant and how it was measured, as far as that is known."""
    mode = {"stress": ", stress", "deployment": f", deployment from {report.quantize_start}"}
    variant = f", {inert(report.variant_model)}" if report.variant_model else ""
    return report.setting + variant + mode.get(report.mode or "", "")


def short_setting(settings: KVSettings) -> str:
    """A variant for a narrow column: ``4-bit g64``, ``k8v4g64``, ``mxfp4``; as ``Report.short_setting``."""
    if settings.kv is None and settings.recipe is None:
        return f"{settings.kv_bits}-bit g{settings.kv_group_size}"
    return settings.word


def measured_words(settings: SweepSettings) -> str:
    """What is measured, and how: ``4-bit KV cache, group 64, stress``, ``6 KV-cache settings, stress``."""
    first, n = settings.first, len(settings.variants)
    what = kv_format_words(first.quantizers.word) if n == 1 else f"{n} KV-cache settings"
    mode = f"deployment from {first.quantize_start}" if first.quantize_start else "stress"
    emulated = ", emulated" if first.kernel == "emulated" else ""
    return f"{what}{emulated}, {mode}" + (", race" if settings.race else "")


def state_words(variant: VariantState) -> str:
    """How far a setting of a sweep is: why it is out, or what is done with it."""
    if variant.problem:
        return "failed"
    return inert(variant.out) or {"loading": "waiting"}.get(variant.state, variant.state)
