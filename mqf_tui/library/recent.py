"""The newest saved reports: what the time of the next measurement is estimated from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.runs import SavedRun, run_folders, try_load

if TYPE_CHECKING:
    from mqf_tui.reports.schema import Report

MOST = 20


def recent_reports(root: Path | None = None, most: int = MOST) -> tuple[Report, ...]:
    """The reports of the runs saved last, newest first; those that cannot be read are left out.

    Run ids begin with their date, so no other run is opened. Never raises.
    """
    try:
        folders = sorted(run_folders(root), reverse=True)[:most]
    except FidelityError:
        return ()
    found = (try_load(folder) for folder in folders)
    return tuple(run.report for run in found if isinstance(run, SavedRun))
