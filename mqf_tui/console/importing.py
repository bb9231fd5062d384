"""``mqf-tui runs import``: take in reports that other tools wrote."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mqf_tui.console.output import say


def run(options: argparse.Namespace) -> int:
    """Import the files and say what became of each report; return the exit code."""
    from mqf_tui.library.importing import import_files
    from mqf_tui.reports.text import inert, verdict_words

    done = import_files([Path(name) for name in options.files])
    for file, entry in done.left_out:
        sys.stderr.write(f"mqf-tui: {inert(file)}: left out {inert(entry)}\n")
    for found in done.reports:
        report, name = found.run.report, inert(found.file)
        if found.is_new:
            what = f"{inert(report.variant_model or report.model)}, {report.setting}"
            say(f"{name}: imported as run {inert(found.run.id)} ({what}: {verdict_words(report)})\n")
        else:
            say(f"{name}: is here already as run {inert(found.run.id)}; skipped\n")
    return 0
