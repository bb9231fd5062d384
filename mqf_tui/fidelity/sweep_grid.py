"""Settings of a sweep as grids: formats of the keys by formats of the values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer, parsed
from mqf_tui.reports.schema import VERDICTS, Estimate, Report, Verdict
from mqf_tui.reports.sweep_schema import Grid, GridCell
from mqf_tui.reports.text import inert

FULL = "16"
LEAST_SHARE = 2 / 3  # of a grid's combinations that must have been measured


@dataclass(frozen=True)
class Measured:
    """What a grid shows of one setting. ``settled``: whether a rule that looked again and again settled its
    verdict (None: there was no such rule)."""

    run: str
    report: Report
    kl: Estimate
    kv_bytes: float | None
    verdict: Verdict
    settled: bool | None = None


def quantizers_of(report: Report) -> LayerQuantizers | None:
    """What was done to the keys and values of a quantized layer; None where layers differ, or not known."""
    word = report.kv_format
    if not word and report.kv_bits and report.kv_group_size:
        word = f"{report.kv_bits}g{report.kv_group_size}"
    try:
        return parsed(word) if word and report.kind == "kv" else None
    except BadSettingError:  # a recipe, or what a newer version wrote
        return None


def side_words(report: Report) -> tuple[str, str] | None:
    """The formats of keys and values as words: ``("8g64", "16")``."""
    found = quantizers_of(report)
    return None if found is None else (_whole(found.keys), _whole(found.values))


def grids(measured: Sequence[Measured]) -> list[Grid]:
    """The grids that the settings form: of at least two formats of either side, and nearly all combinations.

    Settings of other layers, another kernel or another group size are in a grid of their own; a side
    without a group (16, mxfp4) stands in each.
    """
    placed = [(one, sides) for one in measured if (sides := quantizers_of(one.report)) is not None]
    found: list[Grid] = []
    most = max((one.report.n_positions for one in measured), default=0)
    for common in dict.fromkeys(_common(one.report) for one, _ in placed):
        alike = [(one, sides) for one, sides in placed if _common(one.report) == common]
        for groups in _groupings(sides for _, sides in alike):
            cells: dict[tuple[Quantizer | None, Quantizer | None], Measured] = {}
            for one, sides in alike:
                if _fits(sides, groups):
                    cells.setdefault((sides.keys, sides.values), one)
            grid = _grid(cells, _words(groups, common), most)
            if grid is not None:
                found.append(grid)
    return found


_Groups = tuple[int | None, int | None]


def _common(report: Report) -> tuple[str, str]:
    """What else than keys and values tells settings apart: which layers, and whether it is emulated."""
    layers = "" if report.layers is None or not report.layers.words else quantized_spans(report)
    return layers, report.kernel or ""


def quantized_spans(report: Report) -> str:
    """The layers of its cache that are quantized (``0-3,8``); empty where the report does not know."""
    if report.layers is None:
        return ""
    return ",".join(part.layers for part in report.layers.recipe if part.format != FULL)


def _groups(sides: LayerQuantizers) -> _Groups:
    k, v = (
        q.group_size if q is not None and q.mode == "affine" else None for q in (sides.keys, sides.values)
    )
    return k, v


def _groupings(settings: Iterator[LayerQuantizers]) -> list[_Groups]:
    """The pairs of group sizes that occur; those of settings with one open side only where no other does."""
    pairs = list(dict.fromkeys(map(_groups, settings)))
    whole = [pair for pair in pairs if None not in pair]
    return whole or [pair for pair in pairs if pair != (None, None)][:1] or pairs[:1]


def _fits(sides: LayerQuantizers, groups: _Groups) -> bool:
    return all(own is None or own == group for own, group in zip(_groups(sides), groups, strict=True))


def _grid(
    cells: Mapping[tuple[Quantizer | None, Quantizer | None], Measured], words: str, most: int
) -> Grid | None:
    places = {*cells, (None, None)}  # nothing quantized is the reference, which needs no measuring
    while places:
        k, v = Counter(key for key, _ in places), Counter(value for _, value in places)
        kept = {(key, value) for key, value in places if k[key] > 1 and v[value] > 1}
        if kept == places:
            break
        places = kept
    rows = sorted({key for key, _ in places}, key=_order)
    columns = sorted({value for _, value in places}, key=_order)
    if len(rows) < 2 or len(columns) < 2 or len(places) < LEAST_SHARE * len(rows) * len(columns):
        return None
    shown = {place: one for place, one in cells.items() if place in places}
    best = cheapest_good(list(shown.values()), most)
    return Grid(
        words=words,
        rows=list(map(_label, rows)),
        columns=list(map(_label, columns)),
        cells=[
            GridCell(
                row=i,
                column=j,
                run=one.run,
                setting=one.report.setting,
                kl=one.kl,
                kv_bytes=one.kv_bytes,
                verdict=one.verdict,
                n_positions=one.report.n_positions,
                fewer=one.report.n_positions < most,
                cheapest_good=one is best,
            )
            for i, key in enumerate(rows)
            for j, value in enumerate(columns)
            if (one := shown.get((key, value))) is not None
        ],
    )


def cheapest_good(measured: Sequence[Measured], most: int) -> Measured | None:
    """Of the good ones that with the fewest bytes, of equals that with the lowest mean KL.

    Not one of fewer positions than ``most`` whose verdict a rule left open: what remained could change it.
    """
    good = [
        one
        for one in measured
        if one.verdict == VERDICTS[0]
        and one.kv_bytes is not None
        and (one.report.n_positions >= most or one.settled is not False)
    ]
    return min(good, key=lambda one: (one.kv_bytes or 0.0, one.kl.value), default=None)


def _words(groups: _Groups, common: tuple[str, str]) -> str:
    k, v = groups
    known = {group for group in groups if group is not None}
    words = [f"keys group {k}, values group {v}"] if len(known) > 1 else [f"group {g}" for g in known]
    layers, kernel = common
    words += [f"layers {inert(layers)}"] if layers else []
    return ", ".join([*words, *(["emulated"] if kernel == "emulated" else [])])


def _order(q: Quantizer | None) -> tuple[int, str]:
    """Most bits first."""
    return (-16, "") if q is None else (-q.bits, q.mode)


def _label(q: Quantizer | None) -> str:
    return "16 (full)" if q is None else f"{q.bits}-bit" if q.mode == "affine" else q.mode


def _whole(q: Quantizer | None) -> str:
    return FULL if q is None else q.word + (f"g{q.group_size}" if q.mode == "affine" else "")
