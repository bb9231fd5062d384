"""The settings of a sweep as rows of plain text, the same in every format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from mqf_tui.reports.comparison_report import kv_words, signed, verdict_of
from mqf_tui.reports.comparison_schema import Row
from mqf_tui.reports.ranking_report import rank_words
from mqf_tui.reports.rows import between, known, spread
from mqf_tui.reports.sensitivity_schema import LayerCost
from mqf_tui.reports.setting_words import SAID, assistant_only
from mqf_tui.reports.sweep_schema import Step, SweepReport, SweepVariant
from mqf_tui.reports.text import UNKNOWN, counted, duration, inert, kl, percent, size

HOW = (
    "Ranks that are a tie: of each the mean KL is within the error (p ≥ 0.05) of the best one in the tie. "
    "On the frontier: no other setting needs fewer bytes at a mean KL that is lower, or within the error "
    "with no worse a verdict or rank. Next cheaper: what mean KL would rise by with the setting of the "
    "frontier that needs the next fewer bytes, position by position on the same text."
)


class SettingRow(NamedTuple):
    """One setting: plain text, a cell each."""

    rank: str
    setting: str
    kl: str
    flips: str
    verdict: str
    kv_bytes: str
    frontier: str
    next_cheaper: str
    positions: str
    run: str


HEAD = SettingRow(
    *("rank", "setting", "KL mean (nats)", "flips", "verdict", "KV bytes per token", "frontier"),
    *("next cheaper", "positions", "run"),
)


def ordered(report: SweepReport) -> Iterator[tuple[SweepVariant, Row | None]]:
    """All settings: those that are ranked first, best first; then those that break a limit, then controls."""
    ranked = {row.side.run: row for row in report.ranking.rows}
    place = {run: i for i, run in enumerate(ranked)}
    last = len(place)
    variants = sorted(
        report.variants, key=lambda v: (v.control_of is not None, place.get(v.run, last), v.kl.value)
    )
    for variant in variants:
        yield variant, None if variant.control_of is not None else ranked.get(variant.run)


def rows(report: SweepReport) -> Iterator[SettingRow]:
    """The table of all settings."""
    chosen = chosen_run(report)
    left_out = {out.run: out.why for out in report.ranking.left_out}
    basis = {row.side.run: row.kv.reference for row in report.ranking.rows if row.kv}
    reference = next(iter(basis.values()), None)
    for v, row in ordered(report):
        flips = spread(v.flips.value, v.flips.ci, percent) if known(v.flips.value) else UNKNOWN
        marks = [
            *(["imported"] if row and row.side.imported else []),
            *(["partial"] if v.partial else []),
            *([f"dropped: {inert(v.dropped)}"] if v.dropped else []),
            *([f"left out: {inert(left_out[v.run])}"] if v.run in left_out else []),
            *(["control, not ranked"] if v.control_of is not None else []),
        ]
        yield SettingRow(
            rank=UNKNOWN if row is None else rank_words(row),
            setting=", ".join([inert(v.setting), *marks]),
            kl=spread(v.kl.value, v.kl.ci, kl),
            flips=flips,
            verdict=verdict_of(row.side) if row else v.verdict,
            kv_bytes=kv_words(v.kv_bytes, reference),
            frontier=_frontier(v, row, v.run == chosen),
            next_cheaper=step_words(v.next_cheaper),
            positions=f"{v.n_positions:,}",
            run=inert(v.run),
        )


def chosen_run(report: SweepReport) -> str | None:
    """The run of the setting to take; None where nothing is good, or that was not the question."""
    choice = report.ranking.choice
    return choice.run if choice is not None and report.sensitivity is None else None


def _frontier(v: SweepVariant, row: Row | None, chosen: bool) -> str:
    if row is None:
        return UNKNOWN
    if v.on_frontier:
        return "yes, the answer" if chosen else "yes"
    by = row.kv.dominated_by if row.kv else None
    return "no" if by is None else f"no: {inert(by.setting)}" + (" (KL within the error)" if by.tie else "")


def step_words(step: Step | None) -> str:
    """``+0.0012 (0.001 to 0.0014): 4-bit, group 64``; that it is a tie where it is one."""
    if step is None:
        return UNKNOWN
    d = step.difference
    ends = between(d.ci, kl)
    words = signed(d.value, kl) + (f" ({ends})" if ends else "")
    if d.p is None and d.value:
        words += ", no error known"
    elif step.tie:
        words += ", a tie"
    return f"{words}: {name(inert(step.setting))}"


def name(setting: str) -> str:
    """A setting where all are KV caches: ``6-bit, group 64``."""
    return setting if setting.startswith("mixed") else setting.replace(" KV cache", "", 1)


def heading(report: SweepReport) -> str:
    """``6 settings in one sweep``, or what else was asked."""
    if report.sensitivity is not None:
        return "Layer by layer"
    n_controls = sum(v.control_of is not None for v in report.variants)
    controls = f" and {counted(n_controls, 'control')}" if n_controls else ""
    return f"{counted(len(report.variants) - n_controls, 'setting')}{controls} in one sweep"


def material(report: SweepReport) -> Iterator[str]:
    """What was scored and how, in sentences of plain text."""
    c = report.corpus
    words = f"{counted(report.n_chunks_planned, 'chunk')} of {report.chunk_length:,} tokens"
    words += f" of {inert(c.name)}" if c.name else ""
    if report.quantize_start:
        words += f", deployment from position {report.quantize_start:,}"
    elif report.mode:
        words += f", {report.mode}"
    if report.score_last is not None:
        words += f", the last {counted(report.score_last, 'position')} of each scored"
    words += f", {SAID}" if assistant_only(c) else ""
    yield f"{words}."
    p = report.passes
    yield (
        f"{counted(p.reference, 'chunk')} went through the model as the reference and "
        f"{p.variants:,} as a variant, in {duration(report.seconds)} of scoring."
    )
    if report.memory:
        words = inert(report.memory).rstrip(".")
        yield f"{words[:1].upper()}{words[1:]}."


def origin(report: SweepReport) -> Iterator[tuple[str, str]]:
    """Where the numbers come from: name and plain words, as far as they are known."""
    c, v = report.corpus, report.versions
    for name, words in (
        ("sweep", [report.sweep_id]),
        ("reference", [report.model, _called("hash", report.model_hash)]),
        ("computed in", [report.compute]),
        ("corpus", [f"{c.name} {c.version}".strip(), _called("content", c.content_hash)]),
        (
            "tokens",
            [
                counted(c.n_tokens, "token") if c.n_tokens else "",
                _called("stream", c.token_hash),
                _called("BOS", c.bos_policy),
                _called("tokenizer of", c.tokenizer_id),
            ],
        ),
        ("device", [report.device]),
        (
            "software",
            [
                _called("mqf-tui", v.mqf_tui),
                _called("mlx", v.mlx),
                _called("mlx-lm", v.mlx_lm),
                _called("Python", v.python),
                v.system,
            ],
        ),
        ("made", [report.created[:19].replace("T", " ")]),
    ):
        said = ", ".join(inert(word) for word in words if word)
        if said:
            yield name, said


def _called(name: str, word: str) -> str:
    return f"{name} {word}" if word else ""


def sensitivity_rows(report: SweepReport) -> Iterator[tuple[str, ...]]:
    """One row a layer: its number, then mean KL for each side that was tried, then bytes saved."""
    found = report.sensitivity
    if found is None:
        return
    sides = sensitivity_sides(report)
    by_place = {(cost.layer, cost.side): cost for cost in found.layers}
    for layer in sorted({cost.layer for cost in found.layers}):
        costs = [by_place.get((layer, side)) for side in sides]
        cells = [UNKNOWN if c is None else spread(c.kl.value, c.kl.ci, kl) for c in costs]
        yield (f"{layer}", *cells, _saved([c for c in costs if c is not None]))


def _saved(costs: Sequence[LayerCost]) -> str:
    """``276 B``, or each side's where they differ."""
    if len({cost.bytes_saved for cost in costs}) == 1:
        return size(costs[0].bytes_saved) + (" each" if len(costs) > 1 else "")
    return ", ".join(f"{cost.side} {size(cost.bytes_saved)}" for cost in costs)


def sensitivity_sides(report: SweepReport) -> list[str]:
    """The sides that were tried, keys first."""
    tried = {cost.side for cost in report.sensitivity.layers} if report.sensitivity else set[str]()
    return [side for side in ("keys", "values", "both") if side in tried]


def doubts(report: SweepReport) -> list[str]:
    """All warnings, each once, as sentences of plain text."""
    found = [inert(warning).rstrip(".") + "." for warning in (*report.warnings, *report.ranking.warnings)]
    if report.partial:
        why = f": {inert(report.ended).rstrip('.')}" if report.ended else ""
        found.insert(0, f"The sweep did not come to its end{why}.")
    return list(dict.fromkeys(found))
