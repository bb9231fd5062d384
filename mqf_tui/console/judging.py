"""The last words about a finished measurement: whether its verdict is a failure."""

from __future__ import annotations

import sys

from mqf_tui.reports.schema import VERDICTS, Report
from mqf_tui.reports.text import NOT_SETTLED, edge_words, kl, percent, sureness

FAILED_VERDICT = 4


def judged(report: Report, fail_on: str | None) -> int:
    """The exit code; where it is not 0, standard error says which numbers are to blame."""
    if fail_on not in VERDICTS or VERDICTS.index(report.verdict) < VERDICTS.index(fail_on):
        return 0
    sys.stderr.write(f"mqf-tui: {_blame(report, VERDICTS.index(fail_on) - 1)}\n")
    return FAILED_VERDICT


def _blame(report: Report, level: int) -> str:
    """The numbers that are past the limit of a level (an index into VERDICTS)."""
    policy = report.thresholds
    numbers = (
        ("mean KL", report.kl.mean, policy.kl_mean[level], kl),
        ("p99 of KL", report.kl.p99, policy.kl_p99[level], kl),
        ("flips", report.flip_rate, policy.flip_rate[level], percent),
    )
    past = [
        f"{name} {word(value)} (at most {word(limit)} is {VERDICTS[level]})"
        for name, value, limit, word in numbers
        if value is None or not value <= limit  # NaN is past every limit
    ]
    return f"the verdict is {report.verdict}{_sure(report)} by {policy.policy}: {', '.join(past)}."


def _sure(report: Report) -> str:
    """How sure the verdict is, in brackets; empty where that is not known."""
    word = sureness(report)
    sure = word if word in ("", NOT_SETTLED) else f"{word} sure"
    words = ", ".join(part for part in (sure, edge_words(report)) if part)
    return f" ({words})" if words else ""
