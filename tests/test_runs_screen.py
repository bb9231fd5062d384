"""The table of runs: which columns find room, in which order rows stand, and what its keys do."""

from __future__ import annotations

import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from textual.app import App, ComposeResult
from textual.pilot import Pilot
from textual.widgets import Input, Static, TextArea

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.row_words import detail_words, row_forms, row_verdict
from mqf_tui.app.run_columns import CUT, EDGE, UNTITLED, cell, layout, widest
from mqf_tui.app.run_order import Sorting
from mqf_tui.app.screens.compare import CompareScreen
from mqf_tui.app.screens.entry import NoteScreen, TagsScreen
from mqf_tui.app.screens.result import ResultScreen
from mqf_tui.app.screens.runs import RunsScreen
from mqf_tui.app.undoing import Undoing, taken_back
from mqf_tui.app.widgets.row_list import Cell, Column, RowList
from mqf_tui.fidelity.errors import SaveError
from mqf_tui.library.importing import import_files
from mqf_tui.library.index import run_rows
from mqf_tui.library.labels import add_tags, read_labels, set_note
from mqf_tui.library.runs import SavedRun, list_runs, save_run, save_runs
from mqf_tui.library.trash import deleted_runs
from tests import makers
from tests.test_app import running, screen_text, text_of, until
from tests.test_app_figures import LLAMA_CPP
from tests.test_filtering import row, rows

ALL = [row_forms(one, unicode=True) for one in rows()]
WIDTHS = widest(ALL)


@pytest.mark.parametrize("sorted_by", ["when", "KL mean", "flips", "model", "setting", "KV/token"])
def test_columns_fit_every_width_and_numbers_are_whole(sorted_by: str) -> None:
    seen: list[int] = []
    for room in range(56, 220):
        places = layout(WIDTHS, room, sorted_by)
        names = [place.name for place in places]
        assert EDGE + sum(p.width + p.gap for p in places) - places[-1].gap <= room
        assert {"verdict", "setting", "KL mean", sorted_by} <= set(names)
        assert {"model", "flips"} <= set(names) or room < 72
        for place in places:
            arrow = 2 if place.name == sorted_by else 0
            assert place.name in UNTITLED or place.width >= len(place.name) + arrow
            for forms in ALL:
                words = "1" if place.name == "mark" else cell(place, forms)
                assert cell_len(words) <= place.width
                assert "…" not in words or place.name in CUT
        seen.append(len(places))
    # All at 200 columns; the more room, the more columns, but for a blank between them that comes back.
    assert seen[-1] == len(WIDTHS)
    assert all(after >= before - 1 for before, after in pairwise(seen))


def test_at_80_columns_the_date_and_the_errors_of_kl_are_seen() -> None:
    places = {place.name: place for place in layout(WIDTHS, 79, "when")}
    assert places["KL mean"].form == 1
    assert places["when"].width == len("2026-03-04")
    assert "corpus" not in places


def test_columns_without_any_word_are_left_out() -> None:
    forms = [row_forms(row(), unicode=True)]
    assert {"tags", "signs"}.isdisjoint(place.name for place in layout(widest(forms), 200))


def test_every_order_is_total_and_unknown_figures_are_last() -> None:
    made = rows(seed=8, n=40)
    figures = {"KL mean": "kl", "flips": "flip_rate", "KV/token": "kv_bytes"}
    sorting = Sorting()
    columns: list[str] = []
    for _ in range(6):
        columns.append(sorting.column)
        for backwards in (False, True):
            order = Sorting(sorting.column, backwards).ordered(random.Random(1).sample(made, len(made)))
            assert sorted(one.id for one in order) == sorted(one.id for one in made)
            values: list[Any] = [getattr(one, figures.get(sorting.column, "created")) for one in order]
            if sorting.column in ("model", "setting"):
                continue
            known = [v for v in values if v is not None and v == v]
            assert values[: len(known)] == known
            falling = backwards != (sorting.column == "when")
            assert known == sorted(known, reverse=falling)
            assert Sorting(sorting.column, backwards).falling == falling
        sorting = sorting.next()
    assert sorting == Sorting()
    assert len(set(columns)) == 6
    names = [row(id=str(bits), short_setting=f"{bits}-bit", model=f"m{bits}") for bits in (16, 4, 8)]
    for column in ("setting", "model"):
        assert [one.id for one in Sorting(column).ordered(names)] == ["4", "8", "16"]
    assert Sorting().by("corpus") == Sorting()
    assert Sorting().by("flips").by("flips") == Sorting("flips", backwards=True)


def test_a_row_says_how_sure_its_verdict_is() -> None:
    assert row_verdict(row()) == "bad 95%"
    assert row_verdict(row(settled=False)) == "bad, not settled"
    assert row_verdict(row(confidence=None)) == "bad"
    assert row_verdict(row(confidence=1.0)) == "bad >99%"
    assert row_forms(row(), unicode=False)["verdict"] == ("# bad", "# bad 95%")
    assert row_forms(row(partial=True, sweep_id="s"), unicode=True)["signs"] == ("◐≡",)


def test_a_rows_own_words_are_inert() -> None:
    hostile = "x\x1b[31m[b]y[/b]\u202e\n"
    one = row(model=hostile, corpus=hostile, tags=(hostile,), note=hostile, origin=hostile, created=hostile)
    said = [word for forms in row_forms(one, unicode=True).values() for word in forms]
    for text in (*said, *detail_words(one, ()).split("\n")):
        assert not any(c in text for c in "\x1b\u202e\n")


def test_deeds_are_taken_back_the_last_first() -> None:
    undoing, said = Undoing(), list[str]()
    assert taken_back(undoing) == ("There is nothing to take back.", False)

    def fails() -> None:
        raise SaveError("it is gone.")

    undoing.did("one", lambda: said.append("1"))
    undoing.did("two", fails)
    undoing.did("three", lambda: said.append("3"))
    assert taken_back(undoing) == ("three", True)
    assert taken_back(undoing) == ("It could not be taken back: it is gone.", False)
    assert taken_back(undoing) == ("one", True)
    assert said == ["3", "1"]


class Listing(App[None]):
    """A list of very many rows, which counts the rows that are drawn."""

    def __init__(self) -> None:
        super().__init__()
        self.drawn: set[int] = set()
        self.told: list[str] = []

    def compose(self) -> ComposeResult:
        yield RowList()

    def on_mount(self) -> None:
        columns = [Column("a", "first", 8), Column("b", "second", 8, right=True), Column("c", "third", 5)]
        self.query_one(RowList).show(columns, 100_000, self.cells)
        self.query_one(RowList).focus()

    def cells(self, number: int) -> list[Cell]:
        self.drawn.add(number)
        if number == 1:
            return [("a long reason, which goes on to the end of the line", "quiet")]
        return [(f"r{number}", "good"), (str(number), ""), ("longer than it may be", "bad")]

    def on_row_list_chosen(self) -> None:
        self.told.append("chosen")

    def on_row_list_header_clicked(self, event: RowList.HeaderClicked) -> None:
        self.told.append(event.name)


def lines(app: App[None]) -> list[str]:
    return [
        "".join(segment.text for segment in strip).rstrip()
        for strip in app.screen._compositor.render_strips()
    ]


async def test_only_the_rows_that_are_seen_are_drawn() -> None:
    app = Listing()
    async with app.run_test(size=(60, 12)) as pilot:
        await pilot.pause()
        table = app.query_one(RowList)
        assert lines(app)[0].split() == ["first", "second", "third"]
        assert lines(app)[1].startswith(" r0               0  longe")
        assert "longer" not in lines(app)[1]
        assert lines(app)[2].endswith("the end of the line")
        assert app.drawn <= set(range(12))
        for key, at in (
            ("end", 99_999),
            ("up", 99_998),
            ("pageup", 99_987),
            ("home", 0),
            ("up", 0),
            ("pagedown", 11),
        ):
            await pilot.press(key)
            await pilot.pause()
            assert table.cursor_row == at
            assert any(line.startswith(f" r{at} ") for line in lines(app)[1:]), key
        assert len(app.drawn) < 100
        await pilot.click(RowList, offset=(3, 4))
        chosen = table.cursor_row
        assert f"r{chosen} " in lines(app)[4]
        await pilot.click(RowList, offset=(3, 4))
        await pilot.click(RowList, offset=(14, 0))
        assert app.told == ["chosen", "b"]
        table.show([Column("a", "first", 8)], 0, app.cells)
        await pilot.pause()
        assert lines(app)[1:] == [""] * 11
        await pilot.press("down", "end")
        assert table.cursor_row == 0


def saved() -> list[SavedRun]:
    """Four runs of two models, with their positions; the first is the newest."""
    reports = [
        makers.report(
            model=f"org/{model}",
            kv_bits=bits,
            created=f"2026-03-0{9 - i}T05:06:07+00:00",
            verdict=verdict,
            kl=makers.report_data()["kl"] | {"mean": mean},
        )
        for i, (model, bits, verdict, mean) in enumerate(
            [
                ("one", 8, "good", 0.001),
                ("one", 4, "marginal", 0.02),
                ("two", 8, "good", 0.002),
                ("two", 4, "bad", 0.5),
            ]
        )
    ]
    return list(save_runs([(one, makers.positions()) for one in reports]))


async def at_runs(app: MqfTuiApp, pilot: Pilot[None], n: int) -> RowList:
    await until(pilot, lambda: app.screen.TITLE == "Models")
    await pilot.press("r")
    await until(pilot, lambda: isinstance(app.screen, RunsScreen) and app.screen.query(RowList))
    table = app.screen.query_one(RowList)
    await until(pilot, lambda: table.row_count == n)
    return table


def said(app: MqfTuiApp) -> list[str]:
    return [note.message for note in app._notifications]


def body(app: MqfTuiApp) -> list[str]:
    """The settings that are listed, from the top."""
    return [
        f"{word} {line.split('-bit')[0][-1]}"
        for line in screen_text(app).splitlines()
        for word in ("one", "two")
        if f" {word} " in line and "±" in line
    ]


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=str)
async def test_filtering_sorting_and_comparing_by_keys(size: tuple[int, int]) -> None:
    saved()
    async with running(size) as (app, pilot):
        table = await at_runs(app, pilot, 4)
        assert body(app) == ["one 8", "one 4", "two 8", "two 4"]
        assert "4 runs · newest first" in text_of(app, "#count")
        await pilot.press("slash")
        assert app.focused is app.screen.query_one("#filter")
        assert "verdict:" in text_of(app, "#problem")
        await pilot.press(*"bits:4", "space", *"-verdict:")
        assert table.row_count == 2
        await pilot.press("x", "x")
        assert table.row_count == 2
        assert "use good, marginal, bad" in " ".join(text_of(app, "#problem").split())
        await pilot.press("backspace", "backspace", "b")
        await until(pilot, lambda: table.row_count == 1)
        assert body(app) == ["one 4"]
        assert "1 of 4 runs" in text_of(app, "#count")
        await pilot.press("enter")
        assert app.focused is table
        await pilot.press("slash", "escape")
        await until(pilot, lambda: table.row_count == 4)
        assert app.focused is table
        await pilot.press("s")
        await pilot.pause()
        assert body(app) == ["one 8", "two 8", "one 4", "two 4"]
        assert "KL mean ↑" in screen_text(app)
        await pilot.press("R")
        await pilot.pause()
        assert body(app) == ["two 4", "one 4", "two 8", "one 8"]
        assert "KL mean ↓" in screen_text(app)
        # c alone says what to do; three are compared in the order of their marks.
        await pilot.press("c")
        assert "Two to 4 runs are compared; mark them with space." in said(app)
        await pilot.press("home", "space", "space", "end", "space")
        await pilot.pause()
        assert "3 marked" in text_of(app, "#count")
        compared: list[list[str]] = []
        app.compare = lambda runs: compared.append([run.report.model for run in runs])  # type: ignore[method-assign]
        await pilot.press("c")
        assert compared == [["org/two", "org/one", "org/one"]]
        await pilot.press("x", "home", "space", "c")
        assert compared[1:] == [["org/two", "org/one"]]
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))


async def test_deleting_labelling_and_taking_back(data_home: Path) -> None:
    runs = saved()
    broken = runs[1].folder / "report.json"
    broken.write_text("{")
    async with running() as (app, pilot):
        table = await at_runs(app, pilot, 4)
        # Damaged runs stand at the end, with the reason; they can be thrown away, not opened.
        last = screen_text(app).splitlines()[6]
        assert "damaged: report.json is damaged (it is no whole JSON), 2026" in last
        await pilot.press("end", "enter", "space", "e", "t")
        assert isinstance(app.screen, RunsScreen)
        assert "report.json is damaged" in text_of(app, "#detail")
        await pilot.press("d", "home", "d")
        await until(pilot, lambda: table.row_count == 2)
        assert [run.id for run in list_runs()] == [runs[2].id, runs[3].id]
        assert len(deleted_runs()) == 2
        await pilot.press("space", "space", "d")
        await until(pilot, lambda: table.row_count == 0)
        assert "2 runs are in the trash for 30 days; u takes them back." in said(app)
        assert "No runs yet" in screen_text(app)
        await pilot.press("u", "u")
        await until(pilot, lambda: table.row_count == 3)
        assert {run.id for run in list_runs()} == {runs[i].id for i in (0, 2, 3)}
        # The tags that two runs share are changed in both, those that one has alone stay.
        add_tags(runs[0].folder, ["old", "alone"])
        add_tags(runs[2].folder, ["old"])
        await pilot.press("f5", "home")
        await until(pilot, lambda: "#old" in text_of(app, "#detail"))
        await pilot.press("space", "space", "t")
        await until(pilot, lambda: isinstance(app.screen, TagsScreen) and app.screen.is_mounted)
        await pilot.pause()
        assert app.screen.query_one(Input).value == "old "
        assert "In use: alone" in text_of(app, "#said")
        await pilot.press("ctrl+u", *"new,-x", "enter")
        assert "begins with a hyphen" in text_of(app, "#said")
        await pilot.press(*["backspace"] * 3, "enter")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        assert [read_labels(runs[i].folder).tags for i in (0, 2)] == [("new", "alone"), ("new",)]
        await pilot.press("u")
        await until(pilot, lambda: read_labels(runs[0].folder).tags == ("old", "alone"))
        assert read_labels(runs[2].folder).tags == ("old",)
        await pilot.press("x", "home", "n")
        await until(pilot, lambda: isinstance(app.screen, NoteScreen) and app.screen.is_mounted)
        await pilot.press(*"be", "ctrl+j", *"fore")
        assert app.screen.query_one(TextArea).text == "be\nfore"
        await pilot.press("enter")
        await until(pilot, lambda: "be fore" in text_of_detail(app))
        assert read_labels(runs[0].folder).note == "be\nfore"
        await pilot.press("n", *"zz", "escape", "u", "u", "u")
        await until(pilot, lambda: read_labels(runs[0].folder).note == "")
        await until(pilot, lambda: broken.exists())
        await pilot.press("u")
        await until(pilot, lambda: "There is nothing to take back." in said(app))


def text_of_detail(app: MqfTuiApp) -> str:
    found = app.screen.query("#detail")
    return str(found.first(Static).render()) if found else ""


async def test_a_result_leads_on(tmp_path: Path) -> None:
    runs = saved()
    (tmp_path / "x.log").write_text(LLAMA_CPP, encoding="utf-8")
    import_files([tmp_path / "x.log"])
    opened: list[Any] = []
    async with running() as (app, pilot):
        app.explore = lambda run: opened.append(run.id)  # type: ignore[method-assign]
        app.report = lambda document: opened.append(document.title)  # type: ignore[method-assign]
        app.show_run(runs[1])
        await until(pilot, lambda: isinstance(app.screen, ResultScreen) and app.screen.is_mounted)
        await pilot.pause(0.2)
        shown = screen_text(app).splitlines()
        # At a glance: the verdict, the numbers, and both plots whole.
        assert "MARGINAL" in shown[1]
        assert "KL mean" in shown[3]
        assert sum("╰" in line and "╯" in line for line in shown[9:22]) == 1
        await pilot.press("e", "o", "y")
        assert opened == [runs[1].id, "org/one: 4-bit KV cache, group 64"]
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, TagsScreen) and app.screen.is_mounted)
        await pilot.press(*"blog", "enter")
        await until(
            pilot, lambda: isinstance(app.screen, ResultScreen) and "#blog" in text_of(app, "#setting")
        )
        await pilot.press("u")
        await until(pilot, lambda: "#blog" not in text_of(app, "#setting"))
        await pilot.press("S")
        # To the runs of this model, with this one marked: one more, and they are compared.
        await pilot.press("c")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen) and app.screen.query(RowList))
        table = app.screen.query_one(RowList)
        await until(pilot, lambda: table.row_count == 2)
        assert "1 marked" in text_of(app, "#count")
        await pilot.press("home", "c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, RunsScreen))
        # What another tool made has no positions to walk through, and says where it is from.
        await pilot.press("slash", "ctrl+u", *"is:imported", "enter")
        await until(pilot, lambda: table.row_count == 1)
        assert "↓ imported from llama.cpp" in text_of(app, "#detail")
        await pilot.press("e")
        assert opened[2:] == []
        await pilot.press("f1")
        await until(pilot, lambda: "filters as you type" in " ".join(screen_text(app).split()))
        assert "another tool made it" in RunsScreen.HELP


async def test_no_runs_say_how_to_get_some() -> None:
    async with running() as (app, pilot):
        await until(pilot, lambda: app.screen.TITLE == "Models")
        await pilot.press("r")
        await until(pilot, lambda: "No runs yet" in screen_text(app))
        await pilot.press(
            "slash", "x", "enter", "space", "c", "d", "e", "o", "t", "n", "S", "s", "R", "enter", "u"
        )
        assert isinstance(app.screen, RunsScreen)


async def test_notes_and_tags_stand_below_the_table_and_narrow_windows_cut_no_number() -> None:
    long = makers.report(model="org/" + "a-very-long-name-of-a-model" * 2)
    tagged = save_run(long, makers.positions())
    add_tags(tagged.folder, ["baseline"])
    set_note(tagged.folder, "before the fix")
    save_run(makers.report(partial=True, created="2026-03-05T05:06:07+00:00"), makers.positions())
    async with running() as (app, pilot):
        await at_runs(app, pilot, 2)
        shown = screen_text(app)
        assert "0.0234 ±15%" in shown  # (0.027 - 0.0234) / 0.0234
        assert "◐ partial, 2 of 2 chunks" in text_of(app, "#detail")
        await pilot.press("down")
        await pilot.pause(0.1)
        assert "#baseline · before the fix" in text_of(app, "#detail")
        for width in (60, 76, 100, 120, 200):
            await pilot.resize_terminal(width, 24)
            await pilot.pause(0.2)
            shown = screen_text(app)
            assert "0.0234" in shown
            assert ("0.0234 ±15%" in shown) == (width > 60)
            assert "2.50 %" in shown or "2.50 ±1.50 %" in shown
            assert ("notes.txt" in shown.splitlines()[3]) == (width >= 120)
            assert ("baseline" in shown.splitlines()[4]) == (width >= 100)


def test_the_command_line_filters_as_the_app(data_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mqf_tui.cli import main

    runs = saved()
    assert main(["runs", "list", "--filter", "bits:4 -model:two"]) == 0
    out = capsys.readouterr().out
    assert [run.id in out for run in runs] == [False, True, False, False]
    assert main(["runs", "list", "--filter", "bats:4"]) == 2
    assert "did you mean" in capsys.readouterr().err
    assert main(["runs", "list", "--trash", "--filter", "bits:4"]) == 2
    assert "leave out --trash" in capsys.readouterr().err
    assert len(run_rows().rows) == 4
