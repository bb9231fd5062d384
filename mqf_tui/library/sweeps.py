"""Saved sweeps: the report of each, beside the runs that it is made of."""

from __future__ import annotations

from pathlib import Path

from mqf_tui.fidelity.errors import SaveError
from mqf_tui.library.files import replace_synced
from mqf_tui.library.runs import data_dir
from mqf_tui.reports.sweep_schema import SweepReport


def save_sweep(report: SweepReport, root: Path | None = None) -> Path:
    """Write the report under its id; raises SaveError."""
    path = _home(root) / f"{report.sweep_id}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_synced(path, (report.model_dump_json(indent=2) + "\n").encode())
    except OSError as error:
        raise SaveError(
            f"the sweep could not be saved in {path.parent} ({error.strerror or error}); make room there or "
            "set MQF_TUI_DATA_DIR to another folder."
        ) from error
    return path


def list_sweeps(root: Path | None = None) -> list[str]:
    """The ids of all saved sweeps, newest first."""
    home = _home(root)
    return sorted((path.stem for path in home.glob("*.json")), reverse=True) if home.is_dir() else []


def load_sweep(word: str, root: Path | None = None) -> SweepReport:
    """The sweep whose id begins with ``word``, or the newest for ``last``; raises SaveError."""
    names = list_sweeps(root)
    found = names[:1] if word == "last" else [name for name in names if name.startswith(word)]
    if len(found) != 1:
        there = f"; the newest are {', '.join(names[:3])}" if names else ""
        what = "more than one sweep begins with" if found else "there is no sweep"
        raise SaveError(f"{what} {word!r}{there or '; `mqf-tui sweep MODEL` makes one'}.")
    try:
        return SweepReport.model_validate_json((_home(root) / f"{found[0]}.json").read_bytes())
    except (OSError, ValueError) as error:
        raise SaveError(f"sweep {found[0]} cannot be read; measure it again.") from error


def _home(root: Path | None) -> Path:
    return (root or data_dir()) / "sweeps"
