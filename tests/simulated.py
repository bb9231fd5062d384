"""A simulator of scored positions: clustered, heavy-tailed, with flips tied to the KL.

The natural logarithm of KL at a position is normal: a centre, a chunk's effect (sd ``between``) and a part
within the chunk (sd ``within``), of whose variance the share ``serial`` is an autoregression of lag 1 with
coefficient ``memory``. A position flips with logit(p) = ``flip_level`` + ``flip_slope`` · (ln KL - centre) +
a chunk's effect of its own (sd ``flip_between``). All marginals are then known exactly: ``Truth``.

The constants were fitted by ``fit`` (run ``benchmarks/fit_simulated.py`` to fit again) to runs of
SmolLM2-135M-Instruct, group 64, on the 37 chunks of 512 tokens of the built-in corpus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm

LENGTH = 511  # positions of a chunk of 512 tokens
NODES = np.polynomial.hermite_e.hermegauss(101)


@dataclass(frozen=True)
class Shape:
    """Parameters of the simulator; see the module."""

    centre: float
    within: float
    between: float
    serial: float
    memory: float
    flip_level: float
    flip_slope: float
    flip_between: float

    @property
    def spread(self) -> float:
        """Standard deviation of ln KL over all positions."""
        return float(np.hypot(self.within, self.between))

    @property
    def kl_mean(self) -> float:
        """Mean of the log-normal KL."""
        return float(np.exp(self.centre + self.spread**2 / 2))

    def kl_quantile(self, share: float) -> float:
        """Quantile of the log-normal KL."""
        return float(np.exp(self.centre + norm.ppf(share) * self.spread))

    @property
    def flip_rate(self) -> float:
        """Mean of a logistic-normal probability, by quadrature."""
        x, w = NODES
        sd = np.hypot(self.flip_slope * self.spread, self.flip_between)
        return float(w @ expit(self.flip_level + sd * x) / w.sum())

    def with_kl_mean(self, value: float) -> Shape:
        """The same shape about another mean KL; flips stay."""
        return replace(self, centre=self.centre + float(np.log(value / self.kl_mean)))

    def with_p99(self, value: float) -> Shape:
        """The same shape with another 99th percentile of KL; flips stay."""
        return replace(self, centre=self.centre + float(np.log(value / self.kl_quantile(0.99))))

    def with_flip_rate(self, value: float) -> Shape:
        """The same shape with another flip rate; KL stays."""
        low, high = -30.0, 30.0
        for _ in range(100):
            middle = (low + high) / 2
            if replace(self, flip_level=middle).flip_rate < value:
                low = middle
            else:
                high = middle
        return replace(self, flip_level=low)


# 8-bit: upper halves of ln KL. The run's mean KL 0.000426, p99 0.00365, variation (sd / mean) of chunk
# means 0.30; this shape's 0.000417, 0.00312, 0.24. Both have 1.17 % of flips.
BITS_8 = Shape(
    centre=-8.4432,
    within=1.1291,
    between=0.2133,
    serial=0.165,
    memory=0.91,
    flip_level=-4.6189,
    flip_slope=0.5319,
    flip_between=0.0,
)
# The same run by moments over all positions, which overstates the tail (mean 0.00064, p99 0.0075, variation
# 0.41), and chunks that differ in flips beyond what their KL explains: harder than any run seen.
HEAVY = Shape(
    centre=-8.6634,
    within=1.5853,
    between=0.3476,
    serial=0.165,
    memory=0.91,
    flip_level=-4.7974,
    flip_slope=0.5319,
    flip_between=0.5,
)
# 2-bit: upper halves. The run's mean KL 3.35, p99 10.4, variation 0.15; this shape's 3.42, 11.4, 0.18.
# Both have 86 % of flips.
BITS_2 = Shape(
    centre=1.0522,
    within=0.5676,
    between=0.1742,
    serial=0.116,
    memory=0.95,
    flip_level=2.4462,
    flip_slope=2.4050,
    flip_between=0.0,
)


def draw(shape: Shape, n_chunks: int, rng: np.random.Generator, length: int = LENGTH) -> Chunks:
    """ln KL and flips of chunks, both (length, n_chunks)."""
    f4 = np.float32
    x = rng.standard_normal((length, n_chunks), f4)
    noise = rng.standard_normal((length, n_chunks), f4)
    kept, fresh = f4(shape.memory), f4(np.sqrt(1 - shape.memory**2))
    for i in range(1, length):
        x[i] *= fresh
        x[i] += kept * x[i - 1]
    x *= f4(shape.within * np.sqrt(shape.serial))
    noise *= f4(shape.within * np.sqrt(1 - shape.serial))
    x += noise
    x += f4(shape.between) * rng.standard_normal(n_chunks, f4)
    # A position flips where logit(U) - slope · (ln KL - centre) - effect is below the level.
    u = rng.random((length, n_chunks), f4)
    np.clip(u, f4(1e-7), f4(1 - 1e-7), out=u)
    level = np.log(u / (1 - u))
    level -= f4(shape.flip_slope) * x
    level -= f4(shape.flip_between) * rng.standard_normal(n_chunks, f4)
    return Chunks(x, level)


@dataclass(frozen=True)
class Chunks:
    """Drawn chunks: ln KL less the centre and the level from which a position flips, (length, n)."""

    log_kl: NDArray[np.float32]
    level: NDArray[np.float32]

    def sums(self, shape: Shape) -> NDArray[np.float64]:
        """Sum of KL and number of flips of each chunk, (n, 2)."""
        kl = np.exp(self.log_kl).sum(axis=0, dtype=np.float64) * np.exp(shape.centre)
        return np.stack([kl, (self.level < np.float32(shape.flip_level)).sum(axis=0)], axis=1)

    def past(self, shape: Shape, limit: float) -> NDArray[np.float64]:
        """Number of positions of each chunk whose KL is above the limit (n,)."""
        return (self.log_kl > np.float32(np.log(limit) - shape.centre)).sum(axis=0)


def batches(
    shape: Shape, n_chunks: int, seed: int, length: int = LENGTH, at_once: int = 8000
) -> Iterator[Chunks]:
    """``n_chunks`` chunks, some thousands at a time, so that memory stays small."""
    rng = np.random.default_rng(seed)
    for start in range(0, n_chunks, at_once):
        yield draw(shape, min(at_once, n_chunks - start), rng, length)


def fit(kl: NDArray[np.floating], flip: NDArray[np.bool_], upper: bool = True) -> Shape:
    """Fit to KL and flips, both (chunks, positions), by moments (flips: by maximum likelihood).

    ``upper``: only the upper half of each chunk counts, (ln KL - its median)² having the mean sd² there
    if ln KL is normal: KL near 0 makes a long left tail of ln KL that the mean KL does not feel, and
    moments over all positions overstate the right one. Without it, moments over all positions.
    """
    n = kl.shape[1]
    x = np.log(np.maximum(kl.astype(np.float64), 1e-9))
    middle = np.median(x, axis=1) if upper else x.mean(axis=1)
    inner = x - middle[:, None]
    within = np.sqrt(np.mean(inner[inner > 0] ** 2 if upper else inner**2))
    serial, memory = _fit_serial(inner)
    # Variance of a chunk's mean, or median (π/2 times it), of correlated positions.
    lags = np.arange(1, n)
    inflation = 1 + 2 * np.sum((1 - lags / n) * serial * memory**lags)
    noise = within**2 * inflation / n * (np.pi / 2 if upper else 1)
    between = np.sqrt(max(middle.var(ddof=1) - noise, 0.0))
    slope, level = _logistic(x - middle.mean(), flip)
    p = expit(level + slope * (x - middle.mean()))
    binomial = np.mean(p * (1 - p)) / n
    excess = flip.mean(axis=1).var(ddof=1) - p.mean(axis=1).var(ddof=1) - binomial
    per_logit = np.mean(p * (1 - p))
    found = Shape(
        centre=float(middle.mean()),
        within=float(within),
        between=float(between),
        serial=serial,
        memory=memory,
        flip_level=level,
        flip_slope=slope,
        flip_between=float(np.sqrt(max(excess, 0.0)) / per_logit),
    )
    return found.with_flip_rate(float(flip.mean()))  # the logistic level is that without a chunk's effect


def _fit_serial(inner: NDArray[np.float64]) -> tuple[float, float]:
    """``serial`` and ``memory`` whose correlations serial · memory^k are nearest to lags 1 to 20."""
    ranks = np.clip(inner, *np.quantile(inner, [0.01, 0.99]))
    ranks = ranks - ranks.mean(axis=1, keepdims=True)
    lags = np.arange(1, 21)
    found = np.array([np.mean(ranks[:, k:] * ranks[:, :-k]) for k in lags]) / np.mean(ranks**2)
    memories = np.linspace(0, 0.99, 100)
    shares = np.array([max(found @ m**lags / np.sum((m**lags) ** 2), 0.0) for m in memories[1:]])
    errors = [np.sum((found - s * m**lags) ** 2) for s, m in zip(shares, memories[1:], strict=True)]
    best = int(np.argmin(errors))
    return float(min(shares[best], 1.0)), float(memories[1:][best])


def _logistic(x: NDArray[np.float64], y: NDArray[np.bool_]) -> tuple[float, float]:
    """Slope and level of a logistic regression by Newton's method."""
    design = np.stack([x.ravel(), np.ones(x.size)], axis=1)
    beta = np.array([0.0, logit(y.mean())])
    for _ in range(50):
        p = expit(design @ beta)
        hessian = design.T @ (design * (p * (1 - p))[:, None])
        beta = beta + np.linalg.solve(hessian, design.T @ (y.ravel() - p))
    return float(beta[0]), float(beta[1])
