"""Two runs over the same positions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mqf_tui.fidelity.intervals import Interval, clustered_interval
from mqf_tui.fidelity.positions import Positions


@dataclass(frozen=True)
class PairedDifference:
    """Second less first over ``n`` shared positions. KL in nats, the rate as a share.

    The intervals are 95 %, clustered by chunk; None with one chunk. ``equal``: no position differs.
    """

    n: int
    kl_mean: float
    kl_interval: Interval | None
    flip_rate: float
    flip_interval: Interval | None
    equal: bool

    @property
    def beyond_chance(self) -> bool:
        """Whether the interval of the KL difference leaves out 0."""
        return self.kl_interval is not None and not self.kl_interval[0] <= 0 <= self.kl_interval[1]


def paired_difference(first: Positions, second: Positions) -> PairedDifference | None:
    """The difference position by position; None where the runs did not score the same positions."""
    if not same_positions(first, second) or not len(first):
        return None
    with np.errstate(invalid="ignore"):  # +inf less +inf
        kl = second.kl.astype(np.float64) - first.kl
    flips = second.flip.astype(np.float64) - first.flip
    return PairedDifference(
        n=len(first),
        kl_mean=float(kl.mean()),
        kl_interval=clustered_interval(kl, first.chunk),
        flip_rate=float(flips.mean()),
        flip_interval=clustered_interval(flips, first.chunk),
        equal=np.array_equal(first.kl, second.kl) and np.array_equal(first.top1_quant, second.top1_quant),
    )


def same_positions(first: Positions, second: Positions) -> bool:
    """Whether both scored the same tokens at the same places."""
    return len(first) == len(second) and all(
        np.array_equal(getattr(first, name), getattr(second, name)) for name in ("chunk", "depth", "token")
    )
