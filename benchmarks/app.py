"""How fast the app is: start, opening screens, keys while it scores, scoring beside it.

    python benchmarks/app.py [--pairs N] [--keys N] [--model FOLDER] [--only start|open|live|keys|scoring]

Everything runs as a user's would: the program in a pseudo-terminal, timed from the key that is sent to the
bytes that come back. The bytes are read by a terminal emulator (pyte), so that "shown" means what a person
would read. Runs and models lie in a temporary folder: 500 runs, one of them of 100,000 positions and a
second one like it, and 200 models in a hub cache.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import pty
import re
import select
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyte

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

MODEL = ROOT / ".models" / "SmolLM2-135M-Instruct-fp16"  # see CONTRIBUTING.md
POSITIONS = 100_000
PER_CHUNK = 500
HELLO = (
    "from textual.app import App\n"
    "from textual.widgets import Static\n"
    "class Hello(App):\n"
    "    def compose(self):\n"
    "        yield Static('Hello, world')\n"
    "Hello().run()\n"
)
PRIVATE = re.compile(rb"\x1b\[[<=>?][0-9;]*\$?[a-zA-Z]")  # modes of a terminal, which pyte takes for text
ESCAPE, DOWN, UP = b"\x1b", b"\x1b[B", b"\x1b[A"


class Size(NamedTuple):
    """Of a terminal."""

    columns: int
    lines: int

    def __str__(self) -> str:
        return f"{self.columns}x{self.lines}"


USUAL = Size(120, 40)
SIZES = (Size(80, 24), USUAL, Size(200, 60))


class Terminal:
    """A program in a terminal; the screen is what pyte makes of its bytes."""

    def __init__(self, command: list[str], environment: dict[str, str], size: Size) -> None:
        self.screen = pyte.Screen(size.columns, size.lines)
        self._stream = pyte.ByteStream(self.screen)
        self.n_bytes = 0  # that came
        self.came = 0.0  # when the last of them did
        self.began = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            window = struct.pack("HHHH", size.lines, size.columns, 0, 0)
            fcntl.ioctl(0, termios.TIOCSWINSZ, window)  # before the program asks
            os.chdir(ROOT)
            os.execvpe(command[0], command, environment)

    def send(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def read(self, seconds: float) -> bytes:
        """What comes within a time, at once where there is something."""
        found = b""
        # All that there is before the emulator looks at it: it is slower than most programs.
        while select.select([self._fd], [], [], 0.0 if found else seconds)[0]:
            try:
                more = os.read(self._fd, 1 << 16)
            except OSError:
                break
            if not more:
                break
            found += more
            self.came = time.perf_counter()
        self.n_bytes += len(found)
        self._stream.feed(PRIVATE.sub(b"", found))
        return found

    def drain(self, seconds: float) -> None:
        """Take what comes in that time, and throw it away."""
        until = time.perf_counter() + seconds
        while (left := until - time.perf_counter()) > 0:
            if select.select([self._fd], [], [], left)[0]:
                os.read(self._fd, 1 << 16)
                time.sleep(0.02)

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def row_styles(self) -> list[str]:
        """The background of each line's fourth column, where a row under a cursor has another."""
        return [self.screen.buffer[y][4].bg for y in range(self.screen.lines)]

    def until(self, shown: Callable[[str], bool], limit: float = 60.0) -> float:
        """Seconds from now until the screen is as wanted."""
        began = time.perf_counter()
        while True:
            if shown(self.text):
                return max(0.0, self.came - began)
            if time.perf_counter() - began > limit:
                raise TimeoutError(self.text)
            self.read(0.05)

    def quiet(self, seconds: float = 0.4) -> None:
        """Wait until nothing more comes for a while."""
        while self.read(seconds):
            pass

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGTERM)
        deadline = time.perf_counter() + 20
        while time.perf_counter() < deadline:
            self.read(0.05)
            if os.waitpid(self.pid, os.WNOHANG)[0]:
                break
        else:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._fd)


@contextlib.contextmanager
def terminal(command: list[str], environment: dict[str, str], size: Size) -> Iterator[Terminal]:
    opened = Terminal(command, environment, size)
    try:
        yield opened
    finally:
        opened.close()


def furnished(home: Path) -> dict[str, str]:
    """The environment of a machine with 500 runs and 200 models."""
    from mqf_tui.library.models import find_model
    from mqf_tui.library.runs import save_run
    from tests.makers import hub_cache, positions, report

    data = home / "data"
    seeds = iter(range(10_000))
    small = positions()
    for number in range(498):
        made = report(created=f"2026-0{1 + number % 9}-{1 + number % 28:02}T10:00:{number % 60:02}Z")
        save_run(made, small, data)
    large = positions(n_chunks=POSITIONS // PER_CHUNK, per_chunk=PER_CHUNK, seed=next(seeds))
    rng = np.random.default_rng(7)
    for number, bits in enumerate((4, 3)):
        made = report(created=f"2026-11-2{number}T10:00:00Z", setting=f"{bits}-bit KV cache, group 64")
        noise = rng.lognormal(0, 0.3, POSITIONS).astype(np.float32)
        save_run(made, replace(large, kl=large.kl * noise), data)
    models = {f"someone/model-{number:03}": find_model("demo") for number in range(200)}
    hub_cache(home / "hub", models)
    return {
        **os.environ,
        "MQF_TUI_DATA_DIR": str(data),
        "MQF_TUI_CONFIG_DIR": str(home / "config"),
        "MQF_TUI_CACHE_DIR": str(home / "cache"),
        "HF_HUB_CACHE": str(home / "hub"),
        "HF_HUB_OFFLINE": "1",
        "TERM": "xterm-256color",
        "COLORTERM": "truecolor",
        "LANG": "C.UTF-8",
    }


def program(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "mqf_tui", *arguments]


def first_paint(environment: dict[str, str], pairs: int, size: Size) -> None:
    """From the process's start to its first screen, against a hello-world of Textual."""
    hello, ours, listed = [], [], []
    for _ in range(pairs):
        with terminal([sys.executable, "-c", HELLO], environment, size) as opened:
            hello.append(opened.until(lambda text: "Hello, world" in text))
        with terminal(program(), environment, size) as opened:
            ours.append(opened.until(lambda text: "›  Models" in text))
            opened.until(lambda text: "model-00" in text and "Help" in text)
            listed.append(time.perf_counter() - opened.began)
    differences = sorted(a - b for a, b in zip(ours, hello, strict=True))
    medians = [statistics.median(times) for times in (ours, hello, differences, listed)]
    print(
        f"first paint at {size}: {medians[0]:.2f} s, hello-world {medians[1]:.2f} s, difference median "
        f"{medians[2]:+.3f} s ({differences[0]:+.3f} to {differences[-1]:+.3f}, {pairs} pairs); "
        f"whole with 200 models after {medians[3]:.2f} s",
        flush=True,
    )


def opening(environment: dict[str, str], times: int, size: Size) -> None:
    """From the key to the screen's content: rows, the first position, the numbers side by side."""
    found: dict[str, list[float]] = {"Runs": [], "Explore": [], "Compare": []}
    steps = (
        ("Runs", b"r", "500 runs", b""),
        ("Explore", b"e", f"1 of {POSITIONS:,}", ESCAPE),
        ("Compare", b"c", "KL mean  ", ESCAPE),
    )
    with terminal(program(), environment, size) as opened:
        opened.until(lambda text: "model-00" in text)
        opened.quiet(1.5)
        for _ in range(times):
            for name, keys, shown, back in steps:
                if name == "Compare":
                    opened.send(b"  ")  # each marks a row and goes on to the next
                    opened.until(lambda text: "2 marked" in text)
                    opened.quiet()
                opened.send(keys)
                title = name if name == "Runs" else "Runs  ›  " + name
                opened_with = (f"›  {title}", shown)
                found[name].append(
                    opened.until(lambda text, all_of=opened_with: all(words in text for words in all_of))
                )
                opened.quiet()
                if back:
                    opened.send(back)
                    opened.until(lambda text, name=name: f"›  {name}" not in text)
                    opened.quiet()
            opened.send(b"xgm")
            opened.quiet()
    for name, seconds in found.items():
        first, *later = (1000 * s for s in seconds)
        print(
            f"opening {name} at {size}: {first:.0f} ms the first time, then median "
            f"{statistics.median(later):.0f} ms ({min(later):.0f} to {max(later):.0f})",
            flush=True,
        )


def live(environment: dict[str, str], seconds: float, model: str, size: Size) -> None:
    """Bytes that the live screen writes: what has to go through a slow line."""
    with terminal(measuring(model), environment, size) as opened:
        opened.until(scoring_begun, 120)
        opened.quiet(0.0)
        began, before = time.perf_counter(), opened.n_bytes
        while time.perf_counter() - began < seconds:
            opened.read(0.05)
        rate = (opened.n_bytes - before) / (time.perf_counter() - began)
    print(f"Live writes {rate / 1000:.1f} kB/s at {size}", flush=True)


def keys_while_scoring(environment: dict[str, str], keys: int, model: str, size: Size) -> None:
    """From an arrow key until the cursor is seen to have moved in the list of runs, while a run is scored."""
    delays = []
    with terminal(measuring(model), environment, size) as opened:
        opened.until(scoring_begun, 120)
        opened.send(b"r")
        opened.until(lambda text: "runs · newest first" in text)
        opened.quiet(0.3)
        for number in range(keys):
            while opened.read(0.0):
                pass
            before, began = opened.row_styles(), time.perf_counter()
            opened.send(DOWN if number % 40 < 20 else UP)
            while time.perf_counter() - began < 2:
                if opened.read(0.2) and opened.row_styles() != before:
                    break
            delays.append(1000 * (opened.came - began))
            time.sleep(0.05)
        running = "▶" in opened.text.split("\n")[0]
    delays.sort()
    print(
        f"key to paint while scoring at {size}: median {statistics.median(delays):.1f} ms, "
        f"p99 {delays[int(0.99 * len(delays))]:.1f} ms, most {delays[-1]:.1f} ms ({keys} keys"
        f"{'' if running else '; the run had ended before'})",
        flush=True,
    )


def scoring(environment: dict[str, str], pairs: int, model: str, chunks: int, size: Size) -> None:
    """Positions a second in the app (Live is shown) and on the command line, by the engine's clock."""
    ratios = []
    for number in range(pairs):
        speeds = {}
        for name in ("app", "line") if number % 2 else ("line", "app"):
            if name == "app":
                before = _newest(Path(environment["MQF_TUI_DATA_DIR"]))
                with terminal(measuring(model, chunks), environment, size) as opened:
                    # Not looked at: the emulator would take the processor from what is measured.
                    while _newest(Path(environment["MQF_TUI_DATA_DIR"])) == before:
                        opened.drain(0.5)
            else:
                command = program("kv", model, "--max-chunks", str(chunks), "--format", "json")
                subprocess.run(command, env=environment, check=True, capture_output=True)
            report = json.loads(_newest(Path(environment["MQF_TUI_DATA_DIR"])).read_text())
            speeds[name] = report["n_positions"] / report["seconds"]
        ratios.append(speeds["app"] / speeds["line"])
    ratios.sort()
    print(
        f"scoring in the app: {statistics.median(ratios):.3f} of the command line's speed "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f}, {pairs} pairs)",
        flush=True,
    )


def measuring(model: str, chunks: int | None = None) -> list[str]:
    """The app, with a measurement begun at once."""
    code = (
        "import sys\n"
        "from mqf_tui.app.app import run_app\n"
        "from mqf_tui.fidelity.settings import KVSettings\n"
        f"sys.exit(run_app(KVSettings({model!r}, max_chunks={chunks}), autostart=True))"
    )
    return [sys.executable, "-c", code]


def scoring_begun(text: str) -> bool:
    """Whether the live screen has numbers."""
    return "›  Live" in text and "so far" in text


def _newest(data: Path) -> Path:
    return max(data.glob("runs/*/report.json"), key=lambda path: path.stat().st_mtime_ns)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--keys", type=int, default=300)
    parser.add_argument("--model", default=str(MODEL) if MODEL.exists() else "demo")
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("--only", choices=("start", "open", "live", "keys", "scoring"))
    options = parser.parse_args()
    model = options.model
    with tempfile.TemporaryDirectory() as folder:
        environment = furnished(Path(folder))
        for name in ("start", "open", "live", "keys", "scoring"):
            if options.only not in (None, name):
                continue
            if name == "scoring":
                scoring(environment, options.pairs, model, options.chunks, USUAL)
                continue
            for size in (USUAL,) if name == "keys" else SIZES:
                if name == "start":
                    first_paint(environment, options.pairs, size)
                elif name == "open":
                    opening(environment, 1 + options.pairs // 2, size)
                elif name == "live":
                    live(environment, 6.0, model, size)
                else:
                    keys_while_scoring(environment, options.keys, model, size)


if __name__ == "__main__":
    main()
