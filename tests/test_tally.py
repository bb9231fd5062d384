"""Running numbers against the finished summary of the same positions."""

from __future__ import annotations

import numpy as np
import pytest

from mqf_tui.app.tally import HISTOGRAM_EDGES, Tally, tally_of
from mqf_tui.fidelity.positions import Positions
from tests import makers


def pieces(positions: Positions, size: int) -> list[Positions]:
    from dataclasses import replace

    from mqf_tui.fidelity.positions import ARRAYS

    return [
        replace(positions, **{name: getattr(positions, name)[a : a + size] for name in ARRAYS})
        for a in range(0, len(positions), size)
    ]


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
def test_steps_add_up_to_the_whole(size: int) -> None:
    positions = makers.positions(n_chunks=4, per_chunk=100)
    tally = Tally(len(positions))
    assert tally.running() is None
    for piece in pieces(positions, size):
        tally.add(piece)
    n = tally.running()
    assert n is not None
    kl = positions.kl.astype(np.float64)
    assert n.n == 400
    assert n.numbers.kl_mean == pytest.approx(kl.mean())
    assert n.numbers.kl_median == pytest.approx(np.quantile(kl, 0.5))
    assert n.numbers.kl_p99 == pytest.approx(np.quantile(kl, 0.99))
    assert n.numbers.flip_rate == pytest.approx(np.mean(positions.top1_ref != positions.top1_quant))
    assert n.numbers.perplexity_quant == pytest.approx(np.exp(positions.nll_quant.astype(np.float64).mean()))
    assert n.histogram.sum() == 400
    logs = np.clip(np.log10(np.maximum(kl, 1e-300)), HISTOGRAM_EDGES[0], HISTOGRAM_EDGES[-1])
    np.testing.assert_array_equal(n.histogram, np.histogram(logs, HISTOGRAM_EDGES)[0])
    assert np.nanmean(n.trace) == pytest.approx(kl.mean(), rel=1e-5)


def test_half_way_leaves_the_rest_of_the_trace_open() -> None:
    positions = makers.positions(n_chunks=2, per_chunk=100)
    tally = Tally(200)
    tally.add(pieces(positions, 100)[0])
    n = tally.running()
    assert n is not None
    assert np.isfinite(n.trace[: len(n.trace) // 2]).all()
    assert np.isnan(n.trace[len(n.trace) // 2 :]).all()
    assert n.numbers.kl_interval is None  # one chunk


def test_zero_and_infinite_kl_are_counted_at_the_ends() -> None:
    from dataclasses import replace

    positions = makers.positions(n_chunks=1, per_chunk=4)
    positions = replace(positions, kl=np.array([0, np.inf, 1e-12, 1e9], np.float32))
    n = tally_of(positions).running()
    assert n is not None
    assert n.histogram[0] == 2
    assert n.histogram[-1] == 2
    assert n.verdict == "bad"
