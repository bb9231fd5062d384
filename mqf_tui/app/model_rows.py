"""The models of the list and what is known of their runs: which are shown, in which order and columns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from mqf_tui.app.capabilities import mark
from mqf_tui.app.columns import PADDING, fitting
from mqf_tui.library.index import RunRow
from mqf_tui.library.models import LocalModel
from mqf_tui.reports.text import count_words, inert, size

Sort = Literal["name", "size", "bits", "last used", "best verdict"]
SORTS: tuple[Sort, ...] = ("name", "size", "bits", "last used", "best verdict")
ORDER = ("good", "marginal", "bad")  # best first
FLOAT_BITS = {"float16": 16, "bfloat16": 16, "float32": 32, "float64": 64}
LONGEST_NAME = 44
SHORTEST_NAME = 16
LEAST_NAME = 8  # where names and marks alone have too little room
MOST_MARKS = 12
FEWEST_MARKS = 5
GAP = " " * PADDING
# From left to right, each with its turn to go where there is no room (0: never).
COLUMNS = {"name": 0, "architecture": 1, "weights": 4, "parameters": 2, "size": 5, "last used": 3, "runs": 0}
RIGHT = ("parameters", "size")
# The column that shows what is sorted by, which stays longest.
SHOWN_IN = {
    "name": "name",
    "size": "size",
    "bits": "weights",
    "last used": "last used",
    "best verdict": "runs",
}


@dataclass(frozen=True)
class ModelRow:
    """A model and the runs of it, newest first; ``twice``: another one has its name."""

    model: LocalModel
    runs: tuple[RunRow, ...] = ()
    twice: bool = False

    @property
    def key(self) -> str:
        """What tells it from the others."""
        return f"{self.model.source} {self.model.folder or self.model.name}"

    @property
    def name(self) -> str:
        """Its name, and where it lies if that tells it from another."""
        where = self.model.source.removesuffix(" cache")  # in few characters: the name matters more
        return f"{self.model.name} ({where})" if self.twice else self.model.name

    @property
    def pending(self) -> bool:
        """Whether its headers are still to be read."""
        return self.model.facts is None and self.model.problem is None

    @property
    def measurable(self) -> bool:
        """Whether it can be set up."""
        return self.model.facts is not None and self.model.problem is None

    @property
    def bits(self) -> int | None:
        """Bits of a weight, where the headers tell."""
        facts = self.model.facts
        return None if facts is None else facts.weight_bits or FLOAT_BITS.get(facts.dtype)

    @property
    def last_used(self) -> str:
        """When its newest run was made, as the report has it; empty: never."""
        return self.runs[0].created if self.runs else ""

    @property
    def best(self) -> str:
        """The best verdict so far; empty where there is no run."""
        verdicts = {run.verdict for run in self.runs}
        return next((word for word in ORDER if word in verdicts), "")


def model_rows(models: Iterable[LocalModel], runs: Sequence[RunRow]) -> list[ModelRow]:
    """Each model with its runs: those of its content, or of its name where a run does not tell more."""
    by_content: dict[str, list[RunRow]] = {}
    by_name: dict[str, list[RunRow]] = {}
    for run in runs:
        known = by_content if run.model_hash else by_name
        known.setdefault(run.model_hash or run.model, []).append(run)
    found: list[ModelRow] = []
    models = tuple(models)
    times = Counter(model.name for model in models)
    for model in models:
        same = by_content.get(model.facts.content_hash, []) if model.facts else []
        named = by_name.get(model.facts.name if model.facts else model.name, [])
        ours = sorted((*same, *named), key=lambda run: (run.created, run.id), reverse=True)
        found.append(ModelRow(model, tuple(ours), times[model.name] > 1))
    return found


def matching(rows: Iterable[ModelRow], typed: str) -> list[ModelRow]:
    """Those in which every word that is typed occurs: in name, architecture, weights, or where they lie."""
    words = typed.lower().split()
    return [row for row in rows if all(word in _haystack(row) for word in words)]


def _haystack(row: ModelRow) -> str:
    facts = row.model.facts
    more = (facts.architecture, facts.weights) if facts else ()
    told = "incomplete" if row.model.incomplete else ""
    return "\n".join((row.model.name, row.model.source, told, *more)).lower()


def ordered(rows: Iterable[ModelRow], by: Sort) -> list[ModelRow]:
    """Sorted: largest and newest first, fewest bits and best verdicts first, what is not known last.

    By name the demo stays in front, as the one that is always there.
    """
    named = sorted(rows, key=lambda row: (row.model.source != "bundled", row.model.name.lower()))
    match by:
        case "name":
            return named
        case "size":
            return sorted(named, key=lambda row: -(row.model.facts.size_bytes if row.model.facts else -1))
        case "bits":
            return sorted(named, key=lambda row: row.bits or 999)
        case "last used":
            return sorted(named, key=lambda row: row.last_used, reverse=True)
        case "best verdict":
            return sorted(named, key=lambda row: ORDER.index(row.best) if row.best else len(ORDER))


def columns_for(rows: Sequence[ModelRow], width: int, by: Sort) -> dict[str, int]:
    """The columns that find room in ``width`` and their widths; the name gets what is left over."""
    cells = [_words(row) for row in rows]
    widths = {name: max([cell_len(name), *(cell_len(cell[name]) for cell in cells)]) for name in COLUMNS}
    widest = max(SHORTEST_NAME, widths["name"])
    widths["name"] = min(widest, LONGEST_NAME, max(SHORTEST_NAME, width // 2))
    widths["runs"] = FEWEST_MARKS
    widths[SHOWN_IN[by]] = max(widths[SHOWN_IN[by]], cell_len(SHOWN_IN[by]) + len(" ↓"))
    order = COLUMNS | {SHOWN_IN[by]: 0 if by in ("name", "best verdict") else 9}
    shown = {name: widths[name] for name in fitting(order, widths, width)}
    room = width - sum(w + PADDING for n, w in shown.items() if n != "name") - PADDING
    name = max(LEAST_NAME, min(room, widest))
    most = min(MOST_MARKS, max((len(row.runs) for row in rows), default=0))
    return shown | {"name": name, "runs": max(shown["runs"], min(most, shown["runs"] + room - name))}


def header(columns: Mapping[str, int], by: Sort, unicode: bool) -> str:
    """The names of the columns; the one that is sorted by has an arrow."""
    arrow = mark("down", unicode)
    names = {name: f"{name} {arrow}" if SHOWN_IN[by] == name else name for name in columns}
    cells = (_cell(names[name], width, right=name in RIGHT) for name, width in columns.items())
    return GAP.join(cells)


def line(row: ModelRow, columns: Mapping[str, int], unicode: bool, colours: Mapping[str, str]) -> Text:
    """One row; ``colours``: of the three verdicts."""
    cells = _words(row)
    text = Text(no_wrap=True)
    for name, width in columns.items():
        if name == "runs":
            text.append_text(marks(row, width, unicode, colours))
        else:
            text.append(_cell(cells[name], width, right=name in RIGHT) + GAP)
    return text


def marks(row: ModelRow, width: int, unicode: bool, colours: Mapping[str, str]) -> Text:
    """A mark of its verdict for each run, newest first; a cross for a model that cannot be measured."""
    if row.pending:
        return Text(mark("ellipsis", unicode))
    if not row.measurable:
        return Text(mark("no", unicode), style=colours["bad"])
    text = Text()
    for run in row.runs[: width if len(row.runs) <= width else width - 1]:
        text.append(mark(run.verdict, unicode), style=colours[run.verdict])
    return text.append(mark("ellipsis", unicode)) if len(row.runs) > width else text


def shortened(name: str, width: int) -> str:
    """A name in ``width`` columns: what tells models apart stands at its end, so the beginning goes."""
    if cell_len(name) <= width:
        return name
    while name and cell_len(name) > width - 1:
        name = name[max(1, cell_len(name) - width) :] if name.isascii() else name[1:]
    return f"…{name}"


def _words(row: ModelRow) -> dict[str, str]:
    facts = row.model.facts
    return {
        "name": inert(row.name),
        "architecture": inert(facts.architecture) if facts else "incomplete" if row.model.incomplete else "",
        "weights": facts.weights if facts else "",
        "parameters": count_words(facts.n_parameters) if facts else "",
        "size": size(facts.size_bytes) if facts else "",
        "last used": row.last_used[:10],
        "runs": "",
    }


def _cell(words: str, width: int, *, right: bool = False) -> str:
    words = shortened(words, width)
    return " " * (width - cell_len(words)) + words if right else set_cell_size(words, width)
