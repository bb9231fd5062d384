"""Paired differences against the brute-force formula and SciPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from mqf_tui.fidelity.comparison import paired_difference
from tests import makers


def test_difference_equals_the_formula() -> None:
    first = makers.positions(n_chunks=6, per_chunk=50, seed=1)
    rng = np.random.default_rng(8)
    second = replace(
        first,
        kl=(first.kl + rng.exponential(0.01, len(first))).astype(np.float32),
        top1_quant=np.where(rng.random(len(first)) < 0.2, first.top1_ref + 1, first.top1_ref).astype(
            np.int32
        ),
    )
    found = paired_difference(first, second)
    assert found is not None
    delta = second.kl.astype(np.float64) - first.kl.astype(np.float64)
    sums = [sum(delta[i] - delta.mean() for i in range(300) if first.chunk[i] == g) for g in range(6)]
    error = np.sqrt(6 / 5 * np.sum(np.square(sums))) / 300
    half = stats.t.ppf(0.975, 5) * error
    assert found.kl_mean == pytest.approx(delta.mean())
    assert found.kl_interval == pytest.approx((delta.mean() - half, delta.mean() + half))
    flips = (second.top1_quant != second.top1_ref).mean() - (first.top1_quant != first.top1_ref).mean()
    assert found.flip_rate == pytest.approx(flips)
    assert found.beyond_chance
    assert not found.equal


def test_a_run_and_itself_are_equal() -> None:
    run = makers.positions(n_chunks=3, per_chunk=20)
    found = paired_difference(run, run)
    assert found is not None
    assert found.equal
    assert (found.kl_mean, found.flip_rate) == (0.0, 0.0)
    assert not found.beyond_chance


def test_other_positions_are_not_paired() -> None:
    run = makers.positions(n_chunks=2, per_chunk=20)
    assert paired_difference(run, replace(run, token=run.token + 1)) is None
    assert paired_difference(run, makers.positions(n_chunks=3, per_chunk=20)) is None


def test_infinite_kl_gives_no_interval() -> None:
    run = makers.positions(n_chunks=2, per_chunk=20)
    spoiled = replace(run, kl=np.where(np.arange(40) == 3, np.inf, run.kl).astype(np.float32))
    found = paired_difference(run, spoiled)
    assert found is not None
    assert found.kl_mean == np.inf
    assert found.kl_interval is None
