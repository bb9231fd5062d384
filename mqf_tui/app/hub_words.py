"""What is said of models on the hub and of downloads: rows, progress, and what a download would take."""

from __future__ import annotations

import os
import re
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.text import Text

from mqf_tui.app.capabilities import bar, mark
from mqf_tui.app.columns import fitting
from mqf_tui.app.hub_downloads import Standing
from mqf_tui.app.hub_searches import Query
from mqf_tui.app.model_rows import count_words, shortened
from mqf_tui.app.trusting import in_app
from mqf_tui.app.widgets.row_list import Cell, Column
from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.reports.text import counted, duration, inert, size

if TYPE_CHECKING:
    from mqf_tui.fidelity.device import Device
    from mqf_tui.library.hub.search import HubModel

# From left to right, each with its turn to go where there is no room (0: never), and its width.
ORDER = {"mark": 0, "name": 0, "size": 5, "downloads": 3, "likes": 1, "updated": 2, "access": 4}
WIDTHS = {"mark": 1, "size": 7, "downloads": 9, "likes": 6, "updated": 10, "access": 7}
RIGHT = ("size", "downloads", "likes")
SHORTEST_NAME, LONGEST_NAME = 34, 64
HUB = "https://huggingface.co"
LEADING = 1  # blank before a row
MARKS = {
    "waiting": "waiting",
    "running": "down",
    "finished": "chosen",
    "failed": "no",
    "cancelled": "partial",
}
LONGEST_BAR = 30
LEAST_BAR = 26  # columns that a name leaves to the bar and its per cent
LEAST_WORDS = 20
LEAST_RATE = 1000.0  # bytes a second, below which no time is told
FULL_BITS = 16  # of a weight, where a name says nothing else
SCALES_BITS = 0.5  # bits more a weight for scales and biases, in groups of 64
FLOAT_BYTES = 4  # of a weight on a CPU device, where all is float32
BESIDE = 1.1  # caches, logits and the process beside weights that are held as they are, at the usual lengths


@dataclass(frozen=True)
class HubRow:
    """A model of the list; ``model`` is None for a name that was typed and is no hit."""

    name: str
    model: HubModel | None = None
    standing: Standing | None = None

    @property
    def here(self) -> bool:
        """Whether it is on this machine."""
        finished = self.standing is not None and self.standing.state == "finished"
        return finished or (self.model is not None and self.model.here)

    @property
    def going(self) -> bool:
        """Whether a download of it runs or waits."""
        return self.standing is not None and not self.standing.ended


@dataclass(frozen=True)
class Taken:
    """What a download takes, in bytes, as far as it is known: all files, those of weights, those still to be
    fetched; and what the disk has free."""

    total: int | None = None
    weights: int | None = None
    missing: int | None = None
    free_disk: int | None = None

    @property
    def fits(self) -> bool:
        """Whether there is room on the disk, as far as that is known."""
        return self.missing is None or self.free_disk is None or self.missing <= self.free_disk


def query_of(typed: str, author: str) -> Query:
    """What to search for. A typed ``owner/name`` names the author too; its revision is not searched for."""
    text = typed_name(typed) or typed.strip()
    owner, slash, rest = text.partition("/")
    if slash:
        return Query(rest.partition("@")[0].strip(), owner.strip() or None)
    return Query(text, author.strip() or None)


def typed_name(typed: str) -> str:
    """The name of a repository that is typed in full, as ``owner/name``, ``owner/name@revision`` or its
    page's address; "" where it is none."""
    from mqf_tui.library.hub.names import parse_repo

    if "/" not in typed:
        return ""
    try:
        return str(parse_repo(typed))
    except BadSettingError:
        return ""


def page_of(name: str) -> str:
    """The address of a model's page; ``HF_ENDPOINT`` may name another hub."""
    repo, at, revision = name.partition("@")
    hub = os.environ.get("HF_ENDPOINT", "").rstrip("/") or HUB
    return f"{hub}/{repo}/tree/{revision}" if at else f"{hub}/{repo}"


def fitting_models(query: Query, models: Iterable[HubModel]) -> tuple[HubModel, ...]:
    """Those that the query will surely find, while its own answer is still to come."""
    words = query.text.lower().split()
    owner = f"{query.author}/" if query.author else ""
    return tuple(m for m in models if m.name.startswith(owner) and all(w in m.name.lower() for w in words))


def rows_of(typed: str, models: Iterable[HubModel], standings: Sequence[Standing]) -> list[HubRow]:
    """The hits, with how their downloads stand; before them the name that was typed, where it is no hit."""
    known = {one.name: one for one in standings}
    found = [HubRow(model.name, model, known.get(model.name)) for model in models]
    name = typed_name(typed)
    if name and all(row.name.lower() != name.lower() for row in found):
        found.insert(0, HubRow(name, None, known.get(name)))
    return found


def columns_for(width: int) -> list[Column]:
    """The columns that find room; the name gets what is left over. The same for all hits, so that nothing
    jumps while one types."""
    shown = fitting(ORDER, WIDTHS | {"name": SHORTEST_NAME}, width - LEADING)
    room = width - LEADING - sum(WIDTHS[name] + 2 for name in shown if name != "name") - 1
    wide = WIDTHS | {"name": max(1, min(LONGEST_NAME, room))}
    titles = {"mark": "", "name": "name"}
    return [Column(name, titles.get(name, name), wide[name], name in RIGHT) for name in shown]


def cells_of(row: HubRow, columns: Sequence[Column], unicode: bool) -> list[Cell]:
    """What stands in a row."""
    m = row.model
    if m is None:
        width = next(column.width for column in columns if column.name == "name")
        return [_mark(row, unicode), (f"{shortened(inert(row.name), width)}  as typed", "strong")]
    access = "private" if m.private else "gated" if m.gated else ""
    words: dict[str, Cell] = {
        "mark": _mark(row, unicode),
        "name": (inert(m.name), ""),
        "size": (size(m.size_bytes) if m.size_bytes else "", ""),
        "downloads": (count_words(m.downloads), ""),
        "likes": (count_words(m.likes), ""),
        "updated": (inert(m.updated), "quiet"),
        "access": (access, "marginal"),
    }
    shown = {column.name: words[column.name] for column in columns}
    shown["name"] = (shortened(shown["name"][0], _width(columns, "name")), "")
    return list(shown.values())


def _mark(row: HubRow, unicode: bool) -> Cell:
    if row.here:
        return mark("chosen", unicode), "good"
    if row.standing is None:
        return " ", ""
    return mark(MARKS[row.standing.state], unicode), "bad" if row.standing.state == "failed" else "quiet"


def _width(columns: Sequence[Column], name: str) -> int:
    return next(column.width for column in columns if column.name == name)


def found_words(query: Query, n: int, most: int) -> str:
    """``12 models by mlx-community``; "" where there are none, which is told at length."""
    if not n:
        return ""
    by = f" by {inert(query.author)}" if query.author else " of anyone"
    many = f"the first {n}" if n >= most else counted(n, "model")
    return f"{many}{by}, most downloaded first" if n > 1 else f"{many}{by}"


def nothing_words(query: Query, typed: str) -> str:
    """That nothing was found, and what may help."""
    if typed_name(typed):
        return "The search has no such model. If the name is right, Enter downloads it all the same."
    who = f"No model of {inert(query.author)}" if query.author else "No model"
    if not query.text:
        return f"{who} is to be seen on the hub; check how the author's name is written."
    other = ", empty the author's line (a) to search those of everyone," if query.author else ""
    return f"{who} has {inert(query.text)!r} in its name: use fewer words{other} or type a whole owner/name."


def download_text(s: Standing, width: int, unicode: bool, colours: dict[str, str]) -> Text:
    """A download in two lines or more, for a list."""
    name, said = shortened(inert(s.name), max(LEAST_WORDS, width - LEAST_BAR)), _said(s)
    text = Text(f"{mark(MARKS[s.state], unicode)} {name}")
    if s.state == "finished":
        text.stylize(colours["good"], 0, 1)
    elif s.state == "failed":
        text.stylize(colours["bad"], 0, 1)
    if s.state == "running" and s.share is not None:
        room = min(LONGEST_BAR, width - len(text.plain) - len("  100 %") - 3)
        text.append(f" {percent(s.share):>5}  ", style="bold")
        if room > 0:
            text.append(bar(s.share, room, unicode).rstrip(), style=colours["bar"])
    if s.state == "running" and s.progress is not None and s.progress.waiting:
        text.append(f"\n  {sentence(s.progress.waiting)}", style=colours["marginal"])
    for line in textwrap.wrap(said, max(LEAST_WORDS, width - 2), break_on_hyphens=False):
        text.append(f"\n  {line}", style=colours["bad"] if s.state == "failed" else "dim")
    return text


def _said(s: Standing) -> str:
    match s.state:
        case "waiting":
            return "waits for its turn"
        case "finished":
            return "is here, and in Models"
        case "failed":
            return f"{sentence(in_app(s.problem))} R tries again."
        case "cancelled":
            at = f" at {percent(s.share)}" if s.share else ""
            kept = "; R goes on with it" if s.share else "; R begins again"
            return f"cancelled{at}{kept}"
        case "running":
            return progress_words(s)


def progress_words(s: Standing) -> str:
    """``file 2 of 7, 150 MB of 351 MB, 12 MB/s, 17 s left``."""
    p = s.progress
    if p is None:
        return "asking the hub for its files …"
    file = f"file {min(p.files_done + 1, p.n_files)} of {p.n_files}" if p.n_files else ""
    come = size(p.bytes_done) if p.bytes_done else ""
    if p.bytes_total:
        come = f"{size(p.bytes_done)} of {size(p.bytes_total)}"
    speed = left = ""
    if p.bytes_per_second >= LEAST_RATE and not p.waiting:
        speed = f"{size(p.bytes_per_second)}/s"
        left = (
            f"{duration((p.bytes_total - p.bytes_done) / p.bytes_per_second)} left" if p.bytes_total else ""
        )
    return ", ".join(part for part in (file, come, speed, left) if part)


def status_words(going: Sequence[Standing], unicode: bool) -> str:
    """The downloads that run or wait, in the line at the top: ``↓ 43 % Qwen3-0.6B-4bit, 1 waiting``."""
    running = next((s for s in going if s.state == "running"), going[0])
    n_waiting = len(going) - 1
    share = f"{percent(running.share)} " if running.share is not None else ""
    waits = f", {n_waiting} waiting" if n_waiting else ""
    held = ", held up" if running.progress is not None and running.progress.waiting else ""
    name = inert(running.name.rsplit("/", 1)[-1])
    return f"{mark('down', unicode)} {share}{name}{held}{waits}"


def room_words(taken: Taken, device: Device | None, name: str) -> str:
    """``4.3 GB; 120 GB free on disk; needs about 4.7 GB of memory of 16 GB``, as far as it is known."""
    parts: list[str] = []
    if taken.total:
        here = taken.total - taken.missing if taken.missing is not None else 0
        parts = [size(taken.total) + (f", of which {size(here)} are here already" if here > 0 else "")]
    if taken.free_disk is not None:
        parts.append(f"{size(taken.free_disk)} free on disk")
    if taken.weights:
        need = memory_bytes(taken.weights, name, on_cpu=device is not None and device.is_cpu)
        whole = device.all_memory_bytes or device.memory_bytes if device is not None else 0
        parts.append(f"needs about {size(need)} of memory" + (f" of {size(whole)}" if whole else ""))
    return "; ".join(parts)


def memory_bytes(n_bytes: int, name: str, *, on_cpu: bool) -> float:
    """Bytes of memory that measuring would take, roughly: all that is known are the files' size and the
    bits in the name."""
    if not on_cpu:
        return BESIDE * n_bytes
    named = re.search(r"(?<![\d.])([1-8])[-_ ]?bit", name, re.IGNORECASE)
    bits = int(named[1]) + SCALES_BITS if named else FULL_BITS
    return BESIDE * n_bytes * 8 * FLOAT_BYTES / bits


def percent(share: float | None) -> str:
    """Whole per cent, rounded down, so that 100 % is the end."""
    return "" if share is None else f"{int(100 * share)} %"


def sentence(words: str) -> str:
    """With a capital letter, unless it begins with a name, and a full stop."""
    words = inert(words).strip()
    if words.partition(" ")[0].rstrip(",").isalpha():
        words = words[:1].upper() + words[1:]
    return words if not words or words.endswith((".", "?", "!", "…")) else f"{words}."


def about_download(s: Standing) -> str:
    """What may be done with a download under the cursor."""
    name = inert(s.name)
    if s.state == "finished":
        lies = f" It lies in {inert(str(s.folder))}" if s.folder else ""  # long: what is cut is of this
        return f"{name} is here; Enter sets it up.{lies}"
    return f"{name}: Enter goes on with it." if s.ended else f"{name}: x cancels it."


def about_words(row: HubRow, page: str) -> str:
    """What is known of the model under the cursor, and what may be done with it."""
    m, name = row.model, inert(row.name)
    if m is None:
        return f"{name} {'is here; Enter sets it up' if row.here else 'as typed: Enter downloads it'}."
    likes = f", {counted(m.likes, 'like')}" if m.likes else ""
    known = (
        f"{size(m.size_bytes) if m.size_bytes else 'size not told'}, {count_words(m.downloads)} downloads"
        f"{likes}, updated {inert(m.updated)}"
    )
    if row.here:
        return f"{name} is here; Enter sets it up. {known[:1].upper()}{known[1:]}."
    if m.gated:
        return f"Gated: accept its terms at {inert(page)} first (o opens it)."
    return f"{name}: {known}{', private' if m.private else ''}."
