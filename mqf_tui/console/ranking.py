"""``mqf-tui rank``: which setting to take."""

from __future__ import annotations

import argparse
import math
import sys
from typing import TYPE_CHECKING

from mqf_tui.console.output import say
from mqf_tui.fidelity.errors import BadSettingError

if TYPE_CHECKING:
    from mqf_tui.library.shortlist import Shortlist


def run(options: argparse.Namespace) -> int:
    """Rank the runs that are named, or the best evidence on a model; return the exit code."""
    from mqf_tui.fidelity.choosing import Limits
    from mqf_tui.fidelity.ranking import rank
    from mqf_tui.library.settings import user_policy
    from mqf_tui.library.subjects import subject
    from mqf_tui.reports.ranking_report import to_csv, to_json, to_markdown

    for name, value in (
        ("--max-kv-bytes-per-token", options.max_kv_bytes_per_token),
        ("--max-kl", options.max_kl),
    ):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise BadSettingError(f"{name} is {value}; use a number above 0.")
    limits = Limits(options.max_kv_bytes_per_token, options.max_kl, options.min_verdict)
    chosen = _shortlist(options)
    subjects = [subject(run) for run in chosen.runs]
    found = rank(subjects, limits, chosen.left_out, group=chosen.group, own=user_policy())
    say({"md": to_markdown, "json": to_json, "csv": to_csv}[options.format](found))
    return 0


def _shortlist(options: argparse.Namespace) -> Shortlist:
    from mqf_tui.library.runs import all_runs, load_run
    from mqf_tui.library.shortlist import named, newest
    from mqf_tui.reports.text import inert

    if options.runs:
        saved = [load_run(name) for name in options.runs]
    else:
        saved, broken = all_runs()
        for name, why in broken:
            sys.stderr.write(f"mqf-tui: run {inert(name)} cannot be read: {inert(why)}\n")
    if not saved:
        raise BadSettingError("there are no runs to rank yet; `mqf-tui kv MODEL` makes one.")
    if options.model is not None:
        of_model = [run for run in saved if options.model.lower() in run.report.model.lower()]
        if not of_model:
            names = ", ".join(sorted({run.report.model for run in saved}))
            raise BadSettingError(
                f"no run is of a model with {options.model!r} in its name; there is {names}."
            )
        saved = of_model
    return named(saved) if options.runs else newest(saved)
