"""SmolLM2-135M on the reference text, against an independent scorer: run here, and run elsewhere before."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mqf_tui.fidelity.events import Finished
from tests.conftest import DATA
from tests.independent_scorer import Scored, score

VALUES = json.loads((DATA / "reference-values.json").read_text())
SETTINGS = [(run["kv_bits"], run["kv_group_size"]) for run in VALUES["runs"]]
NAMES = [f"{bits}-bit-g{group}" for bits, group in SETTINGS]
N_CHUNKS = 2  # of 4: the plain scorer is slow
Run = Callable[[int, int], Finished]

pytestmark = [pytest.mark.slow, pytest.mark.smollm]


@pytest.fixture(scope="module")
def independent(smollm2: Path) -> dict[tuple[int, int], Scored]:
    return score(smollm2, DATA / VALUES["text"], SETTINGS, length=512, n_chunks=N_CHUNKS)


@pytest.mark.parametrize("setting", SETTINGS, ids=NAMES)
def test_an_independent_scorer_gives_the_same(
    setting: tuple[int, int], independent: dict[tuple[int, int], Scored], smollm2_run: Run
) -> None:
    other = independent[setting]
    whole = smollm2_run(*setting).positions
    run = whole.where(whole.chunk < N_CHUNKS)
    np.testing.assert_allclose(run.kl, other.kl, rtol=1e-4, atol=5e-6)
    np.testing.assert_allclose(run.nll_ref, other.nll_ref, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(run.nll_quant, other.nll_quant, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(run.flip, other.flip)
    assert run.kl.mean(dtype=np.float64) == pytest.approx(other.kl.mean(), rel=1e-5)


@pytest.mark.parametrize("expected", VALUES["runs"], ids=NAMES)
def test_the_values_of_another_machine_are_near(expected: dict, smollm2_run: Run) -> None:
    """Near only: one processor met the recorded values within 2e-4, on another mean KL is up to 3 % off.

    What differs is not known; there, MLX's own products and every kernel of OpenBLAS agree to 1e-6.
    """
    report = smollm2_run(expected["kv_bits"], expected["kv_group_size"]).report
    assert report.n_positions == VALUES["positions"]
    assert report.kl.mean == pytest.approx(expected["kl_mean"], rel=0.05)
    assert report.kl.median == pytest.approx(expected["kl_median"], rel=0.05)
    assert report.kl.p99 == pytest.approx(expected["kl_p99"], rel=0.15)
    assert report.flip_rate == pytest.approx(expected["flip_rate"], abs=0.015)
    assert report.perplexity_ref == pytest.approx(expected["perplexity_ref"], rel=5e-4)
    assert report.perplexity_quant == pytest.approx(expected["perplexity_quant"], rel=0.02)
    assert report.verdict == expected["verdict"]
    kv = report.kv_bytes_per_token
    assert kv is not None
    assert kv.variant_measured == pytest.approx(kv.variant)
    assert kv.reference_measured == pytest.approx(kv.reference)
