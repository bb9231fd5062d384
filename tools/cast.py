"""A terminal program recorded while it is used: as an asciinema cast, and as an SVG that moves by itself.

A cast (asciicast version 2) is what the program wrote, with its times; the SVG shows each screen for as
long as it stood, pauses cut, in a loop.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

import pyte

LONGEST = 2.5  # seconds that one screen stands at most
SHORTEST = 0.12  # screens that stand less are passed over
CELL, LINE, MARGIN = 8.4, 18.0, 10.0
FONT = "ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"
INK, PAPER = "#d8dee9", "#12151c"
NAMED = {
    "black": "#000000",
    "red": "#cc5555",
    "green": "#55aa55",
    "brown": "#ccaa55",
    "blue": "#5577cc",
    "magenta": "#aa55aa",
    "cyan": "#55aaaa",
    "white": "#cccccc",
}


@dataclass(frozen=True)
class Frame:
    """A screen, and when it came (seconds)."""

    at: float
    rows: tuple[str, ...]


class Recording:
    """A program in a pseudo-terminal; all that it writes is kept."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], size: tuple[int, int]) -> None:
        self.columns, self.lines = size
        self.screen = pyte.Screen(self.columns, self.lines)
        self._stream = pyte.ByteStream(self.screen)
        self._began = time.perf_counter()
        self.events: list[tuple[float, bytes]] = []
        self.frames: list[Frame] = []
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.execvpe(command[0], list(command), dict(environment))
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", self.lines, self.columns, 0, 0))

    def send(self, *keys: str, wait: float = 0.5) -> None:
        """Type, key by key, with a pause after each."""
        for key in keys:
            os.write(self._fd, key.encode())
            self.rest(wait)

    def until(self, shown: Callable[[str], bool], limit: float = 240.0) -> None:
        """Go on until the screen is as wanted; raises TimeoutError."""
        deadline = time.perf_counter() + limit
        while not shown("\n".join(self.screen.display)):
            if time.perf_counter() > deadline:
                raise TimeoutError("\n".join(self.screen.display))
            self._read(0.1)

    def rest(self, seconds: float) -> None:
        """Let the program go on for a while."""
        deadline = time.perf_counter() + seconds
        while (left := deadline - time.perf_counter()) > 0:
            self._read(left)

    def close(self) -> None:
        """End the program."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)
        while not os.waitpid(self._pid, os.WNOHANG)[0]:
            self._read(0.05)
        os.close(self._fd)

    def _read(self, seconds: float) -> None:
        if not select.select([self._fd], [], [], seconds)[0]:
            return
        try:
            found = os.read(self._fd, 1 << 16)
        except OSError:
            time.sleep(seconds)
            return
        now = time.perf_counter() - self._began
        self.events.append((now, found))
        self._stream.feed(found)
        # A frame is whole when nothing more comes at once.
        if not select.select([self._fd], [], [], 0.02)[0]:
            self.frames.append(Frame(now, tuple(_row(self.screen, y) for y in range(self.lines))))


def write_cast(recording: Recording, path: Path) -> None:
    """The recording as asciicast version 2."""
    head = {"version": 2, "width": recording.columns, "height": recording.lines, "title": "mqf-tui"}
    lines = [json.dumps(head)]
    lines += [json.dumps([round(at, 4), "o", part.decode(errors="replace")]) for at, part in recording.events]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_svg(recording: Recording, path: Path) -> None:
    """The recording as one SVG, a frame after the other, over and over."""
    shown = list(_timed(recording.frames))
    total = sum(seconds for _, seconds in shown)
    width = recording.columns * CELL + 2 * MARGIN
    height = recording.lines * LINE + 2 * MARGIN
    style = [f"text{{font:14px {FONT};white-space:pre;fill:{INK}}}.f{{visibility:hidden}}"]
    groups, at = [], 0.0
    # Most rows stand in many frames, and are drawn once.
    names = {row: f"r{n}" for n, row in enumerate(dict.fromkeys(row for rows, _ in shown for row in rows))}
    for number, (rows, seconds) in enumerate(shown):
        start, end = 100 * at / total, 100 * (at + seconds) / total
        at += seconds
        before = f"0%,{max(0, start - 0.001):.3f}%{{visibility:hidden}}" if start > 0 else ""
        style.append(
            f"@keyframes k{number}{{{before}{start:.3f}%,{max(start, end - 0.001):.3f}%{{visibility:visible}}"
            f"{end:.3f}%,100%{{visibility:{'visible' if number == len(shown) - 1 else 'hidden'}}}}}"
            f".f{number}{{animation:k{number} {total:.2f}s step-end infinite}}"
        )
        used = (f'<use href="#{names[row]}" y="{y * LINE:.0f}"/>' for y, row in enumerate(rows) if row)
        groups.append(f'<g class="f f{number}">{"".join(used)}</g>')
    path.write_text(
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}">'
        f"<style>{''.join(style)}</style>"
        f"<defs>{''.join(f'<g id={name!r}>{row}</g>' for row, name in names.items() if row)}</defs>"
        f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>'
        f'<g transform="translate({MARGIN:g} {MARGIN:g})">{"".join(groups)}</g></svg>\n',
        encoding="utf-8",
    )


def _timed(frames: Sequence[Frame]) -> Iterator[tuple[tuple[str, ...], float]]:
    """Each screen that stood long enough to be seen, and for how long it is shown."""
    kept: list[Frame] = []
    for frame, after in zip(frames, [*frames[1:], None], strict=True):
        if kept and frame.rows == kept[-1].rows:
            continue
        if after is None or after.at - frame.at >= SHORTEST:
            kept.append(frame)
    for frame, after in zip(kept, [*kept[1:], None], strict=True):
        yield frame.rows, LONGEST if after is None else min(LONGEST, after.at - frame.at)


def _row(screen: pyte.Screen, y: int) -> str:
    """A line of the screen as SVG, at the height of the first."""
    cells = [screen.buffer[y][x] for x in range(screen.columns)]
    looks = [_look(cell) for cell in cells]
    papers, words = [], []
    for paper, places in _runs([look[1] for look in looks]):
        if paper is not None:
            width = len(places) * CELL + 0.3
            papers.append(
                f'<rect x="{places[0] * CELL:.1f}" width="{width:.1f}" height="{LINE:.1f}" fill="{paper}"/>'
            )
    for (ink, bold), places in _runs([(ink, bold) for ink, _, bold in looks]):
        text = "".join(cells[x].data for x in places)
        if text.strip():
            rule = (f"fill:{ink};" if ink != INK else "") + ("font-weight:700" if bold else "")
            where = f'x="{places[0] * CELL:.1f}" y="13.5" textLength="{len(places) * CELL:.1f}"'
            words.append(f'<text {where} style="{rule}" xml:space="preserve">{escape(text)}</text>')
    return "".join((*papers, *words))


def _runs(looks: Sequence[Any]) -> Iterator[tuple[Any, list[int]]]:
    for look, places in groupby(range(len(looks)), key=looks.__getitem__):
        yield look, list(places)


def _look(cell: pyte.screens.Char) -> tuple[str, str | None, bool]:
    ink = INK if cell.fg == "default" else _colour(cell.fg)
    paper = None if cell.bg == "default" else _colour(cell.bg)
    if cell.reverse:
        ink, paper = paper or PAPER, ink
    return ink, None if paper == PAPER else paper, cell.bold


def _colour(word: str) -> str:
    return NAMED.get(word, f"#{word}" if len(word) == 6 else INK)
