"""Runs that were judged by different thresholds, judged anew by one policy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mqf_tui.fidelity.verdict import KV_POLICY, WEIGHTS_POLICY, verdict
from mqf_tui.reports.schema import Report, Thresholds


@dataclass(frozen=True)
class Judged:
    """Reports whose verdicts can be compared; ``policies`` (one a kind) where they were judged anew."""

    reports: tuple[Report, ...]
    policies: tuple[Thresholds, ...] = ()


def judged_alike(reports: Sequence[Report], own: Thresholds | None = None) -> Judged:
    """As they are where all of a kind have the same limits, else all of that kind by one policy.

    That is ``own``, the user's thresholds, where there are any, else the default of today. It is applied to
    the figures of each report. How sure the verdict is was found for the old limits, so it is dropped where
    the limits changed.
    """
    by_kind: dict[str, set[tuple[tuple[float, float], ...]]] = {}
    for report in reports:
        by_kind.setdefault(report.kind, set()).add(limits(report.thresholds))
    policies = {
        kind: own or {"kv": KV_POLICY, "weights": WEIGHTS_POLICY}[kind]
        for kind, different in by_kind.items()
        if len(different) > 1
    }
    found = (judged_by(r, policies[r.kind]) if r.kind in policies else r for r in reports)
    return Judged(tuple(found), tuple(policies.values()))


def judged_by(report: Report, policy: Thresholds) -> Report:
    """The report with its figures judged by ``policy``; an unknown p99 passes no limit."""
    alike = limits(report.thresholds) == limits(policy)
    k = report.kl
    found = verdict(k.mean, math.nan if k.p99 is None else k.p99, report.flip_rate, policy)
    return report.model_copy(
        update={
            "verdict": found,
            "thresholds": policy,
            "confidence": report.confidence if alike and found == report.verdict else None,
        }
    )


def limits(t: Thresholds) -> tuple[tuple[float, float], ...]:
    """What decides: two policies with the same limits are the same."""
    return t.kl_mean, t.kl_p99, t.flip_rate
