"""What the live screen shows beside its numbers, without an app: text, strip of chunks, words, alerts."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from mqf_tui.app.alerts import ended_words, notification
from mqf_tui.app.capabilities import tall
from mqf_tui.app.live_words import figures_text, memory_words, queue_words, shares, shown_figures
from mqf_tui.app.measurement import Measurement
from mqf_tui.app.passage import CONFIDENT_FLIP, FLIP, NOTE, SAME, Passage, Word, wrapped
from mqf_tui.app.screens.queue import state_words
from mqf_tui.app.tally import Numbers
from mqf_tui.app.widgets.chunk_strip import height_of, in_cells
from mqf_tui.fidelity.errors import OutOfMemoryError
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.verdict import KV_POLICY
from mqf_tui.reports.schema import Confidence
from tests import makers
from tests.hostile import HOSTILE
from tests.test_app_sweep import SWEEP, begun

COLOURS = {name: "#888888" for name in ("secondary", "primary", "success", "warning", "error")}
DEMO = KVSettings("demo")


def test_a_passage_marks_what_flipped_and_is_harmless() -> None:
    positions = makers.positions(n_chunks=1, per_chunk=4)
    positions = replace(
        positions,
        token=np.array([1, 2, 3, 4], np.int32),
        top1_ref=np.array([5, 5, 5, 5], np.int32),
        top1_quant=np.array([5, 6, 6, 5], np.int32),
        prob_ref=np.array([0.9, 0.4, 0.5, 0.1], np.float16),
        texts={1: "Two", 2: " wo\x1b[31mrds", 3: "\n", 4: "\u202eend"},
    )
    passage = Passage.of(positions, 104)
    assert (passage.first, passage.end, passage.chunk) == (100, 104, 0)
    assert [word.kind for word in passage.words] == [SAME, FLIP, CONFIDENT_FLIP, SAME]
    text = "".join(word.text for word in passage.words)
    assert "Two wo" in text
    assert "end" in text
    assert not {"\x1b", "\u202e", "\n", "\t"} & set(text)


def test_hostile_tokens_stay_on_their_lines() -> None:
    positions = makers.positions(n_chunks=1, per_chunk=3)
    ids = np.arange(3, dtype=np.int32)
    positions = replace(positions, token=ids, texts={0: "a", 1: HOSTILE, 2: " b"})
    lines = wrapped(Passage.of(positions, 3).words, 60)
    assert len(lines) > 3
    for line in lines:
        text = "".join(word.text for word in line)
        assert cell_len(text) <= 60
        assert not {"\x1b", "\x9b", "\u202e", "\u2066", "\u2028", "\n", "\r", "\x07"} & set(text)


@given(
    st.lists(st.tuples(st.text("ab c語", min_size=1, max_size=12), st.sampled_from([SAME, FLIP, NOTE]))),
    st.integers(24, 60),
)
def test_lines_hold_all_words_in_order_and_no_more_than_fits(
    found: list[tuple[str, int]], width: int
) -> None:
    words = [Word(text, kind) for text, kind in found]
    lines = wrapped(words, width)
    flat = [word for line in lines for word in line]
    assert [word.kind for word in flat] == [word.kind for word in words]
    assert [w.text.strip() for w in flat] == [w.text.strip() for w in words]
    assert all(sum(cell_len(word.text) for word in line) <= width for line in lines)


def test_lines_break_between_words_not_between_tokens() -> None:
    words = [Word(text) for text in ("The", " measure", "ment", " is", " slow")]
    lines = ["".join(word.text for word in line) for line in wrapped(words, 12)]
    assert lines == ["The", "measurement", "is slow"]


@given(st.lists(st.floats(1e-6, 10), max_size=50), st.integers(0, 100), st.integers(1, 40))
def test_cells_are_the_means_of_their_chunks(scored: list[float], more: int, n_cells: int) -> None:
    n_chunks = max(len(scored) + more, n_cells)
    found = in_cells(np.array(scored), n_chunks, n_cells)
    assert len(found) == n_cells
    cells: list[list[float]] = [[] for _ in range(n_cells)]
    for i, value in enumerate(scored):
        cells[i * n_cells // n_chunks].append(value)
    for got, values in zip(found.tolist(), cells, strict=True):
        assert math.isnan(got) if not values else got == pytest.approx(sum(values) / len(values))


def test_the_height_of_a_chunk_tells_its_verdict() -> None:
    levels = "▁▂▃▄▅▆▇█"
    for kl in (*np.geomspace(1e-9, 1e3, 200).tolist(), 0.0, math.inf, 0.01, 0.1):
        sign = levels.index(tall(height_of(kl, KV_POLICY), unicode=True))
        good, marginal = KV_POLICY.kl_mean
        assert (sign <= 2, 3 <= sign <= 5, sign >= 6) == (kl <= good, good < kl <= marginal, kl > marginal)


@pytest.mark.parametrize("limits", [(0.0, 0.0), (0.0, 1e-12), (1e-9, 1e-8), (1e300, 1e301)])
def test_odd_limits_have_heights_too(limits: tuple[float, float]) -> None:
    policy = KV_POLICY.model_copy(update={"kl_mean": limits})
    for kl in (0.0, 1e-12, 1e-3, 1e300, math.inf):
        assert 0 < height_of(kl, policy) <= 1


@given(st.floats(0, 1), st.floats(0, 1), st.integers(10, 40), st.booleans())
def test_the_shares_fill_their_bar(first: float, second: float, width: int, unicode: bool) -> None:
    good, marginal, bad = first, (1 - first) * second, (1 - first) * (1 - second)
    sure = Confidence(good=good, marginal=marginal, bad=bad, replicates=200)
    bar = shares(sure, width, COLOURS, unicode=unicode).plain
    assert len(bar) == width
    signs = "▂▅█" if unicode else "gmb"
    assert bar == "".join(sorted(bar, key=signs.index))
    for sign, share in zip(signs, (good, marginal, bad), strict=True):
        assert abs(bar.count(sign) - share * width) <= 2.5
        assert bar.count(sign) > 0 or share < 0.01


def test_figures_stand_whole_on_their_lines() -> None:
    n = Numbers(
        0.0234, (0.0198, 0.027), 0.2, (0.15, 0.25), 0.031, (0.021, 0.041), 0.047, (-0.1, 0.2), 0.00123, 0.002
    )
    found = shown_figures(n, KV_POLICY, dense=True, several=False)
    text = figures_text(found, COLOURS, unicode=False, room=40).plain
    assert text.splitlines() == [
        "KL mean ^ 0.0234 ±15%   median 0.00123",
        "p99 ^ 0.200 ±25%   flips ^ 3.10 ±1.00 %",
        "confident 0.20 %   Δ PPL +0.047 ±0.15",
    ]
    of_sweep = shown_figures(n, KV_POLICY, dense=True, several=True)
    assert "flips" not in of_sweep
    assert list(shown_figures(n, KV_POLICY, dense=False, several=True)) == ["median", "confident flips"]


def test_memory_and_queue_in_words() -> None:
    assert memory_words(183e6, 24e9) == "memory 183 MB of 24.0 GB"
    assert memory_words(1.83e9, 24e9) == "memory 1.8 of 24.0 GB"
    assert memory_words(1.83e9, 0) == "memory 1.8 GB"
    one, several = Measurement(SweepSettings((DEMO,))).snapshot(), Measurement(SWEEP).snapshot()
    assert queue_words([]) == ""
    assert queue_words([one]) == "next: demo, 8-bit g64"
    assert queue_words([several, one, one]) == "next: demo, 3 settings, and 2 measurements more"


def test_a_notification_is_osc_9_and_gets_through_tmux_and_screen() -> None:
    bare = "\x1b]9;mqf-tui: good\x07"
    assert notification("mqf-tui: good", {"TERM": "xterm-256color"}) == bare
    in_tmux = "\x1bPtmux;\x1b\x1b]9;mqf-tui: good\x07\x1b\\"
    assert notification("mqf-tui: good", {"TERM": "screen-256color", "TMUX": "/tmp/t,1,0"}) == in_tmux
    assert notification("mqf-tui: good", {"TERM": "tmux-256color"}) == in_tmux
    in_screen = "\x1bP\x1b]9;mqf-tui: good\x07\x1b\\"
    assert notification("mqf-tui: good", {"TERM": "screen", "STY": "1.pts"}) == in_screen
    for term in ("linux", "dumb", "vt100"):
        assert notification("mqf-tui: good", {"TERM": term}) == ""
    evil = notification("a\x07\x1b]0;title\x07\nb" + "x" * 1000, {"TERM": "xterm"})
    assert evil.count("\x1b") == 1
    assert evil.count("\x07") == 1
    assert "\n" not in evil
    assert len(evil) < 250


def test_the_end_is_told_in_a_sentence() -> None:
    measurement = begun()
    measurement.break_off(OutOfMemoryError("memory ran out; take less."))
    s = measurement.snapshot()
    assert ended_words(s) == "demo, 3 settings: memory ran out; take less."
    assert state_words(s) == "failed: memory ran out; take less."
    waiting = Measurement(SweepSettings((DEMO,)))
    assert state_words(waiting.snapshot()) == "waiting for its turn"
    waiting.stop()
    assert ended_words(waiting.snapshot()) == ""
    assert state_words(waiting.snapshot()) == "cancelled"
    assert not waiting.begin()
