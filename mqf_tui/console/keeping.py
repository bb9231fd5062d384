"""``mqf-tui runs``: what is saved."""

from __future__ import annotations

import argparse

from mqf_tui.console import listings, rendering


def run(options: argparse.Namespace) -> int:
    """Do what ``options.action`` names; return the exit code."""
    if options.action == "list":
        return listings.runs(options.format)
    if options.action == "show":
        return rendering.show(options)
    return rendering.export(options)
