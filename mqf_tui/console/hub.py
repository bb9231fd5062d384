"""``mqf-tui models search`` and ``mqf-tui models download``."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from mqf_tui.console.listings import print_table
from mqf_tui.console.output import say
from mqf_tui.console.status_line import StatusLine
from mqf_tui.fidelity.errors import CancelledError

if TYPE_CHECKING:
    from mqf_tui.library.hub.meter import Progress
    from mqf_tui.library.hub.search import HubModel

LINE_SECONDS = 10.0  # between two lines in a pipe
HEADER = ("MODEL", "SIZE", "DOWNLOADS", "UPDATED", "", "")
LONGEST_NAME = 96  # the hub has no longer ones, and a shortened one cannot be typed


def search(options: argparse.Namespace) -> int:
    """List the models on the hub that fit a text."""
    from mqf_tui.library.hub.search import search_hub
    from mqf_tui.reports.text import inert

    text, author = " ".join(options.text), None if options.any_author else options.author
    with StatusLine() as line:
        line.draw("asking the hub …")
        found = search_hub(text, author, options.limit, on_waiting=line.draw)
    if options.format == "json":
        say(json.dumps([asdict(model) for model in found], indent=2) + "\n")
    elif not found:
        whose = f" of {inert(author)}" if author else ""
        wider = ", or look among everybody's with --any-author" if author else ""
        say(f"no model{whose} on the hub fits {inert(text)!r}; use fewer words{wider}.\n")
    else:
        print_table([HEADER, *map(_row, found)], {0: LONGEST_NAME})
    return 0


def download(options: argparse.Namespace) -> int:
    """Fetch a model; its folder goes to standard output, everything else to standard error."""
    from mqf_tui.library.hub.download import download_model
    from mqf_tui.library.hub.names import parse_repo
    from mqf_tui.reports.text import inert

    name = str(parse_repo(options.name))  # the address of a page names it too
    with DownloadLine() as line:
        try:
            folder = download_model(name, on_progress=line.show)
        except KeyboardInterrupt:
            raise CancelledError(
                f"cancelled; what has been fetched is kept, and `mqf-tui models download {name}` goes on "
                "from there."
            ) from None
        line.say(line.ending(name))
    say(f"{inert(str(folder))}\n")
    return 0


class DownloadLine(StatusLine):
    """How far a download is: one line in a terminal, a line now and then in a pipe."""

    def __init__(self) -> None:
        super().__init__()
        self._fetched_before: int | None = None
        self._last: Progress | None = None
        self._said_at = time.monotonic()
        self._cause = ""

    def show(self, progress: Progress) -> None:
        """Draw it, or say it where that is due."""
        if progress.n_files and self._fetched_before is None:
            self._fetched_before = progress.bytes_done
        self._last = progress
        if self.on:
            if progress.waiting or self.due:
                self.draw(progress_words(progress))
            return
        # The seconds that are still to be waited are no news; that it waits is.
        cause = progress.waiting.partition(";")[2] or progress.waiting
        news = bool(cause) and cause != self._cause
        self._cause = cause
        if news or time.monotonic() - self._said_at >= LINE_SECONDS:
            self._said_at = time.monotonic()
            self.say(progress_words(progress))

    def ending(self, name: str) -> str:
        """What has been done, in the end."""
        from mqf_tui.reports.text import inert, size

        last = self._last
        assert last is not None
        fetched = last.bytes_total - (self._fetched_before or 0)
        done = f"{size(fetched)} fetched" if fetched else "all of it was here already"
        return f"{inert(name)}: {done}; measure it with `mqf-tui kv {inert(name)}`"


def progress_words(progress: Progress) -> str:
    """``29 %  1.2 of 4.2 GB  31 MB/s  1 min 36 s left  model-1.safetensors (3 of 9)``."""
    from mqf_tui.reports.text import duration, inert, size

    p = progress
    if not p.n_files:
        return inert(p.waiting) or "asking the hub …"
    parts = [f"{p.bytes_done / max(1, p.bytes_total):4.0%}", f"{size(p.bytes_done)} of {size(p.bytes_total)}"]
    if p.waiting:
        return "  ".join([*parts, inert(p.waiting)])
    if p.bytes_per_second:
        left = (p.bytes_total - p.bytes_done) / p.bytes_per_second
        parts += [f"{size(p.bytes_per_second)}/s", f"{duration(left)} left"]
    number = min(p.files_done + 1, p.n_files)
    return "  ".join([*parts, f"{inert(p.file)} ({number} of {p.n_files})"])


def _row(model: HubModel) -> tuple[str, ...]:
    from mqf_tui.reports.text import UNKNOWN, inert, size

    closed = "gated" if model.gated else ""
    return (
        inert(model.name),
        UNKNOWN if model.size_bytes is None else size(model.size_bytes),
        f"{model.downloads:,}",
        model.updated or UNKNOWN,
        "private" if model.private else closed,
        "here" if model.here else "",
    )
