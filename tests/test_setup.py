"""The set-up: several values of a line, what it says will run, models of mixed attention, bursts of keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual import events
from textual.pilot import Pilot
from textual.widgets import Input

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.preflight import choice_words
from mqf_tui.app.screens.setup import SetupScreen
from mqf_tui.app.widgets.choice import Choice
from mqf_tui.app.widgets.multi_choice import MultiChoice
from mqf_tui.app.widgets.slider import Slider
from mqf_tui.library.models import describe_folder
from tests.test_app import running, screen_text, text_of, until
from tests.tiny_configs import LATENT, SPECIAL, stub_folder


async def set_up(app: MqfTuiApp, pilot: Pilot[None], folder: Path) -> None:
    model = describe_folder(str(folder))
    assert model.problem is None
    app.set_up([model])
    await until(
        pilot, lambda: isinstance(app.screen, SetupScreen) and "per token" in text_of(app, "#estimate")
    )


def values(app: MqfTuiApp, name: str) -> tuple[Any, ...]:
    return app.screen.query_one(f"#{name}", MultiChoice).values


async def test_space_keeps_a_value_and_adds_others(demo_model: Path) -> None:
    async with running() as (app, pilot):
        await set_up(app, pilot, demo_model)
        race = app.screen.query_one("#race", Choice)
        await pilot.press("right")
        assert values(app, "bits") == (6,)  # one choice goes with the cursor
        assert "settings" not in text_of(app, "#estimate")
        assert not race.display
        await pilot.press("space", "right", "right")
        assert values(app, "bits") == (6,)
        await pilot.press("space", "left", "left", "left", "space")
        assert values(app, "bits") == (8, 6, 4)
        await until(
            pilot, lambda: text_of(app, "#estimate").startswith("3 settings: 8/6/4 bits, group 64; 1 + 3")
        )
        assert race.display
        assert "✓8  ✓6   5  ✓4" in screen_text(app)
        await pilot.press("space", "right", "space")
        assert values(app, "bits") == (4,)
        await pilot.press("right", "right", "space", "left")
        assert values(app, "bits") == (5,)  # none is kept: the cursor's is the choice again
        assert not race.display


async def test_the_mouse_adds_and_takes_out_and_one_stays(demo_model: Path) -> None:
    async with running() as (app, pilot):
        await set_up(app, pilot, demo_model)
        places = {"8": 15, "4": 28}
        await pilot.click("#bits", offset=(places["4"], 0))
        assert values(app, "bits") == (8, 4)
        await pilot.click("#bits", offset=(places["8"], 0))
        assert values(app, "bits") == (4,)
        await pilot.click("#bits", offset=(places["4"], 0))
        assert values(app, "bits") == (4,)


async def test_what_does_not_fit_the_model_is_no_part_of_a_sweep(demo_model: Path) -> None:
    async with running() as (app, pilot):
        await set_up(app, pilot, demo_model)
        group = app.screen.query_one("#group", MultiChoice)
        group.choose_all((32, 64, 128))
        assert group.values == (32, 64)  # 128 does not divide the head size of 64
        await pilot.click("#group", offset=(27, 0))
        assert group.values == (32, 64)


async def test_keys_and_values_apart_and_formats_of_their_own(demo_model: Path) -> None:
    async with running() as (app, pilot):
        await set_up(app, pilot, demo_model)
        app.screen.query_one("#bits", MultiChoice).choose_all((8, 4))
        app.screen.query_one("#group", MultiChoice).choose_all((32, 64))
        app.screen.query_one("#formats", MultiChoice).choose_all(("alike", "k8v4", "mxfp4"))
        # (2 bits + 1 format) × 2 groups, and mxfp4 once: its groups are its own.
        await until(pilot, lambda: "7 settings" in text_of(app, "#estimate"))
        assert "8/4 bits × groups 32/64; k8v4 × groups 32/64; mxfp4" in text_of(app, "#estimate")
        assert "1 + 7 passes a chunk" in text_of(app, "#estimate")
        assert "1.0 kB → 272 B to 576 B" in text_of(app, "#estimate")
        screen = app.screen
        assert isinstance(screen, SetupScreen)
        words = [one.quantizers.word for one in screen.sweeps()[0].variants]
        assert words == ["8g32", "8g64", "4g32", "4g64", "k8v4g32", "k8v4g64", "mxfp4"]


def test_the_preview_names_all_that_was_chosen() -> None:
    assert choice_words((8, 6, 4), (32, 64), ("alike",), 6) == "6 settings: 8/6/4 bits × groups 32/64"
    assert choice_words((8,), (64,), ("k8v4", "k4v8"), 2) == "2 settings: k8v4/k4v8, group 64"
    assert choice_words((8,), (64,), ("mxfp8", "nvfp4"), 2) == "2 settings: mxfp8; nvfp4"


async def test_digits_in_a_burst_reach_the_line_that_the_arrows_went_to(demo_model: Path) -> None:
    async with running() as (app, pilot):
        await set_up(app, pilot, demo_model)
        for key in (
            *["down"] * 4,
            "3",
            "7",
            *["down"] * 2,
            "9",
            "0",
            "backspace",
            "up",
            "up",
            "up",
            "2",
            "5",
            "6",
        ):
            app.post_message(events.Key(key, key if len(key) == 1 else None))
        await pilot.pause(0.5)
        assert app.screen.query_one("#chunks", Slider).value == 37
        assert app.screen.query_one("#start", Choice).value == 9
        assert app.screen.query_one("#length", Choice).value == 256


@pytest.mark.parametrize(
    ("name", "choice", "said"),
    [
        (
            "llama sliding",
            "full-attention",
            "2 of 4 layers quantized, the 2 sliding-window ones are bounded and stay",
        ),
        (
            "qwen3_next",
            "full-attention",
            "1 of 4 layers quantized, the 3 recurrent ones are bounded and stay",
        ),
    ],
)
async def test_mixed_attention_is_said_before_anything_runs(
    tmp_path: Path, name: str, choice: str, said: str
) -> None:
    async with running() as (app, pilot):
        await set_up(app, pilot, stub_folder(tmp_path / "mixed", SPECIAL[name]))
        assert app.screen.query_one("#layers", Choice).value == choice
        assert said in text_of(app, "#estimate").replace("\n", " ")


async def test_bounded_layers_are_only_emulated(tmp_path: Path) -> None:
    async with running() as (app, pilot):
        await set_up(app, pilot, stub_folder(tmp_path / "mixed", SPECIAL["llama sliding"]))
        screen = app.screen
        assert isinstance(screen, SetupScreen)
        assert {(one.layers, one.kernel) for one in screen.sweeps()[0].variants} == {
            ("full-attention", "auto")
        }
        screen.query_one("#layers", Choice).focus()
        await pilot.press("right")
        assert {(one.layers, one.kernel) for one in screen.sweeps()[0].variants} == {("all", "emulated")}
        await until(pilot, lambda: "not what mlx-lm gives" in text_of(app, "#estimate"))
        assert "layers quantized" not in text_of(app, "#estimate")


async def test_latent_caches_are_emulated_from_the_start(tmp_path: Path) -> None:
    async with running() as (app, pilot):
        await set_up(app, pilot, stub_folder(tmp_path / "latent", LATENT["deepseek_v3"]))
        screen = app.screen
        assert isinstance(screen, SetupScreen)
        [one] = screen.sweeps()[0].variants
        assert one.kernel == "emulated"
        screen.query_one("#layers", Choice).focus()
        await pilot.press("left")
        assert "no full-attention layers" in screen.query_one("#layers", Choice).options[0].refusal


@pytest.mark.parametrize("config", [SPECIAL["llama sliding"], SPECIAL["llama4"]], ids=["sliding", "chunked"])
async def test_no_words_are_cut_at_80_columns(tmp_path: Path, config: dict[str, Any]) -> None:
    async with running((80, 24)) as (app, pilot):
        await set_up(app, pilot, stub_folder(tmp_path / "mixed", config))
        app.screen.query_one("#formats", MultiChoice).choose_all(("alike", "k8v4"))
        for choice in app.screen.query(Choice):
            choice.focus()
            await pilot.pause()
            for kept in (frozenset[int](), frozenset({0, 1})):
                for place, option in enumerate(choice.options):
                    if option.refusal is None:
                        choice.chosen = place
                        if isinstance(choice, MultiChoice):
                            choice.kept = kept
                        lines = [line.rstrip() for line in choice.render().plain.splitlines()]
                        assert max(map(len, lines)) <= choice.content_size.width, lines


async def test_choices_are_kept_for_each_model_while_the_app_runs(demo_model: Path, tmp_path: Path) -> None:
    other = stub_folder(tmp_path / "mixed", SPECIAL["llama sliding"])
    async with running() as (app, pilot):
        await set_up(app, pilot, demo_model)
        app.screen.query_one("#bits", MultiChoice).choose_all((8, 4))
        app.screen.query_one("#formats", MultiChoice).choose_all(("alike", "mxfp4"))
        app.screen.query_one("#length", Choice).pick(200)
        app.screen.query_one("#corpus", Choice).pick("a file")
        await pilot.pause()
        app.screen.query_one("#file", Input).value = "notes.txt"
        await pilot.pause()
        await pilot.press("escape")
        await set_up(app, pilot, other)
        assert values(app, "bits") == (8, 4)  # what was chosen last, for want of anything for this model
        app.screen.query_one("#bits", MultiChoice).choose_all((6,))
        await pilot.press("escape")
        await set_up(app, pilot, demo_model)
        assert values(app, "bits") == (8, 4)
        assert values(app, "formats") == ("alike", "mxfp4")
        assert app.screen.query_one("#length", Choice).value == 200
        assert app.screen.query_one("#corpus", Choice).value == "a file"
        assert app.screen.query_one("#file", Input).value == "notes.txt"
        assert app.screen.query_one("#file").display


async def test_escape_closes_the_help_and_nothing_else(demo_model: Path) -> None:
    async with running() as (app, pilot):
        await set_up(app, pilot, demo_model)
        await pilot.press("f1")
        await until(pilot, lambda: app.screen.query("HelpPanel"))
        await pilot.press("escape")
        await until(pilot, lambda: not app.screen.query("HelpPanel"))
        assert isinstance(app.screen, SetupScreen)
        await pilot.press("escape")
        await until(pilot, lambda: not isinstance(app.screen, SetupScreen))


@pytest.mark.parametrize("width", [40, 60, 75])
async def test_a_narrow_window_shows_every_option_and_every_hint(demo_model: Path, width: int) -> None:
    async with running((width, 60)) as (app, pilot):
        await set_up(app, pilot, demo_model)
        for choice in app.screen.query(Choice):
            if not choice.display:
                continue
            choice.focus()
            for place, option in enumerate(choice.options):
                if option.refusal is None:
                    choice.chosen = place
                    await pilot.pause()
                    shown = screen_lines(app, choice)
                    words = " ".join(" ".join(shown).split())
                    assert " ".join(choice.hint.split()) in words
                    assert all(one.label in words for one in choice.options)
        choice = app.screen.query_one("#length", Choice)
        choice.focus()
        await pilot.pause()
        lines = screen_lines(app, choice)
        row = next(n for n, line in enumerate(lines) if "2,048" in line)  # before the hint, which has it too
        await pilot.click("#length", offset=(lines[row].index("2,048") + 1, row))
        assert choice.value == 2048


def screen_lines(app: MqfTuiApp, choice: Choice) -> list[str]:
    """What the screen shows of it."""
    region = choice.region
    lines = screen_text(app).splitlines()[region.y : region.bottom]
    return [line[region.x : region.right] for line in lines]
