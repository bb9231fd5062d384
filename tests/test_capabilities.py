from __future__ import annotations

import unicodedata

import pytest
from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.color_triplet import ColorTriplet
from rich.style import Style
from textual.app import App

from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.capabilities import MARKS, Capabilities, ascii_bar, bar, capabilities, mark, tall
from mqf_tui.app.filters import few_colours, no_colours, plain
from mqf_tui.cli import main
from mqf_tui.library.runs import list_runs

UTF8 = {"LANG": "en_US.UTF-8"}
WEB = {"TEXTUAL_DRIVER": "textual.drivers.web_driver:WebDriver"}


@pytest.mark.parametrize(
    ("environment", "unicode", "colour"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", **UTF8}, True, "true"),
        ({"TERM": "xterm-256color", "LC_CTYPE": "UTF-8"}, True, "256"),  # Terminal.app
        ({"TERM": "tmux-256color", "LANG": "de_DE.utf8"}, True, "256"),
        ({"TERM": "xterm-kitty", **UTF8}, True, "256"),
        ({"TERM": "xterm-direct", **UTF8}, True, "true"),
        ({"TERM": "screen", **UTF8}, True, "16"),
        ({"TERM": "xterm", **UTF8}, True, "16"),
        ({"TERM": "xterm", "LC_ALL": "C", **UTF8}, False, "16"),
        ({"TERM": "xterm", "LC_ALL": "", "LC_CTYPE": "", **UTF8}, True, "16"),
        ({"TERM": "xterm", "LC_CTYPE": "C.UTF-8", "LANG": "C"}, True, "16"),
        ({"TERM": "xterm", "LANG": "POSIX"}, False, "16"),
        ({"TERM": "xterm", "LANG": "en_US.ISO-8859-1"}, False, "16"),
        ({"TERM": "xterm"}, True, "16"),
        ({"TERM": "linux", **UTF8}, False, "16"),
        ({"TERM": "vt100", **UTF8}, False, "none"),
        ({"TERM": "dumb", **UTF8}, False, "none"),
        ({"TERM": "xterm-256color", "NO_COLOR": "1", **UTF8}, True, "none"),
        ({**WEB, "TERM": "linux", "LC_ALL": "C"}, True, "true"),
        ({**WEB, "NO_COLOR": "1"}, True, "none"),
        ({}, True, "16"),
    ],
    ids=str,
)  # fmt: skip
def test_terminals(environment: dict[str, str], unicode: bool, colour: str) -> None:
    assert capabilities(environment) == Capabilities(unicode, colour)  # pyright: ignore


def test_the_users_word_goes_before_the_environment() -> None:
    assert capabilities({"TERM": "linux", **UTF8}, unicode=True).unicode
    assert not capabilities({"TERM": "xterm-256color", **UTF8}, unicode=False).unicode


@pytest.mark.parametrize("name", MARKS)
def test_marks_are_one_column_in_both_forms(name: str) -> None:
    shown, plain = mark(name, unicode=True), mark(name, unicode=False)
    assert plain.isascii()
    assert plain.isprintable()
    assert cell_len(shown) == cell_len(plain) == 1
    # Not one that terminals draw as a picture two columns wide.
    assert unicodedata.east_asian_width(shown) not in ("W", "F")


def test_the_verdicts_differ_in_both_forms() -> None:
    for unicode in (True, False):
        assert len({mark(name, unicode) for name in ("good", "marginal", "bad")}) == 3


def test_bars() -> None:
    assert bar(0.5, 4, unicode=True) == "██  "
    assert bar(0.5625, 2, unicode=True) == "█▏"
    assert bar(1, 3, unicode=True) == "███"
    assert ascii_bar(0.5, 4) == "##  "
    assert ascii_bar(0.6, 4) == "##- "
    for share in (-1, 0, float("nan")):
        assert ascii_bar(share, 3) == bar(share, 3, unicode=True) == "   "
    assert ascii_bar(7, 3) == "###"
    assert bar(0.3, 0, unicode=True) == ascii_bar(0.3, 0) == ""
    assert [tall(s, unicode=True) for s in (0, 0.5, 1)] == [" ", "▄", "█"]
    assert all(tall(i / 20, unicode=False).isascii() for i in range(21))


@pytest.mark.parametrize(
    ("shown", "plain_form"),
    [
        ("╭─ KL ─╮", "+- KL -+"),
        ("Süß, naïve", "Su?, naive"),
        ("日本 x", "???? x"),
        ("⣿⠀", ": "),
        ("a\u0301", "a"),  # an accent of no column of its own
        ("…→ 3 × 4 ≥ 2", "~> 3 x 4 > 2"),
        ("ﬁ", "?"),
        ("plain", "plain"),
    ],
)
def test_plain_text_keeps_its_columns(shown: str, plain_form: str) -> None:
    assert plain(shown) == plain_form
    assert cell_len(plain_form) == cell_len(shown)


# The 16 colours of xterm, of the Linux console and of Solarized's terminals: what "blue" is differs much.
XTERM = """000000 cd0000 00cd00 cdcd00 0000ee cd00cd 00cdcd e5e5e5
    7f7f7f ff0000 00ff00 ffff00 5c5cff ff00ff 00ffff ffffff"""
CONSOLE = """000000 aa0000 00aa00 aa5500 0000aa aa00aa 00aaaa aaaaaa
    555555 ff5555 55ff55 ffff55 5555ff ff55ff 55ffff ffffff"""


def relative_luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def ratio(one: str, other: str) -> float:
    high, low = sorted(map(relative_luminance, (one, other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [XTERM.split(), CONSOLE.split()], ids=["xterm", "console"])
def test_sixteen_colours_can_be_read(palette: list[str]) -> None:
    grid = [
        ColorTriplet(r, g, b) for r in range(0, 256, 51) for g in range(0, 256, 51) for b in range(0, 256, 51)
    ]
    for base in (ColorTriplet(20, 22, 31), ColorTriplet(250, 248, 243)):
        for behind in (base, *grid[::7]):
            for front in grid[::3]:
                style = Style.from_color(RichColor.from_triplet(front), RichColor.from_triplet(behind))
                made = few_colours(style, base)
                fore, back = made.color, made.bgcolor
                assert fore is not None
                assert back is not None
                assert back.number in range(8)
                assert ratio(palette[fore.number], palette[back.number]) >= 2.9, (base, behind, front)


def test_sixteen_colours_keep_the_verdicts_apart() -> None:
    base = ColorTriplet(20, 22, 31)
    made = [
        few_colours(Style.parse(f"{colour} on #14161f"), base).color.number
        for colour in ("#73c991", "#e0af68", "#f7768e")
    ]
    assert made == [10, 11, 9]
    assert few_colours(Style.parse("red on blue"), base) == Style.parse("red on blue")


def test_without_colours_the_cursor_is_reversed() -> None:
    base = ColorTriplet(20, 22, 31)
    row = no_colours(Style.parse("#d5d9e8 on #1b1e2b"), base)
    cursor = no_colours(Style.parse("bold #14161f on #7aa2f7"), base)
    assert not row.reverse
    assert cursor.reverse
    assert cursor.bold
    for style in (row, cursor):
        assert style.color.is_default
        assert style.bgcolor.is_default
    # What is reversed already on such a background (a button with the focus) differs from its neighbours.
    assert not no_colours(Style.parse("reverse #14161f on #7aa2f7"), base).reverse


def drawn(app: App[None]) -> str:
    return "\n".join(strip.text for strip in app.screen._compositor.render_strips())


@pytest.mark.slow
async def test_every_screen_in_ascii(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for bits in ("8", "2"):
        assert (
            main(["demo", "--no-app", "--kv-bits", bits, "--max-chunks", "3", "--chunk-length", "128"]) == 0
        )
    monkeypatch.setenv("TERM", "linux")
    monkeypatch.setenv("NO_COLOR", "1")
    runs = list_runs()
    app = MqfTuiApp()
    seen: dict[str, str] = {}

    async def look(name: str, *texts: str) -> None:
        for _ in range(200):
            await pilot.pause(0.05)
            seen[name] = drawn(app)
            if all(text in seen[name] for text in texts):
                return
        raise AssertionError(f"{texts} never appeared on\n{seen[name]}")

    async with app.run_test(size=(100, 30)) as pilot:
        await look("models", "demo", "16-bit", "####")
        # The cursor can be seen without colours.
        assert any(
            segment.style and segment.style.reverse and "demo" in strip.text
            for strip in app.screen._compositor.render_strips()
            for segment in strip
        )
        await pilot.press("colon")
        await look("palette", "Search for commands")
        await pilot.press("escape", "question_mark")
        await look("help", "Models")
        await pilot.press("question_mark", "enter")
        await look("setup", "Set-up", "bits", "enter Start")
        await pilot.press("r")
        await look("runs", "Runs", "demo", "bad")
        app.show_run(runs[0])
        await look("result", "Result", "KL mean", "BAD")
        app.compare(runs)
        await look("compare", "Compare")
        app.explore(runs[0])
        await look("explore", "Explore")
        app.bridge.close()
    for name, text in seen.items():
        assert text.isascii(), name
        # No sign that has a likeness was given up.
        assert "??" not in text, (name, text)
