"""A comparison as Markdown and as JSON, and in one sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from mqf_tui.reports.comparison_schema import Comparison, Difference, Pair, Side
from mqf_tui.reports.escaping import said
from mqf_tui.reports.json_report import seen
from mqf_tui.reports.rows import between, known, spread
from mqf_tui.reports.text import UNKNOWN, counted, inert, kl, likely, p_value, percent, points, ratio

Figure = tuple[str, str, str, str, str, str]
SAME_EVERYWHERE = "no difference at any position"
LONGEST_NAME = 48


def to_markdown(comparison: Comparison) -> str:
    """The runs, then each against the first: one sentence, one table, what else differs, doubts."""
    return "\n\n".join(_blocks(comparison)) + "\n"


def to_json(comparison: Comparison) -> str:
    """As JSON text; infinities as strings."""
    return seen(comparison.model_dump_json(indent=2)) + "\n"


def sentence(baseline: Side, pair: Pair, number: int = 2) -> str:
    """What comes out, in a sentence of plain text that names what it stands on."""
    if pair.same_run:
        return f"1 and {number} are the same run, so there is nothing to compare."
    if pair.same:
        return f"The same: not one of {counted(pair.n_positions, 'shared position')} differs."
    one, two = names(baseline, pair, number)
    d = pair.kl
    moved = f"mean KL {signed(d.value, kl)} nats"
    if d.p is None:
        return f"{two} against {one}: {moved}; no error is known, so that may be chance."
    ends = between(d.ci, kl)
    error = f" (95 % interval {ends}; {p_value(d.p)})" if ends else f" ({p_value(d.p)})"
    if not d.beyond_error:
        return f"{two} against {one}: {moved}{error}, which is within the error: they cannot be told apart."
    more = "more" if d.value > 0 else "less"
    return f"{two} moves {more} than {one}: {moved}{error}, beyond the error."


def basis(pair: Pair) -> str:
    """How the two were compared, in a sentence of plain text; empty where there is nothing to compare."""
    if pair.same_run:
        return ""
    if pair.paired:
        over = f"{counted(pair.n_positions, 'shared position')} in {counted(pair.n_chunks, 'chunk')}"
        return f"Paired over {over}."
    return (
        f"Not paired: {inert(pair.why_unpaired or 'not known why')}. They are compared as two separate "
        "samples (Welch), which sees less."
    )


def names(baseline: Side, pair: Pair, number: int) -> tuple[str, str]:
    """How the two are called: by their settings, or by their numbers where those are alike."""
    one, two = baseline.short_setting, pair.other.short_setting
    return (one, two) if one != two else ("run 1", f"run {number}")


def figures(pair: Pair) -> Iterator[Figure]:
    """Rows of plain text: name, first, second, difference, its interval, its p value."""
    accuracy = "accuracy" if pair.paired else "accuracy change"
    nll = "mean NLL" if pair.paired else "ln PPL ratio"
    rows: tuple[tuple[str, Difference | None, Callable[[float], str], Callable[[float], str]], ...] = (
        ("KL mean (nats)", pair.kl, kl, lambda v: signed(v, kl)),
        ("flips", pair.flips, percent, points),
        (nll, pair.nll, ratio, lambda v: signed(v, ratio)),
        (accuracy, pair.accuracy, percent if pair.paired else points, points),
        ("Δp mean", pair.delta_p, points, points),
    )
    for name, d, word, move in rows:
        if d is not None:
            p = UNKNOWN if d.p is None else p_value(d.p).removeprefix("p ").removeprefix("= ")
            yield name, word(d.first), word(d.second), move(d.value), _ends(d, move), p


def _ends(d: Difference, word: Callable[[float], str]) -> str:
    # Paired figures that agree at each position have no spread, which is not a certainty.
    return SAME_EVERYWHERE if d.ci == (0.0, 0.0) else between(d.ci, word) or UNKNOWN


def one_sided(pair: Pair, number: int = 2) -> str:
    """Where only one of them flips, in a sentence; empty where they were not paired."""
    f = pair.one_sided_flips
    if f is None:
        return ""
    return (
        f"Only 1 flips at {counted(f.first_only, 'position')}, only {number} at {f.second_only:,}, both at "
        f"{f.both:,} (McNemar's exact {p_value(f.mcnemar_p)}, which takes positions for independent)."
    )


def more_differs(baseline: Side, pair: Pair) -> str:
    """What differs besides the setting, in a sentence of plain text; empty where nothing does."""
    if not pair.differs:
        return ""
    what = "; ".join(map(inert, pair.differs))
    if baseline.short_setting == pair.other.short_setting:
        return f"What differs: {what}."
    return f"More than the setting differs, so this does not compare like with like: {what}."


def kv_head(basis: str | None) -> str:
    """The name of a column of KV bytes; it says what they are counted for."""
    return f"KV bytes per token ({basis or 'not known'})"


def kv_words(n_bytes: float | None, reference: float | None) -> str:
    """``12,240 (3.8× smaller)``."""
    if n_bytes is None:
        return UNKNOWN
    smaller = f" ({reference / n_bytes:.1f}× smaller)" if reference and n_bytes else ""
    return f"{n_bytes:,.0f}{smaller}"


def shortened(name: str, longest: int = LONGEST_NAME) -> str:
    """A name with its middle left out where it is longer than ``longest`` characters."""
    if len(name) <= longest:
        return name
    end = (longest - 1) // 2
    return f"{name[: longest - 1 - end]}…{name[-end:]}"


def title(model: str) -> str:
    """A model's name for a heading, as Markdown."""
    return said(shortened(inert(model))) or "unnamed model"


def signed(value: float, word: Callable[[float], str]) -> str:
    """A difference with its sign."""
    return f"+{word(value)}" if value > 0 else word(value)


def verdict_of(side: Side) -> str:
    """``good, 98 %``; ``good, not settled``."""
    if side.settled is False:
        return f"{side.verdict}, not settled"
    sure = side.sure
    return side.verdict if sure is None or not known(sure) else f"{side.verdict}, {likely(sure)}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], align: str) -> str:
    """A Markdown table of cells that are Markdown already; ``align`` has an l or r for each column."""
    rules = ["---:" if side == "r" else "---" for side in align]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rules, *rows))


def _blocks(comparison: Comparison) -> Iterator[str]:
    baseline, pairs = comparison.baseline, comparison.pairs
    yield f"### {title(baseline.model)}: {counted(1 + len(pairs), 'run')} compared"
    if len(pairs) == 1:
        yield f"**{said(sentence(baseline, pairs[0]))}** {said(basis(pairs[0]))}".rstrip()
    head = ["", "run", "setting", "KL mean (nats)", "flips", "verdict"]
    sides = [baseline, *(pair.other for pair in pairs)]
    rows = [[*_side(number, side)] for number, side in enumerate(sides, 1)]
    if comparison.kv_basis:
        head.append(kv_head(comparison.kv_basis))
        for row, side in zip(rows, sides, strict=True):
            row.append(kv_words(side.kv_bytes, side.kv_reference))
    yield table(head, rows, "lllrrl" + "r" * bool(comparison.kv_basis))
    for number, pair in enumerate(pairs, 2):
        if len(pairs) > 1:
            yield f"#### {number} against 1"
            yield f"**{said(sentence(baseline, pair, number))}** {said(basis(pair))}".rstrip()
        yield from _pair(baseline, pair, number)
    if len(pairs) > 1:
        yield "Each p value is of its own pair; none is corrected for how many pairs there are."


def _side(number: int, side: Side) -> tuple[str, ...]:
    marks = [word for word, on in (("imported", side.imported), ("partial", side.partial)) if on]
    setting = ", ".join([side.setting, *marks])
    moved = spread(side.kl_mean, side.kl_ci, kl)
    flips = spread(side.flip_rate, side.flip_ci, percent)
    return (
        str(number),
        said(side.run),
        said(setting),
        moved,
        flips if known(side.flip_rate) else UNKNOWN,
        verdict_of(side),
    )


def _pair(baseline: Side, pair: Pair, number: int) -> Iterator[str]:
    if not pair.same:
        head = ("", "1", f"{number}", f"{number} − 1", "95 % interval", "p")
        yield table(head, list(figures(pair)), "lrrrrr")
        rest = [one_sided(pair, number)]
        if pair.kl_correlation is not None:
            rest.append(f"Their KLs correlate by {pair.kl_correlation:.3f}.")
        if words := " ".join(word for word in rest if word):
            yield words
    doubts = [more_differs(baseline, pair), *(f"{warning}." for warning in pair.warnings)]
    if lines := [f"> ⚠ {said(doubt)}" for doubt in doubts if doubt]:
        yield "\n>\n".join(lines)
