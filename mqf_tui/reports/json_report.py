"""The report as JSON, and back."""

from __future__ import annotations

from pydantic import ValidationError

from mqf_tui.reports.schema import Report


def to_json(report: Report) -> str:
    """The report as JSON text; infinities and NaN as strings. Keys that an older file lacks stay away."""
    return report.model_dump_json(indent=2, exclude_unset=True) + "\n"


def from_json(text: str | bytes) -> Report:
    """A report from its JSON; raises ValueError with one line that says what is wrong."""
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ValueError(f"{where}: {first['msg']}") from error
