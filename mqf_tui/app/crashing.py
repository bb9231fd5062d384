"""What a mistake of ours leaves behind: a sentence in place of a traceback, and a file with the details."""

from __future__ import annotations

import contextlib
import platform
import sys
import traceback
from pathlib import Path

from rich.text import Text
from textual import __version__ as textual_version
from textual.app import App

from mqf_tui import __version__
from mqf_tui.library.files import replace_synced
from mqf_tui.library.remembered import state_file
from mqf_tui.reports.text import inert

LONGEST = 300  # characters of the error that the terminal shows


def crash_log() -> Path:
    """Where the details of the last crash are, whether there was one or not."""
    return state_file().with_name("crash.log")


class CrashingApp(App[None]):
    """An app that ends with a sentence where it cannot go on. The caller saves what was scored."""

    crashed = False

    def _fatal_error(self) -> None:
        # Textual has no public hook; its own prints the values of all variables, of corpora too.
        error = sys.exc_info()[1] or self._exception
        if self.crashed:  # others follow from the first
            self._close_messages_no_wait()
            return
        self.crashed = True
        self.bell()
        self.panic(Text(crash_words(error, _logged(error))))


def crash_words(error: BaseException | None, log: Path | None) -> str:
    """What to say of it; ``log``: the file with the details, None where it could not be written."""
    what = inert(f"{type(error).__name__}: {error}")[:LONGEST]
    where = f"the details are in {inert(str(log))}" if log else "the details could not be written to a file"
    return f"mqf-tui had to end by a mistake of its own ({what}); {where}; please report this."


def _logged(error: BaseException | None) -> Path | None:
    """Write the details, without the values of variables; None where the disk does not take them."""
    made_by = f"mqf-tui {__version__}, textual {textual_version}, Python {platform.python_version()}"
    lines = traceback.format_exception(error) if error is not None else ["no error is known\n"]
    path = crash_log()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        content = [f"{made_by}, {platform.platform()}", "", *map(inert, "".join(lines).splitlines()), ""]
        replace_synced(path, "\n".join(content).encode("utf-8", "backslashreplace"))
        return path
    return None
