"""The verdict: thresholds as data, and how sure it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.bootstrap import REPLICATES, SEED
from mqf_tui.fidelity.settings import share_word
from mqf_tui.reports.schema import VERDICTS, Confidence, Thresholds, Verdict

# Each pair: the most that is still good, the most that is still marginal.
KV_POLICY = Thresholds(policy="kv-1", kl_mean=(0.01, 0.10), kl_p99=(0.10, 1.00), flip_rate=(0.01, 0.05))
WEIGHTS_POLICY = Thresholds(
    policy="weights-1 (provisional)", kl_mean=(0.01, 0.20), kl_p99=(0.10, 1.50), flip_rate=(0.05, 0.25)
)


def limited(policy: Thresholds, max_kl: float | None, max_flips: float | None) -> Thresholds:
    """The policy with another most-that-is-good of mean KL (nats) or flips (a share); its name says so.

    Where that is more than the most that is marginal, the latter is raised to it.
    """
    limits: dict[str, Any] = {}
    words: list[str] = []
    if max_kl is not None:
        limits["kl_mean"] = float(max_kl), max(float(max_kl), policy.kl_mean[1])
        words.append(f"--max-kl {max_kl:g}")
    if max_flips is not None:
        limits["flip_rate"] = float(max_flips), max(float(max_flips), policy.flip_rate[1])
        words.append(f"--max-flips {share_word(max_flips)}")
    if not words:
        return policy
    return policy.model_copy(update=limits | {"policy": f"{policy.policy} with {' '.join(words)}"})


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


def surest(n_chunks: int) -> float:
    """The most that G chunks can show without a belief in a distribution: 1 - 2^(1 - G).

    All of them on one side of a limit is the strongest they can say, and the two-sided sign test gives that
    a p value of 2^(1 - G). A bootstrap only puts together again what was drawn, and so claims to be certain.
    """
    return 1 - 2.0 ** (1 - n_chunks)


def confidence(
    kl_mean: NDArray[Any],
    kl_p99: NDArray[Any],
    flip_rate: NDArray[Any],
    policy: Thresholds,
    *,
    n_chunks: int,
    observed: Verdict,
) -> Confidence:
    """How likely each verdict is: its share among joint bootstrap replicates, all (B,), of ``n_chunks``.

    The shares are multiplied by ``surest(n_chunks)``; what that leaves goes to the verdicts next to the one
    that was ``observed``, for where the truth is another, it is one of them.
    """
    found = levels(kl_mean, kl_p99, flip_rate, policy)
    cap, here = surest(n_chunks), VERDICTS.index(observed)
    beside = [k for k in (here - 1, here + 1) if 0 <= k < len(VERDICTS)]
    shares = cap * np.array([np.mean(found == k) for k in range(len(VERDICTS))])
    shares[beside] += (1 - cap) / len(beside)
    good, marginal, bad = shares.tolist()
    return Confidence(
        good=good, marginal=marginal, bad=bad, method="bootstrap", replicates=REPLICATES, seed=SEED
    )
