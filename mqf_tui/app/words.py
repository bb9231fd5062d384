"""What the app says of a verdict, of how sure it is, and of when a measurement stops."""

from __future__ import annotations

import math

from mqf_tui.app.tally import Looked
from mqf_tui.reports.schema import VERDICTS, Confidence, Report, Stopping, Thresholds, Verdict
from mqf_tui.reports.text import inert

EDGE = 0.9  # a verdict less likely than this, whose neighbour has most of the rest, is on the edge


def sure_words(verdict: Verdict, confidence: Confidence | None) -> str:
    """``good, 98 %``; ``on the edge between good and marginal (good 64 %)``; ``good`` over one chunk."""
    if confidence is None:
        return verdict
    share = confidence.of(verdict)
    if confidence.method == "anytime":
        return f"{verdict}, at least {_share(share)}"
    others: list[Verdict] = [v for v in VERDICTS if v != verdict]
    other = max(others, key=confidence.of)
    if share >= EDGE or confidence.of(other) < 1 - EDGE:
        return f"{verdict}, {_share(share)}"
    first, second = sorted((verdict, other), key=VERDICTS.index)
    return f"on the edge between {first} and {second} ({verdict} {_share(share)})"


def short_words(verdict: Verdict, confidence: Confidence | None) -> str:
    """The same for a narrow column: ``good 98 %``."""
    return verdict if confidence is None else f"{verdict} {_share(confidence.of(verdict)).replace(' %', '%')}"


def _share(share: float) -> str:
    """Whole per cent; never all or nothing, which no sample can say."""
    return "> 99 %" if share > 0.99 else "< 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def undecided_words(looked: Looked | None, least: int) -> str:
    """What a measurement that stops by itself still waits for; ``least``: chunks that it wants at least."""
    if looked is None:
        return f"stops when sure, not before {least} chunks"
    if looked.settled:
        return "settled; stops when each part of the text has had its turn"
    if looked.wanted is not None:
        have = f"±{100 * looked.half_width:.3g} %" if math.isfinite(looked.half_width) else "not known yet"
        return f"mean KL {have}; stops at ±{100 * looked.wanted:g} %"
    if len(looked.possible) == 1:
        return f"only {looked.possible[0]} is left; stops after {least} chunks"
    *others, last = looked.possible
    return f"may still be {', '.join(others)} or {last}; stops when one is left"


def stopped_words(stopping: Stopping) -> str:
    """How a measurement that was to stop by itself came to its end."""
    chunks = f"{stopping.n_chunks} chunks"
    if stopping.rule == "verdict":
        end = f"the verdict was settled after {chunks}" if stopping.settled else f"not settled by {chunks}"
    else:
        wanted = f"within ±{100 * (stopping.precision or 0):g} %"
        end = (
            f"mean KL is known {wanted} after {chunks}"
            if stopping.settled
            else f"mean KL is not {wanted} after {chunks}"
        )
    return f"to stop when sure: {end} (wrong in at most {100 * stopping.alpha:g} % of runs)"


def policy_words(limits: Thresholds) -> str:
    """The thresholds that were applied: name, and the most that is still good or marginal."""
    pairs = (limits.kl_mean, limits.kl_p99, tuple(100 * v for v in limits.flip_rate))
    good, marginal = (f"mean {pairs[0][k]:g}, p99 {pairs[1][k]:g}, flips {pairs[2][k]:g} %" for k in (0, 1))
    return f"{inert(limits.policy)}: good up to {good}; marginal up to {marginal}"


def setting_words(report: Report) -> str:
    """The variant and how it was measured, as far as that is known."""
    mode = {"stress": ", stress", "deployment": f", deployment from {report.quantize_start}"}
    return report.setting + mode.get(report.mode or "", "")
