"""Where tokens stand on the screen: against walking through the rows cell by cell."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from mqf_tui.app.exploring.layout import TextLayout
from mqf_tui.app.exploring.spelling import NOTHING, Spelling, spelled
from mqf_tui.fidelity.positions import Positions
from mqf_tui.reports.token_text import shown
from tests import makers

SPLIT = [chr(0xDC00 + byte) for byte in "€字é👍".encode()]
PIECES = [
    *(
        "the",
        " quick",
        " brown",
        "fox",
        ".",
        ",",
        " a",
        "\n",
        "\n\n",
        " \n",
        "\t",
        "",
        " ",
        " " * 70,
        "=" * 90,
    ),
    *("字", "漢字", "かな", "👍", "é", "e\u0301", "\u0301", " \u0301", "\u200d", "\ufe0f", "한", "ᄒ", "ᅡ"),
    *("\x1b[31m", "\x00", "\u202e", "x" * 300, "字" * 60, "\u2028", "·", "a\nb\nc", "\n\u0301", "\ud834"),
    *SPLIT,
    *(" " + SPLIT[0], SPLIT[1] + SPLIT[2], SPLIT[2] + "a"),
]
CLEAN = str.maketrans("", "", f"{NOTHING}◌\n \t\u200c\u200d\ufe0e\ufe0f")


def of_ids(ids: list[int], starts: list[int]) -> Positions:
    """Positions that spell PIECES by number, a chunk beginning at each of ``starts``."""
    n = len(ids)
    chunk = np.searchsorted(np.array(starts), np.arange(n), "right") - 1
    depth = np.arange(n) - np.array(starts)[chunk]
    columns: dict[str, Any] = {name: getattr(makers.positions(1, n), name) for name in ("kl", "nll_ref")}
    columns |= {name: np.zeros(n, np.int32) for name in ("part", "top1_ref", "top1_quant")}
    columns |= {
        "nll_quant": columns["nll_ref"],
        "chunk": chunk,
        "depth": depth,
        "token": np.array(ids, np.int32),
    }
    return Positions.of(columns, (), dict(enumerate(PIECES)))


@st.composite
def texts(draw: st.DrawFn) -> tuple[Positions, list[int]]:
    ids = draw(st.lists(st.integers(0, len(PIECES)), min_size=1, max_size=120))  # the last has no text
    starts = sorted({0, *draw(st.lists(st.integers(0, len(ids) - 1), max_size=3))})
    return of_ids(ids, starts), starts


def greedy(spelling: Spelling, starts: list[int], width: int) -> list[list[tuple[int, str]]]:
    """The rows of text, made word by word: the place and the text of each piece."""
    pieces: list[tuple[int, int, bool]] = []  # place, number of the piece, whether a chunk begins there
    for place, text in enumerate(spelling.index.tolist()):
        first, end = int(spelling.first[text]), int(spelling.first[text + 1])
        pieces += [(place, piece, place in starts and piece == first) for piece in range(first, end)]
    words: list[tuple[bool, list[tuple[int, int]]]] = []  # whether a new line must begin; its pieces
    for i, (place, piece, begins) in enumerate(pieces):
        before = pieces[i - 1][1] if i else None
        must = begins or (before is not None and bool(spelling.hard[before]))
        may = bool(spelling.opens[piece]) or (before is not None and bool(spelling.closes[before]))
        if must or may or not words:
            words.append((must, []))
        words[-1][1].append((place, piece))
    rows: list[list[tuple[int, str]]] = []
    used = 0
    for must, word in words:
        size = sum(int(spelling.cells[piece]) for _, piece in word)
        if must or not rows or used + size > width:
            rows.append([])
            used = 0
        for place, piece in word:
            cells = int(spelling.cells[piece])
            if used + cells > width:
                rows.append([])
                used = 0
            rows[-1].append((place, spelling.pieces[piece]))
            used += cells
    return rows


@settings(max_examples=150)
@given(texts(), st.integers(20, 200))
def test_every_position_stands_once_in_order_at_its_cells(
    made: tuple[Positions, list[int]], width: int
) -> None:
    positions, starts = made
    n = len(positions)
    spelling = spelled(positions)
    layout = TextLayout(spelling, np.array(starts), width)
    rows = [layout.pieces(row) for row in range(layout.n_rows)]
    rules = [layout.chunk_ruled(row) for row in range(layout.n_rows)]
    assert [rule for rule in rules if rule is not None] == list(range(len(starts)))
    assert all((rule is None) == bool(row) for rule, row in zip(rules, rows, strict=True))
    assert [[(p.place, p.text) for p in row] for row in rows if row] == greedy(spelling, starts, width)

    where: dict[int, list[tuple[int, int]]] = {place: [] for place in range(n)}
    for number, row in enumerate(rows):
        before = ""
        for piece in row:
            assert piece.column == cell_len(before)
            for cell in range(cell_len(piece.text)):
                where[piece.place].append((number, piece.column + cell))
            before += piece.text
        assert cell_len(before) <= width
    for place, cells in where.items():
        assert cells, "a position without a cell cannot be walked to"
        assert layout.where(place) == cells[0]
        assert layout.last_row(place) == cells[-1][0]
        assert cells == sorted(cells)
        for row, column in (cells[0], cells[-1]):
            assert layout.place_at(row, column) == place
    flat = [cells[0] for cells in where.values()]
    assert flat == sorted(flat)
    for chunk, start in enumerate(starts):
        assert layout.where(start) == (layout.rule_row(chunk) + 1, 0)
        assert layout.place_at(layout.rule_row(chunk), 5) is None


@settings(max_examples=100)
@given(texts())
def test_it_reads_as_each_chunk_does(made: tuple[Positions, list[int]]) -> None:
    """Characters cut between tokens are put together as over the whole chunk, whose tokens are all joined."""
    positions, starts = made
    spelling = spelled(positions)
    for start, end in zip(starts, [*starts[1:], len(positions)], strict=True):
        wanted = shown(positions.token[start:end].tolist(), positions.texts)
        assert [spelling.texts[i] for i in spelling.index[start:end].tolist()] == wanted
        layout = TextLayout(spelling, np.array(starts), 40)
        drawn = ["" for _ in range(len(positions))]
        for row in range(layout.n_rows):
            for piece in layout.pieces(row):
                drawn[piece.place] += piece.text
        for text, want in zip(drawn[start:end], wanted, strict=True):
            assert text.translate(CLEAN) == want.translate(CLEAN)
            assert not any(c < " " or c in "\x7f\u202e" for c in text)


def test_where_something_can_be_seen() -> None:
    positions = makers.positions(3, 40)
    layout = TextLayout(spelled(positions), np.array([0, 40, 80]), 30)
    for first in range(layout.n_rows - 1):
        last = min(first + 5, layout.n_rows - 1)
        there = [piece.place for row in range(first, last + 1) for piece in layout.pieces(row)]
        assert layout.places(first, last) == (min(there), max(there) + 1)


def test_ids_beyond_any_vocabulary() -> None:
    """A damaged or hostile file must not take all memory."""
    positions = of_ids([3, 2**31 - 1, 3], [0])
    spelling = spelled(positions)
    assert [spelling.texts[i] for i in spelling.index.tolist()] == ["fox", f"#{2**31 - 1}", "fox"]


def test_a_character_is_not_put_together_over_the_end_of_a_chunk() -> None:
    first = PIECES.index(SPLIT[0])
    ids = [first, first + 1, first + 2]
    for starts, wanted in (([0], ["", "", "€"]), ([0, 1], ["\ufffd"] * 3)):
        spelling = spelled(of_ids(ids, starts))
        assert [spelling.texts[i] for i in spelling.index.tolist()] == wanted
