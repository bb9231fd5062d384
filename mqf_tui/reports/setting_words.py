"""What was quantized, in words, from a report; plain text without what could drive a terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator

from mqf_tui.reports.schema import CorpusProvenance, Layers, Report
from mqf_tui.reports.text import counted, inert, kv_format_words

SAID = "only what the assistant says"
UNKEPT = "no words of the text are kept"
FULL = "16"  # the format of a layer that stays in full precision
KERNELS = {
    "quantized": "attention reads the packed cache, as mlx-lm does it",
    "dequantized": "the packed cache is dequantized before standard attention",
    "emulated": "emulated in the model's own cache: what the quantizer would cost, not what mlx-lm gives",
}


def setting(report: Report) -> str:
    """``8-bit KV cache, group 64``, ``8-bit keys, 4-bit values, group 64, layers 0-3 of 30``."""
    what = "KV cache" if report.kind == "kv" else "weights"
    layers = _some(report)
    if report.kv_format and not report.kv_bits:
        formats = tuple(part.format for part in report.layers.recipe) if report.layers else ()
        words = kv_format_words(report.kv_format, formats)
    else:
        words = f"{report.kv_bits}-bit {what}" if report.kv_bits else f"quantized {what}"
        words += f", group {report.kv_group_size}" if report.kv_group_size else ""
    words += f", {some_layers(layers)} of {layers.n_layers}" if layers else ""
    return words + (" (emulated)" if report.kernel == "emulated" else "")


def short_setting(report: Report) -> str:
    """For a narrow column: ``4-bit g64``, ``k8v4g64 layers 0-3``, ``4-bit g64 from 128``."""
    layers = _some(report)
    if report.kv_format and not report.kv_bits:
        words = inert(report.kv_format)
    else:
        words = f"{report.kv_bits}-bit" if report.kv_bits else "?"
        words += f" g{report.kv_group_size}" if report.kv_group_size else ""
    words += f" {some_layers(layers)}" if layers else ""
    words += f" from {report.quantize_start}" if report.quantize_start else ""
    words += " emulated" if report.kernel == "emulated" else ""
    return words if report.kind == "kv" else f"{words} weights"


def some_layers(layers: Layers) -> str:
    """``layer 7``, ``layers 0-3``, or ``12 layers`` where they are not next to each other."""
    spans = [part.layers for part in layers.recipe if part.format != FULL]
    if len(spans) != 1:
        return f"{layers.n_quantized} layers"
    return f"layer{'s' * (layers.n_quantized > 1)} {inert(spans[0])}"


def _some(report: Report) -> Layers | None:
    """The layers where only some are quantized, all of them alike."""
    layers = report.layers
    return layers if layers is not None and layers.words and report.kv_format != "recipe" else None


def kernel_words(report: Report) -> str:
    """How attention read the cache, in a clause; empty where that is not known."""
    return KERNELS.get(report.kernel or "", "")


def layer_words(report: Report) -> str:
    """Which layers are quantized and why the others are not, in a clause; empty where all are, alike."""
    return inert(report.layers.words) if report.layers is not None else ""


def notes(report: Report) -> Iterator[str]:
    """What else must be known of what was quantized and scored, each a clause of plain text."""
    if words := layer_words(report):
        yield words
    if report.kernel == "emulated":
        yield kernel_words(report)
    if report.dropped and report.stopping is None:
        yield f"its sweep went on without it: {inert(report.dropped)}"
    if words := drift_words(report):
        yield words


def scored_words(report: Report) -> str:
    """``the last 256 positions of each``, ``only what the assistant says``; empty where whole chunks were
    scored."""
    last = f"the last {counted(report.score_last, 'position')} of each" if report.score_last else ""
    if not assistant_only(report.corpus):
        return last
    return SAID + (f" in {last}" if last else "")


def assistant_only(corpus: CorpusProvenance) -> bool:
    """Whether of conversations the assistant's tokens alone were scored."""
    return corpus.reading is not None and corpus.reading.assistant_only


def text_notes(corpus: CorpusProvenance, text_kept: bool | None = None) -> Iterator[str]:
    """What else must be known of a text, each a clause."""
    if assistant_only(corpus):
        yield f"scored is {SAID}"
    if text_kept is False:
        yield UNKEPT


def recipe_words(report: Report) -> str:
    """The formats of all layers in order, ``0-3 8g64, 4-29 k8v4g64``; empty where all are alike."""
    if report.layers is None or len(report.layers.recipe) < 2:
        return ""
    return ", ".join(f"{inert(part.layers)} {inert(part.format)}" for part in report.layers.recipe)


def drift_words(report: Report) -> str:
    """Where mean KL begins to grow with depth, in a clause; empty in windows where that is not asked."""
    from mqf_tui.reports.rows import between

    d = report.drift
    if d is None:
        return ""
    begin = f"the first {d.end:,} positions" if d.first == 0 else f"depths {d.first:,} to {d.end - 1:,}"
    if not d.known:
        return "with one chunk there is no error, so where KL begins to drift cannot be told"
    if d.start is None:
        return f"KL does not drift: to the end it is not above that of {begin} beyond the error"
    times = ""
    if d.times is not None and math.isfinite(d.times):
        ends = between(d.times_ci, lambda value: f"{value:.3g}")
        times = f", there {d.times:.3g} times as much{f' ({ends})' if ends else ''}"
    return f"KL drifts from depth {d.start:,} on: to the end it stays above that of {begin}{times}"
