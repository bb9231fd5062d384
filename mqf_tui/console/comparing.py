"""``mqf-tui compare``: the difference of two or more saved runs."""

from __future__ import annotations

import argparse

from mqf_tui.console.output import say
from mqf_tui.fidelity.errors import BadSettingError


def run(options: argparse.Namespace) -> int:
    """Compare the first run with each other; return the exit code."""
    from mqf_tui.fidelity.comparison import paired_difference
    from mqf_tui.library.runs import load_run
    from mqf_tui.reports.text import inert, interval, kl

    if len(options.runs) < 2:
        raise BadSettingError("one run cannot be compared; name two or more (`mqf-tui runs list`).")
    first, *others = [load_run(name) for name in options.runs]
    baseline = first.positions()
    for other in others:
        a, b = first.report, other.report
        if a.model_hash != b.model_hash:
            raise BadSettingError(
                f"{a.model} and {b.model} are different models; compare runs of one reference model."
            )
        found = paired_difference(baseline, other.positions())
        words = f"{inert(b.model)}: {b.short_setting} against {a.short_setting}: mean KL "
        if found is None:
            words += f"{kl(a.kl.mean)} and {kl(b.kl.mean)}, over different positions, so not paired."
        elif found.equal:
            words += f"and all else the same at each of {found.n:,} positions."
        else:
            low, high = found.kl_interval or (None, None)
            words += f"{kl(found.kl_mean)} (95 %: {interval(low, high)}) over {found.n:,} shared positions."
        say(words + "\n")
    return 0
