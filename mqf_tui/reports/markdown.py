"""The report as Markdown, made to be pasted into an issue: what matters in sight, the rest folded."""

from __future__ import annotations

from collections.abc import Iterator

from mqf_tui.reports.escaping import fenced, said
from mqf_tui.reports.markdown_details import details, groups, table
from mqf_tui.reports.rows import bounds, figures, known, spread
from mqf_tui.reports.schema import Report
from mqf_tui.reports.setting_words import notes, scored_words
from mqf_tui.reports.text import counted, kl, percent, stopping_words, verdict_words


def to_markdown(report: Report) -> str:
    """Title, verdict, doubts, one table, the parts, the command; depth, kinds of text, origin folded."""
    return "\n\n".join((f"### {title(report)}", *body(report))) + "\n"


def title(report: Report) -> str:
    """What was measured: ``org/model: 4-bit KV cache, group 64, stress``."""
    words = [f"{said(report.model) or 'unnamed model'}: {said(report.setting)}"]
    if report.mode == "stress":
        words.append("stress")
    elif report.mode == "deployment":
        words.append(f"deployment from position {report.quantize_start}")
    if report.variant_model:
        words.append(f"in {said(report.variant_model)}")
    return ", ".join(words)


def body(report: Report) -> Iterator[str]:
    """All blocks below the title."""
    yield " ".join((headline(report), *_ending(report)))
    yield " ".join((*_material(report), thresholds(report)))
    if lines := [said(f"{note[0].upper()}{note[1:]}.") for note in notes(report)]:
        yield " ".join(lines)
    if report.warnings:
        yield "\n>\n".join(f"> ⚠ {said(warning)}" for warning in report.warnings)
    yield table(("", "value", "95 % interval"), figures(report), align="lrr")
    if len(report.by_part) > 1:
        yield groups("part", ((said(part.name), part) for part in report.by_part))
    if report.command:
        yield fenced(report.command, "sh")
    yield from details(report)


def headline(report: Report) -> str:
    """The verdict in a sentence."""
    k = report.kl
    words = [f"mean KL {spread(k.mean, bounds(k.ci_low, k.ci_high), kl)} nats"]
    if k.p99 is not None and known(k.p99):
        words.append(f"p99 {spread(k.p99, k.p99_ci, kl)}")
    if known(report.flip_rate):
        ends = bounds(report.flip_ci_low, report.flip_ci_high)
        words.append(f"flips {spread(report.flip_rate, ends, percent)}")
    return f"**{verdict_words(report)}**: {', '.join(words)}."


def _ending(report: Report) -> Iterator[str]:
    """What else one must know before one believes the verdict."""
    if report.partial:
        yield f"**Partial**: {report.n_chunks} of {counted(report.n_chunks_planned, 'chunk')} begun."
    if stopped := stopping_words(report):
        some = (report.kl.ci_low, report.flip_ci_low) != (None, None)
        intervals = "the intervals of mean KL and flips allow for the looking"
        none_yet = "of mean KL and flips there is no interval yet that allows for the looking"
        yield f"{stopped[0].upper()}{stopped[1:]}; {intervals if some else none_yet}."
    if origin := report.origin:
        words = " ".join(word for word in (said(origin.tool), said(origin.version)) if word)
        rest = ", ".join(word for word in (said(origin.form), said(origin.file)) if word)
        yield f"Imported from {words}" + (f" ({rest})." if rest else ".")


def thresholds(report: Report) -> str:
    """Which thresholds the verdict was taken from, in a sentence."""
    limits = report.thresholds
    pairs = zip(limits.kl_mean, limits.kl_p99, (100 * share for share in limits.flip_rate), strict=True)
    good, most = pairs
    return (
        f"Thresholds {said(limits.policy)}: good up to mean KL {good[0]:g}, p99 {good[1]:g}, "
        f"flips {good[2]:g} %; marginal up to {most[0]:g}, {most[1]:g}, {most[2]:g} %."
    )


def _material(report: Report) -> Iterator[str]:
    """How much of which text was scored, as far as it is known."""
    words: list[str] = []
    if report.n_positions:
        words.append(counted(report.n_positions, "position"))
    if report.n_chunks:
        length = f" of {report.corpus.chunk_length} tokens" if report.corpus.chunk_length else ""
        some = f", {scored_words(report)}," if scored_words(report) else ""
        words.append(f"{counted(report.n_chunks, 'chunk')}{length}{some}")
    measured = " in ".join(words)
    name = said(report.corpus.name)
    if measured or name:
        yield " of ".join(word for word in (measured, name) if word) + "."
