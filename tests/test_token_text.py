"""Token ids as the text they make."""

from __future__ import annotations

import json
import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqf_tui.reports.token_text import named, shown


def split(data: bytes, cuts: list[int]) -> list[str]:
    """Bytes cut at the places given, each piece as a tokenizer's text would be stored and read back."""
    edges = [0, *sorted({cut % (len(data) + 1) for cut in cuts} - {0, len(data)}), len(data)]
    pieces = [data[a:b].decode("utf-8", "surrogateescape") for a, b in pairwise(edges)]
    return json.loads(json.dumps(pieces))


def texts_of(pieces: list[str]) -> dict[int, str]:
    return dict(enumerate(pieces))


LETTERS = st.characters(categories=["L", "N", "S", "P", "M"])


@given(st.text(LETTERS, min_size=1), st.lists(st.integers(0, 500)))
def test_the_pieces_make_the_text_again(text: str, cuts: list[int]) -> None:
    pieces = split(text.encode(), cuts)
    assert "".join(shown(range(len(pieces)), texts_of(pieces))) == text


@given(st.binary(min_size=1, max_size=60), st.lists(st.integers(0, 500)))
def test_any_bytes_become_inert_text(data: bytes, cuts: list[int]) -> None:
    pieces = split(data, cuts)
    found = shown(range(len(pieces)), texts_of(pieces))
    assert len(found) == len(pieces)
    joined = "".join(found)
    joined.encode("utf-8")
    assert all(
        c in "\n\t" or unicodedata.category(c)[0] != "C"
        for c in joined.replace("\u200c", "").replace("\u200d", "")
    )
    stray = sum("\udc80" <= c <= "\udcff" for c in data.decode("utf-8", "surrogateescape"))
    assert joined.count("\ufffd") >= stray


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([b"a", b"\xe2\x82", b"\xac", b"b"], ["a", "", "€", "b"]),
        ([b"\xf0", b"\x9f", b"\x98", b"\x80!"], ["", "", "", "😀!"]),
        ([b"\xe2\x82", b" a"], ["\ufffd\ufffd", " a"]),  # what was begun and never completed
        ([b"x", b"\xac"], ["x", "\ufffd"]),
        ([b"\xc5\xbc\xc5", b"\xbc"], ["ż", "ż"]),
        ([b"\n"], ["↵\n"]),
        ([b"\n\n  "], ["↵\n↵\n  "]),
        ([b"\t"], ["⇥\t"]),
        ([b"\x1b[31m"], ["␛[31m"]),
        ([b"\x00\x7f\r"], ["␀␡␍"]),
    ],
)
def test_examples(pieces: list[bytes], expected: list[str]) -> None:
    texts = {i: piece.decode("utf-8", "surrogateescape") for i, piece in enumerate(pieces)}
    assert shown(range(len(pieces)), texts) == expected


def test_ids_without_a_text_show_as_ids() -> None:
    assert shown([5, 7, 9], {7: "x", 9: ""}) == ["#5", "x", "#9"]
    assert shown([], {}) == []


@pytest.mark.parametrize("mark", ["\u202e", "\u2066", "\u200f", "\ufeff", "\ud800", "\x9b"])
def test_marks_that_turn_or_break_the_line_are_replaced(mark: str) -> None:
    assert shown([0, 1], {0: f"a{mark}b", 1: "c"}) == ["a\ufffdb", "c"]
    assert named(0, {0: f"a{mark}b"}) == "a\ufffdb"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (" the", "␣the"),
        ("a ", "a␣"),
        ("  ", "␣␣"),
        ("\n                          ", "↵␣×26"),
        ("\n\n", "↵↵"),
        ("\udce2\udc82", "<E2><82>"),
        ("", "#3"),
        ("<b>&", "<b>&"),
    ],
)
def test_one_token_by_itself(text: str, expected: str) -> None:
    assert named(3, {3: text}) == expected
