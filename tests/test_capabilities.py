from __future__ import annotations

import unicodedata

import pytest
from rich.cells import cell_len

from mqf_tui.app.capabilities import MARKS, Capabilities, ascii_bar, bar, capabilities, mark, tall

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
