"""The Compare screen: what it says of runs that can be paired, that cannot, and that must not be compared."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from textual.widgets import DataTable, Static

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.screens.compare import CompareScreen
from mqf_tui.library.runs import SavedRun, save_run
from mqf_tui.reports.text import inert
from tests import makers
from tests.hostile import HOSTILE


def save(factor: float = 1.0, **changes: Any) -> SavedRun:
    made = makers.positions(6, 30)
    positions = replace(made, kl=(made.kl * factor).astype(np.float32))
    return save_run(makers.report(n_positions=len(made), n_chunks=6, **changes), positions)


async def shown(first: SavedRun, second: SavedRun) -> tuple[str, dict[str, list[str]], int]:
    """The words above the table, its rows by name, and how wide its columns are together."""
    app = MqfTuiApp()
    try:
        async with app.run_test(size=(80, 24)) as pilot:
            screen = CompareScreen(first, second)
            await app.push_screen(screen)
            await app.workers.wait_for_complete()
            await pilot.pause()
            table = screen.query_one(DataTable)
            cells = [[str(cell) for cell in table.get_row_at(i)] for i in range(table.row_count)]
            width = sum(column.get_render_width(table) for column in table.columns.values())
            return (
                str(screen.query_one("#difference", Static).render()),
                {row[0]: row[1:] for row in cells},
                width,
            )
    finally:
        await asyncio.to_thread(app.bridge.close)


async def test_a_paired_difference_with_its_test() -> None:
    words, rows, width = await shown(save(3.0, kv_bits=4), save(1.0, kv_bits=8))
    assert words.startswith("8-bit g64 moves less than 4-bit g64: mean KL -")
    assert "Paired over 180 shared positions in 6 chunks." in words
    assert "Only 1 flips at 0 positions, only 2 at 0, both at" in words
    assert rows["KL mean"][3].startswith("yes, p ")
    assert rows["flips"][2:] == ["0.00 pp", "no, p = 1.00"]
    assert width <= 76


async def test_the_same() -> None:
    words, rows, _ = await shown(save(), save())
    assert words.startswith("The same: not one of 180 shared positions differs.")
    assert rows["KL mean"][2:] == ["0", "no, p = 1.00"]


async def test_why_not_paired() -> None:
    text = makers.report_data()["corpus"] | {"content_hash": "ff" * 8, "name": "x.txt"}
    words, rows, _ = await shown(save(3.0), save(1.0, corpus=text, kv_bits=8))
    assert "Not paired: the corpus is another" in words
    assert "More than the setting differs" in words
    assert rows["KL mean"][3].startswith("yes, p ")
    assert "2: org/tiny-llama on x.txt, 6 × 128" in words


async def test_other_models_stand_side_by_side_without_a_difference() -> None:
    words, rows, _ = await shown(save(), save(model_hash="ff", model="two"))
    assert "different reference models" in words
    assert rows["KL mean"] == ["0.0234", "0.0234", "", ""]


async def test_damaged_positions_leave_the_numbers() -> None:
    one, two = save(), save(2.0)
    (two.folder / "positions.npz").write_bytes(b"no zip")
    words, rows, _ = await shown(one, two)
    assert "Not paired" in words
    assert rows["verdict"][0].startswith("marginal")


async def test_hostile_words_are_inert() -> None:
    text = makers.report_data()["corpus"] | {"name": HOSTILE}
    one = save(model=HOSTILE, corpus=text, device=HOSTILE)
    two = save(2.0, model=f"x{HOSTILE}", corpus=text, device=f"x{HOSTILE}", kv_bits=8)
    words, _, _ = await shown(one, two)
    assert f"1: {inert(HOSTILE)} on {inert(HOSTILE)}, 6 × 128" in words
    assert not {"\x1b", "\u202e", "\x07"} & set(words)


async def test_an_import_without_positions(tmp_path: Path) -> None:
    report = makers.report(origin={"tool": "llama.cpp", "form": "summary", "file": "a"}, flip_rate="nan")
    bare = SavedRun("imported", tmp_path, report)
    words, rows, _ = await shown(save(), bare)
    assert "Not paired: run imported was imported and has no positions" in words
    assert "flips" not in rows
