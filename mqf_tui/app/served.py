"""The app in a browser's page, as a child of the server: see ``serving``."""

from __future__ import annotations

import os
from collections.abc import Mapping

PARENT = "MQF_TUI_SERVED_BY"  # the server's process, told to the apps it starts


def served(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether an app with this environment is drawn in a browser, with our server or ``textual serve``."""
    return "web_driver" in environment.get("TEXTUAL_DRIVER", "")


def orphaned() -> bool:
    """Whether our server, which started this app, is gone, so that nobody sees it any more."""
    parent = os.environ.get(PARENT)
    return served() and parent is not None and parent != str(os.getppid())
