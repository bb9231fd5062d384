"""Draw the pictures of the README: the app on the demo model, as SVG.

python tools/make_screenshots.py
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

from textual.pilot import Pilot

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.screens.compare import CompareScreen
from mqf_tui.app.screens.live import LiveScreen
from mqf_tui.app.screens.models import ModelsScreen
from mqf_tui.app.screens.result import ResultScreen
from mqf_tui.app.screens.runs import RunsScreen
from mqf_tui.app.screens.setup import SetupScreen
from mqf_tui.app.screens.sweep import SweepScreen
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.reports.schema import Report

FOLDER = Path(__file__).resolve().parent.parent / "screenshots"
SIZE = (100, 30)


async def until(pilot: Pilot[None], condition: Callable[[], object]) -> None:
    """Wait for a condition, then for the screen to settle."""
    for _ in range(2400):
        await pilot.pause(0.05)
        if condition():
            await pilot.pause(0.3)
            return
    raise TimeoutError(f"never came: {pilot.app.screen}")


async def draw() -> None:
    """Walk through the app and draw each screen."""
    app = MqfTuiApp()
    try:
        async with app.run_test(size=SIZE) as pilot:
            await until(pilot, lambda: isinstance(app.screen, ModelsScreen) and app.screen.listed)
            app.save_screenshot("models.svg", str(FOLDER))
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, SetupScreen))
            # 8, 6 and 4 bits in groups of 32 and 64, keys at 8 bits with values at 4, and 20 chunks
            await pilot.press("space", "right", "space", "right", "right", "space", "down", "space", "left")
            await pilot.press("space", "down", "space", "right", "right", "space", *["down"] * 2, "right")
            await pilot.pause(0.5)
            app.save_screenshot("setup.svg", str(FOLDER))
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, LiveScreen))
            running = app.bridge.current
            assert running is not None
            await until(pilot, lambda r=running: r.snapshot().chunk >= 12)
            await pilot.press("down", "down")
            await pilot.pause(0.3)
            app.save_screenshot("sweep-live.svg", str(FOLDER))
            await until(pilot, lambda: isinstance(app.screen, SweepScreen))
            for report in running.snapshot().reports:
                _refuse_if_busy(report)
            app.save_screenshot("sweep.svg", str(FOLDER))
            await pilot.press("escape", "escape")
            for bits, name in ((8, ""), (4, "live.svg")):
                app.measure(KVSettings("demo", kv_bits=bits, max_chunks=20))
                running = app.bridge.current
                assert running is not None
                await until(pilot, lambda r=running: r.snapshot().n_positions > 6_000)
                if name:
                    app.save_screenshot(name, str(FOLDER))
                await until(pilot, lambda: isinstance(app.screen, ResultScreen))
                _refuse_if_busy(running.snapshot().reports[0])
                await pilot.press("escape")
            await pilot.press("ctrl+r")
            await until(pilot, lambda: isinstance(app.screen, RunsScreen))
            await pilot.press("space", "down")
            app.save_screenshot("runs.svg", str(FOLDER))
            await pilot.press("c")
            await until(pilot, lambda: isinstance(app.screen, CompareScreen))
            app.save_screenshot("compare.svg", str(FOLDER))
            await pilot.press("escape", "enter")
            await until(pilot, lambda: isinstance(app.screen, ResultScreen))
            app.save_screenshot("result.svg", str(FOLDER))
            await pilot.press("pagedown", "pagedown", "pagedown")
            await pilot.pause(0.5)
            app.save_screenshot("figures.svg", str(FOLDER))
    finally:
        await asyncio.to_thread(app.bridge.close)


def _refuse_if_busy(report: Report) -> None:
    """A picture that says that its machine was busy is of no use to anybody."""
    busy = [doubt for doubt in report.warnings if "machine was busy" in doubt]
    if busy:
        raise SystemExit(f"not drawn: {busy[0]}; try again when the machine is quiet.")


def main() -> None:
    """Draw into ``screenshots/``, with runs that are thrown away."""
    FOLDER.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as data:
        os.environ["MQF_TUI_DATA_DIR"] = data
        os.environ["HF_HUB_CACHE"] = data
        asyncio.run(draw())


if __name__ == "__main__":
    main()
