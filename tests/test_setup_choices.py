"""What the set-up makes of its lines, its profiles and what was chosen last; its slider and its texts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

from mqf_tui.app import setup_options as offered
from mqf_tui.app.screens.setup import SetupScreen
from mqf_tui.app.setup_choices import fits, profile_lines, subjects_of, sweeps_of
from mqf_tui.app.setup_words import interval_words
from mqf_tui.app.widgets.choice import Choice
from mqf_tui.app.widgets.mode_strip import strip
from mqf_tui.app.widgets.multi_choice import MultiChoice
from mqf_tui.app.widgets.slider import Slider
from mqf_tui.fidelity.errors import BadCorpusError, UnsupportedModelError
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.library.corpus_preview import corpus_preview
from mqf_tui.library.expected_interval import expected_intervals
from mqf_tui.library.index import run_rows
from mqf_tui.library.last_used import keep_used, last_used
from mqf_tui.library.model_places import demo_place
from mqf_tui.library.models import LocalModel, describe_folder, described
from mqf_tui.library.profiles import Profile, shipped_profiles
from mqf_tui.library.runs import data_dir, list_runs, save_runs
from mqf_tui.library.settings import settings_file
from tests import makers
from tests.test_app import running, screen_text, text_of, until
from tests.tiny_configs import SPECIAL, stub_folder

USUAL: dict[str, tuple[Any, ...]] = {
    "bits": (8,),
    "group": (64,),
    "formats": ("alike",),
    "length": (512,),
    "chunks": (10,),
    "stop": (None,),
    "race": (0,),
    "start": (0,),
    "corpus": ("builtin",),
    "file": ("",),
}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> LocalModel:
    """A model whose heads of 128 take groups that the demo's do not, and with another context."""
    folder = makers.model_folder(tmp_path_factory.mktemp("wide") / "wide")
    makers.rewrite_config(folder, head_dim=128, max_position_embeddings=600)
    return describe_folder(str(folder))


@pytest.fixture
def demo() -> LocalModel:
    [found] = described([demo_place()], keep=False)
    return found


def test_lines_become_the_settings_of_each_model(demo: LocalModel, wide: LocalModel) -> None:
    lines = USUAL | {"bits": (8, 4), "stop": (5,), "race": (1,), "start": (16,), "chunks": (None,)}
    one, other = sweeps_of(subjects_of([demo, wide]), lines)
    base = KVSettings("demo", max_chunks=None, precision=0.05, quantize_start=16)
    assert one == SweepSettings((base, replace(base, kv_bits=4)), race=True)
    assert [v.model for v in other.variants] == [wide.word] * 2
    assert Path(wide.word).is_absolute()
    single = sweeps_of(subjects_of([demo]), USUAL | {"race": (1,), "stop": ("sure",)})
    assert single == (SweepSettings((KVSettings("demo", max_chunks=10, until_sure=True),)),)


def test_what_does_not_work_for_one_model_is_refused_with_its_name(
    demo: LocalModel, wide: LocalModel
) -> None:
    both = subjects_of([demo, wide])
    groups = {one.value: one.refusal for one in offered.groups(both)}
    assert groups[64] is None
    assert groups[128] == "does not divide the head size of 64 (demo)"
    assert {one.value: one.refusal for one in offered.groups(both[1:])}[128] is None
    lengths = {one.value: one.refusal for one in offered.lengths(both)}
    assert lengths[512] is None
    assert lengths[1024] == "longer than this model's context of 600 (wide)"
    with pytest.raises(UnsupportedModelError, match=r"^demo: group size 128 does not divide"):
        sweeps_of(both, USUAL | {"group": (128,)})
    assert subjects_of([LocalModel("x", "folder", None, "broken")]) == ()


def test_formats_of_profiles_are_offered_and_refused_where_they_do_not_fit(demo: LocalModel) -> None:
    found = {one.value: one for one in offered.formats(subjects_of([demo]), ["k8v4g128", "k16v4", "mxfp4"])}
    assert found["k8v4g128"].refusal == "its groups do not divide the head size of 64"
    assert found["k16v4"].refusal is None
    assert len(found) == 10


@pytest.mark.parametrize("profile", shipped_profiles(), ids=lambda one: one.name)
def test_shipped_profiles_can_be_measured(profile: Profile, demo: LocalModel) -> None:
    lines = USUAL | profile_lines(profile)
    [sweep] = sweeps_of(subjects_of([demo]), lines)
    assert profile.words
    assert fits(profile, lines)
    assert sweep.first.chunk_length == profile.chunk_length
    if profile.name == "thorough":
        assert [one.word for one in sweep.variants] == ["8g64", "6g64", "5g64", "4g64", "k8v4g64"]
        assert sweep.race
        assert sweep.first.until_sure
        assert sweep.first.max_chunks is None


def test_a_profile_of_all_keys() -> None:
    profile = Profile("p", "", (8, 2), (32,), ("k8v4",), 100, 7, "2%", False, 3, "~/notes.txt")
    lines = profile_lines(profile)
    assert lines == {
        "bits": (8, 2),
        "group": (32,),
        "formats": ("k8v4",),
        "length": (100,),
        "chunks": (7,),
        "stop": (2,),
        "race": (0,),
        "start": (3,),
        "corpus": ("a file",),
        "file": ("~/notes.txt",),
    }
    assert fits(profile, lines | {"bits": (2, 8)})
    assert not fits(profile, lines | {"chunks": (None,)})


def test_what_was_used_last(data_home: Path) -> None:
    assert last_used("abc") == {}
    keep_used("abc", {"bits": (8, 4), "file": ("π\ud800",), "stop": (None,)})
    keep_used("def", {"bits": (2,)})
    assert last_used("abc") == {"bits": (8, 4), "file": ("π\ud800",), "stop": (None,)}
    assert last_used("def") == last_used("never seen") == {"bits": (2,)}
    for n in range(130):
        keep_used(f"m{n}", {"bits": (n,)})
    file = data_dir() / "last-used.json"
    assert len(json.loads(file.read_text())["choices"]) == 101
    assert (last_used("m129"), last_used("abc")) == ({"bits": (129,)}, {"bits": (129,)})


@pytest.mark.parametrize(
    "content",
    [
        *("", "[", "[]", "[" * 9999),
        '{"version": 2, "choices": {"": {"bits": [4]}}}',
        '{"version": 1, "choices": [3]}',
        '{"version": 1, "choices": {"": {"bits": 4, "group": [true], "file": [[]]}}}',
    ],
)
def test_a_damaged_file_of_what_was_used_counts_as_none(data_home: Path, content: str) -> None:
    data_home.mkdir()
    (data_home / "last-used.json").write_text(content)
    assert last_used("abc") == {}
    keep_used("abc", {"bits": (3,)})
    assert last_used("abc") == {"bits": (3,)}


def test_the_interval_that_chunks_buy() -> None:
    def saved(**changes: Any) -> None:
        figures = {"mean": 0.2, "max": 9.0, "p99": 1.0, "ci_low": 0.15, "ci_high": 0.25}
        base: dict[str, Any] = {"model_hash": "h" * 12, "kl": figures, "kv_bits": 4, "n_chunks": 16}
        save_runs([(makers.report(**(base | changes)), None)])

    corpus = makers.report().corpus
    settings = KVSettings("m", kv_bits=4, chunk_length=corpus.chunk_length, corpus=corpus.name)
    eight = replace(settings, kv_bits=8)
    assert expected_intervals(run_rows().rows, "h" * 12, [settings], 16) == [None]
    saved(n_chunks=2)  # too few to tell
    saved(model_hash="other")
    saved(kl={"mean": 0.2, "max": 9.0, "p99": 1.0})
    assert expected_intervals(run_rows().rows, "h" * 12, [settings], 16) == [None]
    saved()
    rows = run_rows().rows
    # Half of 0.25 - 0.15 is a quarter of 0.2; four times the chunks halve the error. Student's t (a printed
    # table) of 15 degrees is 2.131, of 63 1.998, of 3 3.182, of 1 12.706.
    for chunks, share in ((16, 0.25), (64, 0.1172), (4, 0.7466), (2, 4.216)):
        [found, none] = expected_intervals(rows, "h" * 12, [settings, eight], chunks)
        assert found is not None
        assert found.share == pytest.approx(share, rel=1e-3)
        assert (found.chunks, found.same_text, none) == (16, True, None)
    # Twice as long chunks: of the same text half as many.
    [found] = expected_intervals(rows, "h" * 12, [replace(settings, chunk_length=2 * corpus.chunk_length)], 8)
    assert found is not None
    assert (found.share, found.same_text) == (pytest.approx(0.2774, rel=1e-3), False)  # t of 7 is 2.365
    assert expected_intervals(rows, "h" * 12, [settings], 1) == [None]
    sweep = SweepSettings((settings, eight))
    both = expected_intervals(rows, "h" * 12, sweep.variants, 64)
    said = interval_words(both, sweep, 64)
    assert said == "mean KL to about ±12 % for 1 of 2 settings (from an earlier run of 16 chunks)"
    wide = interval_words(expected_intervals(rows, "h" * 12, [settings], 2), SweepSettings((settings,)), 2)
    assert wide.startswith("mean KL to about ±420 % (")
    assert "no earlier run" in interval_words([None], sweep, 64)
    assert "one chunk gives no interval" in interval_words(both, sweep, 1)


def test_the_picture_of_the_mode() -> None:
    assert strip(0, 512, 24)[:2] == (0, 24)
    assert strip(128, 512, 24)[:2] == (6, 18)
    assert strip(1, 32768, 24)[:2] == (1, 23)
    assert strip(509, 512, 24)[:2] == (23, 1)
    assert strip(511, 512, 24)[:2] == (24, 0)


def test_the_first_lines_of_a_text(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("\n\n  one\x1b[2J \u202eline\n\n" + "x" * 900 + "\nthird\n", encoding="utf-8")
    found = corpus_preview(str(file), 3)
    assert found.lines == ("one[2J line", "x" * 400, "third")
    assert found.n_characters == len(file.read_text(encoding="utf-8"))
    builtin = corpus_preview("builtin", 9)
    assert [line.split(":")[0] for line in builtin.lines] == [
        "code",
        "dialogue",
        "languages",
        "prose",
        "tables",
    ] or {line.split(":")[0] for line in builtin.lines} == {
        "code",
        "dialogue",
        "languages",
        "prose",
        "tables",
    }
    assert corpus_preview("wikitext-2", 3).n_characters is None
    file.write_bytes("Grüße".encode("latin-1"))
    with pytest.raises(BadCorpusError, match="not UTF-8"):
        corpus_preview(str(file), 3)


async def at_setup(app: Any, pilot: Any, *models: LocalModel) -> SetupScreen:
    await until(pilot, lambda: "Models" in screen_text(app))
    app.set_up(list(models))
    await until(
        pilot, lambda: isinstance(app.screen, SetupScreen) and "positions" in text_of(app, "#estimate")
    )
    return app.screen


async def test_profile_slider_text_and_what_comes_back(demo: LocalModel, tmp_path: Path) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_bytes(b"first line\nbad \xff")
    settings_file().parent.mkdir(parents=True)
    settings_file().write_text("[profiles.mine]\nbits = [4]\nchunk_length = 128\nchunks = 3\n")
    async with running((80, 24)) as (app, pilot):
        screen = await at_setup(app, pilot, demo)
        profile, slider = screen.query_one("#profile", Choice), screen.query_one("#chunks", Slider)
        profile.focus()
        await pilot.press("right", "right", "right", "right")
        await until(pilot, lambda: "381 positions" in text_of(app, "#estimate"))
        assert (profile.value, slider.value) == ("mine", 3)
        slider.focus()
        await pilot.press("right")
        await until(pilot, lambda: profile.value == "")  # not the profile's any more
        assert slider.value == 4
        await pilot.press("greater_than_sign", "greater_than_sign", "right")
        assert slider.value == 11
        await pilot.press("shift+left", "shift+left", "l", "h", "h")
        assert slider.value == 4
        await pilot.press("end")
        assert slider.value is None
        assert "all, " in screen_text(app)
        await pilot.press("left")
        assert slider.value == slider.most
        await pilot.press("1", "7", "backspace")
        assert slider.value == 1
        await until(pilot, lambda: "one chunk gives no interval" in screen_text(app))
        region = slider.region
        await pilot.mouse_down(slider, offset=(14, 0))
        await pilot.hover(slider, offset=(14 + slider._track - 1, 0))
        await pilot.mouse_up(slider, offset=(14 + slider._track - 1, 0))
        assert slider.value is None
        assert slider.region == region
        await pilot.press("home", "2")
        screen.query_one("#corpus", Choice).pick("a file")
        screen.query_one("#file", Input).value = str(notes)
        await until(
            pilot,
            lambda: "is not UTF-8 text (byte 15, line 2)" in text_of(app, "#preview").replace("\n", " "),
        )
        notes.write_text("first line, which is shown\n")
        screen.query_one("#file", Input).value = str(tmp_path / "." / "notes.txt") + " "
        await pilot.press("escape")
    async with running((80, 24)) as (app, pilot):
        screen = await at_setup(app, pilot, demo)
        assert screen.lines == USUAL | {
            "profile": ("",),
            "bits": (4,),
            "length": (128,),
            "chunks": (2,),
            "corpus": ("a file",),
            "file": (str(notes) + " ",),
        }
        await until(pilot, lambda: "first line, which is shown" in text_of(app, "#preview"))


async def test_several_models_are_measured_one_after_the_other(demo: LocalModel, tmp_path: Path) -> None:
    tiny = describe_folder(str(makers.model_folder(tmp_path / "tiny-llama")))
    makers_text = settings_file().parent / "text.txt"
    makers_text.parent.mkdir(parents=True)
    makers.text_file(makers_text, 2000)
    lines = USUAL | {"length": (64,), "chunks": (2,), "corpus": ("a file",), "file": (str(makers_text),)}
    keep_used("", lines)
    async with running((100, 30)) as (app, pilot):
        await at_setup(app, pilot, demo, tiny)
        assert text_of(app, "#about").startswith("demo, ")
        assert "2 models, one after the other; 1 setting: 8 bits, group 64" in text_of(app, "#estimate")
        await pilot.press("enter")
        await until(pilot, lambda: len(list_runs()) == 2)
    assert {run.report.corpus.chunk_length for run in list_runs()} == {64}
    assert {run.report.model for run in list_runs()} == {"demo", "tiny-llama"}


async def test_models_of_mixed_kinds_share_a_set_up(demo: LocalModel, tmp_path: Path) -> None:
    mixed = describe_folder(str(stub_folder(tmp_path / "mixed", SPECIAL["llama sliding"])))
    async with running((80, 40)) as (app, pilot):
        screen = await at_setup(app, pilot, demo, mixed)
        assert screen.query_one("#length", Choice).value == 256  # the context of one of them
        plain, special = (sweep.first.layers for sweep in screen.sweeps())
        assert (plain, special) == (None, "full-attention")
        screen.query_one("#group", MultiChoice).focus()
        await pilot.pause(0.1)
        assert "not 128: does not divide" in " ".join(screen_text(app).split())
