"""Which of the ranked settings to take: what fits, what is cheapest, and what cannot be told apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from mqf_tui.fidelity.costs import KVBytesOf
from mqf_tui.fidelity.pairing import Subject
from mqf_tui.reports.comparison_schema import Choice, Cost, LeftOut, Row
from mqf_tui.reports.schema import VERDICTS, Report, Verdict
from mqf_tui.reports.text import counted, kl, likely, size

SURE = 0.95


@dataclass(frozen=True)
class Limits:
    """What a setting must keep to: bytes of KV cache per token, mean KL in nats, verdict."""

    max_kv_bytes: float | None = None
    max_kl: float | None = None
    min_verdict: Verdict | None = None

    @property
    def least(self) -> Verdict:
        """The verdict that the answer is about."""
        return self.min_verdict or "good"


def fitting(
    subjects: Sequence[Subject], limits: Limits, bytes_of: KVBytesOf
) -> tuple[list[Subject], list[LeftOut]]:
    """The runs within the limits, and the others with the limit that each breaks."""
    kept: list[Subject] = []
    left_out: list[LeftOut] = []
    for subject in subjects:
        why = _broken_limit(subject.report, limits, bytes_of)
        if why is None:
            kept.append(subject)
        else:
            left_out.append(LeftOut(run=subject.run, setting=subject.report.setting, why=why))
    return kept, left_out


def _broken_limit(report: Report, limits: Limits, bytes_of: KVBytesOf) -> str | None:
    if limits.max_kv_bytes is not None:
        cost = bytes_of(report)
        if cost is None:
            return "its KV bytes per token are not known"
        if cost[0] > limits.max_kv_bytes:
            return f"it takes {cost[0]:,.0f} bytes of KV cache per token"
    if limits.max_kl is not None and not report.kl.mean <= limits.max_kl:
        return f"its mean KL is {kl(report.kl.mean)} nats"
    if VERDICTS.index(report.verdict) > VERDICTS.index(limits.least) and limits.min_verdict:
        return f"it is {report.verdict}"
    return None


def is_near(report: Report) -> bool:
    """Whether a good run is so near its reference that neither the direction of its flips nor the mean of
    Δp differs from nothing: both 95 % intervals hold 0. Few chunks alone could make them that wide."""
    if report.flips is None or report.delta_p is None or report.verdict != "good":
        return False
    found = (report.flips.accuracy_change.ci, report.delta_p.mean.ci)
    return all(ci is not None and ci[0] <= 0 <= ci[1] for ci in found)


def decide(
    rows: Sequence[Row], reports: Mapping[str, Report], limits: Limits, n_tried: int
) -> dict[str, Any]:
    """The parts of a Ranking that say what to take. ``reports`` by run; ``n_tried`` before any limit."""
    axis = _axis(rows)

    def cost_of(row: Row) -> float:
        cost = _cost(row, axis)
        return cost.bytes if cost else float("inf")

    by_cost = sorted(rows, key=lambda row: (cost_of(row), row.side.kl_mean))
    passing = [row for row in by_cost if _passes(row, limits.least) and _cost(row, axis)]
    options = [_choice(row, reports[row.side.run], limits.least, axis) for row in passing]
    choice = options[0] if options else None
    surer = None
    if choice is not None and (choice.sure or 0.0) < SURE:
        surer = next((option for option in options if (option.sure or 0.0) >= SURE), None)
    near = [row for row in by_cost if row.near]
    return {
        "cost": axis,
        "least": limits.least,
        "choice": choice,
        "surer": surer,
        "answer": _answer(rows, choice, surer, limits, n_tried, axis),
        "indistinct": [row.side.run for row in near] if len(near) > 1 else [],
        "advice": _advice(near, axis, choice) if len(near) > 1 else None,
    }


def _axis(rows: Sequence[Row]) -> Literal["kv", "weights"] | None:
    """What the cheapest is cheapest in: KV bytes, unless only the weights differ."""
    kv = {row.kv.bytes for row in rows if row.kv}
    weights = {row.weights.bytes for row in rows if row.weights}
    if kv and (len(kv) > 1 or len(weights) < 2):
        return "kv"
    return "weights" if weights else None


def _cost(row: Row, axis: Literal["kv", "weights"] | None) -> Cost | None:
    return {"kv": row.kv, "weights": row.weights}[axis] if axis else None


def _passes(row: Row, least: Verdict) -> bool:
    return not row.side.left_undecided and VERDICTS.index(row.side.verdict) <= VERDICTS.index(least)


def _choice(row: Row, report: Report, least: Verdict, axis: Literal["kv", "weights"] | None) -> Choice:
    cost, sure = _cost(row, axis), None
    if report.confidence is not None and row.side.settled is not False:
        passing = VERDICTS[: VERDICTS.index(least) + 1]
        sure = min(1.0, sum(report.confidence.of(verdict) for verdict in passing))
    smaller = cost.reference / cost.bytes if cost and cost.reference and cost.bytes else None
    return Choice(
        run=row.side.run,
        setting=row.side.setting,
        sure=sure,
        settled=row.side.settled,
        times_smaller=smaller,
    )


def _answer(
    rows: Sequence[Row],
    choice: Choice | None,
    surer: Choice | None,
    limits: Limits,
    n_tried: int,
    axis: Literal["kv", "weights"] | None,
) -> str:
    if not rows:
        return f"none of the {counted(n_tried, 'run')} keeps to {_limit_words(limits)}."
    if choice is None:
        return _none_passes(rows, limits.least, axis)
    what = "still good" if limits.least == "good" else f"at least {limits.least}"
    words = f"cheapest setting that is {what}: {choice.setting} ({_sure_words(choice)})"
    if choice.times_smaller is not None:
        than = {"kv": "the full-precision cache", "weights": "the reference's weights"}[axis or "kv"]
        words += f", {choice.times_smaller:.1f}× smaller than {than}"
    if surer is not None:
        words += f"; to be surer take {surer.setting} ({_sure_words(surer)})"
    return words + "."


def closest(rows: Sequence[Row]) -> Row:
    """The best by its verdict, then by mean KL; what left a race undecided only where all did."""

    def place(row: Row) -> tuple[bool, int, float]:
        return row.side.left_undecided, VERDICTS.index(row.side.verdict), row.side.kl_mean

    return min(rows, key=place)


def _none_passes(rows: Sequence[Row], least: Verdict, axis: Literal["kv", "weights"] | None) -> str:
    best = closest(rows)
    s = best.side
    if axis is None and _passes(best, least):
        return f"which setting is cheapest is not known; the lowest mean KL is that of {s.setting}."
    sure = ", not settled" if s.settled is False else "" if s.sure is None else f", {likely(s.sure)} sure"
    wanted = "good" if least == "good" else f"at least {least}"
    return (
        f"no setting here is {wanted}; the closest is {s.setting} "
        f"({s.verdict}{sure}; mean KL {kl(s.kl_mean)} nats)."
    )


def _sure_words(choice: Choice) -> str:
    if choice.settled is False:
        return "not settled"
    return "how sure is not known" if choice.sure is None else f"{likely(choice.sure)} sure"


def _limit_words(limits: Limits) -> str:
    words: list[str] = []
    if limits.max_kv_bytes is not None:
        words.append(f"at most {limits.max_kv_bytes:,.10g} bytes of KV cache per token")
    if limits.max_kl is not None:
        words.append(f"a mean KL of at most {limits.max_kl:g} nats")
    if limits.min_verdict is not None:
        words.append(
            "the verdict good" if limits.min_verdict == "good" else "a verdict of marginal or better"
        )
    return " and ".join(words)


def _advice(near: Sequence[Row], axis: Literal["kv", "weights"] | None, choice: Choice | None) -> str:
    settings = [row.side.setting for row in near]
    words = (
        f"neither the direction of the flips nor Δp differs from nothing for {', '.join(settings[:-1])} and "
        f"{settings[-1]}: this measurement cannot tell them apart on quality (so near the reference KL stops "
        "predicting task scores: arXiv 2606.19558)"
    )
    first, second = _cost(near[0], axis), _cost(near[1], axis)
    another = choice is not None and choice.run != near[0].side.run  # the answer names a cheaper one
    if another or first is None or second is None or first.bytes == second.bytes:
        return words + "."
    return words + f", so take the cheapest of them, {settings[0]} ({size(first.bytes)})."
