"""The list of models: folders of one's own, facts kept on disk, search, sort, marks, runs of each."""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, OptionList

from mqf_tui.app.model_rows import (
    SHOWN_IN,
    ModelRow,
    columns_for,
    header,
    line,
    matching,
    model_rows,
    ordered,
    shortened,
)
from mqf_tui.app.screens.models import ModelsScreen
from mqf_tui.app.screens.setup import SetupScreen
from mqf_tui.app.widgets.model_facts import facts_text
from mqf_tui.app.widgets.model_list import SearchLine
from mqf_tui.fidelity.model import facts as facts_module
from mqf_tui.library import facts_cache
from mqf_tui.library.index import RunRow, run_rows
from mqf_tui.library.model_places import places
from mqf_tui.library.models import LocalModel, describe_folder, find_model, fully_described, local_models
from mqf_tui.library.runs import save_runs
from mqf_tui.library.settings import settings_file
from tests import makers
from tests.test_app import running, screen_text, text_of, until

COLOURS = {"good": "green", "marginal": "yellow", "bad": "red"}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.model_folder(tmp_path_factory.mktemp("list") / "tiny-llama")


@pytest.fixture
def homes(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No hub; two folders of models, one by the variable, one by the settings."""
    hub = tmp_path / "hub"
    hub.mkdir()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub))
    for name in ("one/org/small", "one/plain", "one/.hidden", "two/late"):
        shutil.copytree(tiny, tmp_path / name)
    (tmp_path / "one" / "empty").mkdir()
    (tmp_path / "one" / "note.txt").write_text("no folder")
    # Other weights, so another model.
    makers.write_weights(tmp_path / "two" / "late", seed=11)
    makers.rewrite_config(tmp_path / "one" / "plain", head_dim=48)
    monkeypatch.setenv("MQF_TUI_MODELS", str(tmp_path / "one") + os.pathsep + str(tmp_path / "gone"))
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text(f'[models]\nfolders = ["{tmp_path}/two", "{tmp_path}/one/org"]\n')
    return tmp_path


def test_folders_of_ones_own_are_listed_once_and_found_by_name(homes: Path) -> None:
    listed = {model.name: model for model in local_models()}
    assert list(listed) == ["demo", "late", "org/small", "plain"]
    assert [listed[name].source for name in listed] == ["bundled", "folder", "folder", "folder"]
    assert listed["org/small"].word == str(homes / "one" / "org" / "small")
    assert listed["demo"].word == "demo"
    assert "head size of 48" in (listed["plain"].problem or "")
    assert find_model("org/small") == homes / "one" / "org" / "small"
    assert find_model("late") == homes / "two" / "late"


def counted_reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    read: list[Path] = []

    def reading(folder: Path, *args: Any, **options: Any) -> Any:
        read.append(folder)
        return facts_module.read_facts(folder, *args, **options)

    monkeypatch.setattr(facts_cache, "read_facts", reading)
    return read


def test_headers_are_read_once_and_again_when_a_file_changes(
    homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = counted_reads(monkeypatch)
    first = local_models()
    assert len(read) == 4
    read.clear()
    assert local_models() == first
    assert read == []
    late = homes / "two" / "late"
    makers.rewrite_config(late, max_position_embeddings=77)
    changed = {model.name: model for model in local_models()}
    assert read == [late]
    assert changed["late"].facts is not None
    assert changed["late"].facts.context == 77
    read.clear()
    (late / "tokenizer.json").unlink()
    assert "no tokenizer" in ({m.name: m.problem for m in local_models()}["late"] or "")
    monkeypatch.setattr(facts_cache, "_made_by", lambda: "another mlx-lm")
    read.clear()
    local_models()
    assert len(read) == 4


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda raw: b"",
    "nothing of ours": lambda raw: b'["mqf", {"a": ["x", {"folder": 3}]}]',
    "zeros": lambda raw: b"\0" * len(raw),
    "cut": lambda raw: raw[:-1],
    "another value": lambda raw: raw.replace(b'"head_dim":64', b'"head_dim":32'),
    "a field missing": lambda raw: sealed(raw.partition(b"\n")[2].replace(b'"n_heads":2,', b"")),
    "another kind of value": lambda raw: sealed(b'["mqf-tui", 5]'),
}


def sealed(whole: bytes) -> bytes:
    """With the checksum that it should have."""
    return hashlib.sha256(whole).hexdigest().encode() + b"\n" + whole


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_of_facts_changes_nothing(homes: Path, damage: str) -> None:
    first = local_models()
    [file] = Path(os.environ["MQF_TUI_CACHE_DIR"]).glob("models.json")
    whole = file.read_bytes()
    assert sealed(whole.partition(b"\n")[2]) == whole
    hurt = DAMAGES[damage](whole)
    assert hurt != whole
    file.write_bytes(hurt)
    assert local_models() == first


def runs_of(*changes: dict[str, Any]) -> tuple[RunRow, ...]:
    save_runs([(makers.report(**one), None) for one in changes])
    return run_rows().rows


def test_runs_go_to_the_model_of_their_content(homes: Path) -> None:
    listed = {model.name: model for model in fully_described(places())}
    small = listed["org/small"].facts
    assert small is not None
    origin, day = {"tool": "llama.cpp", "form": "log", "file": "x.log"}, "2026-01-{:02d}T00:00:00+00:00"
    rows = runs_of(
        {"model_hash": small.content_hash, "model": "x", "verdict": "bad", "created": day.format(2)},
        {"model_hash": small.content_hash, "model": "y", "verdict": "good", "created": day.format(3)},
        {"model_hash": "0" * 12, "model": "late", "verdict": "good"},
        {"model_hash": "", "model": "late", "verdict": "marginal", "origin": origin},
    )  # fmt: skip
    found = {row.model.name: row for row in model_rows(listed.values(), rows)}
    assert [run.verdict for run in found["org/small"].runs] == ["good", "bad"]
    assert (found["org/small"].best, found["org/small"].last_used[:10]) == ("good", "2026-01-03")
    assert [run.verdict for run in found["late"].runs] == ["marginal"]
    assert found["demo"].runs == ()


def made_row(name: str, size: int = 1, bits: int | None = 4, runs: tuple[RunRow, ...] = ()) -> ModelRow:
    base = describe_folder("demo").facts
    assert base is not None
    facts = replace(base, name=name, size_bytes=size, weight_bits=bits, dtype="float16", architecture="qwen3")
    return ModelRow(LocalModel(name, "hub cache", facts, None), runs)


def test_sorting_and_searching() -> None:
    rows = runs_of(
        {"verdict": "bad", "created": "2026-05-01T00:00:00+00:00"},
        {"verdict": "good", "created": "2026-02-01T00:00:00+00:00"},
    )
    bad, good = rows
    assert (bad.verdict, good.verdict) == ("bad", "good")
    broken = ModelRow(LocalModel("a-broken", "hub cache", None, "it is broken."))
    demo = ModelRow(LocalModel("demo", "bundled", None, None))
    b, c = made_row("org/B", size=5, bits=8, runs=(bad,)), made_row("org/c", size=9, bits=None, runs=(good,))
    d = made_row("x/d", size=7, bits=2)
    everything = [d, c, broken, b, demo]

    def names(by: Any) -> list[str]:
        return [row.model.name for row in ordered(everything, by)]

    assert names("name") == ["demo", "a-broken", "org/B", "org/c", "x/d"]
    assert names("size") == ["org/c", "x/d", "org/B", "demo", "a-broken"]
    assert names("bits")[:3] == ["x/d", "org/B", "org/c"]
    assert names("last used")[:2] == ["org/B", "org/c"]
    assert names("best verdict")[:2] == ["org/c", "org/B"]
    assert matching(everything, "ORG float") == [c]
    assert matching(everything, "qwen 8-bit") == [b]
    assert matching(everything, "  ") == everything
    assert matching(everything, "nothing") == []


@pytest.mark.parametrize("width", [28, 40, 60, 90, 190])
def test_rows_fit_their_width_and_show_what_is_sorted_by(width: int) -> None:
    runs = runs_of(*({"verdict": v} for v in ("good", "marginal", "bad") for _ in range(6)))
    wide = made_row(
        "organisation-of-long-name/模型-with-a-name-of-many-words-Instruct-4bit", size=10**11, runs=runs
    )
    rows = [wide, made_row("b"), ModelRow(LocalModel("p", "hub cache", None, None))]
    for by in ("name", "size", "bits", "last used", "best verdict"):
        columns = columns_for(rows, width, by)  # type: ignore[arg-type]
        for unicode in (True, False):
            cells = [line(row, columns, unicode, COLOURS) for row in rows]
            assert max(cell.cell_len for cell in cells) <= width
            # Where it finds no room, the line above the columns tells.
            shown = SHOWN_IN[by] in columns
            assert ("↓" in header(columns, by, unicode)) == (unicode and shown)  # type: ignore[arg-type]
            assert shown or width < 60
        assert "4bit" in cells[0].plain
        assert len(cells[0].plain.rstrip().split(" ")[-1]) == columns["runs"]
    if width >= 90:
        assert {"weights", "size", "last used"} <= set(columns)


def test_rows_of_one_name_are_told_apart_and_unfinished_ones_say_so() -> None:
    where = {"hub cache": Path("/hub"), "LM Studio": Path("/studio")}
    models = [LocalModel("org/x", source, None, None, folder) for source, folder in where.items()]
    models += [LocalModel("org/y", "hub cache", None, "its download is incomplete.", Path("/y"), True)]
    rows = model_rows(models, ())
    assert len({row.key for row in rows}) == 3
    columns = columns_for(rows, 80, "name")
    shown = [line(row, columns, True, COLOURS).plain for row in rows]
    assert "org/x (hub)" in shown[0]
    assert "org/x (LM Studio)" in shown[1]
    assert shown[2].split()[:2] == ["org/y", "incomplete"]
    assert matching(rows, "incomplete") == [rows[2]]
    # Two folders of one name, from two places of one kind.
    twins = [LocalModel("z", "folder", None, None, Path(f"/{n}/z")) for n in (1, 2)]
    assert len({row.key for row in model_rows(twins, ())}) == 2


@pytest.mark.parametrize("width", [26, 30, 60])
def test_facts_keep_to_the_width_of_their_pane(homes: Path, width: int) -> None:
    row = ModelRow(next(model for model in local_models() if model.name == "org/small"))
    said = facts_text(row, unicode=True, colours=COLOURS, width=width).plain
    facts = said.partition("architecture")[2].partition("KV cache")[0]
    assert max(map(len, facts.splitlines())) <= width
    # What does not fit goes on below, where the values stand.
    under = [line for line in facts.splitlines()[1:] if line.startswith(" ")]
    assert all(line[:14].isspace() for line in under)
    assert bool(under) == (width < 60)


def test_a_name_loses_its_beginning() -> None:
    assert shortened("mlx-community/Llama-3.2-4bit", 12) == "…ma-3.2-4bit"
    assert shortened("short", 12) == "short"
    assert shortened("日本語日本語", 5) == "…本語"


def test_the_facts_give_the_cache_at_each_width(homes: Path) -> None:
    row = ModelRow(next(model for model in local_models() if model.name == "org/small"))
    said = facts_text(row, unicode=True, colours=COLOURS).plain
    # 2 layers, 1 KV head, keys and values of 64: 512 bytes in 16 bits; group 64 adds 4 bytes a group.
    wanted = {16: 512, 8: 2 * 2 * (64 + 4), 4: 2 * 2 * (32 + 4), 2: 2 * 2 * (16 + 4)}
    for bits, size in wanted.items():
        assert f"{bits:>2}-bit {f'{size} B':>7}" in said
    assert "group 64" in said
    assert "1,024 tokens" in said
    problem = ModelRow(next(model for model in local_models() if model.name == "plain"))
    assert (
        "Cannot be measured: its head size of 48" in facts_text(problem, unicode=False, colours=COLOURS).plain
    )


async def test_the_screen_by_keyboard(homes: Path) -> None:
    facts = describe_folder(str(homes / "two" / "late")).facts
    assert facts is not None
    runs_of({"model_hash": facts.content_hash, "verdict": "bad"})
    shutil.copytree(homes / "two" / "late", homes / "three" / "far")
    async with running((120, 40)) as (app, pilot):
        await until(pilot, lambda: "4 models, by name" in screen_text(app))
        await until(pilot, lambda: "■" in screen_text(app))
        await until(pilot, lambda: any("There is no folder" in one.message for one in app._notifications))
        listing = app.screen.query_one("#models", OptionList)
        assert app.focused is listing
        await pilot.press("down")
        assert "1 run of it so far" in text_of(app, "#facts-text")
        await pilot.press(*"ssss")
        assert "by best verdict" in text_of(app, "#told")
        assert listing.highlighted == 0
        assert "late" in text_of(app, "#facts-text")  # the cursor stays on its model
        # What cannot be measured cannot be marked; the marked stay marked where the search hides them.
        await pilot.press("slash", *"plain", "enter", "space")
        assert "1 of 4 models" in text_of(app, "#told")
        assert "Cannot be measured" in [note.title for note in app._notifications]
        await pilot.press("slash", "escape", "g", "space", "slash", *"small", "down", "space")
        assert "2 marked, Enter sets up all" in text_of(app, "#told")
        await pilot.press("escape", "escape")
        assert "marked" not in text_of(app, "#told")
        await pilot.press("g", "space", "space", "enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))
        about = text_of(app, "#about")
        assert "late, " in about
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, ModelsScreen))
        # A typed folder that is no model is looked into.
        await pilot.press("escape", "slash")
        app.screen.query_one("#filter", Input).value = str(homes / "three")
        await until(pilot, lambda: "far" in text_of(app, "#facts-text"))
        await pilot.press("enter", "enter")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))
        assert text_of(app, "#about").startswith("far:")


async def test_keys_are_the_lists_from_the_first_one_on(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    focused: list[SearchLine] = []
    monkeypatch.setattr(SearchLine, "on_focus", lambda line: focused.append(line), raising=False)
    async with running() as (app, pilot):
        await until(pilot, lambda: "4 models" in text_of(app, "#told"))
        assert not focused
        await pilot.press("slash")
        await until(pilot, lambda: len(focused) == 1)


async def test_names_can_be_read_in_a_narrow_window(homes: Path) -> None:
    os.rename(homes / "one" / "plain", homes / "one" / "Llama-3.2-1B-Instruct")
    async with running((60, 20)) as (app, pilot):
        await until(pilot, lambda: "4 models, by name" in screen_text(app))
        await until(pilot, lambda: "Llama-3.2-1B-Instruct" in screen_text(app))
        await until(pilot, lambda: "✕" in screen_text(app))
        listing, facts = app.screen.query_one("#models"), app.screen.query_one("#facts")
        assert facts.region.y >= listing.region.bottom
        assert min(listing.region.height, facts.region.height) >= 6


async def test_looking_again_takes_nothing_away(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the headers are read again, which may take long, the list and the facts stay as they are."""
    begun, go = threading.Event(), threading.Event()

    def slow(found: Any, **options: Any) -> Any:
        begun.set()
        go.wait(10)
        return fully_described(found, **options)

    async with running((80, 24)) as (app, pilot):
        await until(pilot, lambda: text_of(app, "#told") == "4 models, by name")
        await pilot.press("down")
        before = text_of(app, "#facts-text"), text_of(app, "#columns")
        assert "KV cache per token" in before[0]
        await pilot.press("tab", "end")
        pane = app.screen.query_one("#facts")
        await until(pilot, lambda: pane.scroll_offset.y > 0)
        monkeypatch.setattr("mqf_tui.library.models.fully_described", slow)
        await pilot.press("f5")
        await until(pilot, lambda: begun.is_set() and "reading" in text_of(app, "#told"))
        assert (text_of(app, "#facts-text"), text_of(app, "#columns")) == before
        assert pane.scroll_offset.y > 0
        go.set()
        await until(pilot, lambda: "reading" not in text_of(app, "#told"))
        assert pane.scroll_offset.y > 0
        await pilot.press("shift+tab", "down")
        await until(pilot, lambda: pane.scroll_offset.y == 0)


async def test_a_path_that_is_none_is_not_searched_for_on_the_hub(homes: Path) -> None:
    async with running() as (app, pilot):
        await until(pilot, lambda: text_of(app, "#told") == "4 models, by name")
        await pilot.press("slash")
        app.screen.query_one("#filter", Input).value = str(homes / "nowhere")
        await until(pilot, lambda: "There is no folder" in text_of(app, "#facts-text"))
        assert "hub" not in text_of(app, "#facts-text").replace(str(homes), "")
        await pilot.press("enter", "enter")
        await pilot.pause()
        assert isinstance(app.screen, ModelsScreen)
