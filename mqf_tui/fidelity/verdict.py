"""The thresholds of the verdict, as data."""

from __future__ import annotations

from mqf_tui.reports.schema import Thresholds, Verdict

# Each pair: the most that is still good, the most that is still marginal.
KV_POLICY = Thresholds(policy="kv-1", kl_mean=(0.01, 0.10), kl_p99=(0.10, 1.00), flip_rate=(0.01, 0.05))


def verdict(kl_mean: float, kl_p99: float, flip_rate: float, policy: Thresholds = KV_POLICY) -> Verdict:
    """Good, marginal or bad; all three numbers must pass. KL in nats, flip_rate a share. NaN is bad."""
    measured = ((kl_mean, policy.kl_mean), (kl_p99, policy.kl_p99), (flip_rate, policy.flip_rate))
    if all(value <= limits[0] for value, limits in measured):
        return "good"
    if all(value <= limits[1] for value, limits in measured):
        return "marginal"
    return "bad"
