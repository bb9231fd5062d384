"""``python -m mqf_tui``."""

from mqf_tui.cli import entry

entry()
