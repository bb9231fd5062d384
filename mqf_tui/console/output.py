"""Standard output and files that fail with a sentence."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from mqf_tui.fidelity.errors import SaveError


def say(text: str) -> None:
    """Write ``text`` to standard output now; raises SaveError where that takes no more.

    A reader that went away (`| head`) raises BrokenPipeError, which is no failure.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stdout = None  # or the interpreter would complain once more at exit
        raise
    except OSError as error:
        # What the buffer still holds would fail, and be complained about, once more at exit.
        sys.stdout = None
        raise SaveError(
            f"the output could not be written ({error.strerror}); make room there or send it elsewhere."
        ) from error


def write_file(path: Path, text: str) -> None:
    """Write ``text`` into a file, in place of what it held; raises SaveError."""
    try:
        # CSV's own line ends must stay as they are.
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise SaveError(f"{path} cannot be written ({error.strerror}); choose another --output.") from error
