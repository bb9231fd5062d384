"""``mqf-tui models`` and ``mqf-tui models show``."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mqf_tui.console.listings import shortened
from mqf_tui.console.output import say

if TYPE_CHECKING:
    from mqf_tui.fidelity.model.about import About
    from mqf_tui.library.models import LocalModel

LONGEST_NAME = 96  # the hub has no longer ones, and a shortened one cannot be typed
LONGEST_PROBLEM = 300
INDENT = 4  # columns before what cannot be measured
TITLES = 16  # columns that the names of facts take
HEADER = ("MODEL", "ARCHITECTURE", "WEIGHTS", "PARAMETERS", "SIZE", "WHERE")
RIGHT = frozenset({"PARAMETERS", "SIZE"})
FIRST_TO_GO = ("ARCHITECTURE", "PARAMETERS", "WHERE")  # where the terminal is too narrow
GAP = "  "


def models(form: str) -> int:
    """List the models on this machine."""
    from mqf_tui.library.models import local_models

    found = local_models()
    if form == "json":
        say(json.dumps([_data(model) for model in found], indent=2) + "\n")
    else:
        say("\n".join(_table(found, _width())) + "\n")
    return 0


def show(name: str, form: str) -> int:
    """All facts of one model; raises ModelNotFoundError."""
    from mqf_tui.library.models import model_named

    model = model_named(name)
    if form == "json":
        say(json.dumps(_data(model), indent=2) + "\n")
    else:
        say("\n".join(_facts(model, _width() or 100)) + "\n")
    return 0


def _data(model: LocalModel) -> dict[str, Any]:
    from mqf_tui.fidelity.model.about import About

    return {
        "name": model.name,
        "source": model.source,
        "folder": str(model.folder) if model.folder else None,
        "problem": model.problem,
        "incomplete": model.incomplete,
        **(About.of(model.facts).data() if model.facts else {}),
    }


def _table(found: Sequence[LocalModel], width: int | None) -> list[str]:
    """A line for each model, and the reason below it where it cannot be measured."""
    from mqf_tui.reports.text import inert

    named = Counter((model.name, model.source) for model in found)
    rows = [_row(model, twice=named[model.name, model.source] > 1) for model in found]
    widths = [max(len(row[i]) for row in [HEADER, *rows]) for i in range(len(HEADER))]
    shown = list(range(len(HEADER)))
    for title in FIRST_TO_GO:
        if width is None or sum(widths[i] + len(GAP) for i in shown) - len(GAP) <= width:
            break
        if title != "WHERE" or max(Counter(model.name for model in found).values(), default=0) < 2:
            shown.remove(HEADER.index(title))

    def line(cells: Sequence[str]) -> str:
        aligned = [
            cells[i].rjust(widths[i]) if HEADER[i] in RIGHT else cells[i].ljust(widths[i]) for i in shown
        ]
        return GAP.join(aligned).rstrip()

    lines = [line(HEADER)]
    for model, row in zip(found, rows, strict=True):
        lines.append(line(row))
        if model.problem:
            lines += _wrapped(shortened(inert(model.problem), LONGEST_PROBLEM), width, INDENT)
    return lines


def _row(model: LocalModel, *, twice: bool) -> tuple[str, ...]:
    from mqf_tui.reports.text import count_words, inert, size

    f = model.facts
    known = (f.architecture, f.weights, count_words(f.n_parameters), size(f.size_bytes)) if f else ("-",) * 4
    where = _home(str(model.folder)) if twice and model.folder else model.source
    return tuple(shortened(inert(cell), LONGEST_NAME) for cell in (model.name, *known, where))


def _facts(model: LocalModel, width: int) -> list[str]:
    """Names and values, then what the cache takes in each format."""
    from mqf_tui.fidelity.model.about import About
    from mqf_tui.reports.text import inert

    where = f"{model.source}, {_home(str(model.folder))}" if model.folder else model.source
    lines = [inert(model.name), *_wrapped(inert(where), width, 0), ""]
    if model.problem:
        lines += [*_wrapped(f"cannot be measured: {inert(model.problem)}", width, 0), ""]
    if model.facts is None:
        return lines[:-1]
    about = About.of(model.facts)
    for title, value in about.rows():
        lines += _wrapped(value, width, TITLES, f"{title:<{TITLES}}")
    return [*lines, "", *_costs(about)] if not model.problem else lines


def _costs(about: About) -> list[str]:
    """A line for each width, a column for each group."""
    from mqf_tui.reports.text import size

    groups = about.facts.valid_groups
    full, *costs = about.costs()
    if not full.n_bytes:
        return ["no layer's cache grows with the text"]
    lines = [f"KV cache, per token: {size(full.n_bytes)} in {full.word}"]
    if groups:
        lines.append(" " * TITLES + "".join(f"{f'group {group}':>12}" for group in groups))
    by_bits: dict[int, list[str]] = {}
    for cost in costs:
        q = cost.quantizer
        if q is not None and q.mode == "affine":
            by_bits.setdefault(q.bits, []).append(size(cost.n_bytes))
    lines += [
        f"{f'{bits}-bit':<{TITLES}}" + "".join(f"{c:>12}" for c in row) for bits, row in by_bits.items()
    ]
    others = [cost for cost in costs if cost.quantizer is not None and cost.quantizer.mode != "affine"]
    return [*lines, *(f"{cost.word:<{TITLES}}{size(cost.n_bytes):>12}" for cost in others)]


def _width() -> int | None:
    """Columns of the terminal; None where the output goes elsewhere."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _wrapped(text: str, width: int | None, indent: int, first: str | None = None) -> list[str]:
    """``text`` in lines of ``width`` columns, indented alike; ``first``: what stands in the first indent."""
    after = " " * indent
    before = after if first is None else first
    if width is None:
        return [before + text]
    lines = textwrap.wrap(text, max(20, width - indent), break_on_hyphens=False) or [""]
    return [(after if i else before) + line for i, line in enumerate(lines)]


def _home(path: str) -> str:
    """A path with ~ for the user's home."""
    home = os.path.expanduser("~")
    return "~" + path[len(home) :] if len(home) > 1 and path.startswith(home + os.sep) else path
