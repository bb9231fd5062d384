"""Saved runs as subjects of a comparison."""

from __future__ import annotations

from mqf_tui.fidelity.pairing import Subject
from mqf_tui.library.runs import SavedRun


def subject(run: SavedRun) -> Subject:
    """The run, its positions read when asked for; what another tool measured may have none."""
    bare = run.report.origin is not None and not run.has_positions
    return Subject(run.id, run.report, lambda: None if bare else run.positions())
