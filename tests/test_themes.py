from __future__ import annotations

import asyncio
import itertools
import os
import time
from pathlib import Path

import numpy as np
import pytest
from textual.app import App
from textual.color import Color
from textual.theme import Theme

from mqf_tui.app import looks
from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.themes import DEFAULT, read_theme, themes
from mqf_tui.library.settings import settings_file
from tests.conftest import ROOT

OURS = sorted((ROOT / "themes").glob("*.toml"))
TEXTS = ("foreground", "secondary", "primary", "accent", "success", "warning", "error")
GROUNDS = ("background", "surface", "panel")
# Text on other grounds than the screen's: the cursor, marked text, buttons and badges, links, the footer.
PAIRS = (
    ("block-cursor-foreground", "block-cursor-background"),
    ("block-cursor-blurred-foreground", "block-cursor-blurred-background"),
    ("input-cursor-foreground", "input-cursor-background"),
    ("input-selection-foreground", "input-selection-background"),
    ("footer-key-foreground", "footer-background"),
    ("footer-description-foreground", "footer-background"),
    *(("button-color-foreground", name) for name in ("primary", "success", "warning", "error")),
    *(("background", name) for name in TEXTS),
    ("foreground", "surface-active"),
    *((f"text-{name}", f"{name}-muted") for name in ("primary", "success", "warning", "error")),
)  # fmt: skip
DIM = 0.66  # what Textual leaves of text drawn dim


def rgb(colour: Color) -> np.ndarray:
    return np.array(colour.rgb, float)


def over(top: Color, below: Color) -> Color:
    """A colour that may be transparent, as it is seen on another."""
    return Color(*(round(v) for v in rgb(below) + (rgb(top) - rgb(below)) * top.a))


def linear(colour: Color) -> np.ndarray:
    channels = rgb(colour) / 255
    return np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def contrast(one: Color, other: Color) -> float:
    """WCAG 2's contrast ratio."""
    high, low = sorted(
        (float(linear(c) @ np.array([0.2126, 0.7152, 0.0722])) for c in (one, other)), reverse=True
    )
    return (high + 0.05) / (low + 0.05)


def lightness_and_hue(light: np.ndarray) -> np.ndarray:
    """CIE L*a*b* of linear sRGB."""
    to_xyz = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    x, y, z = (to_xyz @ light) / np.array([0.9505, 1.0, 1.089])
    fx, fy, fz = (v ** (1 / 3) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in (x, y, z))
    return np.array([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])


# Machado, Oliveira and Fernandes 2009, severity 1, on linear RGB.
EYES = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


def nearest_verdicts(theme: Theme, eyes: str) -> float:
    """The smallest distance in L*a*b* between two of the verdicts' colours, as these eyes see them."""
    seen = [
        lightness_and_hue(np.clip(EYES[eyes] @ linear(Color.parse(colour)), 0, 1))
        for colour in (theme.success, theme.warning, theme.error)
    ]
    return min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(seen, 2))


def test_the_formulas_against_published_values() -> None:
    assert contrast(Color.parse("#000"), Color.parse("#fff")) == pytest.approx(21)
    assert contrast(Color.parse("#777"), Color.parse("#fff")) == pytest.approx(4.48, abs=0.01)
    lab = lightness_and_hue(linear(Color.parse("#ff0000")))
    assert lab == pytest.approx([53.24, 80.09, 67.20], abs=0.1)


@pytest.mark.parametrize("path", OURS, ids=lambda path: path.stem)
def test_every_text_can_be_read(path: Path) -> None:
    theme = read_theme(path)
    variables = {
        name: Color.parse(value)
        for name, value in theme.to_color_system().generate().items()
        if "-style" not in name and value not in ("initial", "transparent") and "auto" not in value
    }
    background = variables["background"]
    least = 7.0 if theme.name == "mqf-contrast" else 4.5
    low: list[tuple[str, str, float]] = []
    for name, ground in itertools.product(TEXTS, GROUNDS):
        low.append((name, ground, contrast(variables[name], variables[ground])))
    for ground in GROUNDS:
        behind = variables[ground]
        for name in ("foreground-muted",):
            low.append((name, ground, contrast(over(variables[name], behind), behind)))
        faint = over(variables["foreground"].with_alpha(DIM), behind)
        low.append(("dim", ground, contrast(faint, behind)))
    for name, ground in PAIRS:
        behind = over(variables[ground], background)
        front = variables.get(name, behind.get_contrast_text(0.87))
        low.append((name, ground, contrast(over(front, behind), behind)))
    assert [(a, b, round(c, 2)) for a, b, c in low if c < least] == []


def test_there_is_a_theme_for_everybody() -> None:
    found, problems = themes()
    assert problems == []
    by_name = {theme.name: theme for theme in found}
    assert len(by_name) == len(OURS) >= 6
    assert by_name[DEFAULT].dark
    assert not by_name["mqf-paper"].dark
    for theme in found:
        # Marks and words tell the verdicts too; their colours should all the same.
        assert nearest_verdicts(theme, "usual") >= 15, theme.name
    for eyes in EYES:
        assert nearest_verdicts(by_name["mqf-clear"], eyes) >= 25, eyes
    greys = [getattr(by_name["mqf-mono"], name) for name in (*TEXTS, *GROUNDS)]
    assert all(len(set(Color.parse(grey).rgb)) == 1 for grey in greys)


BAD = {
    "primary is no colour": 'name = "bad"\nprimary = "not a colour"\n',
    "no TOML": "name = [",
    "recursion": "name = " + "[" * 10**5,
    "unknown key 'colour'": 'name = "t"\nprimary = "#fff"\ncolour = "#000"\n',
    "no name": 'primary = "#fff"\n',
    "name of": 'name = "a b; c"\nprimary = "#fff"\n',
    "no colour 'primary'": 'name = "t"\n',
    "no text": 'name = "t"\nprimary = 7\n',
    "true nor false": 'name = "t"\nprimary = "#fff"\ndark = "no"\n',
    "full colour": 'name = "t"\nprimary = "#ffffff20"\n',
    "full  colour": 'name = "t"\nprimary = "ansi_red"\n',
    "no table": 'name = "t"\nprimary = "#fff"\nvariables = 3\n',
    "unknown variable": 'name = "t"\nprimary = "#fff"\n[variables]\nblock-cursor = "#fff"\n',
    "border is": 'name = "t"\nprimary = "#fff"\n[variables]\nborder = "; } Screen { display: none"\n',
    "style is": 'name = "t"\nprimary = "#fff"\n[variables]\nlink-style = "fat"\n',
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_theme_is_said(name: str, data_home: Path) -> None:
    folder = data_home / "themes"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text(BAD[name])
    found, [problem] = themes()
    assert len(found) == len(OURS)
    assert problem.startswith("theme mine.toml cannot be used: ")
    said = {"primary is no colour": "primary: ", "no TOML": "Invalid value", "full  colour": "full colour"}
    assert said.get(name, name) in problem


GREEN = (
    'name = "mine"\nprimary = "#336699"\nbackground = "#001100"\n[variables]\nfooter-background = "red 30%"\n'
)


async def theme_became(app: App[None], colour: str) -> None:
    """Wait until the screen is drawn in this background."""
    end = time.monotonic() + 20
    # Textual's shades are computed in floats and may be off by one.
    while np.abs(rgb(app.screen.styles.background) - rgb(Color.parse(colour))).max() > 2:
        assert time.monotonic() < end, app.screen.styles.background
        await asyncio.sleep(0.05)


async def test_the_users_themes_live(data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "EVERY", 0.1)
    mine = settings_file().parent / "themes" / "mine.toml"
    mine.parent.mkdir(parents=True)
    settings_file().write_text('[app]\ntheme = "mine"\n')
    mine.write_text(GREEN)
    app = MqfTuiApp()
    async with app.run_test() as pilot:
        await pilot.pause()
        assert app.theme == "mine"
        await theme_became(app, "#001100")
        mine.write_text(GREEN.replace("#001100", "#110000"))
        await theme_became(app, "#110000")
        # A broken file: a sentence, and what it was stays.
        mine.write_text(GREEN.replace("#001100", "#00"))
        end = time.monotonic() + 20
        while not (said := [n.message for n in app._notifications if "mine.toml" in n.message]):
            assert time.monotonic() < end
            await pilot.pause(0.05)
        assert "background" in said[0]
        await theme_became(app, "#110000")
        # Gone: it stays while it is in use, another can be chosen.
        os.unlink(mine)
        (mine.parent / "other.toml").write_text(GREEN.replace("mine", "other").replace("#001100", "#000011"))
        end = time.monotonic() + 20
        while "other" not in app.available_themes:
            assert time.monotonic() < end
            await pilot.pause(0.05)
        app.theme = "other"
        await theme_became(app, "#000011")
    again = MqfTuiApp()
    async with again.run_test() as pilot:
        await pilot.pause()
        assert again.theme == "other"  # chosen in the app after the setting was written
    settings_file().write_text('[app]\ntheme = "mqf-paper"\n')
    third = MqfTuiApp()
    async with third.run_test() as pilot:
        await pilot.pause()
        assert third.theme == "mqf-paper"  # the setting was changed after that choice
    settings_file().write_text('[app]\ntheme = "mqf-papier"\n')
    fourth = MqfTuiApp()
    async with fourth.run_test() as pilot:
        await pilot.pause()
        assert fourth.theme == DEFAULT
        assert any("mqf-papier" in n.message and "mqf-paper" in n.message for n in fourth._notifications)
