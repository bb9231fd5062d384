"""The verdict: thresholds as data, and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.bootstrap import REPLICATES, SEED
from mqf_tui.reports.schema import VERDICTS, Confidence, Thresholds, Verdict

# Each pair: the most that is still good, the most that is still marginal.
KV_POLICY = Thresholds(policy="kv-1", kl_mean=(0.01, 0.10), kl_p99=(0.10, 1.00), flip_rate=(0.01, 0.05))
WEIGHTS_POLICY = Thresholds(
    policy="weights-1 (provisional)", kl_mean=(0.01, 0.20), kl_p99=(0.10, 1.50), flip_rate=(0.05, 0.25)
)


def verdict(kl_mean: float, kl_p99: float, flip_rate: float, policy: Thresholds = KV_POLICY) -> Verdict:
    """Good, marginal or bad; all three numbers must pass. KL in nats, flip_rate a share. NaN is bad."""
    kl, tail, flips = (np.array([value]) for value in (kl_mean, kl_p99, flip_rate))
    return VERDICTS[int(levels(kl, tail, flips, policy)[0])]


def levels(
    kl_mean: NDArray[Any], kl_p99: NDArray[Any], flip_rate: NDArray[Any], policy: Thresholds
) -> NDArray[np.int64]:
    """``verdict`` of many triples at once: an index into VERDICTS for each (B,)."""
    pairs = ((kl_mean, policy.kl_mean), (kl_p99, policy.kl_p99), (flip_rate, policy.flip_rate))
    good, marginal = (np.logical_and.reduce([v <= limits[k] for v, limits in pairs]) for k in (0, 1))
    return np.where(good, 0, np.where(marginal, 1, 2))


def confidence(
    kl_mean: NDArray[Any], kl_p99: NDArray[Any], flip_rate: NDArray[Any], policy: Thresholds
) -> Confidence:
    """The share of each verdict among joint bootstrap replicates, all (B,)."""
    found = levels(kl_mean, kl_p99, flip_rate, policy)
    good, marginal, bad = (float(np.mean(found == k)) for k in range(3))
    return Confidence(
        good=good, marginal=marginal, bad=bad, method="bootstrap", replicates=REPLICATES, seed=SEED
    )
