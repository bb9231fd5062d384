"""Filters, jumps, levels and pairs of the Explore screen, without the screen: against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.text import Text
from textual.color import Color
from textual.theme import BUILTIN_THEMES

from mqf_tui.app.exploring import walk as walks
from mqf_tui.app.exploring.answer import Answer, beside, read
from mqf_tui.app.exploring.filters import FilterError, chosen
from mqf_tui.app.exploring.measures import ALONE, DELTA_P, DIFFERENCE, FLIP, KL, UNKNOWN, Colouring
from mqf_tui.app.exploring.walk import Walk
from mqf_tui.app.exploring.words import numbers
from mqf_tui.app.screens.rivals import rivals, saved_rivals
from mqf_tui.app.themes import themes
from mqf_tui.app.tops import TopsRequest
from mqf_tui.app.widgets.heat import Heat
from mqf_tui.app.widgets.top_tokens import TopList, Tops, drawn
from mqf_tui.fidelity.errors import SaveError
from mqf_tui.fidelity.positions import ARRAYS, Positions
from mqf_tui.fidelity.rescoring import Rescored
from mqf_tui.fidelity.tops import Likeliest
from mqf_tui.fidelity.tops import Tops as Lists
from mqf_tui.fidelity.vocabulary import TOKEN_CLASSES
from mqf_tui.library.runs import SavedRun, save_run
from mqf_tui.reports.heatmap import heat_level
from tests import makers

WORDS = (" the", " House", "ho", "use", " of", " 7", ".", "\n", " caf", "\udcc3", "\udca9", " MADE", "İ")


def made(n_chunks: int = 4, per_chunk: int = 50, seed: int = 3) -> Positions:
    """Positions over a few words; some of the numbers at the very edges of levels."""
    found = makers.positions(n_chunks, per_chunk, seed)
    rng = np.random.default_rng(seed + 100)
    kl = found.kl.copy()
    kl[::17] = np.inf
    kl[5::31] = 0.01
    kl[3::23] = kl[3]
    token = rng.integers(0, len(WORDS), len(found)).astype(np.int32)
    token[10:15] = 8, 9, 10, 4, 5  # " café of 7"
    token[per_chunk - 1 : per_chunk + 1] = 4, 5  # " of 7", one in each of two chunks
    return replace(
        found,
        kl=kl,
        token=token,
        top1_quant=np.where(rng.random(len(found)) < 0.2, found.top1_ref + 1, found.top1_ref).astype(
            np.int32
        ),
        texts=dict(enumerate(WORDS)),
    )


def save(positions: Positions | None = None, **changes: Any) -> SavedRun:
    positions = made() if positions is None else positions
    return save_run(makers.report(n_positions=len(positions), **changes), positions)


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> Answer:
    home: Path = tmp_path_factory.mktemp("runs")
    return read(save_run(makers.report(n_positions=200), made(), home))


def texts_of_chunk(p: Positions, chunk: int) -> tuple[str, list[tuple[int, int]]]:
    """The text of a chunk in small letters, and from where to where each of its positions stands in it."""
    spelled = {9: "", 10: "é"} | {i: w for i, w in enumerate(WORDS) if i not in (9, 10)}
    text, spans = "", list[tuple[int, int]]()
    ids = p.token[p.chunk == chunk].tolist()
    for i, token in enumerate(ids):
        whole = token == 10 and i > 0 and ids[i - 1] == 9
        word = spelled[token] if token not in (9, 10) else "é" if whole else "\ufffd" if token == 10 else ""
        if token == 9 and not (i + 1 < len(ids) and ids[i + 1] == 10):
            word = "\ufffd"
        word = "↵\n" if word == "\n" else word if len(word.lower()) != len(word) else word.lower()
        spans.append((len(text), len(text) + len(word)))
        text += word
    return text, spans


def holding(p: Positions, word: str) -> list[int]:
    found: list[int] = []
    for chunk in np.unique(p.chunk).tolist():
        text, spans = texts_of_chunk(p, chunk)
        first = int(np.flatnonzero(p.chunk == chunk)[0])
        starts = [i for i in range(len(text)) if text.startswith(word, i)]
        for i, (low, high) in enumerate(spans):
            if any(low < start + len(word) and high > start for start in starts):
                found.append(first + i)
    return found


Rule = Callable[[Positions, int], bool]
RULES: dict[str, Rule] = {
    "": lambda p, i: True,
    "part:code": lambda p, i: p.part[i] == 1,
    "part:CO class:digit": lambda p, i: p.part[i] == 1 and TOKEN_CLASSES[p.token_class[i]] == "digit",
    'class:"word start"': lambda p, i: p.token_class[i] == 0,
    "class:word": lambda p, i: p.token_class[i] in (0, 1),
    "depth:10-20": lambda p, i: 10 <= p.depth[i] <= 20,
    "depth:10..20": lambda p, i: 10 <= p.depth[i] <= 20,
    "depth:7": lambda p, i: p.depth[i] == 7,
    "depth=45-": lambda p, i: p.depth[i] >= 45,
    "depth>1,0": lambda p, i: p.depth[i] > 10,
    "depth >= 30 depth<40": lambda p, i: 30 <= p.depth[i] < 40,
    "chunk:2": lambda p, i: p.chunk[i] == 1,
    "kl>0.01": lambda p, i: float(p.kl[i]) > 0.01,
    "kl:1e-3-1e-2": lambda p, i: 1e-3 <= float(p.kl[i]) <= 1e-2,
    "dp<-0.1": lambda p, i: float(p.delta_p[i]) < -0.1,
    "dp:-0.3--0.1": lambda p, i: -0.3 <= float(p.delta_p[i]) <= -0.1,
    "entropy>2 margin<=0.2": lambda p, i: float(p.entropy[i]) > 2 and float(p.margin[i]) <= 0.2,
    "nll<1": lambda p, i: float(p.nll_ref[i]) < 1,
    "p>0.5": lambda p, i: math.exp(-float(p.nll_ref[i])) > 0.5,
    "flip:yes": lambda p, i: p.top1_ref[i] != p.top1_quant[i],
    "flip:no": lambda p, i: p.top1_ref[i] == p.top1_quant[i],
    "flip:confident": lambda p, i: p.top1_ref[i] != p.top1_quant[i] and float(p.prob_ref[i]) >= 0.5,
}


@pytest.mark.parametrize("words", RULES)
def test_a_filter_keeps_what_it_says(answer: Answer, words: str) -> None:
    p = answer.positions
    wanted = [i for i in range(len(p)) if RULES[words](p, i)]
    assert np.flatnonzero(chosen(words, answer)).tolist() == wanted
    assert wanted


@pytest.mark.parametrize("word", ["house", "HOUSE", "é", "café", "the", "of 7", "made.", "\ufffd", "z"])
def test_text_is_found_across_tokens_but_not_across_chunks(answer: Answer, word: str) -> None:
    found = np.flatnonzero(chosen(f'text:"{word}"', answer)).tolist()
    assert found == holding(answer.positions, word.lower())
    assert bool(found) == (word != "z")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("flop:3", "There is no filter 'flop'; there are part, class"),
        ("part:tables", "No part is called 'tables'; there are prose, code."),
        ("class:verb", "No class is called 'verb'; there are word start"),
        ("kl>much", "'much' is no number; write kl>0.1."),
        ("depth:200-100", "the wrong way round"),
        ("flip:maybe", "write flip:yes, flip:no or flip:confident"),
        ("house", "'house' is no filter; write such as part:code"),
        ('text:"open', "is not closed"),
        ("text>3", "text takes no >"),
        ("kl:nan", "is no number"),
        ('text:""', "wants a word"),
        ("part:\x1b[31m", "No part is called '[31m'"),
        ("kl>0.1 depth", "'depth' is no filter"),
    ],
)
def test_a_bad_filter_is_told_in_a_sentence(answer: Answer, words: str, said: str) -> None:
    with pytest.raises(FilterError) as told:
        chosen(words, answer)
    assert said in str(told.value)
    assert str(told.value).endswith(".")


@pytest.mark.parametrize("words", ["", "part:code", "kl>0.02", "text:house", "depth:3"])
def test_jumps_go_where_a_loop_would(answer: Answer, words: str) -> None:
    walk = Walk(answer)
    walk.keep(words)
    p, n = answer.positions, len(answer)
    flips = [i for i in range(n) if walk.inside[i] and p.top1_ref[i] != p.top1_quant[i]]
    sure = [i for i in flips if float(p.prob_ref[i]) >= 0.5]
    for wanted, confident in ((flips, False), (sure, True)):
        for place in range(-1, n):
            after, before = [i for i in wanted if i > place], [i for i in wanted if i < place]
            found = walk.flip(place, confident=confident)
            back = walk.flip(place, confident=confident, back=True)
            assert found == after[0] if after else str(found).startswith("There is no")
            assert back == before[-1] if before else str(back).startswith("There is no")
    kept = np.flatnonzero(walk.inside).tolist()
    by_kl = sorted(kept, key=lambda i: (-float(p.kl[i]), i))
    seen: list[int] = []
    place = 0 if by_kl[0] != 0 else 1
    for _ in by_kl:
        found = walk.ranked("worst", place)
        assert isinstance(found, int)
        seen.append(found)
        place = found
    assert seen == by_kl
    assert walk.ranked("worst", place) == "This was the last of them."
    assert walk.ranked("worst", place, back=True) == by_kl[-2] if len(by_kl) > 1 else True
    assert walk.ranked("worst", n - 1 if place != n - 1 else 0) == by_kl[0]


def test_a_number_of_a_position(answer: Answer) -> None:
    walk = Walk(answer)
    assert walk.numbered("1") == 0
    assert walk.numbered(" 1 00") == 99
    for bad in ("0", "201", "-3", "x", "1.5", "9" * 5000):
        assert walk.numbered(bad) == "Positions are numbered from 1 to 200."


def test_levels_are_those_of_the_page(answer: Answer) -> None:
    """The same levels as in the HTML report, which looks at one value at a time."""
    p = answer.positions
    levels = Walk(answer).levels().tolist()
    assert levels == [heat_level(value) for value in p.kl.tolist()]
    edges = np.array([0.0, 0.0099999, 0.01, 0.0299, 0.03, 0.1, 0.3, 5, -0.01, -0.5, math.nan, math.inf])
    found = DIFFERENCE.levels(edges * 1.0).tolist()
    assert found[0] == found[1] == 0
    assert found[7] == 8
    assert found[8] == -2
    assert found[10] == UNKNOWN
    assert DELTA_P.levels(np.array([-0.3, 0.3, -0.01])).tolist() == [8, -8, 2]  # losing is worse
    assert sorted(set(FLIP.levels(answer.flips.astype(float)).tolist())) == [0, 4, 8]


@pytest.mark.parametrize("colouring", [*ALONE, DIFFERENCE], ids=lambda c: c.measure)
def test_the_legend_says_where_levels_begin(colouring: Colouring) -> None:
    for level, word in colouring.scale():
        value = float(word.replace("−", "-"))
        assert colouring.levels(np.array([value])).tolist() == [level]


def test_every_theme_can_be_read_on_every_level() -> None:
    """WCAG's contrast, worked out here anew; levels are in the order of their lightness."""

    def luminance(colour: Color) -> float:
        parts = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized]
        return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    found, problems = themes()
    assert len(found) >= 3
    assert not problems
    theirs = [theme for name, theme in BUILTIN_THEMES.items() if "ansi" not in name]
    for theme in (*found, *theirs):
        heat = Heat(theme.to_color_system().generate())
        for level in (UNKNOWN, *range(-8, 9)):
            for options in ({}, {"inside": False}, {"cursor": True}, {"flip": 2}):
                style = heat.style(level, **options)
                assert style.color is not None
                assert style.bgcolor is not None
                pair = [luminance(Color.from_rich_color(c)) for c in (style.color, style.bgcolor)]
                assert (max(pair) + 0.05) / (min(pair) + 0.05) >= 4.5, (theme.name, level, options)
        for sign in (1, -1) if theme in found else ():
            backs = [heat.style(sign * level).bgcolor for level in range(9)]
            light = [luminance(Color.from_rich_color(back)) for back in backs if back is not None]
            assert light in (sorted(light), sorted(light, reverse=True)), theme.name
            assert len(set(light)) == 9, theme.name
            cursor = Color.from_rich_color(heat.style(3, cursor=True).bgcolor)  # type: ignore[arg-type]
            for back in backs:
                level = Color.from_rich_color(back)  # type: ignore[arg-type]
                apart = max(abs(a - b) for a, b in zip(cursor.rgb, level.rgb, strict=True))
                assert apart >= 24, (theme.name, cursor, level)


def test_without_colours_marks_tell() -> None:
    variables = themes()[0][0].to_color_system().generate()
    heat = Heat(variables, "none")
    assert not heat.style(2).bold
    assert heat.style(4).bold
    assert not heat.style(4).underline
    assert heat.style(8).underline
    assert heat.style(0, cursor=True).reverse
    assert not heat.style(8).reverse
    assert heat.style(8, inside=False).dim


def test_two_runs_side_by_side() -> None:
    one = save()
    kept = np.arange(200)[25:]  # deployment: the second has fewer positions, in another order
    other = made()
    other = replace(other, kl=(other.kl * 2).astype(np.float32)).where(kept[::-1].copy())
    second = save(other, kv_bits=8)
    first, rival = read(one), read(second)
    assert rival.positions.depth[0] == 25  # in reading order again
    found = Walk(first).with_rival(rival)
    assert found.beside is not None
    assert found.colouring is DIFFERENCE
    assert found.beside.at.tolist() == [-1] * 25 + list(range(175))
    difference = [math.nan if i < 25 or math.isnan(d) else d for i, d in enumerate(found.difference.tolist())]
    p = first.positions
    for i in range(25, 200):
        x = float(p.kl[i])
        wanted = 0.0 if math.isinf(x) else float(np.float32(2 * p.kl[i])) - x
        assert difference[i] == pytest.approx(wanted, abs=1e-9)
    assert all(map(math.isnan, difference[:25]))
    worst = max(range(25, 200), key=lambda i: (abs(difference[i]), -i))
    assert found.ranked("differing", 0) == worst
    back = found.swapped()
    assert back.beside is not None
    assert back.answer is rival
    assert np.allclose(back.difference, -found.difference[25:])
    assert dict(numbers(first, 3, DIFFERENCE, found.beside))["KL 2"] == "not known"
    assert [run.id for run in rivals(one, [one, second, save(kv_bits=2, model_hash="ff")])] == [second.id]
    assert [run.id for run in saved_rivals(one)] == [second.id]


def test_why_two_runs_cannot_stand_side_by_side() -> None:
    one = read(save())
    moved = made()
    tokens = moved.token.copy()
    tokens[7] += 1
    text = makers.report_data()["corpus"] | {"content_hash": "ff" * 8, "name": "x.txt"}
    for other, said in (
        (save(replace(moved, token=tokens)), "the text's own tokens differ at 1 of 200 shared positions"),
        (save(corpus=text), "the corpus is another"),
        (save(model_hash="ff", model="two"), "different reference models"),
        (one.run, "shown already"),
    ):
        with pytest.raises(SaveError, match=said):
            beside(one, read(other))


def test_what_an_old_or_an_imported_run_does_not_know() -> None:
    p = made()
    columns = {name: getattr(p, name) for name in ARRAYS[:9]}
    old = read(save(Positions.of(columns, p.part_names)))
    words = dict(numbers(old, 0, KL, None))
    assert words["entropy"] == words["margin"] == "not known"
    assert old.spelling.texts[int(old.spelling.index[0])] == f"#{int(p.token[0])}"
    assert Walk(old).flip(0, confident=True) == (
        "This run is of an older version, which did not keep how sure a flip was."
    )
    for words in ("class:digit", "entropy>1", "flip:confident"):
        with pytest.raises(FilterError, match="older version"):
            chosen(words, old)
    walk = Walk(old)
    walk.next_colouring()
    walk.next_colouring()
    assert set(walk.levels().tolist()) == {UNKNOWN}
    bare = save_run(makers.report(), None)
    with pytest.raises(SaveError, match="without its positions"):
        read(bare)


@pytest.mark.parametrize("width", [50, 56, 74, 160])
@pytest.mark.parametrize("n", [2, 3])
def test_lists_of_likeliest_tokens_fill_their_columns(width: int, n: int) -> None:
    texts = {0: " the", 1: "漢字漢字漢字漢字漢字漢字", 2: "\x1b[31m", 3: "own", 4: " a" * 30}
    lists = tuple(
        TopList(f"side {i}", (0, 1, 2 + i, 4), (0.9, 0.05, 0.02, math.nan), 0.001) for i in range(n)
    )
    colours = themes()[0][0].to_color_system().generate()
    text: Text = drawn(Tops(lists, texts, 3), width, colours, unicode=True)
    rows = text.plain.split("\n")
    assert len(rows) == 6  # the text's own token is not among the likeliest of the first side: below it
    assert {cell_len(row) for row in rows} == {(width - 2 * (n - 1)) // n * n + 2 * (n - 1)}
    assert "\x1b" not in text.plain
    if width >= 56:
        assert rows[-1].split()[:2] == ["◆", "own"]
        assert rows[1].count("=") == n
        assert rows[4].count("?") == n


def test_a_filter_that_comes_while_the_worst_are_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    walk = Walk(read(save()))
    found = walks.ranked

    def late(values: NDArray[Any], inside: NDArray[np.bool_]) -> NDArray[np.intp]:
        monkeypatch.setattr(walks, "ranked", found)
        places = found(values, inside)
        walk.keep("kl<0.01")  # typed while a thread is at it
        return places

    monkeypatch.setattr(walks, "ranked", late)
    walk.warm()
    worst = walk.ranked("worst", 0)
    assert isinstance(worst, int)
    assert walk.inside[worst]


@pytest.mark.parametrize(("factor", "doubted"), [(1.0, False), (1.0005, False), (1.1, True)])
def test_lists_of_another_computation_are_doubted(factor: float, doubted: bool) -> None:
    p = made()
    lists = Likeliest(np.array([[1, 2]], np.int32), np.array([[0.6, 0.3]], np.float32))
    tops = Lists.of(np.array([7]), lists, lists, {1: "a", 2: "b"})
    request = TopsRequest(save(p), 0, [7], 2)
    assert request.begin()
    kl = np.array([0.25], np.float32)
    request.take(Rescored(0, tops, (factor * kl).astype(np.float32), kl, 1.0))
    assert request.snapshot().tops is tops
    assert ("another version or machine" in request.snapshot().doubt) == doubted
