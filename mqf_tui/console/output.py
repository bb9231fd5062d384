"""Standard output and files that fail with a sentence."""

from __future__ import annotations

import io
import sys
from contextlib import suppress
from pathlib import Path

from mqf_tui.fidelity.errors import BadSettingError, SaveError

SWEEP_FORMATS = ("md", "json", "csv", "html")


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


def notice(sentence: str) -> None:
    """Write a sentence to standard error, over the progress line where there is one."""
    tell(("\r\x1b[2K" if sys.stderr.isatty() else "") + f"mqf-tui: {sentence}")


def tell(line: str) -> None:
    """Write a line to standard error; where nobody can be told, the work goes on all the same."""
    with suppress(OSError):
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()


def write_file(path: Path, text: str) -> None:
    """Write ``text`` into a file, in place of what it held; raises SaveError."""
    try:
        # CSV's own line ends must stay as they are.
        path.write_text(text, encoding="utf-8", newline="")
    except OSError as error:
        raise SaveError(f"{path} cannot be written ({error.strerror}); choose another --output.") from error


def format_of(given: str | None, output: str | None) -> str:
    """The format to write: as given, else by how the file's name ends, else Markdown."""
    if given is not None:
        return given
    from mqf_tui.reports.formats import FORMATS

    name = (output or "").lower()
    # The longest first: of `x.badge.svg` both svg and badge.svg are endings.
    known = sorted(FORMATS, key=lambda form: len(FORMATS[form].ending), reverse=True)
    return next((form for form in known if name.endswith(f".{FORMATS[form].ending}")), "md")


def sweep_format_of(given: str | None, output: str | None) -> str:
    """The format of a sweep's report: as given, else by how the file's name ends, else Markdown.

    Raises BadSettingError for a format that only a single measurement's report has.
    """
    if given is not None and given not in SWEEP_FORMATS:
        raise BadSettingError(
            f"the report of several settings comes as {', '.join(SWEEP_FORMATS)}, not as {given}; choose "
            "one of these, or render a run of it with `mqf-tui runs export`."
        )
    ending = Path(output or "").suffix.lower().lstrip(".")
    return given or (ending if ending in SWEEP_FORMATS else "md")
