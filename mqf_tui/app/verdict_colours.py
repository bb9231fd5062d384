"""The colour of a verdict, by its name in a theme: apart, so that a list of verdicts imports nothing else."""

from __future__ import annotations

COLOURS = {"good": "success", "marginal": "warning", "bad": "error"}
