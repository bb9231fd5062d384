"""Reports that mqf-tui itself wrote, of any version."""

from __future__ import annotations

from typing import Any

from mqf_tui.reports.foreign import Reading, Readings

TOOL = "mqf-tui"


def fits(data: dict[str, Any]) -> bool:
    """Whether this is our own JSON."""
    return "schema_version" in data and "thresholds" in data


def read(data: dict[str, Any]) -> Readings:
    """The report as it is; one that was imported before keeps its first origin."""
    versions = data.get("versions")
    version = versions.get("mqf_tui") if isinstance(versions, dict) else ""
    return Readings((Reading(TOOL, "report", data, version=version if isinstance(version, str) else ""),))
