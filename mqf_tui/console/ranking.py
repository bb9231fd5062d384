"""``mqf-tui rank``: which setting to take."""

from __future__ import annotations

import argparse

from mqf_tui.console.output import say
from mqf_tui.fidelity.errors import BadSettingError


def run(options: argparse.Namespace) -> int:
    """List the runs by mean KL; return the exit code."""
    from mqf_tui.library.runs import list_runs, load_run
    from mqf_tui.reports.text import inert, kl

    saved = [load_run(name) for name in options.runs] if options.runs else list_runs()
    if options.model:
        saved = [run for run in saved if options.model.lower() in run.report.model.lower()]
    if not saved:
        raise BadSettingError("there are no runs to rank; `mqf-tui runs list` shows all.")
    for run in sorted(saved, key=lambda run: run.report.kl.mean):
        say(f"{kl(run.report.kl.mean)}  {run.report.verdict}  {inert(run.report.setting)}  {inert(run.id)}\n")
    return 0
