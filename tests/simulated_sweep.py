"""Several settings scored on the same chunks: what is hard for one is hard for the others.

Each setting is a ``Shape`` of tests/simulated.py with its marginals as they are there. The normal variables
behind two settings have correlations ``Shared``: what makes a position hard, what makes a chunk hard, and
which positions flip. ``SMOLLM2`` and ``SMOLLM2_HEAVY`` were fitted by ``benchmarks/fit_simulated.py`` to a
sweep of SmolLM2-135M-Instruct on the first 21 chunks of the built-in corpus: to the upper halves of ln KL,
and to all of it, which overstates the tail.
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
        Shape(-9.1057, 1.1160, 0.2502, 0.1663, 0.9100, -4.8596, 0.6042, 0.0000),  # 8g32
        Shape(-8.4409, 1.1039, 0.2202, 0.1723, 0.9000, -4.4956, 0.5580, 0.0000),  # 8g64
        Shape(-6.3265, 1.1468, 0.2259, 0.1607, 0.9000, -3.4853, 0.5965, 0.0744),  # 6g32
        Shape(-5.6426, 1.1008, 0.2261, 0.1698, 0.9100, -3.1718, 0.6602, 0.2027),  # 6g64
        Shape(-3.3475, 1.1125, 0.1923, 0.1544, 0.8500, -2.0515, 0.8168, 0.1589),  # 4g32
        Shape(-2.6029, 1.0685, 0.1689, 0.1565, 0.8400, -1.5448, 0.8310, 0.2003),  # 4g64
    ),
    DEARER,
    Shared(within=0.75, between=0.93, flips=0.60),
)
SMOLLM2_HEAVY = Sweep(
    (
        Shape(-9.3195, 1.5361, 0.3824, 0.1677, 0.9100, -5.0701, 0.6042, 0.0000),  # 8g32
        Shape(-8.6696, 1.5434, 0.3675, 0.1730, 0.9000, -4.6813, 0.5580, 0.0000),  # 8g64
        Shape(-6.5268, 1.5328, 0.3756, 0.1612, 0.9000, -3.6601, 0.5965, 0.0744),  # 6g32
        Shape(-5.8631, 1.5102, 0.3732, 0.1703, 0.9100, -3.3780, 0.6602, 0.2027),  # 6g64
        Shape(-3.5081, 1.4356, 0.3035, 0.1548, 0.8500, -2.2158, 0.8168, 0.1589),  # 4g32
        Shape(-2.7628, 1.3803, 0.2584, 0.1564, 0.8400, -1.6675, 0.8310, 0.2003),  # 4g64
    ),
    DEARER,
    Shared(within=0.75, between=0.93, flips=0.58),
)
