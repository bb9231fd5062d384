"""The Compare screen by keyboard: what it shows, where its keys lead, what it says where it cannot."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.screens.compare import CompareScreen
from mqf_tui.app.widgets.compare_table import CompareTable
from mqf_tui.app.widgets.overlays import OverlaidCurves, OverlaidParts, OverlaidSpreads, Overlay
from mqf_tui.app.widgets.pareto_plot import ParetoPlot
from mqf_tui.library.runs import SavedRun, save_run
from mqf_tui.reports.text import inert
from tests import makers
from tests.hostile import HOSTILE

KV = makers.report_data()["kv_bytes_per_token"]


def save(factor: float = 1.0, **changes: Any) -> SavedRun:
    made = makers.positions(6, 30)
    noise = np.random.default_rng(int(100 * factor)).lognormal(0, 0.3, len(made))
    positions = replace(made, kl=(made.kl * factor * noise).astype(np.float32))
    depths = [b | {"kl_mean": b["kl_mean"] * factor} for b in makers.report_data()["kl_by_depth"]]
    told = {"n_positions": len(made), "n_chunks": 6, "kl_by_depth": depths}
    return save_run(makers.report(**(told | changes)), positions)


def four() -> list[SavedRun]:
    sizes = [KV | {"variant_16bit": size} for size in (144.0, 272.0, 208.0, 176.0)]
    return [
        save(3.0, kv_bits=4, kv_bytes_per_token=sizes[0], verdict="bad"),
        save(0.3, kv_bits=8, kv_bytes_per_token=sizes[1], verdict="good"),
        save(1.0, kv_bits=6, kv_bytes_per_token=sizes[2], device="another"),
        save(1.2, kv_bits=5, kv_bytes_per_token=sizes[3]),
    ]


@asynccontextmanager
async def opened(
    runs: Sequence[SavedRun], size: tuple[int, int] = (80, 24)
) -> AsyncIterator[tuple[MqfTuiApp, Pilot[None], CompareScreen]]:
    app = MqfTuiApp()
    try:
        async with app.run_test(size=size) as pilot:
            app.compare(runs)
            await settled(app, pilot)
            assert isinstance(app.screen, CompareScreen)
            yield app, pilot, app.screen
    finally:
        await asyncio.to_thread(app.bridge.close)


async def settled(app: MqfTuiApp, pilot: Pilot[None]) -> None:
    await pilot.pause()
    screen = app.screen
    # Work begins after a frame, and what it finds last is no longer pending.
    while isinstance(screen, CompareScreen) and screen._compared.pending:
        await pilot.pause(0.02)
    await app.workers.wait_for_complete()
    await pilot.pause()


def said(screen: CompareScreen, where: str) -> str:
    return str(screen.query_one(where, Static).render())


def column(screen: CompareScreen, number: int) -> dict[str, str]:
    """The cells of the column with this number, from the left, by the row's name."""
    table = screen.query_one(CompareTable)
    cells: dict[str, str] = {}
    for at in range(table.row_count):
        row = table.row_at(at)
        assert row is not None
        cells[row.name] = " ".join(str(table.get_row_at(at)[number - 1]).split())
    return cells


def heads(screen: CompareScreen) -> list[str]:
    return [str(one.label).split("\n")[0].strip() for one in screen.query_one(CompareTable).ordered_columns]


async def test_a_walk_by_keyboard(monkeypatch: pytest.MonkeyPatch) -> None:
    runs, went, pictures = four(), list[tuple[Any, ...]](), list[str]()
    monkeypatch.setattr(MqfTuiApp, "explore", lambda _, *to: went.append(to))
    monkeypatch.setattr(MqfTuiApp, "report", lambda _, document: went.append(document.formats))
    monkeypatch.setattr(MqfTuiApp, "show_run", lambda _, run: went.append((run,)))
    async with opened(runs) as (app, pilot, screen):
        assert heads(screen) == ["1 baseline", "2", "3", "4"]
        assert "beyond the error differ 2, 3, 4" in said(screen, "#summary")
        # Numbers: the settings that differ, then each figure with its test in words and signs.
        two = column(screen, 2)
        assert [*two][:3] == ["bits", "device", "verdict"]
        assert two["verdict"].startswith("● good")
        assert "≠ less" in two["KL mean"]
        await pilot.press("right")
        assert said(screen, "#summary").startswith("2 (8-bit g64) moves less than 1 (4-bit g64)")
        assert said(screen, "#cell").startswith("KL mean: 2 has 0.0234, 1 has 0.0234: -0.0")
        await pilot.press("a")
        assert "mlx-lm" in column(screen, 2)
        await pilot.press("a", "x")
        assert heads(screen) == ["1 baseline", "3", "2", "4"]
        await pilot.press("l", "x")
        assert "no column to the right" in [n.message for n in app._notifications][-1]
        # Pinned: all differences turn, and the words are of it.
        await pilot.press("h", "b")
        await settled(app, pilot)
        assert heads(screen) == ["1", "3", "2 baseline", "4"]
        assert "≠ more" in column(screen, 1)["KL mean"]
        assert "2 is the baseline of 3 other runs" in said(screen, "#summary")
        # The widest gap, by looking at all of it.
        await pilot.press("left", "e")
        await settled(app, pilot)
        a, b = (runs[place].positions().kl.astype(float) for place in (1, 2))
        assert went.pop() == (runs[2], runs[1], int(np.argmax(np.abs(a - b))))
        await pilot.press("o")
        assert went.pop()[:2] == ("md", "json")
        await pilot.press("enter")
        assert went.pop() == (runs[2],)
        # One view after the other, each whole in a small terminal; the arrows go from run to run in them.
        for kind in (OverlaidSpreads, OverlaidCurves, OverlaidParts, ParetoPlot):
            await pilot.press("tab")
            picture = screen.query_one(kind)
            assert picture.display
            assert not screen.query_one(CompareTable).display
            assert picture.region.bottom <= 23
            assert picture.size.height >= 8
            if isinstance(picture, Overlay):
                drawn = picture.render().plain
                assert set("1234") <= set(drawn), kind
                pictures.append(drawn)
                await pilot.press("right", "left")
        # Each run's number stands at each of its depths, as high as its KL.
        rows = [
            [row for row, words in enumerate(pictures[1].split("\n")[:-2]) if n in words[8:]] for n in "1234"
        ]
        assert [max(of) for of in (rows[0], rows[3], rows[2], rows[1])] == sorted(max(of) for of in rows)
        assert screen.focused is screen.query_one(ParetoPlot)
        # The points by bytes: 144, 176, 208, 272; the cursor begins at the first that is marked.
        await pilot.press("right", "right", "enter")
        assert went.pop() == (runs[2],)
        await pilot.press("tab")
        told = said(screen, "#told")
        assert "1 against 2" in told
        assert "Only 2 flips at" in told
        await pilot.press("left_square_bracket", "1")
        assert screen.query_one(CompareTable).display


async def test_large_terminals_show_several_views_and_resize() -> None:
    async with opened(four()[:2], (170, 46)) as (_, pilot, screen):
        boxes = [
            screen.query_one(kind) for kind in (CompareTable, OverlaidSpreads, OverlaidCurves, ParetoPlot)
        ]
        assert all(box.display and box.size.width > 30 and box.size.height > 10 for box in boxes)
        assert not any(a.region.overlaps(b.region) for i, a in enumerate(boxes) for b in boxes[i + 1 :])
        one_line = column(screen, 2)["KL mean"]
        await pilot.resize_terminal(120, 40)
        await pilot.pause()
        assert [box.is_on_screen for box in boxes] == [True, True, False, False]
        await pilot.press("5")
        assert [box.is_on_screen for box in boxes] == [True, False, False, True]
        await pilot.resize_terminal(60, 20)
        await pilot.pause()
        await pilot.press("1")
        assert column(screen, 2)["KL mean"] == one_line
        table = screen.query_one(CompareTable)
        assert table.virtual_size.width <= 60


async def test_what_cannot_be_compared_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    went = list[Any]()
    monkeypatch.setattr(MqfTuiApp, "explore", lambda _, *to: went.append(to))
    report = makers.report(origin={"tool": "llama.cpp", "form": "summary", "file": "a"}, flip_rate="nan")
    damaged = save(2.0, partial=True)
    (damaged.folder / "positions.npz").write_bytes(b"no zip")
    runs = [save(3.0), save(model="two", model_hash="ff"), SavedRun("imported", tmp_path, report), damaged]
    async with opened(runs) as (app, pilot, screen):
        await pilot.press("right")
        assert "2 cannot be compared with 1: these runs have different reference models" in said(
            screen, "#summary"
        )
        # Its own figures stand there, without a difference.
        assert column(screen, 2)["KL mean"] == "0.0234"
        await pilot.press("e")
        await settled(app, pilot)
        await pilot.press("right")
        assert "run imported was imported and has no positions" in said(screen, "#summary")
        await pilot.press("e")
        await settled(app, pilot)
        messages = [n.message for n in app._notifications]
        assert any("the positions of run" in message and "cannot be read" in message for message in messages)
        assert any("imported" in message and "positions" in message for message in messages)
        assert heads(screen)[2:] == ["3 (imported)", "4 (partial)"]
        await pilot.press("2")
        assert "no positions of 3, 4" in screen.query_one(OverlaidSpreads).render().plain
    assert not any(to[0].id == "imported" for to in went)


async def test_hostile_words_are_inert_in_a_terminal_without_unicode(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LC_ALL", "LC_CTYPE", "LANG"):
        monkeypatch.setenv(name, "C")
    text = makers.report_data()["corpus"] | {"name": HOSTILE, "content_hash": HOSTILE}
    parts = [makers.report_data()["by_part"][0] | {"name": HOSTILE}]
    runs = [
        save(3.0, model=HOSTILE, corpus=text, device=HOSTILE, by_part=parts),
        save(0.3, model=f"x{HOSTILE}", corpus=text, device=f"x{HOSTILE}", kv_bits=8, verdict="good"),
        save(2.0, kv_format=HOSTILE, kv_bits=None, model_hash="ff", corpus=text),
    ]
    async with opened(runs) as (_, pilot, screen):
        assert "! less" in column(screen, 2)["KL mean"]
        assert column(screen, 2)["verdict"].startswith("o good")
        assert inert(HOSTILE)[:10] in said(screen, "#told")
        for key in "123456":
            await pilot.press(key)
            await pilot.pause()
            drawn = "".join(s.text for strip in screen._compositor.render_strips() for s in strip)
            assert not {"\x1b", "\u202e", "\x07", "\x9b"} & set(drawn)
        for picture in (*screen.query(Overlay), screen.query_one(ParetoPlot)):
            assert picture.render().plain.isascii()


def test_two_to_four_runs() -> None:
    run = SavedRun("a", Path(), makers.report())
    for n in (1, 5):
        with pytest.raises(ValueError, match="cannot be compared; take two to 4"):
            CompareScreen([run] * n)
