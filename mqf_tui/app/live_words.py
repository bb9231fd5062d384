"""What the live screen says beside its pictures: figures, the verdict so far, speed, memory, the queue."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from rich.text import Text

from mqf_tui.app.capabilities import mark
from mqf_tui.app.row_words import kl_words, short_words
from mqf_tui.app.snapshots import Snapshot
from mqf_tui.app.tally import Numbers, Running
from mqf_tui.app.verdict_colours import COLOURS
from mqf_tui.app.widgets.tiles import level
from mqf_tui.app.words import measured_words, short_setting, so_far_words, undecided_words
from mqf_tui.fidelity.events import Plan
from mqf_tui.fidelity.intervals import Interval
from mqf_tui.fidelity.stopping import LEAST_CHUNKS
from mqf_tui.reports.schema import VERDICTS, Confidence, Thresholds
from mqf_tui.reports.text import UNKNOWN, change, counted, duration, inert, percent, size

Colours = Mapping[str, str]
MORE = ("median", "confident flips")  # what the tiles have no room for in a narrow terminal
IN_THE_TABLE = ("KL mean", "flips")  # of a sweep
BRIEF = {"confident flips": "confident", "Δ perplexity": "Δ PPL"}
GAP = "   "
SHADES = "▂▅█"  # of the shares of good, marginal, bad: as high as chunks like that in their strip
LETTERS = "gmb"
NEARLY_FULL = 0.9  # of the memory that may be used


class Figure(NamedTuple):
    """A running number in words, and the verdict that it alone would give ("" where it gives none)."""

    words: str
    level: str = ""


def heading(s: Snapshot, colours: Colours) -> Text:
    """Model and settings; which layers are quantized, where it is not all of them."""
    text = Text(model_name(s), style="bold")
    text.append(f"  {measured_words(s.settings)}")
    if s.plan is not None and s.plan.layers:
        text.append(f"\n{s.plan.layers}", style=colours["secondary"])
    return text


def model_name(s: Snapshot) -> str:
    """The last part of the model's name or folder."""
    return inert(s.settings.first.model.rstrip("/").rsplit("/", 1)[-1])


def measured_name(s: Snapshot) -> str:
    """Model and setting in a few words: ``demo, 4-bit g64``, ``demo, 6 settings``."""
    setting = f"{len(s.variants)} settings" if s.several else short_setting(s.settings.first)
    return f"{model_name(s)}, {setting}"


def figures(n: Numbers, limits: Thresholds) -> dict[str, Figure]:
    """All running numbers by name, each with half of its interval."""
    return {
        "KL mean": Figure(kl_words(n.kl_mean, n.kl_interval), level(n.kl_mean, limits.kl_mean)),
        "median": Figure(kl_words(n.kl_median, None)),
        "p99": Figure(kl_words(n.kl_p99, n.p99_interval), level(n.kl_p99, limits.kl_p99)),
        "flips": Figure(_rate(n.flip_rate, n.flip_interval), level(n.flip_rate, limits.flip_rate)),
        "confident flips": Figure(_rate(n.confident_rate, n.confident_interval)),
        "Δ perplexity": Figure(_change(n.perplexity_delta, n.perplexity_interval)),
    }


def figures_text(found: Mapping[str, Figure], colours: Colours, *, unicode: bool, room: int) -> Text:
    """Figures beside each other in lines of ``room`` columns; lines break only between them."""
    lines = [Text()]
    for name, figure in found.items():
        one = Text(f"{name} ", style=colours["secondary"])
        sign = f"{mark(figure.level, unicode)} " if figure.level else ""
        one.append(
            sign + figure.words, f"bold {colours[COLOURS[figure.level] if figure.level else 'primary']}"
        )
        if lines[-1].cell_len + len(GAP) + one.cell_len > room and lines[-1]:
            lines.append(Text())
        lines[-1].append(GAP if lines[-1] else "")
        lines[-1].append_text(one)
    return Text("\n").join(lines)


def shown_figures(n: Numbers, limits: Thresholds, *, dense: bool, several: bool) -> dict[str, Figure]:
    """Those that stand in a line; ``dense``: there are no tiles. A sweep's table has some of them."""
    found = figures(n, limits)
    if not dense:
        return {name: found[name] for name in MORE}
    left_out = IN_THE_TABLE if several else ()
    return {BRIEF.get(name, name): one for name, one in found.items() if name not in left_out}


def standing(
    numbers: Running | None, plan: Plan, colours: Colours, *, unicode: bool, room: int, brief: bool = False
) -> Text:
    """The verdict so far, how likely each verdict is as a bar, and what the measurement waits for."""
    text, early = Text(), plan.settings.stops_early
    if numbers is not None:
        style = f"bold {colours[COLOURS[numbers.verdict]]}"
        text.append("so far: ")
        words = so_far_words(numbers, stops_early=early)
        text.append(f"{mark(numbers.verdict, unicode)} ", style=style)
        text.append(short_words(numbers) if brief and not early else words, style=style)
        left = room - text.cell_len - len(GAP)
        if numbers.confidence is not None and not early and left >= 10:
            text.append(GAP)
            text.append_text(shares(numbers.confidence, min(left, 30), colours, unicode=unicode))
    if early:
        text.append("; " if numbers is not None else "")
        text.append(undecided_words(numbers.looked if numbers else None, LEAST_CHUNKS))
    return text


def shares(sure: Confidence, width: int, colours: Colours, *, unicode: bool) -> Text:
    """How likely good, marginal and bad are, as parts of a bar; what is likely at all has a column."""
    likely = [getattr(sure, verdict) for verdict in VERDICTS]
    columns = [max(round(share * width), 1 if share >= 0.01 else 0) for share in likely]
    columns[columns.index(max(columns))] += width - sum(columns)
    text = Text()
    for verdict, n, shade, letter in zip(VERDICTS, columns, SHADES, LETTERS, strict=True):
        text.append((shade if unicode else letter) * n, style=colours[COLOURS[verdict]])
    return text


def progress(s: Snapshot, colours: Colours, room: int) -> Text:
    """How far it is, how fast, how long it will take, and how much memory it has; the strip of chunks tells
    the number of the chunk where there is no room."""
    assert s.plan is not None
    total = s.n_planned
    speed = s.n_positions / s.seconds if s.seconds else 0.0
    left = duration((total - s.n_positions) / speed) if speed else "?"
    most = " at most" if s.plan.settings.stops_early or s.settings.race else ""
    parts = [
        Text(f"chunk {s.chunk + 1}/{s.plan.n_chunks}"),
        Text(f"{s.n_positions:,}/{total:,} positions"),
        Text(f"{speed:,.0f}/s"),
        Text(f"{left} left{most}"),
    ]
    if s.memory is not None:
        limit = s.memory_limit or s.plan.memory_bytes
        full = bool(limit) and s.memory.used > NEARLY_FULL * limit
        parts.append(Text(memory_words(s.memory.used, limit), f"bold {colours['warning']}" if full else ""))
    text = Text()
    if s.paused and s.running:
        text.append("paused  ", style=f"bold {colours['warning']}")
    if s.doing not in ("scoring", s.state):
        parts.append(Text(f"{s.doing} …"))
    for part in (parts[0], *parts[-1:]):
        if text.cell_len + sum(one.cell_len + len(", ") for one in parts) <= room + len(", "):
            break
        if part is parts[0]:
            del parts[0]
        elif part.plain.startswith("memory "):
            parts[-1] = part[len("memory ") :]
    return text.append_text(Text(", ").join(parts))


def memory_words(used: float, limit: float) -> str:
    """``memory 0.9 of 7.4 GB``; without a limit where none is known."""
    if not limit:
        return f"memory {size(used)}"
    of = size(limit)
    word = size(used)
    return f"memory {word.removesuffix(of[-3:]) if word.endswith(of[-3:]) else word} of {of}"


def queue_words(waiting: Sequence[Snapshot]) -> str:
    """What comes next, and how many more; empty where nothing waits."""
    if not waiting:
        return ""
    more = f", and {counted(len(waiting) - 1, 'measurement')} more" if len(waiting) > 1 else ""
    return f"next: {measured_name(waiting[0])}{more}"


def _rate(value: float, interval: Interval | None) -> str:
    if math.isnan(value):
        return UNKNOWN
    # At first a confidence sequence spans all that can be, which says nothing.
    if interval is None or interval == (0.0, 1.0):
        return percent(value)
    return f"{100 * value:.2f} ±{percent(_half(value, interval))}"


def _change(value: float, interval: Interval | None) -> str:
    error = ""
    if interval is not None and math.isfinite(interval[1] - interval[0]):
        error = f" ±{(interval[1] - interval[0]) / 2:.2g}"
    return change(value) + error


def _half(value: float, interval: Interval) -> float:
    """Half an interval; one that ends at 0 was cut there, and its upper half was not."""
    return (interval[1] - interval[0]) / 2 if interval[0] > 0 else interval[1] - value
