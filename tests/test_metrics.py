from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest

from mqf_tui.fidelity.metrics import masked, position_metrics, reduced


def oracle(
    ref: np.ndarray, quant: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Textbook log-softmaxes in float64."""
    r, q = ref.astype(np.float64), quant.astype(np.float64)
    log_p = r - np.logaddexp.reduce(r, axis=-1, keepdims=True)
    log_q = q - np.logaddexp.reduce(q, axis=-1, keepdims=True)
    kl = np.sum(np.exp(log_p) * (log_p - log_q), axis=-1)
    rows = np.arange(len(targets))
    return kl, -log_p[rows, targets], -log_q[rows, targets]


@pytest.mark.parametrize("spread", [0.01, 0.3, 3.0])
@pytest.mark.parametrize("offset", [0.0, 500.0, -3000.0])
def test_metrics_equal_float64(spread: float, offset: float) -> None:
    rng = np.random.default_rng(3)
    ref = (rng.normal(0, 4, (17, 5000)) + offset).astype(np.float32)
    quant = (ref + rng.normal(0, spread, ref.shape)).astype(np.float32)
    targets = rng.integers(0, 5000, 17)
    m = position_metrics(mx.array(ref), mx.array(quant), mx.array(targets))
    kl, nll_ref, nll_quant = oracle(ref, quant, targets)
    np.testing.assert_allclose(np.array(m.kl), kl, rtol=2e-4, atol=2e-6)
    np.testing.assert_allclose(np.array(m.nll_ref), nll_ref, rtol=1e-5)
    np.testing.assert_allclose(np.array(m.nll_quant), nll_quant, rtol=1e-5)
    np.testing.assert_array_equal(np.array(m.top1_ref), ref.argmax(-1))
    np.testing.assert_array_equal(np.array(m.top1_quant), quant.argmax(-1))


def test_both_array_libraries_agree() -> None:
    rng = np.random.default_rng(9)
    ref = rng.normal(0, 4, (9, 3000)).astype(np.float32)
    quant = (ref + rng.normal(0, 0.2, ref.shape)).astype(np.float32)
    targets = rng.integers(0, 3000, 9)
    kl, nll_ref, nll_quant = oracle(ref, quant, targets)
    for m in (
        reduced(np, ref, quant, targets),
        reduced(mx, mx.array(ref), mx.array(quant), mx.array(targets)),
    ):
        np.testing.assert_allclose(np.array(m.kl), kl, rtol=2e-4, atol=2e-6)
        np.testing.assert_allclose(np.array(m.nll_ref), nll_ref, rtol=1e-5)
        np.testing.assert_allclose(np.array(m.nll_quant), nll_quant, rtol=1e-5)
        np.testing.assert_array_equal(np.array(m.top1_ref), ref.argmax(-1))


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_identical_logits_give_exactly_zero(scale: float) -> None:
    logits = mx.array((np.random.default_rng(5).normal(0, scale, (64, 49152))).astype(np.float32))
    m = position_metrics(logits, mx.array(np.array(logits)), mx.zeros(64, mx.int32))
    assert float(mx.max(mx.abs(m.kl))) == 0.0


def test_minus_infinity_is_borne_and_nan_stays() -> None:
    ref = np.array([[0.0, 1.0, -np.inf], [0.0, 1.0, 2.0], [0.0, np.nan, 1.0]], np.float32)
    quant = np.array([[0.0, 1.0, -np.inf], [0.0, 1.0, -np.inf], [0.0, 1.0, 1.0]], np.float32)
    kl = np.array(masked(mx.array(ref), mx.array(quant))[0])
    assert kl[0] == 0.0
    assert kl[1] == np.inf
    assert np.isnan(kl[2])
