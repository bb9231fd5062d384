"""What a sweep comes to, in a sentence."""

from __future__ import annotations

from collections.abc import Sequence

from mqf_tui.fidelity.choosing import Limits, closest
from mqf_tui.reports.comparison_schema import Choice, Ranking, Row, Side
from mqf_tui.reports.sensitivity_schema import LayerCost, Sensitivity
from mqf_tui.reports.sweep_rows import name
from mqf_tui.reports.text import counted, kl, likely

MOST_NAMED = 3
HALF = 0.5  # less sure than that, it is rather something else


def answer(ranking: Ranking, limits: Limits, budget: str = "", smallest: Side | None = None) -> str:
    """Which setting to take. ``budget``: the limits in words, where they are not those of ``limits``;
    ``smallest``: the setting of the fewest bytes, whether it keeps to them or not."""
    within = budget or _limit_words(limits)
    if not ranking.rows:
        return _nothing_fits(ranking, within, smallest)
    if ranking.choice is None:
        return _none_passes(ranking, within)
    if within and (budget or limits.max_kv_bytes is not None):
        return _best_within(ranking, ranking.choice, within)
    least = _least(ranking)
    words = f"use {_choice_words(ranking, ranking.choice, least)}"
    if ranking.surer is not None:
        words += f"; to be surer use {_choice_words(ranking, ranking.surer, least)}"
    chosen = _row(ranking, ranking.choice.run)
    return f"{words}{_tie_words(ranking, chosen)}."


def sensitivity_answer(found: Sensitivity) -> str:
    """Which layer, and which side of it, hurts most, and how keys and values share the damage."""
    costs = sorted(found.layers, key=lambda cost: -cost.kl.value)
    if not costs:
        return "no layer of this model can be quantized alone."
    worst, least = costs[0], costs[-1]
    words = f"{_side(worst)} of layer {worst.layer} hurt most: mean KL {kl(worst.kl.value)} nats"
    words += f" where they alone are {found.format}"
    if len(costs) > 1:
        words += f"; {_side(least)} of layer {least.layer} hurt least ({kl(least.kl.value)})"
    sums = {side: sum(c.kl.value for c in costs if c.side == side) for side in ("keys", "values")}
    total = sum(sums.values())
    if all(sums.values()) and 0 < total < float("inf"):
        words += f"; of all that keys and values cost apart, the keys have {100 * sums['keys'] / total:.0f} %"
    return words + "."


def _side(cost: LayerCost) -> str:
    return "keys and values" if cost.side == "both" else f"the {cost.side}"


def _best_within(ranking: Ranking, choice: Choice, within: str) -> str:
    """With a budget: the best that fits, of those that tie the cheapest, and the cheapest that is good."""
    rows = ranking.rows
    best = [row for row in rows if row.rank_first == 1]

    def place(r: Row) -> tuple[bool, float, float]:
        return r.side.left_undecided, r.kv.bytes if r.kv else float("inf"), r.side.kl_mean

    row = min(best, key=place)
    side = row.side
    which = f"best of {len(rows)} settings that keep" if len(rows) > 1 else "only setting that keeps"
    words = (
        f"use {name(side.setting)}, the {which} to {within}: mean KL {kl(side.kl_mean)} nats, "
        f"{_verdict(side)}{_smaller_row(ranking, row)}{_tie_words(ranking, row)}"
    )
    if choice.run != side.run:
        words += f"; the cheapest that is still {_least(ranking)} is {_choice_words(ranking, choice)}"
    return words + "."


def _nothing_fits(ranking: Ranking, within: str, smallest: Side | None) -> str:
    words = f"none of {counted(len(ranking.left_out), 'setting')} keeps to {within or 'the limits'}"
    if smallest is not None and smallest.kv_bytes is not None:
        words += (
            f"; the closest in size is {name(smallest.setting)}, with {smallest.kv_bytes:,.0f} bytes of KV "
            f"cache per token ({smallest.verdict}, mean KL {kl(smallest.kl_mean)} nats)"
        )
    return words + "."


def _none_passes(ranking: Ranking, within: str) -> str:
    if ranking.cost is None:
        return ranking.answer
    best = closest(ranking.rows)
    where = f" that keeps to {within}" if within else ""
    return (
        f"no setting{where or ' here'} is {_least(ranking)}; the closest is {name(best.side.setting)}: "
        f"{_verdict(best.side)}, mean KL {kl(best.side.kl_mean)} nats{_smaller_row(ranking, best)}."
    )


def _least(ranking: Ranking) -> str:
    return "good" if ranking.least == "good" else f"at least {ranking.least}"


def _row(ranking: Ranking, run: str) -> Row:
    return next(row for row in ranking.rows if row.side.run == run)


def _choice_words(ranking: Ranking, choice: Choice, still: str = "") -> str:
    """``6-bit, group 64: 2.4× smaller than fp16, still good (99 %)``; without ``still`` in brackets."""
    smaller = f"{choice.times_smaller:.1f}× smaller than {_than(ranking)}" if choice.times_smaller else ""
    sure = _sure(choice.sure, choice.settled)
    if not still:
        return f"{name(choice.setting)} ({', '.join(filter(None, (smaller, sure)))})"
    words = f"{name(choice.setting)}: {smaller + ', ' if smaller else ''}"
    if choice.sure is not None and choice.sure < HALF and choice.settled is not False:
        return f"{words}{still} by these figures, but only {sure} sure"
    return f"{words}still {still} ({sure})"


def _sure(sure: float | None, settled: bool | None) -> str:
    if settled is False:
        return "not settled"
    return "how sure is not known" if sure is None else likely(sure)


def _verdict(side: Side) -> str:
    return f"{side.verdict} ({_sure(side.sure, side.settled)})"


def _smaller_row(ranking: Ranking, row: Row) -> str:
    kv = row.kv
    if kv is None or not kv.reference or not kv.bytes:
        return ""
    return f", {kv.reference / kv.bytes:.1f}× smaller than {_than(ranking)}"


def _than(ranking: Ranking) -> str:
    if ranking.cost == "weights":
        return "the reference's weights"
    return "fp16" if ranking.kv_basis == "16-bit" else "the full-precision cache"


def _tie_words(ranking: Ranking, chosen: Row) -> str:
    """The settings whose mean KL cannot be told from the chosen one's; empty where there are none."""
    tied = [
        name(row.side.setting)
        for row in ranking.rows
        if row.rank_first == chosen.rank_first and row is not chosen
    ]
    if not tied:
        return ""
    return f"; its mean KL is a tie with that of {_listed(tied)}"


def _listed(names: Sequence[str]) -> str:
    if len(names) > MOST_NAMED:
        return f"{'; '.join(names[:MOST_NAMED])} and {len(names) - MOST_NAMED} more"
    return " and ".join(filter(None, ["; ".join(names[:-1]), names[-1]]))


def _limit_words(limits: Limits) -> str:
    words: list[str] = []
    if limits.max_kv_bytes is not None:
        words.append(f"{limits.max_kv_bytes:,.10g} bytes of KV cache per token")
    if limits.max_kl is not None:
        words.append(f"a mean KL of {limits.max_kl:g} nats")
    if limits.min_verdict is not None and limits.min_verdict != "bad":
        words.append("the verdict good" if limits.min_verdict == "good" else "marginal or better")
    return " and ".join(words)
