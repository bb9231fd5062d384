"""Every number of a summary against tests/oracle.py, on random and on adversarial positions."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest

from mqf_tui.fidelity.flips import mcnemar
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.statistics import summarise
from mqf_tui.fidelity.verdict import KV_POLICY, WEIGHTS_POLICY, limited
from mqf_tui.reports.schema import Part, Thresholds
from tests import oracle

LENGTH = 129
LATER = ("prob_ref", "prob_quant", "entropy", "margin", "in_top5", "token_class", "delta_p")


def make(sizes: list[int], seed: int = 0, names: list[int] | None = None, **columns: Any) -> Positions:
    """Random positions in chunks of the given sizes; a column may be given, whole or as one value.

    KL and flips differ from chunk to chunk, tokens are few so that all kinds of flips occur.
    """
    rng = np.random.default_rng(seed)
    n = sum(sizes)
    group = np.repeat(np.arange(len(sizes)), sizes)
    top = rng.integers(0, 4, n)
    prob = rng.uniform(0.1, 1, n)
    shift = rng.normal(0, 0.7, len(sizes))[group]
    nll = rng.exponential(2, n)
    made: dict[str, Any] = {
        "chunk": np.asarray(names if names else range(len(sizes)))[group],
        "depth": np.concatenate([np.arange(size) for size in sizes]),
        "part": group % 2,
        "token": rng.integers(0, 4, n),
        "kl": rng.lognormal(-4 + shift, 1.5),
        "nll_ref": nll,
        "nll_quant": np.abs(nll + rng.normal(0, 0.3, n)),
        "top1_ref": top,
        "top1_quant": np.where(rng.random(n) < 0.1 * np.exp(shift), (top + rng.integers(1, 4, n)) % 4, top),
        "prob_ref": prob,
        "prob_quant": rng.uniform(0.1, 1, n),
        "entropy": rng.exponential(2, n),
        "margin": prob * rng.random(n) ** 4,
        "in_top5": rng.random(n) < 0.95,
        "token_class": rng.integers(0, 6, n),
    }
    for name, values in columns.items():
        made[name] = np.broadcast_to(np.asarray(values, made[name].dtype), n)
    return Positions.of(made, ("a", "b", "never"))


def mixed(p: Positions, seed: int = 9) -> Positions:
    return p.where(np.random.default_rng(seed).permutation(len(p)))


def version_1(p: Positions) -> Positions:
    kept = {name: getattr(p, name) for name in oracle.ARRAYS if name not in LATER}
    return Positions.of(kept, p.part_names)


def some(n: int, share: float, value: float, other: float, seed: int = 4) -> np.ndarray:
    return np.where(np.random.default_rng(seed).random(n) < share, value, other)


HALF, TWENTIETH = float(np.float16(0.5)), float(np.float16(0.05))
CASES: dict[str, Positions] = {
    "random": make([100] * 8),
    "two chunks": make([128, 128], 1),
    "unequal chunks": make([128, 1, 37, 5, 90], 2),
    "forty short chunks": make([3] * 40, 3),
    "one chunk": make([60], 4),
    "one position": make([1], 5),
    "one position a chunk": make([1, 1], 6),
    "two positions": make([2], 7),
    "chunks neither contiguous nor sorted": mixed(make([20, 33, 7], 8, names=[41, -3, 1000])),
    "all KL zero": make([50] * 4, 10, kl=0),
    "nearly all KL zero": make([50] * 4, 11, kl=some(200, 0.02, 0.3, 0)),
    "KL in ties": make([50] * 4, 12, kl=some(200, 0.5, 0.25, 0.5)),
    "a KL of +inf": make([40] * 5, 13, kl=some(200, 0.01, math.inf, 0.01)),
    "many KL of +inf": make([40] * 5, 14, kl=some(200, 0.3, math.inf, 0.01)),
    "only KL of +inf": make([10] * 3, 15, kl=math.inf),
    "+inf in one part only": make(
        [30, 30, 30, 30], 16, kl=np.where(np.arange(120) == 31, math.inf, 0.01 * np.arange(120))
    ),
    "the variant's NLL +inf": make([30] * 3, 17, nll_quant=some(90, 0.05, math.inf, 1.0)),
    "both NLLs +inf": make(
        [30] * 3, 18, nll_quant=some(90, 0.05, math.inf, 1.0), nll_ref=some(90, 0.05, math.inf, 2.0)
    ),
    "perplexities beyond any float": make([30] * 3, 19, nll_quant=800),
    "NLLs all the same": make([30] * 3, 20, nll_ref=1.5, nll_quant=1.5),
    "no flips": make([30] * 4, 21, top1_ref=1, top1_quant=1),
    "nothing but flips": make([30] * 4, 22, top1_ref=1, top1_quant=2),
    "only lost": make([30] * 4, 23, top1_ref=1, top1_quant=2, token=1),
    "only gained": make([30] * 4, 24, top1_ref=1, top1_quant=2, token=2),
    "only changed": make([30] * 4, 25, top1_ref=1, top1_quant=2, token=3),
    "one flip": make([30] * 4, 26, top1_ref=1, top1_quant=np.where(np.arange(120) == 77, 2, 1)),
    "flips at both ends of chunks": make(
        [30] * 4, 27, top1_ref=1, top1_quant=np.where(np.arange(120) % 30 % 29 == 0, 2, 1)
    ),
    "probabilities at the edge of confident": make(
        [80] * 4, 28, top1_ref=1, top1_quant=2, prob_ref=some(320, 0.5, HALF, float(np.float16(0.4998)))
    ),
    "margins at the edge of a near tie": make(
        [80] * 4, 29, top1_ref=1, top1_quant=2, margin=some(320, 0.5, TWENTIETH, float(np.float16(0.0501)))
    ),
    "entropies all equal": make([30] * 4, 30, entropy=1.25),
    "two entropies": make([30] * 4, 31, entropy=some(120, 0.6, 0.0, 3.0)),
    "extreme entropies": make([30] * 4, 32, entropy=some(120, 0.3, 60000, 0)),
    "a part with one chunk": make([30] * 3, 33),
    "one part": make([30] * 3, 34, part=2),
    "classes not known": make([30] * 3, 35, token_class=-1),
    "one class in one chunk": make([30] * 3, 36, token_class=np.where(np.arange(90) < 30, 5, 0)),
    "version 1": version_1(make([50] * 6, 37)),
    "nearly good": make([100] * 6, 38, kl=some(600, 0.02, 0.3, 0.002), top1_ref=1, top1_quant=1),
    "good for certain": make([64] * 6, 39, kl=1e-6, top1_ref=1, top1_quant=1),
    "exactly at the limits": make(
        [100] * 3, 40, kl=0.0099, top1_ref=1, top1_quant=np.where(np.arange(300) % 100 == 0, 2, 1)
    ),
    "the same flip rate in chunks of any size": make(
        [10, 30, 20], 43, top1_ref=1, top1_quant=np.where(np.arange(60) % 10 == 3, 2, 1)
    ),
    "101 positions": make([50, 51], 41),
    "the top hundredth ends within a tie": make([100] * 2, 42, kl=some(200, 0.05, 1.0, 0.001)),
}


def plain(value: Any) -> Any:
    if isinstance(value, Part):
        return plain(value.model_dump())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return value


def differences(got: Any, expected: Any, where: str = "") -> list[str]:
    """Where two nested data differ; figures may by their last roundings. Both have to have the same keys."""
    if isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            return [f"{where}: {got!r} has not the figures {list(expected)}"]
        return [d for key in expected for d in differences(got[key], expected[key], f"{where}.{key}")]
    if isinstance(expected, list):
        if not isinstance(got, list) or len(got) != len(expected):
            return [f"{where}: {got!r} instead of {expected!r}"]
        pairs = enumerate(zip(got, expected, strict=True))
        return [d for k, (a, b) in pairs for d in differences(a, b, f"{where}[{k}]")]
    if isinstance(expected, float) and isinstance(got, float):
        same = got == pytest.approx(expected, rel=1e-9, abs=1e-13, nan_ok=True)
    else:
        same = type(got) is type(expected) and got == expected
    return [] if same else [f"{where}: {got!r} instead of {expected!r}"]


def check(p: Positions, length: int = LENGTH, first: int = 0, policy: Thresholds = KV_POLICY) -> None:
    got = plain(summarise(p, length, first, policy))
    expected = plain(oracle.summary(p, length, first, policy.model_dump()))
    assert differences(got, expected) == []


@pytest.mark.parametrize("name", CASES)
def test_every_figure_equals_the_oracle(name: str) -> None:
    check(CASES[name])


@pytest.mark.parametrize("seed", range(6))
def test_random_shapes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 60, rng.integers(1, 30)).tolist()
    check(mixed(make(sizes, 100 + seed, names=rng.permutation(1000)[: len(sizes)].tolist())))


@pytest.mark.parametrize(
    "policy", [WEIGHTS_POLICY, limited(KV_POLICY, 0.05, None), limited(KV_POLICY, 0.5, 0.12)], ids=str
)
def test_other_policies(policy: Thresholds) -> None:
    for name in ("random", "nearly good", "a KL of +inf"):
        check(CASES[name], policy=policy)


@pytest.mark.parametrize(("length", "first"), [(129, 0), (513, 200), (130, 120), (16, 14), (137, 0)])
def test_depths_of_other_chunk_lengths_and_beginnings(length: int, first: int) -> None:
    depths = np.arange(first, length - 1)
    p = make([len(depths)] * 3, 50, depth=np.tile(depths, 3))
    check(p.where(np.random.default_rng(length).random(len(p)) < 0.7), length, first)


@pytest.mark.parametrize(("n_chunks", "onset", "by"), [(6, 1024, 8), (6, 0, 1), (1, 1024, 8), (5, 128, 30)])
def test_a_long_window_has_a_drift(n_chunks: int, onset: int, by: int) -> None:
    length, depths = 5000, np.arange(0, 4999, 7)
    grown = np.where(np.tile(depths, n_chunks) >= onset, by, 1)
    p = make([len(depths)] * n_chunks, 60, depth=np.tile(depths, n_chunks))
    p = dataclasses.replace(p, kl=(p.kl * grown).astype(np.float32))
    p = p.where(np.random.default_rng(61).random(len(p)) < 0.8)  # chunks of unequal sizes
    # Only what a long window changes: the bootstrap's percentiles of so many values are those of a grid.
    made, columns = summarise(p, length), oracle.columns(p)
    assert differences(plain(made.by_depth), plain(oracle.by_depth(columns, length, 0))) == []
    assert differences(plain(made.drift), plain(oracle.drift(columns, length, 0))) == []
    assert made.drift is not None
    assert made.drift.known == (n_chunks > 1)
    assert by == 1 or made.drift.start == (onset if n_chunks > 1 else None)


def test_depth_buckets_are_equal_disjoint_and_cover_everything() -> None:
    for length, first in ((512, 0), (512, 128), (100, 3), (20, 0), (16, 14)):
        depths = np.arange(first, length - 1)
        p = make([len(depths)], 1, depth=depths)
        found = summarise(p, length, first).by_depth
        assert found[0].start == first
        assert found[-1].end == length - 1
        assert all(a.end == b.start for a, b in itertools.pairwise(found))
        widths = [b.end - b.start for b in found]
        assert max(widths) - min(widths) <= 1
        assert [b.n_positions for b in found] == widths


def test_every_kind_of_flip_occurs_in_the_random_case() -> None:
    """Or the oracle would compare nothing with nothing."""
    flips = summarise(CASES["random"], LENGTH).flips
    assert flips is not None
    figures = [flips.lost, flips.gained, flips.changed, flips.confident.value, flips.near_tie.value]
    assert min(figures) > 0
    assert flips.longest_run > 1


@pytest.mark.parametrize(
    "counts", [(0, 0), (0, 1), (1, 0), (3, 3), (0, 9), (9, 25), (1200, 1000), (70_000, 70_001)]
)
def test_mcnemar_equals_scipy(counts: tuple[int, int]) -> None:
    n = sum(counts)
    expected = oracle.stats.binomtest(counts[0], n, 0.5).pvalue if n else 1.0
    assert mcnemar(*counts) == pytest.approx(expected, rel=1e-9)
    assert mcnemar(*counts) == mcnemar(*counts[::-1])


def test_an_edge_of_confident_and_of_near_tie_is_taken_as_written() -> None:
    """At least 0.5 and under 0.05: 0.5 is confident, the float16 just below 0.05 a near tie."""
    p = make(
        [2, 2], top1_ref=1, top1_quant=2, prob_ref=[0.5, 0.4998, 0.4, 0.3], margin=[0.05, 0.0501, 0.06, 0.2]
    )
    assert float(p.margin[0]) < 0.05
    flips = summarise(p, LENGTH).flips
    assert flips is not None
    assert (flips.confident.value, flips.near_tie.value) == (0.25, 0.25)
