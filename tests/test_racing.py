"""A race drops what is surely bad or surely worse, seldom anything else, and keeps the same winner."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.quantizers import parsed
from mqf_tui.fidelity.racing import BAD, SETTLED, Race
from mqf_tui.fidelity.settings import KVSettings
from tests import makers

LENGTH = 200


def settings(*formats: str, **more: object) -> list[KVSettings]:
    return [KVSettings("a model", kv=parsed(one), **more) for one in formats]  # type: ignore[arg-type]


def chunk(kl: np.ndarray, flips: np.ndarray) -> Positions:
    """One chunk of positions with these KL and flips, both (n,)."""
    made = makers.positions(n_chunks=1, per_chunk=len(kl))
    top = np.zeros(len(kl), np.int32)
    columns = {n: getattr(made, n) for n in ("chunk", "depth", "part", "token", "nll_ref", "nll_quant")}
    return Positions.of(columns | {"kl": kl.astype(np.float32), "top1_ref": top, "top1_quant": top + flips})


def rounds(
    race: Race, levels: Mapping[int, tuple[float, float]], n_chunks: int, seed: int = 0
) -> tuple[dict[int, str], dict[int, int]]:
    """Run a race of settings of these (mean KL, flip rate) by index; why each left, and after how many."""
    rng = np.random.default_rng(seed)
    why: dict[int, str] = {}
    after: dict[int, int] = {}
    for k in range(n_chunks):
        hard = np.exp(rng.normal(0, 0.3)) * rng.lognormal(-0.5, 1, LENGTH)
        drawn = rng.random(LENGTH)
        still = {i: level for i, level in levels.items() if i not in why}
        if not still:
            break
        race.add({i: chunk(kl * hard, drawn < flips) for i, (kl, flips) in still.items()})
        for i, reason in race.out().items():
            why[i], after[i] = reason, k + 1
    return why, after


def test_what_is_surely_bad_leaves_first() -> None:
    race = Race(settings("8g64", "4g64", "2g64"), [8.5, 4.5, 2.5])
    why, after = rounds(race, {0: (0.0005, 0.001), 1: (0.03, 0.03), 2: (1.0, 0.5)}, 20)
    assert why[2] == BAD
    assert after[2] <= 8
    assert why.get(1, SETTLED) == SETTLED
    assert why.get(0, SETTLED) == SETTLED


def test_what_is_surely_worse_leaves_and_says_than_what() -> None:
    """Keys at 4 bits beside values at 4 bits, which takes as much: dominated, though neither is bad."""
    race = Race(settings("8g64", "k8v4g64", "k4v8g64"), [8.5, 6.5, 6.5])
    why, _ = rounds(race, {0: (0.001, 0.002), 1: (0.004, 0.003), 2: (0.03, 0.03)}, 40)
    assert why[2] == "surely worse than 8-bit keys, 4-bit values, group 64, which takes no more memory"
    assert 1 not in why or why[1] == SETTLED


def test_more_memory_and_a_lower_kl_never_leaves_as_worse() -> None:
    race = Race(settings("8g64", "6g64", "4g64"), [8.5, 6.5, 4.5])
    why, _ = rounds(race, {0: (0.0002, 0.001), 1: (0.002, 0.003), 2: (0.004, 0.004)}, 60)
    assert set(why.values()) <= {SETTLED}
