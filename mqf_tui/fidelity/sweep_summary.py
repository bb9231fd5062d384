"""The runs of a sweep -> its report. docs/sweeps.md defines each number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from mqf_tui.fidelity.choosing import Limits
from mqf_tui.fidelity.comparison import side
from mqf_tui.fidelity.costs import KVBytesOf, kv_basis, kv_bytes
from mqf_tui.fidelity.events import Swept
from mqf_tui.fidelity.kernel_error import controls, difference
from mqf_tui.fidelity.pairing import Subject
from mqf_tui.fidelity.ranking import rank, tied
from mqf_tui.fidelity.sweep_answer import answer, sensitivity_answer
from mqf_tui.fidelity.sweep_grid import Measured, grids, side_words
from mqf_tui.reports.comparison_schema import Ranking, Side
from mqf_tui.reports.rows import bounds
from mqf_tui.reports.schema import Estimate, Report
from mqf_tui.reports.sensitivity_schema import Sensitivity
from mqf_tui.reports.sweep_schema import Control, Passes, Step, SweepReport, SweepVariant
from mqf_tui.reports.text import counted, inert, percent, unsettled

MOST_NAMED = 4


def sweep_summary(
    subjects: Sequence[Subject],
    *,
    ended: Swept,
    limits: Limits | None = None,
    budget: str = "",
    command: str = "",
    memory: str = "",
    sensitivity: Sensitivity | None = None,
    warnings: Sequence[str] = (),
    created: str | None = None,
) -> SweepReport:
    """The report of a sweep over what was scored of each setting (one subject or more).

    ``limits``: what the answer must keep to, and ``budget`` the same in words where a person put it in others
    (``8.0 GB at 32,768 tokens``). ``memory``: the memory plan in words. ``sensitivity``: what each layer
    alone costs, where that was the question; the answer is about that then. ``created``: ISO 8601, UTC.

    A run that is the control of another (same recipe, another kernel) is not ranked. Raises ValueError
    without a subject, BadSettingError where models differ, SaveError where positions are damaged.
    """
    if not subjects:
        raise ValueError("a sweep of which nothing was scored has no report")
    limits = limits or Limits()
    found = controls(subjects)
    twins = {control.control_run: control.run for control in found}
    bytes_of = kv_bytes(kv_basis(subject.report for subject in subjects))
    ranked = [subject for subject in subjects if subject.run not in twins]
    ranking = rank(ranked, limits)
    variants = _variants(subjects, ranking, twins, bytes_of)
    first = subjects[0].report
    broken_off = any(s.report.partial and s.report.dropped is None for s in subjects)
    partial = ended.stopped or ended.error is not None or broken_off
    smallest = min((side(s, bytes_of) for s in ranked), key=_by_bytes, default=None)
    return SweepReport(
        sweep_id=ended.sweep_id,
        created=created or datetime.now(UTC).isoformat(timespec="milliseconds"),
        model=first.model,
        model_hash=first.model_hash,
        corpus=first.corpus,
        device=first.device,
        compute=first.compute,
        mode=first.mode,
        quantize_start=first.quantize_start,
        chunk_length=first.corpus.chunk_length,
        score_last=first.score_last,
        command=command,
        versions=first.versions,
        n_chunks_planned=first.n_chunks_planned,
        passes=Passes(reference=ended.reference_passes, variants=ended.variant_passes),
        seconds=ended.seconds,
        memory=memory,
        partial=partial,
        ended=_ended(ended),
        budget=budget,
        answer=sensitivity_answer(sensitivity)
        if sensitivity
        else _so_far(variants, partial) + answer(ranking, limits, budget, smallest),
        evidence=_evidence(variants, partial),
        thresholds=ranking.thresholds or first.thresholds,
        ranking=ranking,
        variants=variants,
        grids=grids([_measured(s, bytes_of) for s in ranked]),
        controls=found,
        sensitivity=sensitivity,
        warnings=[*warnings, *_warnings(subjects, variants), *_of_kernels(found)],
    )


def _by_bytes(side: Side) -> tuple[float, float]:
    return (float("inf") if side.kv_bytes is None else side.kv_bytes, side.kl_mean)


def _ended(ended: Swept) -> str:
    if ended.error is not None:
        return str(ended.error)
    return "it was stopped on request" if ended.stopped else ""


def _measured(subject: Subject, bytes_of: KVBytesOf) -> Measured:
    r, cost = subject.report, bytes_of(subject.report)
    settled = not unsettled(r) if r.stopping else None
    return Measured(subject.run, r, _kl(r), cost[0] if cost else None, r.verdict, settled)


def _kl(r: Report) -> Estimate:
    return Estimate(value=r.kl.mean, ci=bounds(r.kl.ci_low, r.kl.ci_high))


def _variants(
    subjects: Sequence[Subject], ranking: Ranking, twins: dict[str, str], bytes_of: KVBytesOf
) -> list[SweepVariant]:
    frontier = {row.side.run for row in ranking.rows if row.kv is not None and row.kv.dominated_by is None}
    names = _names([subject.report for subject in subjects], [s.run in twins for s in subjects])
    found: list[SweepVariant] = []
    for subject, name in zip(subjects, names, strict=True):
        r, cost, sides = subject.report, bytes_of(subject.report), side_words(subject.report)
        found.append(
            SweepVariant(
                run=subject.run,
                setting=r.setting + (f" ({r.kernel})" if subject.run in twins else ""),
                short_setting=name,
                keys=sides[0] if sides else None,
                values=sides[1] if sides else None,
                verdict=r.verdict,
                kl=_kl(r),
                flips=Estimate(value=r.flip_rate, ci=bounds(r.flip_ci_low, r.flip_ci_high)),
                kv_bytes=cost[0] if cost else None,
                n_positions=r.n_positions,
                n_chunks=r.n_chunks,
                n_planned=r.n_positions_planned or r.n_chunks_planned * _per_chunk(r),
                partial=r.partial,
                dropped=r.dropped,
                kernel=r.kernel,
                control_of=twins.get(subject.run),
                on_frontier=subject.run in frontier,
                next_cheaper=None
                if subject.run in twins
                else _step(subject, [s for s in subjects if s.run in frontier], bytes_of),
            )
        )
    return found


def _names(reports: Sequence[Report], controls: Sequence[bool]) -> list[str]:
    """The short settings, each unlike the others."""
    names: list[str] = []
    for report, control in zip(reports, controls, strict=True):
        name = whole = report.short_setting + (f" {report.kernel}" if control else "")
        number = 2
        while name in names:
            name, number = f"{whole} ({number})", number + 1
        names.append(name)
    return names


def _per_chunk(r: Report) -> int:
    """Positions that are scored of a chunk."""
    all_of_it = r.corpus.chunk_length - 1 - r.quantize_start
    return max(0, min(r.score_last or all_of_it, all_of_it))


def _step(subject: Subject, frontier: Sequence[Subject], bytes_of: KVBytesOf) -> Step | None:
    """The setting of the frontier with the next fewer bytes; of equals the one with the lowest mean KL."""
    here = bytes_of(subject.report)
    cheaper = [
        (cost[0], other)
        for other in frontier
        if here is not None and (cost := bytes_of(other.report)) is not None and cost[0] < here[0]
    ]
    if here is None or not cheaper:
        return None
    cost, other = max(cheaper, key=lambda pair: (pair[0], -pair[1].report.kl.mean))
    d, paired = difference(subject, other)
    return Step(
        run=other.run,
        setting=other.report.setting,
        difference=d,
        paired=paired,
        tie=tied(d),
        bytes_saved=here[0] - cost,
    )


def _so_far(variants: Sequence[SweepVariant], partial: bool) -> str:
    """What stands before the answer of a sweep that broke off."""
    scored, planned = sum(v.n_positions for v in variants), sum(v.n_planned for v in variants)
    if not partial or scored >= planned:
        return ""
    return f"so far, from {percent(scored / planned)} of a sweep that broke off: "


def _evidence(variants: Sequence[SweepVariant], partial: bool) -> str:
    """How many positions each setting got, as a paragraph; empty where all of them got the same."""
    if len({v.n_positions for v in variants}) < 2 and not any(v.dropped for v in variants):
        return ""
    each = [
        f"{v.short_setting} {v.n_positions:,} in {counted(v.n_chunks, 'chunk')}"
        + (f" (dropped: {inert(v.dropped)})" if v.dropped else "")
        for v in variants
    ]
    scored, planned = sum(v.n_positions for v in variants), sum(v.n_planned for v in variants)
    words = f"Positions that each setting got: {'; '.join(each)}."
    if scored < planned:
        saved = "" if partial else f", so {percent(1 - scored / planned)} were saved"
        words += f" In all {scored:,} of {planned:,} planned{saved}."
    return words


def _warnings(subjects: Sequence[Subject], variants: Sequence[SweepVariant]) -> Iterator[str]:
    """The doubts of all runs: those that all have once, the others with the settings that have them."""
    by_words: dict[str, list[str]] = {}
    for subject, variant in zip(subjects, variants, strict=True):
        for warning in dict.fromkeys(subject.report.warnings):
            by_words.setdefault(warning, []).append(variant.short_setting)
    for warning, names in by_words.items():
        if len(names) == len(subjects):
            yield warning
        else:
            more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
            yield f"{', '.join(names[:MOST_NAMED])}{more}: {warning}"


def _of_kernels(found: Sequence[Control]) -> Iterator[str]:
    for control in found:
        d = control.difference
        if d.beyond_error and abs(d.value) > abs(d.first) / 2:
            yield (
                f"of {control.setting} the kernel makes more than half as much as the quantizer; such a "
                "kernel is worth a bug report, so check versions before believing it"
            )
