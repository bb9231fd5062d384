"""Draw every picture of ``screenshots/``: the app on real runs of SmolLM2 and the demo model.

    python tools/make_screenshots.py [FOLDER]

FOLDER holds SmolLM2-135M-Instruct-fp16, which tools/make_smollm2.py makes (default: .models). The runs are
measured for the pictures and thrown away; it takes some minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cast import Recording, write_cast, write_svg
from textual.pilot import Pilot

if TYPE_CHECKING:
    from mqf_tui.app.app import MqfTuiApp

ROOT = Path(__file__).resolve().parent.parent
PICTURES = ROOT / "screenshots"
SIZE = (110, 34)
CAST_SIZE = (100, 30)
MODEL = "SmolLM2-135M-Instruct-fp16"
CHUNKS = "5"


class Walk:
    """One way through the app, with a picture of each screen."""

    def __init__(self, app: MqfTuiApp, pilot: Pilot[None]) -> None:
        self._app, self._pilot = app, pilot

    async def until(self, condition: Callable[[], object], seconds: float = 300.0) -> None:
        """Wait until something holds; raises TimeoutError."""
        for _ in range(int(seconds / 0.05)):
            await self._pilot.pause(0.05)
            if condition():
                return
        raise TimeoutError(f"never came: {self._app.screen}")

    async def at(self, title: str) -> None:
        """Wait until a screen is there and at rest."""
        await self.until(lambda: title == self._app.screen.TITLE)
        await self._pilot.pause(0.3)
        if title != "Live":
            await self._app.workers.wait_for_complete()
        await self._pilot.pause(0.7)

    async def keys(self, *keys: str) -> None:
        """Press keys, one after the other."""
        for key in keys:
            await self._pilot.press(key)
            await self._pilot.pause(0.05)
        await self._pilot.pause(0.3)

    def picture(self, name: str) -> None:
        """Save the screen, without the notes that come and go."""
        self._app.clear_notifications()
        self._app.save_screenshot(f"{name}.svg", str(PICTURES))
        print(f"drew {name}.svg")

    async def scored(self, positions: int) -> None:
        """Wait until so many positions of the running measurement are scored."""
        current = self._app.bridge.current
        assert current is not None
        await self.until(lambda: current.snapshot().n_positions >= positions)
        await self._pilot.pause(2.0)  # the next frame


def measure(*words: str) -> None:
    """Run a command of mqf-tui as a user would."""
    command = [sys.executable, "-m", "mqf_tui", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(words)}: {done.stderr}")
    if "machine was busy" in done.stdout:
        print(f"busy: {' '.join(words)}")


@contextlib.asynccontextmanager
async def walking() -> AsyncGenerator[tuple[MqfTuiApp, Walk]]:
    """The app at its first screen."""
    from mqf_tui.app.app import MqfTuiApp

    app = MqfTuiApp()
    try:
        async with app.run_test(size=SIZE) as pilot:
            walk = Walk(app, pilot)
            await walk.at("Models")
            yield app, walk
    finally:
        await asyncio.to_thread(app.bridge.close)


async def draw(model: str) -> None:
    """Walk through the app and draw each screen."""
    from mqf_tui.app.screens.sweep import SweepScreen
    from mqf_tui.fidelity.settings import KVSettings

    async with walking() as (app, walk):
        await walk.keys("down", "down")
        walk.picture("models")
        await walk.keys("enter")
        await walk.at("Set-up")
        walk.picture("setup")
        await walk.keys("escape")
        app.measure(KVSettings(model, kv_bits=4, max_chunks=5))
        await walk.at("Live")
        await walk.scored(3 * 511)
        walk.picture("live")
        await walk.until(lambda: not app.bridge.busy)
        await walk.at("Result")
        walk.picture("result")
        await walk.keys("e")
        await walk.at("Explore")
        await walk.keys("f", "f")
        walk.picture("explore")
        await walk.keys("escape", "r")
        await walk.at("Runs")
        walk.picture("runs")
        await walk.keys("down", "S")
        await walk.until(lambda: isinstance(app.screen, SweepScreen))
        await walk.at(str(app.screen.TITLE))
        walk.picture("sweep")
        await walk.keys("escape", "space", "down", "space", "down", "space", "c")
        await walk.at("Compare")
        walk.picture("compare")
        await walk.keys("5")
        await walk.at("Compare")
        walk.picture("pareto")
        await walk.keys("escape", "o")
        await walk.at("Report")
        walk.picture("report")


async def draw_race(model: str) -> None:
    """Several settings side by side while they are measured."""
    from mqf_tui.fidelity.settings import KVSettings, SweepSettings
    from mqf_tui.fidelity.spreading import spread

    async with walking() as (app, walk):
        settings = spread(KVSettings(model, max_chunks=5), bits=(8, 6, 4, 3), formats=("k8v4",))
        app.measure(SweepSettings(settings))
        await walk.at("Live")
        await walk.scored(4 * 3 * 511)
        walk.picture("race")


def record() -> None:
    """A short cast: from the list of models to the tokens that hurt."""
    environment = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}
    walk = Recording([sys.executable, "-m", "mqf_tui"], environment, CAST_SIZE)
    try:
        walk.until(lambda text: "Models" in text and "demo" in text and "llama" in text)
        walk.rest(1.5)
        walk.send("\r", wait=1.5)
        walk.send(*["\x1b[C"] * 3, wait=0.4)
        walk.rest(1)
        walk.send("\r", wait=0.1)
        walk.until(lambda text: "Result" in text and "depth" in text)
        walk.rest(2.5)
        walk.send("e", wait=2)
        walk.send("w", "w", wait=1.5)
        walk.send("n", "n", wait=1)
        walk.send("v", wait=1.5)
        walk.send("q", wait=0.5)
    finally:
        walk.close()
    write_cast(walk, PICTURES / "demo.cast")
    write_svg(walk, PICTURES / "demo.svg")
    print("recorded demo.cast and demo.svg")


def main() -> None:
    """Measure, then draw into ``screenshots/``."""
    models = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / ".models").resolve()
    model = str(models / MODEL)
    PICTURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as home:
        for name in ("DATA", "CONFIG", "CACHE"):
            os.environ[f"MQF_TUI_{name}_DIR"] = str(Path(home) / name.lower())
        os.environ["MQF_TUI_STATE_DIR"] = home
        (Path(home) / "state.json").write_text('{"tour": "done"}')
        os.environ["HF_HUB_CACHE"] = home
        os.environ |= {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}
        os.environ["MQF_TUI_MODELS"] = str(models)
        measure("kv", "demo", "--kv-bits", "8", "--max-chunks", "20")
        measure("sensitivity", "demo", "--kv-bits", "4", "--max-chunks", "6")
        measure("sweep", model, "--kv-bits", "8,6,4,3", "--kv", "k8v4", "--max-chunks", CHUNKS)
        asyncio.run(draw(model))
        asyncio.run(draw_race(model))
        record()


if __name__ == "__main__":
    main()
