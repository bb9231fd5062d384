"""Figures of runs side by side as rows of words, each with its difference from the baseline and its test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mqf_tui.fidelity.comparison_details import beyond_error
from mqf_tui.reports.comparison_report import SAME_EVERYWHERE, signed, verdict_of
from mqf_tui.reports.comparison_schema import Comparison, Difference, Pair, Side
from mqf_tui.reports.rows import between, known
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import UNKNOWN, change, kl, p_value, percent, perplexity, points, ratio

Tone = Literal["bad", "good", "plain"]
Sign = Literal["", "beyond", "within", "same", "untested"]
MOST_NATS = 700.0  # of a mean NLL whose perplexity is a number
WITHIN, SAME, UNTESTED = "within error", "the same", "not tested"


@dataclass(frozen=True)
class Compared:
    """Runs and what is known of their differences; ``pairs``, ``details`` and ``refused`` by the run's place.

    ``baseline``: the place of the run that the others are compared with. ``refused``: why a run cannot be
    compared with it. ``pending``: some differences are still being worked out.
    """

    reports: tuple[Report, ...]
    baseline: int
    comparison: Comparison | None = None
    pairs: Mapping[int, Pair] = field(default_factory=dict[int, Pair])
    details: Mapping[int, Mapping[str, Difference]] = field(
        default_factory=dict[int, Mapping[str, Difference]]
    )
    refused: Mapping[int, str] = field(default_factory=dict[int, str])
    problems: tuple[str, ...] = ()
    pending: bool = False

    def side(self, place: int) -> Side | None:
        """A run as the comparison has it; None where it could not be compared, or not yet."""
        if self.comparison is not None and place == self.baseline:
            return self.comparison.baseline
        return self.pairs[place].other if place in self.pairs else None


@dataclass(frozen=True)
class Cell:
    """A run's own figure; how it differs from the baseline's, and whether chance alone would seldom do that.

    ``word`` says what ``sign`` stands for: ``more``, ``worse``, ``within error``, ``not tested``.
    """

    value: str
    difference: str = ""
    sign: Sign = ""
    word: str = ""
    tone: Tone = "plain"
    interval: str = ""
    p: str = ""


@dataclass(frozen=True)
class Row:
    """One line: a setting or a figure of every run. ``differs``: a setting that is not the same in all."""

    name: str
    cells: tuple[Cell, ...]
    differs: bool = False


@dataclass(frozen=True)
class _Figure:
    """``own``: from the report (None: not known); ``found``: its difference; ``harm``: 1 where more is worse.

    ``words``: for more and for less. ``only``: the pairs whose figures mean something beside each other.
    """

    name: str
    own: Callable[[Report], float | None]
    found: Callable[[Pair, Mapping[str, Difference]], Difference | None]
    say: Callable[[float], str]
    move: Callable[[float], str]
    harm: int = 1
    words: tuple[str, str] = ("more", "less")
    only: Literal["", "paired", "unpaired"] = ""

    def fits(self, pair: Pair) -> bool:
        """Whether such a pair can have it."""
        return not self.only or (self.only == "paired") == pair.paired


def figure_rows(compared: Compared) -> list[Row]:
    """Every figure that one of the runs has: first the verdict, then what can be tested, then the rest."""
    rows = [Row("verdict", tuple(_verdict(compared, place) for place in range(len(compared.reports))))]
    for figure in FIGURES:
        if compared.pairs and not any(map(figure.fits, compared.pairs.values())):
            continue
        cells = tuple(_cell(compared, figure, place) for place in range(len(compared.reports)))
        if any(cell.value != UNKNOWN for cell in cells):
            rows.append(Row(figure.name, cells))
    return [*rows, *_bytes(compared)]


def _verdict(compared: Compared, place: int) -> Cell:
    side, report = compared.side(place), compared.reports[place]
    return Cell(report.verdict if side is None else verdict_of(side))


def _cell(compared: Compared, figure: _Figure, place: int) -> Cell:
    value, pair = _value(compared, figure, place), compared.pairs.get(place)
    if place == compared.baseline:
        return Cell(value)
    if pair is None or pair.same_run:
        return Cell(value, word=SAME if pair is not None else "", sign="same" if pair is not None else "")
    if not figure.fits(pair):
        return Cell(value)
    d = figure.found(pair, compared.details.get(place, {}))
    if d is None:
        return _untested(compared, figure, place, value)
    return tested(d, value, figure.move, figure.harm, figure.words)


def _value(compared: Compared, figure: _Figure, place: int) -> str:
    """A run's own figure; where its report has none, what it is over the shared positions."""
    own = figure.own(compared.reports[place])
    if own is not None and known(own):
        return figure.say(own)
    for other, pair in compared.pairs.items():
        d = figure.found(pair, compared.details.get(other, {})) if figure.fits(pair) else None
        if d is not None and place in (compared.baseline, other):
            return figure.say(d.first if place == compared.baseline else d.second)
    return UNKNOWN


def tested(
    d: Difference, value: str, move: Callable[[float], str], harm: int, words: tuple[str, str]
) -> Cell:
    """A figure beside its difference, in words and with the sign of its test."""
    ends = SAME_EVERYWHERE if d.ci == (0.0, 0.0) else between(d.ci, move)
    p = "" if d.p is None else p_value(d.p)
    if d.value == 0 and (d.ci is None or d.ci == (0.0, 0.0)):
        return Cell(value, "0", "same", SAME, "plain", ends, p)
    beyond = beyond_error(d)
    if not beyond:
        sign, word = ("untested", UNTESTED) if beyond is None else ("within", WITHIN)
        return Cell(value, move(d.value), sign, word, "plain", ends, p)
    tone: Tone = "bad" if d.value * harm > 0 else "good"
    return Cell(value, move(d.value), "beyond", words[0 if d.value > 0 else 1], tone, ends, p)


def _untested(compared: Compared, figure: _Figure, place: int, value: str) -> Cell:
    """The plain difference of two figures; there is none between figures that are not of one sort."""
    a, b = (figure.own(compared.reports[i]) for i in (compared.baseline, place))
    if a is None or b is None or not (known(a) and known(b)):
        return Cell(value)
    if a == b:
        return Cell(value, "0", "same", SAME)
    if compared.pending and place not in compared.details:
        return Cell(value, figure.move(b - a), word="…")
    return Cell(value, figure.move(b - a), "untested", UNTESTED)


def _bytes(compared: Compared) -> list[Row]:
    sides = [compared.side(place) for place in range(len(compared.reports))]
    sizes = [side.kv_bytes if side is not None else None for side in sides]
    if all(size is None for size in sizes):
        return []
    base, cells = sizes[compared.baseline], list[Cell]()
    for place, size in enumerate(sizes):
        if size is None or base is None or place == compared.baseline:
            cells.append(Cell(UNKNOWN if size is None else f"{size:,.0f}"))
        elif size == base:
            cells.append(Cell(f"{size:,.0f}", "0", "same", SAME))
        else:
            word, tone = ("more", "bad") if size > base else ("less", "good")
            cells.append(Cell(f"{size:,.0f}", f"{size - base:+,.0f}", "beyond", word, tone, "exact"))
    basis = compared.comparison.kv_basis if compared.comparison else None
    return [Row(f"KV per token ({basis or 'not known'})", tuple(cells))]


def explained(row: Row, place: int, baseline: int) -> str:
    """A cell in a sentence: its figure, its difference, interval and p value, and what that means."""
    cell = row.cells[place]
    start = f"{row.name}: {place + 1} has {cell.value}"
    if row.differs:
        return f"{start}, {baseline + 1} has {row.cells[baseline].value}; a shows all settings"
    if not (cell.difference or cell.word):
        return start
    if not cell.difference:
        return f"{start}, {cell.word}"
    against = f"{start}, {baseline + 1} has {row.cells[baseline].value}: {cell.difference}"
    if cell.interval == "exact":
        return f"{against}, {cell.word} (by formula, so without error)"
    if cell.interval == SAME_EVERYWHERE:
        return f"{against}, {SAME_EVERYWHERE}"
    error = ", ".join(part for part in (cell.interval and f"95 % interval {cell.interval}", cell.p) if part)
    meaning = {"beyond": f"{cell.word}, beyond the error", "within": "within the error"}.get(
        cell.sign, cell.word
    )
    return f"{against}{f' ({error})' if error else ''}, {meaning}"


def _log(value: float) -> float | None:
    return math.log(value) if 0 < value < math.inf else None


def _ln_ratio(r: Report) -> float | None:
    if r.perplexity is not None:
        return r.perplexity.ln_ratio.value
    a, b = _log(r.perplexity_ref), _log(r.perplexity_quant)
    return None if a is None or b is None else b - a


def _perplexities(pair: Pair) -> Difference | None:
    """Of perplexities, where the NLLs were paired: exp keeps their order, so that their test is the same."""
    d = pair.nll
    if d is None:
        return None
    first, second = (math.exp(v) if v < MOST_NATS else math.inf for v in (d.first, d.second))
    value = 0.0 if first == second else second - first
    return Difference(first=first, second=second, value=value, p=d.p)


def _kl(value: float) -> str:
    return signed(value, kl)


def _ratio(value: float) -> str:
    return signed(value, ratio)


WORSE, BETTER = ("worse", "better"), ("better", "worse")
FIGURES = (
    _Figure("KL mean", lambda r: r.kl.mean, lambda p, _: p.kl, kl, _kl),
    _Figure("flips", lambda r: r.flip_rate, lambda p, _: p.flips, percent, points),
    _Figure(
        "confident flips",
        lambda r: r.flips.confident.value if r.flips else None,
        lambda _, d: d.get("confident"),
        *(percent, points),
    ),
    _Figure("KL median", lambda r: r.kl.median, lambda _, d: d.get("median"), kl, _kl),
    _Figure("KL p90", lambda r: r.kl.p90, lambda _, d: d.get("p90"), kl, _kl),
    _Figure("KL p95", lambda r: r.kl.p95, lambda _, d: d.get("p95"), kl, _kl),
    _Figure("KL p99", lambda r: r.kl.p99, lambda _, d: d.get("p99"), kl, _kl),
    _Figure("KL p99.9", lambda r: r.kl.p999, lambda _, d: d.get("p999"), kl, _kl),
    _Figure("KL max", lambda r: r.kl.max, lambda *_: None, kl, _kl),
    _Figure(
        "perplexity",
        lambda r: r.perplexity_quant,
        lambda p, _: _perplexities(p),
        *(perplexity, change, 1, WORSE, "paired"),
    ),
    _Figure(
        "mean NLL",
        lambda r: _log(r.perplexity_quant),
        lambda p, _: p.nll,
        *(ratio, _ratio, 1, WORSE, "paired"),
    ),
    _Figure("ln PPL ratio", _ln_ratio, lambda p, _: p.nll, ratio, _ratio, 1, WORSE, "unpaired"),
    _Figure("accuracy", lambda _: None, lambda p, _: p.accuracy, percent, points, -1, BETTER, "paired"),
    _Figure(
        "accuracy change",
        lambda r: r.flips.accuracy_change.value if r.flips else None,
        lambda p, _: p.accuracy,
        *(points, points, -1, BETTER, "unpaired"),
    ),
    _Figure(
        "top-5 agreement",
        lambda r: r.flips.top5_agreement.value if r.flips else None,
        lambda _, d: d.get("top5"),
        *(percent, points, -1),
    ),
    _Figure(
        "Δp mean",
        lambda r: r.delta_p.mean.value if r.delta_p else None,
        lambda p, _: p.delta_p,
        *(points, points, -1, BETTER),
    ),
)
