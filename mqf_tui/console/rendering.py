"""``mqf-tui runs show`` and ``mqf-tui runs export``: saved runs in any format."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mqf_tui.console.output import format_of, say, write_file
from mqf_tui.fidelity.errors import BadSettingError, SaveError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mqf_tui.library.runs import SavedRun


def show(options: argparse.Namespace) -> int:
    """Print one saved run; return the exit code."""
    from mqf_tui.library.runs import load_run

    options.format = format_of(options.format, None)
    _check(options)
    say(_text([load_run(options.run)], options))
    return 0


def export(options: argparse.Namespace) -> int:
    """Print saved runs, or write them to one file or, one file each, into a folder; return the exit code."""
    from mqf_tui.library.runs import load_run
    from mqf_tui.reports.text import counted

    options.format = format_of(options.format, options.output)
    _check(options)
    saved = list({run.id: run for run in map(load_run, options.runs)}.values())
    together = len(saved) == 1 or (options.format == "csv" and not options.positions)
    if options.output in (None, "-"):
        if not together:
            raise BadSettingError(
                f"{len(saved)} runs are no single {options.format} text; name a folder with --output, or "
                "export one run at a time."
            )
        say(_text(saved, options))
        return 0
    output = Path(options.output)
    if together and not (output.is_dir() or options.output.endswith(("/", "\\"))):
        write_file(output, _text(saved, options))
    else:
        _fill(output, saved, options)
        sys.stderr.write(f"{counted(len(saved), 'file')} written to {output}\n")
    return 0


def _fill(folder: Path, saved: Sequence[SavedRun], options: argparse.Namespace) -> None:
    """One file for each run, all rendered before the first is written."""
    from mqf_tui.reports.formats import ending

    suffix = ending(options.format, _rows(options), dark=options.dark)
    texts = {folder / f"{run.id}.{suffix}": _text([run], options) for run in saved}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(
            f"{folder} cannot be a folder for {len(saved)} files ({error.strerror}); choose another --output."
        ) from error
    for path, text in texts.items():
        write_file(path, text)


def _check(options: argparse.Namespace) -> None:
    if options.positions and options.format != "csv":
        raise BadSettingError(f"--positions goes with --format csv, not with {options.format}.")
    if options.dark and options.format != "svg":
        raise BadSettingError(f"--dark goes with --format svg, not with {options.format}.")


def _text(saved: Sequence[SavedRun], options: argparse.Namespace) -> str:
    """The runs in the wanted format; only csv puts several into one text."""
    from mqf_tui.reports.csv_report import to_csv
    from mqf_tui.reports.formats import needs_positions, render

    form, rows = options.format, _rows(options)
    if form == "csv" and rows == "runs":
        return to_csv([run.report for run in saved], [run.id for run in saved])
    (run,) = saved
    # Imported runs have none; of any other run a missing file is damage, which reading it reports.
    imported = run.report.origin is not None and not run.has_positions
    if imported and rows == "positions":
        raise BadSettingError(f"run {run.id} was imported and has no positions; leave --positions out.")
    wanted = needs_positions(form, rows)
    if wanted and imported:
        sys.stderr.write(f"mqf-tui: run {run.id} was imported without positions; the {form} shows none.\n")
    positions = run.positions() if wanted and not imported else None
    return render(form, run.report, positions, dark=options.dark, rows=rows)


def _rows(options: argparse.Namespace) -> Literal["runs", "positions"]:
    return "positions" if options.positions else "runs"
