"""Depth buckets of short and long windows, and where KL begins to drift, with known onsets and with none."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from mqf_tui import measure_kv_fidelity
from mqf_tui.fidelity.depth import FIRST, LONG, depth_edges, drift
from mqf_tui.fidelity.statistics import summarise
from mqf_tui.reports.depth_curve import depth_curve
from mqf_tui.reports.markdown import to_markdown
from mqf_tui.reports.schema import Drift
from mqf_tui.reports.setting_words import drift_words
from tests import makers


@pytest.mark.parametrize("length", [16, 512, 2048, LONG])
def test_short_windows_have_eight_equal_parts(length: int) -> None:
    edges = depth_edges(length)
    assert edges.tolist() == np.linspace(0, length - 1, 9).round().astype(int).tolist()


@pytest.mark.parametrize(
    ("length", "first", "expected"),
    [
        (8192, 0, [0, 128, 256, 512, 1024, 2048, 4096, 8191]),
        (5000, 0, [0, 128, 256, 512, 1024, 2048, 4999]),  # no sliver of 903 positions
        (6000, 0, [0, 128, 256, 512, 1024, 2048, 4096, 5999]),
        (131072, 5000, [5000, 8192, 16384, 32768, 65536, 131071]),
        (131072, 8000, [8000, 16384, 32768, 65536, 131071]),  # not 8000 to 8192
    ],
)
def test_long_windows_have_buckets_that_double(length: int, first: int, expected: list[int]) -> None:
    assert depth_edges(length, first).tolist() == expected


def test_a_late_start_has_equal_parts_again() -> None:
    edges = depth_edges(32768, 32000)
    assert len(edges) == 9
    assert np.ptp(np.diff(edges)) <= 1


@given(st.integers(16, 300_000), st.data())
def test_every_scored_depth_is_in_one_bucket(length: int, data: Any) -> None:
    first = data.draw(st.integers(0, length - 2))
    edges = depth_edges(length, first)
    assert edges[0] == first
    assert edges[-1] == length - 1
    assert (np.diff(edges) >= 0).all()
    if length > LONG:
        assert (np.diff(edges) > 0).all() or length - 1 - first < 8


def test_the_report_of_a_long_window_has_these_buckets() -> None:
    n, per = 3, 6000 - 1
    made = makers.positions(n, per)
    found = summarise(made, per + 1)
    starts = [b.start for b in found.by_depth]
    assert starts == [0, 128, 256, 512, 1024, 2048, 4096]
    for bucket in found.by_depth:
        here = (made.depth >= bucket.start) & (made.depth < bucket.end)
        assert bucket.n_positions == here.sum()
        assert bucket.kl_mean == pytest.approx(float(made.kl[here].mean(dtype=float)))
    assert found.drift is not None
    assert summarise(makers.positions(2, 511), 512).drift is None


# --- drift

LENGTH = 16384


def simulated(
    n_chunks: int, onset: int | None, seed: int, by: float = 2.0, stride: int = 16
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """KL of every ``stride``-th depth: chunks differ, and from ``onset`` on it is ``by`` times as much."""
    rng = np.random.default_rng(seed)
    depth = np.arange(0, LENGTH - 1, stride)
    level = np.exp(rng.normal(-5, 0.3, (n_chunks, 1)))
    grown = 1.0 if onset is None else np.where(depth >= onset, by, 1.0)
    kl = level * grown * rng.lognormal(0, 1, (n_chunks, len(depth)))
    return kl.ravel(), np.repeat(np.arange(n_chunks), len(depth)), np.tile(depth, n_chunks)


@pytest.mark.parametrize("onset", [128, 1024, 4096, 8192])
def test_a_known_onset_is_found(onset: int) -> None:
    found = [drift(*simulated(16, onset, seed, by=4.0, stride=4), LENGTH) for seed in range(10)]
    starts = [d.start for d in found if d is not None]
    # Before the onset chance alone goes beyond the error in one of forty.
    assert starts.count(onset) >= 8
    assert all(start is not None and start <= onset for start in starts)


def test_without_drift_there_is_seldom_an_onset() -> None:
    n = 300
    found = [drift(*simulated(8, None, seed, stride=16), LENGTH) for seed in range(n)]
    wrong = sum(d is not None and d.start is not None for d in found)
    # That the last bucket alone is above beyond the error: 2.5 %; four standard errors above that.
    assert wrong / n <= 0.025 + 4 * (0.025 * 0.975 / n) ** 0.5


def test_a_bump_that_goes_away_is_no_drift() -> None:
    kl, chunk, depth = simulated(16, None, 3)
    bumped = np.where((depth >= 1024) & (depth < 2048), 10 * kl, kl)
    found = drift(bumped, chunk, depth, LENGTH)
    assert found is not None
    assert found.start is None or found.start >= 2048


def test_how_many_times_as_much_has_the_paired_error_of_the_chunks() -> None:
    """With as many positions of a bucket in each chunk: the t interval of the linearized ratio."""
    kl, chunk, depth = simulated(10, 8192, 5, by=5.0)
    found = drift(kl, chunk, depth, LENGTH)
    assert found is not None
    assert found.start == 8192
    by_chunk = kl.reshape(10, -1)
    depths = depth.reshape(10, -1)[0]
    above, base = by_chunk[:, depths >= 8192].mean(1), by_chunk[:, depths < FIRST].mean(1)
    ends = stats.ttest_1samp(above / above.mean() - base / base.mean(), 0).confidence_interval(0.95)
    times = above.mean() / base.mean()
    assert found.times == pytest.approx(times, rel=1e-9)
    assert found.times_ci == pytest.approx((times * np.exp(ends.low), times * np.exp(ends.high)), rel=1e-9)


def test_the_error_is_the_formula_spelled_out_where_chunks_are_unequal() -> None:
    kl, chunk, depth = simulated(6, 512, 8, by=9.0)
    kept = np.random.default_rng(1).random(len(kl)) < 0.7
    kl, chunk, depth = kl[kept], chunk[kept], depth[kept]
    found = drift(kl, chunk, depth, LENGTH)
    assert found is not None
    assert found.start == 512
    one, two = depth < FIRST, (depth >= 512) & (depth < 1024)
    residual = 0.0
    for c in range(6):
        a = (kl[one & (chunk == c)] / kl[one].mean() - 1).sum() / one.sum()
        b = (kl[two & (chunk == c)] / kl[two].mean() - 1).sum() / two.sum()
        residual += (b - a) ** 2
    half = stats.t.ppf(0.975, 5) * np.sqrt(6 / 5 * residual)
    times = kl[two].mean() / kl[one].mean()
    assert found.times == pytest.approx(times, rel=1e-9)
    assert found.times_ci == pytest.approx((times * np.exp(-half), times * np.exp(half)), rel=1e-9)


def test_one_chunk_has_no_error() -> None:
    found = drift(*simulated(1, 1024, 0, by=50.0), LENGTH)
    assert found == Drift(known=False, first=0, end=128)


def test_infinite_kl_from_some_depth_on_is_drift() -> None:
    kl, chunk, depth = simulated(4, None, 2)
    kl[depth >= 8192] = np.inf
    found = drift(kl, chunk, depth, LENGTH)
    assert found is not None
    assert (found.start, found.times, found.times_ci) == (8192, np.inf, None)


def test_a_first_bucket_of_zero_has_no_ratio() -> None:
    kl, chunk, depth = simulated(4, None, 2)
    found = drift(np.where(depth < 4096, 0, kl), chunk, depth, LENGTH)
    assert found is not None
    assert (found.start, found.times, found.times_ci) == (4096, np.inf, None)
    found = drift(np.where(depth >= 8192, 0, kl), chunk, depth, LENGTH)
    assert found is not None
    assert found.start is None


def test_short_windows_and_nothing_scored_have_none() -> None:
    kl, chunk, depth = simulated(4, None, 2)
    few = depth < LONG - 1
    assert drift(kl[few], chunk[few], depth[few], LONG) is None
    assert drift(kl[:0], chunk[:0], depth[:0], LENGTH) is None
    only = depth < 100
    assert drift(kl[only], chunk[only], depth[only], LENGTH) is None


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (None, ""),
        ({"known": False}, "with one chunk there is no error, so where KL begins to drift cannot be told"),
        (
            {"known": True},
            "KL does not drift: to the end it is not above that of the first 128 positions beyond",
        ),
        (
            {"known": True, "start": 8192, "times": 3.456, "times_ci": (2.5, 4.75)},
            "KL drifts from depth 8,192 on: to the end it stays above that of the first 128 positions, there "
            "3.46 times as much (2.5 to 4.75)",
        ),
        (
            {"known": True, "start": 8192, "times": float("inf"), "first": 5000, "end": 8192},
            "stays above that of depths 5,000 to 8,191",
        ),
    ],
)
def test_where_it_drifts_in_words(found: dict[str, Any] | None, said: str) -> None:
    data = None if found is None else {"first": 0, "end": 128} | found
    words = drift_words(makers.report(drift=data))
    assert said in words
    assert bool(said) == bool(words)


def test_a_summary_knows_its_drift() -> None:
    made = makers.positions(8, 5000 - 1)
    kl = np.where(made.depth >= 2048, 10, 1) * made.kl
    found = summarise(replace(made, kl=kl.astype(np.float32)), 5000).drift
    assert found is not None
    assert found.start == 2048


# --- drawn


def drawn(length: int, first: int = 0, **changes: Any) -> tuple[ET.Element, list[float]]:
    """The depth curve of a made report, and the places of its points."""
    made = makers.positions(3, length - 1)
    found = summarise(made.where(made.depth >= first), length, first)
    buckets = [bucket.model_dump() for bucket in found.by_depth]
    chart = depth_curve(makers.report(kl_by_depth=buckets, **changes), 832.0)
    root = ET.fromstring(chart.inline("wide"))
    return root, [float(node.attrib["cx"]) for node in root.iter("circle")]


def test_buckets_that_double_are_drawn_equally_wide() -> None:
    root, places = drawn(8192)
    assert len(places) == 7
    assert np.ptp(np.diff(places)) < 0.05
    ticks = {node.text: float(node.attrib["x"]) for node in root.iter("text") if node.text}
    apart = ticks["4,096"] - ticks["2,048"]
    assert ticks["256"] - ticks["128"] == pytest.approx(apart, abs=0.05)
    assert ticks["128"] - ticks["0"] == pytest.approx(apart, abs=0.05)
    _, places = drawn(131072 // 4, 1024)
    assert np.ptp(np.diff(places)) < 0.05


def test_a_short_window_has_an_axis_in_equal_steps() -> None:
    root, places = drawn(LONG)
    assert len(places) == 8
    assert np.ptp(np.diff(places)) < 0.2
    ticks = {node.text: float(node.attrib["x"]) for node in root.iter("text") if node.text}
    assert ticks["1,024"] - ticks["512"] == pytest.approx(ticks["3,583"] - ticks["3,071"], abs=0.3)


def test_the_onset_is_drawn_where_it_is() -> None:
    drift = {"known": True, "first": 0, "end": 128, "start": 2048, "times": 2.0}
    root, _ = drawn(8192, drift=drift)
    ticks = {node.text: float(node.attrib["x"]) for node in root.iter("text") if node.text}
    (line,) = [node for node in root.iter("line") if "dotted" in node.attrib["class"]]
    assert float(line.attrib["x1"]) == pytest.approx(ticks["2,048"], abs=0.01)
    assert "dotted: drifts from 2,048 on" in "".join(root.itertext())
    root, _ = drawn(8192, drift={"known": True, "first": 0, "end": 128})
    assert not [node for node in root.iter("line") if "dotted" in node.attrib["class"]]


@pytest.mark.slow
def test_a_measured_long_window_says_where_it_drifts(tmp_path: Path) -> None:
    folder = makers.model_folder(tmp_path / "tiny-llama")
    makers.rewrite_config(folder, max_position_embeddings=8192)
    notes = makers.text_file(tmp_path / "notes.txt", 12_000)
    report = measure_kv_fidelity(folder, kv_bits=2, chunk_length=4200, max_chunks=2, corpus=notes)
    assert [b.start for b in report.kl_by_depth] == [0, 128, 256, 512, 1024, 2048]
    assert report.drift is not None
    assert report.drift.known
    assert "rift" in to_markdown(report)
    last = measure_kv_fidelity(
        folder, kv_bits=2, chunk_length=4200, max_chunks=2, corpus=notes, score_last=100
    )
    assert last.drift is None
    assert last.n_positions == 200
    assert (last.kl_by_depth[0].start, last.kl_by_depth[-1].end) == (4099, 4199)
