"""Several settings scored on the same chunks: what is hard for one is hard for the others.

Each setting is a ``Shape`` of tests/simulated.py with its marginals as they are there. The normal variables
behind two settings have correlations ``Shared``: what makes a position hard, what makes a chunk hard, and
which positions flip. ``SMOLLM2`` and ``SMOLLM2_HEAVY`` were fitted by ``benchmarks/fit_simulated.py`` to a
sweep of SmolLM2-135M-Instruct on the 37 chunks of 512 tokens of the built-in corpus: to the upper halves of
ln KL, and to all of it, which overstates the tail.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from mqf_tui.fidelity.racing import BAD, SETTLED, Race
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.fidelity.verdict import KV_POLICY, levels
from tests.simulated import LENGTH, Chunks, Shape


@dataclass(frozen=True)
class Shared:
    """Correlations between settings."""

    within: float
    between: float
    flips: float


def draw_sweep(
    shapes: Sequence[Shape], shared: Shared, n_chunks: int, rng: np.random.Generator, length: int = LENGTH
) -> list[Chunks]:
    """The chunks of each setting, the same text for all."""
    common = _Normals.drawn(shapes[0].memory, n_chunks, rng, length)
    return [_Normals.drawn(s.memory, n_chunks, rng, length).mixed(common, shared).chunks(s) for s in shapes]


@dataclass(frozen=True)
class _Normals:
    """Standard normal variables: of a position (length, n) and of a chunk (n,)."""

    chain: NDArray[np.float32]
    noise: NDArray[np.float32]
    flip: NDArray[np.float32]
    chunk: NDArray[np.float32]
    flip_chunk: NDArray[np.float32]

    @classmethod
    def drawn(cls, memory: float, n_chunks: int, rng: np.random.Generator, length: int) -> _Normals:
        chain, noise, flip = (rng.standard_normal((length, n_chunks), np.float32) for _ in range(3))
        kept, fresh = np.float32(memory), np.float32(np.sqrt(1 - memory**2))
        for i in range(1, length):
            chain[i] = fresh * chain[i] + kept * chain[i - 1]
        return cls(chain, noise, flip, *(rng.standard_normal(n_chunks, np.float32) for _ in range(2)))

    def mixed(self, common: _Normals, shared: Shared) -> _Normals:
        def mix(own: NDArray[np.float32], other: NDArray[np.float32], share: float) -> NDArray[np.float32]:
            return np.float32(np.sqrt(share)) * other + np.float32(np.sqrt(1 - share)) * own

        return _Normals(
            mix(self.chain, common.chain, shared.within),
            mix(self.noise, common.noise, shared.within),
            mix(self.flip, common.flip, shared.flips),
            mix(self.chunk, common.chunk, shared.between),
            mix(self.flip_chunk, common.flip_chunk, shared.flips),
        )

    def chunks(self, shape: Shape) -> Chunks:
        f4 = np.float32
        x = f4(shape.within * np.sqrt(shape.serial)) * self.chain
        x += f4(shape.within * np.sqrt(1 - shape.serial)) * self.noise
        x += f4(shape.between) * self.chunk
        u = np.clip(ndtr(self.flip), f4(1e-7), f4(1 - 1e-7))
        level = np.log(u / (1 - u))
        level -= f4(shape.flip_slope) * x
        level -= f4(shape.flip_between) * self.flip_chunk
        return Chunks(x, level)


def fit_shared(
    kl: NDArray[np.floating], flip: NDArray[np.bool_], shapes: Sequence[Shape], n_chunks: int = 2000
) -> Shared:
    """Fit to KL and flips of several settings, both (settings, chunks, positions), whose shapes are given.

    ``within`` and ``between`` are the mean correlations of ln KL less its median in the chunk, and of those
    medians. ``flips`` is that for which simulated flips correlate as these do, on average over the pairs.
    """
    x = np.log(np.maximum(kl.astype(np.float64), 1e-9))
    middle = np.median(x, axis=2)
    within = _mean_correlation((x - middle[:, :, None]).reshape(len(x), -1))
    between = _mean_correlation(middle)
    wanted = _mean_correlation(flip.reshape(len(x), -1))
    shares = np.linspace(0, 1, 11)
    found: list[float] = []
    for share in shares:
        shared = Shared(within, between, float(share))
        drawn = draw_sweep(shapes, shared, n_chunks // len(shapes), np.random.default_rng(1))
        flips = [c.level < np.float32(s.flip_level) for s, c in zip(shapes, drawn, strict=True)]
        found.append(_mean_correlation(np.stack(flips).reshape(len(shapes), -1)))
    return Shared(within, between, float(np.interp(wanted, found, shares)))


def _mean_correlation(x: NDArray[np.generic]) -> float:
    found = np.corrcoef(x.astype(np.float64))
    return float(found[np.triu_indices(len(found), 1)].mean())


def rows(shape: Shape, chunks: Chunks) -> NDArray[np.float64]:
    """The four means of each chunk that a verdict rests on (n, 4)."""
    tails = [chunks.past(shape, limit) for limit in KV_POLICY.kl_p99]
    return np.column_stack([chunks.sums(shape), *tails]) / len(chunks.level)


def truth(shape: Shape) -> int:
    """The verdict that all text in the world would give, as an index into VERDICTS."""
    three = np.array([[shape.kl_mean], [shape.kl_quantile(0.99)], [shape.flip_rate]])
    return int(levels(*three, KV_POLICY)[0])


@dataclass(frozen=True)
class Sweep:
    """Settings whose truth is known; ``kv_bytes`` in bits per number, ``length`` in positions of a chunk."""

    shapes: tuple[Shape, ...]
    kv_bytes: tuple[float, ...]
    shared: Shared
    length: int = LENGTH

    def runs(self, n_runs: int, n_chunks: int, seed: int) -> Iterator[NDArray[np.float64]]:
        """The chunk means of one sweep after the other, each (n_chunks, settings, 4)."""
        rng = np.random.default_rng(seed)
        at_once = max(1, 4000 // n_chunks)
        for start in range(0, n_runs, at_once):
            n = min(at_once, n_runs - start)
            drawn = draw_sweep(self.shapes, self.shared, n * n_chunks, rng, self.length)
            each = [rows(shape, chunks) for shape, chunks in zip(self.shapes, drawn, strict=True)]
            yield from np.stack(each, axis=1).reshape(n, n_chunks, len(self.shapes), 4)

    def race(self, means: NDArray[np.float64], every: int = 1) -> Raced:
        """Race them over (n_chunks, settings, 4); one looks after every so many chunks, as after a round."""
        race = Race([KVSettings("a model")] * len(self.shapes), self.kv_bytes)
        raced, n_chunks = Raced({}, {}), len(means)
        still = list(range(len(self.shapes)))
        for k in range(n_chunks):
            race.add_means({i: means[k, i] for i in still}, dict.fromkeys(still, self.length))
            raced.after.update(dict.fromkeys(still, k + 1))
            if (k + 1) % every == 0 or k + 1 == n_chunks:
                raced.why.update(race.out())
                still = [i for i in still if i not in raced.why]
            if not still:
                break
        return raced

    def wrong(self, raced: Raced) -> list[int]:
        """Those that left although they are neither bad nor dominated."""
        return [i for i, why in raced.why.items() if not self._rightly(i, why)]

    def _rightly(self, i: int, why: str) -> bool:
        if why == SETTLED:
            return True
        if why == BAD:
            return truth(self.shapes[i]) == 2
        return any(
            self.kv_bytes[j] <= self.kv_bytes[i]
            and other.kl_mean < self.shapes[i].kl_mean
            and truth(other) <= truth(self.shapes[i])
            for j, other in enumerate(self.shapes)
        )

    def winner(self, means: NDArray[np.float64], after: Mapping[int, int], least: int = 1) -> int | None:
        """The cheapest setting whose figures over the chunks that it got are of a verdict (index) or better.

        p99 passes a limit where more than 1 % of the positions are past it.
        """
        for i in sorted(range(len(self.shapes)), key=lambda i: self.kv_bytes[i]):
            kl, flips, *past = means[: after[i], i].mean(axis=0)
            limits = KV_POLICY.kl_mean[least], KV_POLICY.flip_rate[least], 0.01
            if kl <= limits[0] and flips <= limits[1] and past[least] <= limits[2]:
                return i
        return None


@dataclass(frozen=True)
class Raced:
    """Why each that left did, and how many chunks each got, by index."""

    why: dict[int, str]
    after: dict[int, int]


DEARER = (9.0, 8.5, 7.0, 6.5, 5.0, 4.5)  # 8, 6, 4 bits, groups 32 and 64, with 16-bit scales and biases
SMOLLM2 = Sweep(
    (
        Shape(-9.0900, 1.1245, 0.2356, 0.1782, 0.8900, -4.9604, 0.5948, 0.2212),  # 8g32
        Shape(-8.4389, 1.1246, 0.2073, 0.1699, 0.8900, -4.5700, 0.5543, 0.0000),  # 8g64
        Shape(-6.3056, 1.1433, 0.2149, 0.1718, 0.8900, -3.4823, 0.6092, 0.1450),  # 6g32
        Shape(-5.6266, 1.1204, 0.2333, 0.1705, 0.9000, -3.1943, 0.6680, 0.2204),  # 6g64
        Shape(-3.3353, 1.1151, 0.1713, 0.1512, 0.8700, -2.0416, 0.8410, 0.1645),  # 4g32
        Shape(-2.5961, 1.0845, 0.1637, 0.1410, 0.8800, -1.5587, 0.8886, 0.1747),  # 4g64
    ),
    DEARER,
    Shared(within=0.75, between=0.92, flips=0.59),
)
SMOLLM2_HEAVY = Sweep(
    (
        Shape(-9.3054, 1.5429, 0.3588, 0.1790, 0.8900, -5.1634, 0.5948, 0.2212),  # 8g32
        Shape(-8.6585, 1.5509, 0.3419, 0.1703, 0.8900, -4.7487, 0.5543, 0.0000),  # 8g64
        Shape(-6.5058, 1.5306, 0.3499, 0.1630, 0.9000, -3.6617, 0.6092, 0.1450),  # 6g32
        Shape(-5.8406, 1.5259, 0.3454, 0.1707, 0.9000, -3.4012, 0.6680, 0.2204),  # 6g64
        Shape(-3.5033, 1.4424, 0.2733, 0.1512, 0.8700, -2.2128, 0.8410, 0.1645),  # 4g32
        Shape(-2.7538, 1.3914, 0.2412, 0.1412, 0.8800, -1.6918, 0.8886, 0.1747),  # 4g64
    ),
    DEARER,
    Shared(within=0.75, between=0.92, flips=0.57),
)
