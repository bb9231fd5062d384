"""Whether a widget may draw signs beyond ASCII."""

from __future__ import annotations

from textual.widget import Widget

from mqf_tui.app.capabilities import Capabilities


def unicode_of(widget: Widget) -> bool:
    """As the app says; yes in an app that says nothing."""
    return getattr(widget.app, "capabilities", Capabilities()).unicode
