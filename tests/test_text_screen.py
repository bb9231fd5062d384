"""Choosing a text in the app by keyboard: completed paths, its chunks, how it is read, what is kept."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.completing import common, completions
from mqf_tui.app.screens.explore import ExploreScreen
from mqf_tui.app.screens.report import ReportScreen
from mqf_tui.app.screens.result import ResultScreen
from mqf_tui.app.screens.setup import SetupScreen
from mqf_tui.app.screens.text import TextScreen
from mqf_tui.app.setup_choices import fits, profile_lines
from mqf_tui.app.setup_options import FILE
from mqf_tui.app.setup_texts import (
    TEXT_DEFAULTS,
    lines_of_options,
    options_of_lines,
    remembered_texts,
    text_lines,
    whole_word,
)
from mqf_tui.app.widgets.choice import Choice
from mqf_tui.app.widgets.corpus_lines import FileLine, offered_words
from mqf_tui.app.widgets.slider import Slider
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.library.corpora_file import corpora_file
from mqf_tui.library.last_used import last_used
from mqf_tui.library.profiles import Profile
from mqf_tui.library.runs import list_runs
from tests import chat_models
from tests.hub_server import LocalHub
from tests.makers import text_file, words
from tests.test_app import running, screen_text, text_of, until
from tests.test_setup import set_up
from tests.test_sources_hub import parquet


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that the app runs in, so that paths are short."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


async def own_line(app: MqfTuiApp, pilot: Pilot[None], *, length: int = 0) -> None:
    """From the first setting to the line that a text is typed into; ``length``: steps along the lengths."""
    await pilot.press(*["down"] * 3)
    await pilot.press(*["left"] * length)
    await pilot.press("down", "1", *["down"] * 3)
    assert app.focused is app.screen.query_one("#corpus")
    for _ in range(8):
        await pilot.press("right")
    assert app.screen.query_one("#corpus", Choice).value == FILE
    await pilot.press("down")
    assert isinstance(app.focused, FileLine)


def preview(app: MqfTuiApp) -> str:
    return " ".join(text_of(app, "#preview").split())


def facts(app: MqfTuiApp) -> str:
    return " ".join(text_of(app, "#sight").split())


async def at_text(app: MqfTuiApp, pilot: Pilot[None], said: str) -> None:
    await until(pilot, lambda: isinstance(app.screen, TextScreen) and said in facts(app))


def first_chunk(app: MqfTuiApp) -> tuple[str, str]:
    """The scored and the dim text of the first chunk, as they are drawn."""
    text = app.screen.query_one("#first", Static).content
    bright, dim = "", ""
    for span in text.spans:  # pyright: ignore[reportAttributeAccessIssue]
        piece = text.plain[span.start : span.end]  # pyright: ignore[reportAttributeAccessIssue]
        if "dim " in str(span.style):
            dim += piece
        elif not piece.startswith("\nThe first chunk"):
            bright += piece
    return bright, dim


async def test_a_file_is_completed_counted_measured_and_not_kept(here: Path, demo_model: Path) -> None:
    from tokenizers import Tokenizer

    text = text_file(here / "notes.txt", 900).read_text()
    (here / "nothing").mkdir()
    n = len(
        Tokenizer.from_file(str(demo_model / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    )
    async with running((80, 24)) as (app, pilot):
        await set_up(app, pilot, demo_model)
        await own_line(app, pilot, length=2)
        assert "name a text above" in preview(app)
        await pilot.press("n")
        await until(pilot, lambda: "no corpus, file or folder" in preview(app))
        await until(pilot, lambda: "notes.txt  nothing/" in text_of(app, "#matches"))
        await pilot.press("tab")  # both begin with "not"
        await until(pilot, lambda: app.screen.query_one(FileLine).value == "not")
        await until(pilot, lambda: app.screen.query_one(FileLine)._offered[0] == "not")
        await pilot.press("tab", "tab")
        assert app.screen.query_one(FileLine).value == "nothing/"
        await pilot.press("tab")
        assert app.screen.query_one(FileLine).value == "notes.txt"
        whole = n // 128
        told = f"notes.txt: {whole * 128:,} tokens, {whole} chunks of 128; text not kept in reports"
        await until(pilot, lambda: told in preview(app))
        assert app.screen.query_one(Slider).most == whole
        assert "127 positions" in text_of(app, "#estimate")
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))
        [run] = list_runs()
        assert (run.report.corpus.name, run.report.text_kept) == ("notes.txt", False)
        await pilot.press("o")
        await until(pilot, lambda: isinstance(app.screen, ReportScreen))
        await until(pilot, lambda: "notes.txt" in screen_text(app))
        await pilot.press("escape", "e")
        await until(pilot, lambda: isinstance(app.screen, ExploreScreen) and app.screen._walk is not None)
        # No words were kept; the tokenizer of the model, which is here, has them.
        await until(pilot, lambda: " ".join(text.split()[1:4]) in " ".join(screen_text(app).split()))
    assert run.positions().texts == {}
    assert last_used("")["texts"] == ("notes.txt",)


async def test_of_a_chat_the_assistant_alone(here: Path, tmp_path: Path) -> None:
    model = chat_models.chat_model(tmp_path / "chat-model")
    said = chat_models.conversations(3)
    chat_models.chat_file(here / "chats.jsonl", said)
    async with running((80, 40)) as (app, pilot):
        await set_up(app, pilot, model)
        await own_line(app, pilot, length=1)
        await pilot.press(*"ch", "tab")
        await until(pilot, lambda: "chats.jsonl: " in preview(app))
        await pilot.press("ctrl+t")
        await at_text(app, pilot, "chats.jsonl: ")
        await pilot.press(*["down"] * 4, "right")
        assert app.screen.query_one("#scored", Choice).value == 1
        await at_text(app, pilot, " scored, 4 chunks of 256")
        bright, dim = first_chunk(app)
        for turn in said[0]:
            theirs, other = (bright, dim) if turn["role"] == "assistant" else (dim, bright)
            assert turn["content"] in theirs
            assert turn["content"] not in other
        assert "<|start_header_id|>" in dim
        assert "<|start_header_id|>" not in bright
        await pilot.press("escape")
        await until(
            pilot, lambda: isinstance(app.screen, SetupScreen) and " scored, 4 chunks" in preview(app)
        )
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))
        [run] = list_runs()
        reading = run.report.corpus.reading
        assert reading is not None
        assert reading.assistant_only
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, ExploreScreen) and app.screen._walk is not None)


async def test_where_nobody_speaks_the_assistant_cannot_be_chosen(here: Path, demo_model: Path) -> None:
    text_file(here / "notes.txt", 900)
    async with running((80, 24)) as (app, pilot):
        await set_up(app, pilot, demo_model)
        await own_line(app, pilot)
        await pilot.press(*"no", "tab", "ctrl+t")
        await at_text(app, pilot, "notes.txt: ")
        await pilot.press(*["down"] * 4, "right")
        choice = app.screen.query_one("#scored", Choice)
        assert choice.value == 0
        assert "not assistant: this text has no conversations" in choice.hint
        # What is kept is told, and holds where one goes back to.
        await pilot.press("down", "right")
        await until(pilot, lambda: facts(app).startswith("notes.txt") and "not kept" not in facts(app))
        await pilot.press("escape")
        await until(pilot, lambda: "chunks of 512" in preview(app) and "not kept" not in preview(app))
        assert app.screen.sweeps()[0].first.text == TextOptions(keep_text=True)


async def test_a_stride_pads_and_bos_are_seen_as_they_change(here: Path, demo_model: Path) -> None:
    from tokenizers import Tokenizer

    text = text_file(here / "a.txt", 900).read_text()
    n = len(
        Tokenizer.from_file(str(demo_model / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    )
    async with running((120, 40)) as (app, pilot):
        await set_up(app, pilot, demo_model)
        await own_line(app, pilot, length=2)
        await pilot.press(*"a.txt", "ctrl+t")
        await at_text(app, pilot, f"{n // 128} chunks of 128")
        await pilot.press("down", "down", "6", "4")
        await at_text(app, pilot, f" {1 + (n - 128) // 64} chunks of 128")
        await pilot.press("9", "9")
        await at_text(app, pilot, "Stride is 6499; use 1 to 128 tokens")
        await pilot.press("left", "left", "left", "left", "down", "right", "right")
        await at_text(app, pilot, f"{-(-n // 128)} chunks of 128")


async def test_a_folder_and_which_of_its_files(here: Path, demo_model: Path) -> None:
    for name in ("a.md", "b.md", "c.txt"):
        text_file(here / "docs" / name if (here / "docs").mkdir(exist_ok=True) is None else here, 400)
    (here / "docs" / "picture.png").write_bytes(bytes(range(256)))
    async with running((120, 40)) as (app, pilot):
        await set_up(app, pilot, demo_model)
        await own_line(app, pilot, length=2)
        await pilot.press(*"do", "tab")
        await until(pilot, lambda: "docs: " in preview(app))
        assert "1 file of docs is no UTF-8 text and left out" in preview(app)
        before = app.screen.query_one(Slider).most
        await pilot.press("ctrl+t")
        await at_text(app, pilot, "docs: ")
        glob = app.screen.query_one("#glob")
        for _ in range(12):
            if app.focused is glob:
                break
            await pilot.press("down")
        await pilot.press(*"*.md")
        await until(pilot, lambda: app.screen.query_one("#sight").sight is None)
        await at_text(app, pilot, "docs: ")
        await pilot.press("escape")
        await until(pilot, lambda: 0 < app.screen.query_one(Slider).most < before)


async def test_a_data_set_is_fetched_when_that_is_asked_for(
    here: Path, demo_model: Path, datasets_hub: LocalHub
) -> None:
    rows = {"text": [words(300, seed) for seed in range(4)]}
    datasets_hub.add_dataset("org/wiki", {"data/test-00000.parquet": parquet(rows)})
    async with running((80, 40)) as (app, pilot):
        await set_up(app, pilot, demo_model)
        await own_line(app, pilot, length=2)
        await pilot.press(*"hf:org/wiki", "ctrl+t")
        await at_text(app, pilot, "f fetches it now")
        assert "tokens," not in facts(app)
        await pilot.press("f")
        await at_text(app, pilot, "chunks of 128")
        assert "not kept" not in facts(app)  # anyone can have it
        await pilot.press("escape")
        await until(pilot, lambda: "hf:org/wiki" in preview(app) and "chunks of 128" in preview(app))


async def test_a_mixture_is_offered_and_its_shares_are_told(here: Path, demo_model: Path) -> None:
    text_file(here / "notes.txt", 3000)
    corpora_file().parent.mkdir(parents=True, exist_ok=True)
    corpora_file().write_text(
        f'[mine.parts.prose]\ncorpus = "builtin"\nweight = 1\n'
        f'[mine.parts.notes]\ncorpus = "{here / "notes.txt"}"\nweight = 1\n'
    )
    async with running((80, 40)) as (app, pilot):
        await set_up(app, pilot, demo_model)
        await pilot.press(*["down"] * 3, "left", "left", "down", "2", *["down"] * 3, *["right"] * 3)
        assert app.screen.query_one("#corpus", Choice).value == "mine"
        await until(pilot, lambda: "mine: " in preview(app) and "text not kept" in preview(app))
        await pilot.press("enter")
        await at_text(app, pilot, "(50 %), notes")
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, SetupScreen))
        await pilot.press("up", "enter")
        await until(pilot, lambda: isinstance(app.screen, ResultScreen))
    [run] = list_runs()
    assert run.report.corpus.name == "mine"
    assert [part.name for part in run.report.by_part] == ["prose", "notes"]


async def test_a_file_of_mixtures_that_is_broken_says_so(demo_model: Path) -> None:
    corpora_file().parent.mkdir(parents=True, exist_ok=True)
    corpora_file().write_text("[mine")
    async with running((120, 40)) as (app, pilot):
        await set_up(app, pilot, demo_model)
        corpus = app.screen.query_one("#corpus", Choice)
        corpus.focus()
        await pilot.press(*["right"] * 5)
        assert corpus.value == FILE
        assert "not corpora.toml: the file of mixtures" in corpus.hint
        assert "not valid TOML" in corpus.hint


async def test_standard_input_is_refused_in_place(demo_model: Path) -> None:
    async with running((80, 24)) as (app, pilot):
        await set_up(app, pilot, demo_model)
        await own_line(app, pilot)
        await pilot.press("minus")
        await until(pilot, lambda: "standard input cannot be read" in preview(app))
        await pilot.press("enter")
        await pilot.pause()
        assert isinstance(app.screen, SetupScreen)
        assert not list_runs()


def test_what_may_be_completed(here: Path) -> None:
    for name in ("alpha.txt", "alps.md", ".hidden"):
        (here / name).write_text("x")
    (here / "al").mkdir()
    (here / "al" / "one.txt").write_text("x")
    assert completions("al") == ("al/", "alpha.txt", "alps.md")
    assert completions("./al/") == ("./al/one.txt",)
    assert completions("builtin + alp") == ("builtin + alpha.txt", "builtin + alps.md")
    assert completions(".h") == (".hidden",)
    assert completions("", ("b.txt", "hf:a/b")) == ("b.txt", "hf:a/b")
    assert completions("hf:a", ("b.txt", "hf:a/b")) == ("hf:a/b",)
    assert completions("mi", names=("mine", "other")) == ("mine",)
    assert completions("no/such/folder/x") == completions("a\0b") == ()
    assert common(("alpha.txt", "alps.md")) == "alp"
    assert common(("one",)) == "one"


def test_what_is_offered_fits_the_line() -> None:
    shown = offered_words(tuple(f"folder/name-{n}.txt" for n in range(50)), 3, 60)
    assert len(shown) <= 60
    assert "name-3.txt" in shown.plain
    assert shown.plain.endswith("more")


@pytest.mark.parametrize(
    "options",
    [
        TextOptions(),
        TextOptions("body", "*.md", "apart", "part", 64, "pad", True, False, 7),
        TextOptions(keep_text=True),
    ],
)
def test_lines_hold_the_choices(options: TextOptions) -> None:
    lines = lines_of_options(options)
    assert set(lines) == set(TEXT_DEFAULTS)
    assert options_of_lines(lines) == options
    assert options_of_lines(text_lines(lines)) == options
    assert text_lines(lines_of_options(TextOptions())) == {}


def test_words_are_made_whole_and_names_stay(here: Path) -> None:
    corpora_file().parent.mkdir(parents=True, exist_ok=True)
    corpora_file().write_text('[mine.parts.a]\ncorpus = "builtin"\nweight = 1\n')
    path = os.path.join(os.getcwd(), "docs/**/*.md")
    assert whole_word(" docs/**/*.md ") == path
    assert whole_word("builtin + docs/**/*.md + hf:a/b#c") == f"builtin + {path} + hf:a/b#c"
    assert whole_word("mine") == "mine"
    assert whole_word("~/x") == os.path.expanduser("~/x")
    (here / "a + b").write_text("x")
    assert whole_word("a + b") == os.path.join(os.getcwd(), "a + b")


def test_texts_that_were_used_are_remembered_once() -> None:
    one: dict[str, tuple[Any, ...]] = {"file": ("b.txt",), "texts": ("a.txt", "b.txt")}
    assert remembered_texts(one, {"texts": ("c.txt", "a.txt")}) == ("b.txt", "a.txt", "c.txt")


def test_a_profile_sets_the_texts_options() -> None:
    profile = Profile("p", corpus="hf:a/b", documents="auto", stride=64, assistant_only=True, keep_text=False)
    lines = profile_lines(profile)
    assert lines == {
        "corpus": (FILE,),
        "file": ("hf:a/b",),
        "documents": ("auto",),
        "stride": (64,),
        "scored": (1,),
        "keep": ("no",),
    }
    held = {"corpus": (FILE,), "file": ("hf:a/b",), "stride": (64,), "scored": (1,), "keep": ("no",)}
    assert fits(profile, held)
    assert not fits(profile, held | {"documents": ("apart",)})
