"""What several screens open from a run: its report to read, the sweep that it is of."""

from __future__ import annotations

from collections.abc import Iterable

from mqf_tui.app.screens.base import BaseScreen
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.index import RunRow, run_rows
from mqf_tui.library.runs import SavedRun
from mqf_tui.reports.schema import Report


def open_report(screen: BaseScreen, run: SavedRun | None, report: Report) -> None:
    """The report of a run, saved or not, in its formats."""
    from mqf_tui.app.documents import run_document

    read = run.positions if run is not None and run.has_positions else None
    screen.mqf.report(run_document(report, read, run.id if run is not None else ""))


def open_sweep_of(screen: BaseScreen, sweep_id: str, rows: Iterable[RunRow] | None = None) -> None:
    """The sweep of this id with its runs; ``rows``: all runs, where they are known."""
    from mqf_tui.library.sweeps import load_sweep

    try:
        report = load_sweep(sweep_id)
        known = run_rows().rows if rows is None else rows
        runs = [row.load() for row in known if row.sweep_id == sweep_id]
    except FidelityError as error:
        screen.notify(str(error), severity="error", markup=False)
    else:
        screen.mqf.open_sweep(report, {run.id: run for run in runs})
