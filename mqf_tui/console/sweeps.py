"""``mqf-tui sweeps``: the saved ones."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mqf_tui.console.measuring import check_output
from mqf_tui.console.output import say, sweep_format_of, write_file
from mqf_tui.fidelity.errors import SaveError


def run(options: argparse.Namespace) -> int:
    """Do what ``options.action`` names; return the exit code."""
    return _list() if options.action == "list" else _show(options)


def _list() -> int:
    from mqf_tui.library.sweeps import list_sweeps, load_sweep
    from mqf_tui.reports.text import inert

    names = list_sweeps()
    if not names:
        say("no sweeps yet; `mqf-tui sweep MODEL` makes one.\n")
    for name in names:
        try:
            report = load_sweep(name)
        except SaveError as error:
            sys.stderr.write(f"mqf-tui: {inert(str(error))}\n")
            continue
        say(f"{inert(name)}  {inert(report.model)}  {inert(report.answer)}\n")
    return 0


def _show(options: argparse.Namespace) -> int:
    from mqf_tui.library.sweeps import load_sweep
    from mqf_tui.reports.sweep_report import render_sweep

    output = None if options.output == "-" else options.output
    if output is not None:
        check_output(Path(output))
    text = render_sweep(sweep_format_of(options.format, output), load_sweep(options.sweep))
    if output is None:
        say(text)
    else:
        write_file(Path(output), text)
    return 0
