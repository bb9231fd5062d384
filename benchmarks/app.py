"""How fast the app is: start, opening screens, keys while it scores, scoring beside it.

    python benchmarks/app.py [--pairs N] [--keys N] [--model FOLDER]

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

import numpy as np
import pyte

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

COLUMNS, LINES = 120, 40
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
ESCAPE, ENTER, DOWN, UP = b"\x1b", b"\r", b"\x1b[B", b"\x1b[A"


class Terminal:
    """A program in a terminal; the screen is what pyte makes of its bytes."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.screen = pyte.Screen(COLUMNS, LINES)
        self._stream = pyte.ByteStream(self.screen)
        self.began = time.perf_counter()
        self.pid, self._fd = pty.fork()
        if self.pid == 0:
            os.execvpe(command[0], command, environment)
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))

    def send(self, keys: bytes) -> None:
        os.write(self._fd, keys)

    def read(self, seconds: float) -> bytes:
        """What comes within a time, at once where there is something."""
        if not select.select([self._fd], [], [], seconds)[0]:
            return b""
        with contextlib.suppress(OSError):
            found = os.read(self._fd, 1 << 16)
            # Textual asks for private modes in a form that pyte takes for text.
            self._stream.feed(found)
            return found
        return b""

    @property
    def text(self) -> str:
        return "\n".join(self.screen.display)

    def until(self, shown: Callable[[str], bool], limit: float = 60.0) -> float:
        """Seconds from now until the screen is as wanted."""
        began = time.perf_counter()
        while True:
            if shown(self.text):
                return time.perf_counter() - began
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
def terminal(command: list[str], environment: dict[str, str]) -> Iterator[Terminal]:
    opened = Terminal(command, environment)
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


def first_paint(environment: dict[str, str], pairs: int) -> None:
    """From the process's start to its first screen, against a hello-world of Textual."""
    hello, ours, listed = [], [], []
    for _ in range(pairs):
        with terminal([sys.executable, "-c", HELLO], environment) as opened:
            hello.append(opened.until(lambda text: "Hello, world" in text))
        with terminal(program(), environment) as opened:
            ours.append(opened.until(lambda text: "Models" in text))
            opened.until(lambda text: "model-00" in text)
            listed.append(time.perf_counter() - opened.began)
    differences = sorted(a - b for a, b in zip(ours, hello, strict=True))
    print(
        f"first paint {statistics.median(ours):.2f} s, hello-world {statistics.median(hello):.2f} s, "
        f"difference median {statistics.median(differences):+.3f} s ({differences[0]:+.3f} to "
        f"{differences[-1]:+.3f}, {pairs} pairs); 200 models listed after {statistics.median(listed):.2f} s"
    )


def opening(environment: dict[str, str], times: int) -> None:
    """From the key to the screen's first content."""
    found: dict[str, list[float]] = {"Runs": [], "Explore": [], "Compare": []}
    with terminal(program(), environment) as opened:
        opened.until(lambda text: "model-00" in text)
        opened.quiet(1.5)
        for _ in range(times):
            for name, keys, shown, back in (
                ("Runs", b"r", "Runs", b""),
                ("Explore", b"e", "Explore", ESCAPE),
                ("Compare", b" " + DOWN + b" c", "Compare", ESCAPE),
            ):
                opened.send(keys)
                found[name].append(opened.until(lambda text, shown=shown: f"›  {shown}" in text))
                opened.quiet()
                if back:
                    opened.send(back)
                    opened.quiet()
            opened.send(UP + b"m")
            opened.quiet()
    for name, seconds in found.items():
        first, *later = (1000 * s for s in seconds)
        print(
            f"opening {name}: {first:.0f} ms the first time, then median {statistics.median(later):.0f} ms "
            f"({min(later):.0f} to {max(later):.0f})"
        )


def keys_while_scoring(environment: dict[str, str], keys: int, model: str) -> None:
    """From an arrow key to the first bytes that come back, in the list of runs, while a run is scored."""
    command = program("--model", model, "--max-chunks", "all")
    delays = []
    with terminal(command, environment) as opened:
        opened.until(lambda text: "Live" in text)
        opened.until(lambda text: "positions" in text and "%" in text, 120)
        opened.send(b"r")
        opened.until(lambda text: "›  Runs" in text)
        opened.quiet(0.3)
        for number in range(keys):
            while opened.read(0.0):
                pass
            before = opened.screen.display.copy()
            began = time.perf_counter()
            opened.send(DOWN if number % 40 < 20 else UP)
            while opened.screen.display == before and time.perf_counter() - began < 2:
                opened.read(0.2)
            delays.append(1000 * (time.perf_counter() - began))
            time.sleep(0.05)
    delays.sort()
    print(
        f"key to paint while scoring: median {statistics.median(delays):.1f} ms, "
        f"p99 {delays[int(0.99 * len(delays))]:.1f} ms, most {delays[-1]:.1f} ms ({keys} keys)"
    )


def scoring(environment: dict[str, str], pairs: int, model: str, chunks: int) -> None:
    """Positions a second in the app and on the command line, by the engine's own clock."""
    words = ["--model", model, "--max-chunks", str(chunks)]
    ratios = []
    for number in range(pairs):
        speeds = {}
        for name in ("app", "line") if number % 2 else ("line", "app"):
            if name == "app":
                with terminal(program(*words), environment) as opened:
                    opened.until(lambda text: "saved as" in text, 600)
            else:
                command = program("kv", model, "--max-chunks", str(chunks), "--quiet")
                subprocess.run(command, env=environment, check=True, capture_output=True)
            report = json.loads(_newest(Path(environment["MQF_TUI_DATA_DIR"])).read_text())
            speeds[name] = report["n_positions"] / report["seconds"]
        ratios.append(speeds["app"] / speeds["line"])
    ratios.sort()
    print(
        f"scoring in the app: {statistics.median(ratios):.3f} of the command line's speed "
        f"({ratios[0]:.3f} to {ratios[-1]:.3f}, {pairs} pairs)"
    )


def _newest(data: Path) -> Path:
    return max(data.glob("runs/*/report.json"), key=lambda path: path.stat().st_mtime_ns)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--keys", type=int, default=300)
    parser.add_argument("--model", default="demo")
    parser.add_argument("--chunks", type=int, default=20)
    parser.add_argument("--only", choices=("start", "open", "keys", "scoring"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        environment = furnished(Path(folder))
        parts: dict[str, Callable[[], None]] = {
            "start": lambda: first_paint(environment, options.pairs),
            "open": lambda: opening(environment, options.pairs),
            "keys": lambda: keys_while_scoring(environment, options.keys, options.model),
            "scoring": lambda: scoring(environment, options.pairs, options.model, options.chunks),
        }
        for name, part in parts.items():
            if options.only in (None, name):
                part()


if __name__ == "__main__":
    main()
