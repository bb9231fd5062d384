"""The Compare screen: what it says of runs that can be paired, that cannot, and that must not be compared."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from textual.widgets import DataTable, Static

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.screens.compare import CompareScreen
from mqf_tui.library.runs import SavedRun, save_run
from mqf_tui.reports.comparison_report import shortened
from mqf_tui.reports.text import inert
from tests import makers
from tests.hostile import HOSTILE


def save(factor: float = 1.0, **changes: Any) -> SavedRun:
    made = makers.positions(6, 30)
    positions = replace(made, kl=(made.kl * factor).astype(np.float32))
    return save_run(makers.report(n_positions=len(made), n_chunks=6, **changes), positions)


async def shown(
    first: SavedRun, second: SavedRun, columns: int = 80
) -> tuple[str, dict[str, list[str]], int]:
    """The words above the table, its rows by name, and how wide its columns are together."""
    app = MqfTuiApp()
    try:
        async with app.run_test(size=(columns, 24)) as pilot:
            screen = CompareScreen(first, second)
            await app.push_screen(screen)
            await app.workers.wait_for_complete()
            await pilot.pause()
            table = screen.query_one(DataTable)
            cells = [[str(cell) for cell in table.get_row_at(i)] for i in range(table.row_count)]
            assert screen.query_one("#plots").display == table.display == bool(cells)
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
    assert rows["KL mean"][3].startswith("yes\np ")
    assert rows["flips"][3] == "no\np = 1.00"
    assert width <= 76


@pytest.mark.parametrize(("columns", "room"), [(120, 118), (80, 78)])
async def test_each_difference_stands_with_its_interval(columns: int, room: int) -> None:
    """Beside it, or where there is no room, under it."""
    one, two = save(3.0, kv_bits=4), save(1.0, kv_bits=8)
    chunks = [run.positions().kl.astype(float).reshape(6, 30).mean(axis=1) for run in (one, two)]
    low, high = stats.ttest_rel(chunks[1], chunks[0]).confidence_interval(0.95)
    _, rows, width = await shown(one, two, columns)
    cells = rows["KL mean"]
    ends = (cells[3] if columns == 120 else cells[2].partition("\n")[2]).replace("\n", " ").split(" to ")
    assert [float(end) for end in ends] == pytest.approx([low, high], rel=0.01)
    assert width <= room


async def test_kv_bytes_are_those_of_a_16_bit_cache() -> None:
    """As `rank` has them, although the runs had 32-bit numbers."""
    kv = makers.report_data()["kv_bytes_per_token"]
    other = save(1.0, kv_bits=8, kv_bytes_per_token=kv | {"variant": 288.0, "variant_16bit": 272.0})
    _, rows, _ = await shown(save(), other, 140)
    assert rows["KV per token (16-bit)"][:3] == ["144", "272", "+128"]


async def test_the_same() -> None:
    words, rows, _ = await shown(save(), save())
    assert words.startswith("The same: not one of 180 shared positions differs.")
    assert rows["KL mean"][2:] == ["0", ""]


async def test_why_not_paired() -> None:
    text = makers.report_data()["corpus"] | {"content_hash": "ff" * 8, "name": "x.txt"}
    words, rows, _ = await shown(save(3.0), save(1.0, corpus=text, kv_bits=8))
    assert "Not paired: the corpus is another" in words
    assert "More than the setting differs" in words
    assert rows["KL mean"][3].startswith("yes\np ")
    assert "2: org/tiny-llama on x.txt, 6 × 128" in words


async def test_of_other_models_only_the_reason_is_shown() -> None:
    words, rows, _ = await shown(save(), save(model_hash="ff", model="two", kv_bits=8))
    assert "different reference models" in words
    assert "1: 4-bit g64, org/tiny-llama on notes.txt, 6 × 128" in words
    assert "2: 8-bit g64, two on notes.txt, 6 × 128" in words
    assert rows == {}


async def test_a_run_and_itself() -> None:
    run = save(stopping={"rule": "verdict", "settled": True, "alpha": 0.05, "n_chunks": 6, "method": "m"})
    words, _, _ = await shown(run, run)
    assert words.startswith("1 and 2 are the same run, so there is nothing to compare.")
    assert "stopped when it was sure" not in words


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
    assert f"1: {shortened(inert(HOSTILE), 32)} on {inert(HOSTILE)}, 6 × 128" in words
    assert not {"\x1b", "\u202e", "\x07"} & set(words)


async def test_an_import_without_positions(tmp_path: Path) -> None:
    report = makers.report(origin={"tool": "llama.cpp", "form": "summary", "file": "a"}, flip_rate="nan")
    bare = SavedRun("imported", tmp_path, report)
    words, rows, _ = await shown(save(), bare)
    assert "Not paired: run imported was imported and has no positions" in words
    assert "flips" not in rows
