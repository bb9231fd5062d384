"""Logits -> numbers a position, of both array libraries, against float64 log-softmaxes spelled out."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mqf_tui.fidelity.metrics import StepMetrics, masked, position_metrics, reduced
from tests import oracle

Logits = np.ndarray
LIBRARIES = ("numpy", "mlx", "the device's")
IDS = ("top1_ref", "top1_quant", "in_top5")


def measured(library: str, ref: Logits, quant: Logits, targets: Logits) -> dict[str, np.ndarray]:
    if library == "numpy":
        with np.errstate(all="ignore"):
            found = reduced(np, ref.copy(), quant.copy(), targets)
    else:
        arrays = mx.array(ref), mx.array(quant), mx.array(targets)
        found = reduced(mx, *arrays) if library == "mlx" else position_metrics(*arrays)
    return {name: np.array(values) for name, values in found._asdict().items()}


def expected(ref: Logits, quant: Logits, targets: Logits) -> dict[str, np.ndarray]:
    rows = oracle.metrics(ref, quant, targets)
    return {name: np.array([row[name] for row in rows]) for name in StepMetrics._fields}


def check(library: str, ref: Logits, quant: Logits, targets: Logits, **tolerances: Any) -> None:
    got, right = measured(library, ref, quant, targets), expected(ref, quant, targets)
    for name in StepMetrics._fields:
        if name in IDS:
            np.testing.assert_array_equal(got[name], right[name], name)
        else:
            rtol, atol = tolerances.get(name, (1e-5, 2e-6))
            np.testing.assert_allclose(got[name], right[name], rtol, atol, err_msg=name)


def drawn(shape: tuple[int, int], spread: float, seed: int = 3) -> tuple[Logits, Logits, Logits]:
    rng = np.random.default_rng(seed)
    ref = rng.normal(0, 4, shape).astype(np.float32)
    quant = (ref + rng.normal(0, spread, shape)).astype(np.float32)
    return ref, quant, rng.integers(0, shape[1], shape[0])


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("spread", [0.01, 0.3, 3.0])
@pytest.mark.parametrize("offset", [0.0, 500.0, -3000.0])
def test_metrics_equal_float64(library: str, spread: float, offset: float) -> None:
    ref, quant, targets = drawn((17, 2000), spread)
    ref, quant = (ref + np.float32(offset)), (quant + np.float32(offset))
    check(library, ref, quant, targets, kl=(2e-4, 2e-6))


@pytest.mark.parametrize("spread", [0.003, 0.03, 1.0])
def test_kl_keeps_its_digits_on_a_cpu(spread: float) -> None:
    """An 8-bit cache moves a model by some 1e-5 nats: float32 sums of a whole vocabulary would drown that."""
    ref, quant, targets = drawn((12, 49152), spread)
    check("numpy", ref, quant, targets, kl=(1e-6, 4e-8), delta_p=(1e-3, 1e-9))


@pytest.mark.parametrize("library", LIBRARIES)
def test_kl_that_is_all_rounding_is_not_negative(library: str) -> None:
    ref, quant, targets = drawn((40, 3000), 1e-6)
    kl = measured(library, ref, quant, targets)["kl"]
    assert (kl >= 0).all()
    assert (kl < 1e-5).all()


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("size", [2, 3, 4, 5, 6])
def test_small_vocabularies(library: str, size: int) -> None:
    """Of two tokens the second is the other one; of five or fewer every token is in the top 5."""
    ref, quant, targets = drawn((60, size), 2.0, seed=size)
    check(library, ref, quant, targets)
    if size <= 5:
        assert measured(library, ref, quant, targets)["in_top5"].all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_ties(library: str) -> None:
    """The first of equal tokens is the top; a tie for the top has no margin; ties do not push from the
    top 5, strictly likelier tokens do."""
    top = [9.0, 1, 2, 3, 0, 0, 0, 0]
    ref = np.array([[1.0] * 8, [5, 7, 7, 1, 1, 1, 1, 1], top, top, top], np.float32)
    quant = np.array(
        [
            [1.0] * 8,
            [7, 5, 7, 1, 1, 1, 1, 1],
            [2, 3, 4, 5, 6, 0, 0, 0],  # four are likelier
            [2, 3, 4, 5, 6, 7, 0, 0],  # five are
            [2, 3, 4, 5, 6, 2, 2, 2],  # four are, and three as likely
        ],
        np.float32,
    )
    targets = np.array([3, 2, 0, 0, 0])
    check(library, ref, quant, targets)
    found = measured(library, ref, quant, targets)
    assert found["top1_ref"].tolist() == [0, 1, 0, 0, 0]
    assert found["top1_quant"].tolist() == [0, 0, 4, 5, 4]
    assert found["margin"][:2].tolist() == [0, 0]
    assert found["in_top5"].tolist() == [True, True, True, False, True]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_identical_logits_give_exactly_zero(library: str, scale: float) -> None:
    logits = np.random.default_rng(5).normal(0, scale, (64, 49152)).astype(np.float32)
    found = measured(library, logits, logits.copy(), np.arange(64))
    for name in ("kl", "delta_p"):
        assert not found[name].any(), name
    for one, other in (("top1_ref", "top1_quant"), ("nll_ref", "nll_quant"), ("prob_ref", "prob_quant")):
        np.testing.assert_array_equal(found[one], found[other])
    assert found["in_top5"].all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_certain_and_an_even_distribution(library: str) -> None:
    certain, even = np.full((1, 8), -200.0, np.float32), np.zeros((1, 8), np.float32)
    certain[0, 5] = 100
    found = measured(
        library, np.concatenate([certain, even]), np.concatenate([even, certain]), np.array([5, 5])
    )
    np.testing.assert_allclose(found["entropy"], [0, np.log(8)], rtol=1e-6)
    np.testing.assert_allclose(found["margin"], [1, 0])
    np.testing.assert_allclose(found["prob_ref"], [1, 0.125])
    np.testing.assert_allclose(found["prob_quant"], [0.125, 1])
    np.testing.assert_allclose(found["delta_p"], [-0.875, 0.875])
    np.testing.assert_allclose(found["kl"], [np.log(8), 300 * 7 / 8 - np.log(8)], rtol=1e-6)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_token_of_the_reference_that_the_variant_rules_out(library: str) -> None:
    """KL of +inf, not NaN, and the other numbers are those of the other tokens."""
    ref = np.array([[0.0, 1.0, 2.0, -1.0]], np.float32)
    quant = np.array([[0.0, 1.0, -np.inf, -1.0]], np.float32)
    check(library, ref, quant, np.array([2]))
    found = measured(library, ref, quant, np.array([2]))
    assert found["kl"][0] == found["nll_quant"][0] == np.inf
    assert not found["in_top5"][0] or np.isfinite(found["delta_p"][0])


@pytest.mark.parametrize("library", LIBRARIES)
def test_tokens_that_the_reference_rules_out(library: str) -> None:
    """Only KL and entropy come out NaN, as a sign to take ``masked``; all else is right as it is."""
    ref, quant, targets = drawn((20, 50), 0.5)
    ref[:, 40:], quant[:10, 40:] = -np.inf, -np.inf
    targets = targets % 40
    got, right = measured(library, ref, quant, targets), expected(ref, quant, targets)
    assert np.isnan(got["kl"]).all()
    kl, entropy = (np.array(array) for array in masked(mx.array(ref), mx.array(quant)))
    np.testing.assert_allclose(kl, right["kl"], 1e-5, 2e-6)
    np.testing.assert_allclose(entropy, right["entropy"], 1e-5, 2e-6)
    for name in set(StepMetrics._fields) - {"kl", "entropy"}:
        np.testing.assert_allclose(got[name], right[name], 1e-5, 2e-6, err_msg=name)


@pytest.mark.parametrize("spread", [0.003, 0.03, 1.0])
def test_masked_is_as_exact_as_the_rest(spread: float) -> None:
    """A model that rules a token out at every position must not lose the digits of a small KL."""
    ref, quant, targets = drawn((12, 49152), spread)
    ref[:, 7], quant[:, 7] = -np.inf, -np.inf
    right = expected(ref, quant, (targets + (targets == 7)))
    kl, entropy = (np.array(array) for array in masked(mx.array(ref), mx.array(quant)))
    exact = mx.default_device() == mx.cpu  # elsewhere sums are float32
    np.testing.assert_allclose(kl, right["kl"], 1e-4, 5e-8 if exact else 5e-6)
    np.testing.assert_allclose(entropy, right["entropy"], rtol=1e-5)


def test_minus_infinity_is_borne_and_nan_stays() -> None:
    ref = np.array([[0.0, 1.0, -np.inf], [0.0, 1.0, 2.0], [0.0, np.nan, 1.0], [0.0, 1.0, 2.0]], np.float32)
    quant = np.array([[0.0, 1.0, -np.inf], [0.0, 1.0, -np.inf], [0.0, 1.0, 1.0], [0, 1, np.nan]], np.float32)
    kl = np.array(masked(mx.array(ref), mx.array(quant))[0])
    assert kl[0] == 0.0
    assert kl[1] == np.inf
    assert np.isnan(kl[2:]).all()


@pytest.mark.parametrize("library", LIBRARIES)
def test_half_precision_logits_are_widened_first(library: str) -> None:
    ref, quant, targets = drawn((9, 300), 0.3)
    ref, quant = ref.astype(np.float16).astype(np.float32), quant.astype(np.float16).astype(np.float32)
    check(library, ref, quant, targets, kl=(2e-4, 2e-6))
    half = position_metrics(
        mx.array(ref).astype(mx.float16), mx.array(quant).astype(mx.float16), mx.array(targets)
    )
    np.testing.assert_allclose(np.array(half.kl), expected(ref, quant, targets)["kl"], 2e-4, 2e-6)
