"""The live screen in the app: leaving it and coming back, what waits, skipping, every size, the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import DataTable, OptionList

from mqf_tui.app.alerts import Alerts
from mqf_tui.app.screens.live import LiveScreen
from mqf_tui.app.screens.models import ModelsScreen
from mqf_tui.app.screens.queue import QueueScreen
from mqf_tui.app.screens.quit import QuitScreen
from mqf_tui.app.screens.result import ResultScreen
from mqf_tui.app.screens.sweep import SweepScreen
from mqf_tui.app.widgets.chunk_strip import ChunkStrip
from mqf_tui.app.widgets.kl_plots import Depth, Histogram, Trace
from mqf_tui.app.widgets.text_flow import TextFlow
from mqf_tui.fidelity.events import ChunkFinished, Dropped, Event, StepScored
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.watchdog import Reading
from mqf_tui.library.runs import list_runs
from tests import makers
from tests.test_app import running, screen_text, text_of, until
from tests.test_app_sweep import begun

LONG = KVSettings("demo", kv_bits=4, max_chunks=30)
ESSENTIAL = ("#setting", "#verdict", "#chunks", "#text", "#status")


def words_of_the_demo() -> str:
    from mqf_tui.fidelity.text.corpora import read_corpus

    return " ".join(" ".join(d.text for part in read_corpus("builtin").parts for d in part.documents).split())


@pytest.mark.usefixtures("unhurried")
async def test_one_leaves_it_and_comes_back_and_what_waits_takes_its_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rung: list[str] = []
    monkeypatch.setattr(Alerts, "_call", lambda _, words: rung.append(words))
    async with running(settings=LONG, autostart=True) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        first = app.bridge.current
        assert first is not None
        second, third = (app.bridge.start(replace(LONG, kv_bits=bits)) for bits in (8, 2))
        await until(pilot, lambda: "next: demo, 8-bit g64, and 1 measurement more" in text_of(app, "#queue"))
        await until(pilot, lambda: first.snapshot().n_positions > 300 and first.snapshot().memory)
        await until(pilot, lambda: "memory" in text_of(app, "#status"))
        first.control.pause()  # it must not come to its end before it is stopped, however slow the rest is

        await pilot.press("w")
        await until(pilot, lambda: isinstance(app.screen, QueueScreen))
        assert app.screen.query_one(OptionList).option_count == 3
        await pilot.press("x", "down", "x")
        assert first.snapshot().running
        assert second.snapshot().doing == "cancelled"
        assert app.bridge.waiting == (third,)
        await pilot.press("escape")
        await until(pilot, lambda: "next: demo, 2-bit g64" in text_of(app, "#queue"))

        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        assert first.snapshot().running
        await pilot.press("L")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen) and app.screen.measurement is first)
        await pilot.press("m")
        first.stop()
        await until(pilot, lambda: any("demo, 4-bit g64" in note.message for note in app._notifications))
        assert rung == []  # who stopped it knows
        await until(pilot, lambda: third.snapshot().state == "scoring")
        await pilot.press("L")
        await until(pilot, lambda: isinstance(app.screen, LiveScreen) and app.screen.measurement is third)
        await until(pilot, lambda: third.snapshot().n_positions > 300)

        fourth = app.bridge.start(LONG)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, QuitScreen))
        assert "forget 1 measurement that waits" in " ".join(text_of(app, "#question").split())
        await pilot.press("y")
        await until(pilot, lambda: app.return_code is not None)
    assert app.return_code == 130
    assert fourth.snapshot().doing == "cancelled"
    assert sorted(run.report.kv_bits for run in list_runs() if run.report.kv_bits) == [2, 4]
    assert all(run.report.partial for run in list_runs())


async def test_the_end_is_shown_where_it_is_watched_and_told_where_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rung: list[str] = []
    monkeypatch.setattr(Alerts, "_call", lambda _, words: rung.append(words))
    settings = KVSettings("demo", kv_bits=4, chunk_length=128, max_chunks=2)
    async with running(settings=settings, autostart=True) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))
        await until(pilot, lambda: rung)
        assert not app._notifications
        second = app.bridge.start(replace(settings, kv_bits=8))
        await until(pilot, lambda: len(rung) == 2)
        [note] = app._notifications
        report = second.snapshot().reports[0]
        assert note.message.startswith("demo, 8-bit g64: ")
        assert report.verdict in note.message
        assert note.message in rung[1]
        assert isinstance(app.screen, ResultScreen)


class Driver:
    """Stands in for the terminal's driver."""

    is_headless = is_web = False

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, data: str) -> None:
        self.written.append(data)


@pytest.mark.parametrize(
    ("lines", "web", "n_bells", "n_notes"),
    [("", False, 1, 1), ("bell = false\n", False, 0, 1), ("notify = false\n", False, 1, 0), ("", True, 1, 0)],
)
async def test_bell_and_notification_are_as_the_user_wants(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, web: bool, n_bells: int, n_notes: int
) -> None:
    (tmp_path / "config-home").mkdir()
    (tmp_path / "config-home" / "settings.toml").write_text("[app]\n" + lines, encoding="utf-8")
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("TMUX", "STY"):
        monkeypatch.delenv(name, raising=False)
    from mqf_tui.app.app import MqfTuiApp

    app: Any = MqfTuiApp()
    try:
        bells: list[int] = []
        monkeypatch.setattr(app, "bell", lambda: bells.append(1))
        monkeypatch.setattr(app, "set_interval", lambda *_: None)
        driver = Driver()
        driver.is_web = web
        app._driver = driver
        Alerts(app)._call("mqf-tui: finished")
    finally:
        app.bridge.close()
    assert len(bells) == n_bells
    assert driver.written == ["\x1b]9;mqf-tui: finished\x07"] * n_notes


@pytest.mark.usefixtures("unhurried")
async def test_a_setting_is_skipped_and_the_text_scrolls_by() -> None:
    # 4 bits flip often enough to be seen in a few lines.
    sweep = SweepSettings((replace(LONG, kv_bits=8), replace(LONG, kv_bits=2)))
    text = words_of_the_demo()
    async with running(settings=sweep, autostart=True) as (app, pilot):
        await until(pilot, lambda: isinstance(app.screen, LiveScreen))
        measurement = app.bridge.current
        assert measurement is not None
        await until(pilot, lambda: app.screen.query_one(DataTable).row_count == 2)
        flow = app.screen.query_one(TextFlow)
        await pilot.press("down")
        await until(pilot, lambda: len(flow.render().plain.split()) > 12)
        shown = flow.render()
        # Lines break between words of the text, so that each line is a piece of it.
        pieces = [" ".join(line.split()) for line in shown.plain.splitlines()]
        assert any(piece in text for piece in pieces if len(piece) > 20), shown.plain
        styles = [str(span.style) for span in shown.spans]
        assert any("underline" in style for style in styles), styles  # seen without colours too
        before = shown.plain
        await until(pilot, lambda: flow.render().plain != before)

        await pilot.press("x")
        await until(pilot, lambda: measurement.snapshot().variants[1].out == "skipped")
        await until(pilot, lambda: "out: skipped" in text_of(app, "#verdict"))
        await pilot.press("x")
        await until(pilot, lambda: any("is out already" in n.message for n in app._notifications))
        n = measurement.snapshot().variants[0].n_positions
        await until(pilot, lambda: measurement.snapshot().variants[0].n_positions > n)
        await pilot.press("s")
        await until(pilot, lambda: isinstance(app.screen, SweepScreen))


def begun_one() -> Any:
    """One setting, half way, with everything that the screen can show."""
    return fed(begun(SweepSettings((replace(LONG, chunk_length=128),))))


def begun_six() -> Any:
    """Six of them."""
    variants = tuple(replace(LONG, chunk_length=128, kv_bits=bits) for bits in (8, 6, 5, 4, 3, 2))
    return fed(begun(SweepSettings(variants, sweep_id="s1", race=True)))


def fed(measurement: Any) -> Any:
    settings = measurement.snapshot().settings
    for i in range(len(settings.variants)):
        positions = makers.positions(n_chunks=2, seed=i)
        second = positions.where(positions.chunk == 1)
        texts = {int(token): f" word{token}" for token in second.token}
        events: tuple[Event, ...] = (
            ChunkFinished(0, 2, variant=i),
            StepScored(1, 0, replace(second, texts=texts), 254, 2.0, i),
            ChunkFinished(1, 2, variant=i),
        )
        for event in events:
            measurement.take(event)
    measurement.weigh(Reading(3 * 10**9, 0, 10**9))
    return measurement


@pytest.mark.parametrize("make", [begun_one, begun_six])
async def test_everything_essential_is_seen_at_every_size(make: Any) -> None:
    measurement = make()
    several = measurement.snapshot().several
    async with running((80, 24)) as (app, pilot):
        await app.push_screen(LiveScreen(measurement))
        await until(pilot, lambda: "so far" in text_of(app, "#verdict"))
        for size in ((80, 24), (60, 20), (200, 60), (120, 40), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause(0.5)
            shown = screen_text(app)
            whole = app.screen.region
            for name in ESSENTIAL:
                widget = app.screen.query_one(name)
                assert widget.region.height > 0, (size, name)
                assert whole.contains_region(widget.region), (size, name)
            for words in ("median", "onfident", "p99", "Δ ", "/s", "3.0 GB", "word"):
                assert words in shown, (size, words, shown)
            body = app.screen.query_one("#body")
            if size != (60, 20) or not several:
                assert body.max_scroll_y == 0, (size, body.max_scroll_y)
            plots = [app.screen.query_one(kind).display for kind in (Histogram, Trace, Depth)]
            assert sum(plots) == (1 if size[0] < 76 else 3 if size[0] >= 116 else 2)
            assert (
                "█" in app.screen.query_one(Depth if plots[2] else Histogram).render().plain or not plots[0]
            )
            strip = app.screen.query_one(ChunkStrip)
            assert strip.render().plain.replace(" ", "").strip("▁▂▃▄▅▆▇█") == ""
            if several:
                assert app.screen.query_one(DataTable).row_count == 6
        await pilot.press("d")
        assert app.screen.query_one(Depth).display
        assert not app.screen.query_one(Trace).display
        await pilot.press("d")
        assert app.screen.query_one(Trace).display
        await pilot.press("space")
        await until(pilot, lambda: "paused" in text_of(app, "#status"))
        if several:
            measurement.take(Dropped(0, 1, "surely worse than another"))
            await until(pilot, lambda: "out: surely worse" in text_of(app, "#verdict"))


async def test_the_screen_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("NO_COLOR", "1")
    async with running((120, 40)) as (app, pilot):
        await app.push_screen(LiveScreen(begun_six()))
        await until(pilot, lambda: "so far" in text_of(app, "#verdict"))
        await pilot.pause(0.5)
        assert screen_text(app).isascii()
        strip = app.screen.query_one(ChunkStrip).render().plain
        assert set(strip) <= set(".:+# ")
