"""Attention of every kind against float64 NumPy, and how it is put in place."""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models import activations, base, llama, qwen3

from mqf_tui.fidelity import attention, cpu_kernels
from mqf_tui.fidelity.packed import DequantizedKVCache, PackedKVCache, SplitKVCache
from mqf_tui.fidelity.quantizers import LayerQuantizers, parsed
from tests import float64_attention as oracle
from tests.float64_attention import float64
from tests.tiny_configs import PLAIN, SPECIAL, build

RNG = np.random.default_rng(7)
MASKS = ("none", "causal", "window", "hidden", "added", "added per head")


def normal(*shape: int, size: float = 1) -> mx.array:
    return mx.array(RNG.normal(0, size, shape).astype(np.float32))


def mask_of(kind: str, heads: int, n: int, m: int) -> tuple[Any, np.ndarray]:
    """The mask as a model gives it, and as numbers to add."""
    rows, columns = np.arange(m - n, m)[:, None], np.arange(m)
    if kind == "none":
        return None, np.zeros((n, m))
    if kind == "causal":
        return "causal", np.where(columns <= rows, 0, -np.inf)
    if kind == "window":
        seen = (columns <= rows) & (columns > rows - 9)
        return mx.array(seen), np.where(seen, 0, -np.inf)
    if kind == "hidden":
        seen = RNG.random((1, heads, n, m)) < 0.7
        seen[..., 0] = True
        return mx.array(seen), np.where(seen, 0, -np.inf)
    given = RNG.normal(0, 2, (1, heads if kind == "added per head" else 1, n, m)).astype(np.float32)
    return mx.array(given), given.astype(np.float64)


def assert_near(found: mx.array, expected: np.ndarray) -> None:
    """To float32's own accuracy, over the size of the numbers."""
    assert np.abs(float64(found) - expected).max() <= 2e-6 * np.abs(expected).max()


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("sinks", [False, True])
@pytest.mark.parametrize("block", [1, 40, 700, 1 << 21])
def test_cpu_attention_equals_float64(
    kind: str, sinks: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cpu_kernels, "BLOCK", block)
    monkeypatch.setattr(cpu_kernels, "PIECE", block // 3)
    for batch, heads, groups, n, m in (
        (1, 6, 2, 17, 40),
        (1, 4, 4, 33, 33),
        (2, 4, 1, 1, 20),
        (1, 9, 3, 5, 64),
    ):
        q, k, v = (
            normal(batch, heads, n, 32, size=3),
            normal(batch, groups, m, 32),
            normal(batch, groups, m, 48),
        )
        mask, add = mask_of(kind, heads, n, m)
        extra = normal(heads, size=2) if sinks else None
        before = [float64(x) for x in (q, k, v)]
        assert cpu_kernels.attends(q, k, v, mask, extra)
        found = cpu_kernels.attend(q, k, v, 32**-0.5, mask, extra)
        taken = None if extra is None else float64(extra)
        assert_near(found, oracle.attention(*before, 32**-0.5, add, taken))
        for array, old in zip((q, k, v), before, strict=True):
            np.testing.assert_array_equal(float64(array), old)


def test_cpu_attention_reads_rows_out_of_a_caches_room() -> None:
    room = normal(1, 2, 256, 64)
    q, k = normal(1, 4, 8, 64), room[..., :100, :]
    _, add = mask_of("causal", 4, 8, 100)
    assert_near(
        cpu_kernels.attend(q, k, k, 0.125, "causal"), oracle.attention(*map(float64, (q, k, k)), 0.125, add)
    )


def test_large_scores_do_not_overflow() -> None:
    q, k, v = normal(1, 2, 4, 64, size=300), normal(1, 2, 12, 64, size=300), normal(1, 2, 12, 64)
    _, add = mask_of("causal", 2, 4, 12)
    found = cpu_kernels.attend(q, k, v, 1.0, "causal")
    expected = oracle.attention(*map(float64, (q, k, v)), 1.0, add)
    assert np.isfinite(float64(found)).all()
    # The largest score takes all; where two are near, float32's products decide.
    assert np.median(np.abs(float64(found) - expected)) < 1e-6


def test_what_is_not_a_number_stays_so() -> None:
    q, k, v = normal(1, 1, 3, 32), normal(1, 1, 3, 32), normal(1, 1, 3, 32)
    k[0, 0, 1, 0] = float("nan")
    found = float64(cpu_kernels.attend(q, k, v, 0.1, "causal"))
    assert np.isfinite(found[0, 0, 0]).all()
    assert np.isnan(found[0, 0, 1:]).all()


def test_memory_stays_flat_at_a_long_window() -> None:
    n, m, heads = 32, 65_536, 4
    q, k = normal(1, heads, n, 32), normal(1, 1, m, 32)
    mx.eval(q, k)
    held = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(cpu_kernels.attend(q, k, k, 0.1, "causal"))
    scores = heads * n * m * 4
    assert mx.get_peak_memory() - held < 1.5 * cpu_kernels.BLOCK * 4 < scores / 2


def test_other_arrays_go_the_stock_way() -> None:
    q, k = normal(1, 2, 4, 64), normal(1, 2, 4, 64)
    half = q.astype(mx.float16)
    assert cpu_kernels.attends(q, k, k, None, None)
    assert not cpu_kernels.attends(half, k, k, None, None)
    assert not cpu_kernels.attends(q, k, k, None, half)
    assert not cpu_kernels.attends(q, (k, k, k), k, None, None)
    assert not cpu_kernels.attends(q, k, k, "sideways", None)
    assert not cpu_kernels.attends(q, k, k, half, None)
    assert not cpu_kernels.attends(q, k[:, :, :3], k, "causal", None)
    stock = mx.fast.scaled_dot_product_attention(half, half, half, scale=0.1, mask="causal")
    found = attention.scaled_dot_product_attention(half, half, half, None, 0.1, "causal")
    np.testing.assert_array_equal(float64(found), float64(stock))


def test_swiglu_equals_float64() -> None:
    gate = mx.concatenate([normal(500, size=4), mx.array([0.0, -0.0, 90.0, -90.0, 1e4, -1e4, 3e38, -3e38])])
    x = normal(len(gate))
    wide = float64(gate)
    with np.errstate(over="ignore"):
        expected = wide / (1 + np.exp(-wide)) * float64(x)
    found = float64(attention.swiglu(gate, x))
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-37)
    assert np.isnan(float64(attention.swiglu(mx.array([float("nan")]), mx.array([1.0])))).all()
    halves = gate[:500].astype(mx.float16), x[:500].astype(mx.float16)
    np.testing.assert_array_equal(float64(attention.swiglu(*halves)), float64(activations.swiglu(*halves)))


FORMATS = ("4g32", "k8v4g32", "k3g64v6g32", "k16v4g64", "k5v16", "mxfp4", "kmxfp8vnvfp4", "kmxfp4v8g64")


@pytest.mark.parametrize("word", FORMATS)
@pytest.mark.parametrize("kind", MASKS)
def test_split_attention_equals_float64_over_decoded_rows(word: str, kind: str) -> None:
    quantizers = parsed(word)
    for heads, groups, n in ((6, 2, 7), (2, 2, 1)):
        cache = SplitKVCache(quantizers)
        parts = [(normal(1, groups, rows, 64, size=2), normal(1, groups, rows, 128)) for rows in (30, n)]
        kept: Any = [cache.update_and_fetch(*part) for part in parts][-1]
        rows = [mx.concatenate(side, axis=2) for side in zip(*parts, strict=True)]
        k, v = oracle.stored(rows[0], quantizers.keys), oracle.stored(rows[1], quantizers.values)
        q = normal(1, heads, n, 64)
        mask, add = mask_of(kind, heads, n, 30 + n)
        found = attention.scaled_dot_product_attention(q, *kept, cache, 0.125, mask)
        assert_near(found, oracle.attention(float64(q), k, v, 0.125, add))


def test_sinks_are_refused_where_keys_stay_packed() -> None:
    four = parsed("4")
    for kind in (SplitKVCache, PackedKVCache, DequantizedKVCache):
        cache = kind(four)
        q, k = normal(1, 2, 3, 64), normal(1, 2, 3, 64)
        kept = cache.update_and_fetch(k, k)
        sinks = normal(2)
        if kind is DequantizedKVCache:
            found = attention.scaled_dot_product_attention(q, *kept, cache, 0.125, "causal", sinks)
            _, add = mask_of("causal", 2, 3, 3)
            rows = oracle.stored(k, four.keys)
            assert_near(found, oracle.attention(float64(q), rows, rows, 0.125, add, float64(sinks)))
            continue
        with pytest.raises(ValueError, match="attention sinks"):
            attention.scaled_dot_product_attention(q, *kept, cache, 0.125, "causal", sinks)


def test_it_is_put_in_place_for_one_model_and_taken_away() -> None:
    model = build(PLAIN["llama"])
    with attention.installed(model):
        assert llama.scaled_dot_product_attention is attention.scaled_dot_product_attention
        assert llama.swiglu is attention.swiglu
        assert qwen3.scaled_dot_product_attention is base.scaled_dot_product_attention
        with attention.installed(model):
            pass
        assert llama.scaled_dot_product_attention is attention.scaled_dot_product_attention
    with pytest.raises(KeyError), attention.installed(model):
        raise KeyError
    assert llama.scaled_dot_product_attention is base.scaled_dot_product_attention
    assert llama.swiglu is activations.swiglu
    assert base.scaled_dot_product_attention is not attention.scaled_dot_product_attention


def test_it_stays_until_the_last_model_is_done() -> None:
    first, second = (attention.installed(build(PLAIN["llama"])) for _ in range(2))
    with first:
        second.__enter__()
    assert llama.scaled_dot_product_attention is attention.scaled_dot_product_attention
    second.__exit__(None, None, None)
    assert llama.scaled_dot_product_attention is base.scaled_dot_product_attention


def test_inherited_methods_are_reached() -> None:
    """A part's class may live in another module than the attention that it inherits."""
    model = build(PLAIN["llama"])

    class Wrapped(type(model)):  # pyright: ignore[reportUntypedBaseClass]
        pass

    model.__class__ = Wrapped
    with attention.installed(model):
        assert llama.scaled_dot_product_attention is attention.scaled_dot_product_attention


@pytest.mark.parametrize("name", [*PLAIN, *SPECIAL])
def test_every_model_gives_the_same_with_it(name: str) -> None:
    mx.random.seed(3)
    model = build((PLAIN | SPECIAL)[name])
    ids = mx.array(RNG.integers(0, 96, (1, 40)))
    plain = float64(model(ids))
    with attention.installed(model):
        found = float64(model(ids))
    np.testing.assert_allclose(found, plain, atol=2e-5 * np.abs(plain).max())


def test_the_format_of_a_full_layer_needs_no_products() -> None:
    cache = SplitKVCache(LayerQuantizers())
    q, k = normal(1, 4, 6, 64), normal(1, 2, 6, 64)
    kept = cache.update_and_fetch(k, k)
    _, add = mask_of("causal", 4, 6, 6)
    found = attention.scaled_dot_product_attention(q, *kept, cache, 0.125, "causal")
    assert_near(found, oracle.attention(float64(q), float64(k), float64(k), 0.125, add))


@pytest.mark.parametrize("columns", [1, 3])
def test_a_mask_that_names_not_every_key_is_left_to_mlx(columns: int) -> None:
    mask = mx.zeros((1, 1, 3, columns))
    queries, keys = mx.zeros((1, 4, 3, 8)), mx.zeros((1, 2, 7, 8))
    assert not cpu_kernels.attends(queries, keys, keys, mask, None)
    assert not cpu_kernels.attends(queries, keys, keys, mx.array(0.0), None)
    assert cpu_kernels.attends(queries, keys, keys, mx.zeros((1, 1, 3, 7)), None) == (
        mx.default_device() == mx.cpu
    )
