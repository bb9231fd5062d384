"""``mqf-tui compare``: the difference of two or more saved runs."""

from __future__ import annotations

import argparse

from mqf_tui.console.output import say
from mqf_tui.fidelity.errors import BadSettingError


def run(options: argparse.Namespace) -> int:
    """Compare the first run with each other; return the exit code."""
    from mqf_tui.fidelity.comparison import compare
    from mqf_tui.library.runs import load_run
    from mqf_tui.library.subjects import subject
    from mqf_tui.reports.comparison_report import to_json, to_markdown

    if len(options.runs) < 2:
        raise BadSettingError(
            "one run alone cannot be compared; name two or more (`mqf-tui runs list` shows all)."
        )
    found = compare([subject(load_run(name)) for name in options.runs])
    say(to_json(found) if options.format == "json" else to_markdown(found))
    return 0
