"""A page in the user's browser: one of our own, or one of the web."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from mqf_tui.app.clipboard import far
from mqf_tui.fidelity.errors import SaveError
from mqf_tui.library.exporting import export
from mqf_tui.library.tokens import cache_dir
from mqf_tui.reports.text import inert

TIMEOUT = 15.0
_OPEN = "import sys, webbrowser; sys.exit(not webbrowser.open(sys.argv[1]))"


def write_page(name: str, text: str) -> Path:
    """Put the page where files lie that can be made again; raises SaveError."""
    path = cache_dir() / "pages" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise SaveError(
            f"the page cannot be written in {inert(str(path.parent))} ({error.strerror}); save it with w."
        ) from error
    export(path, text)
    return path


def open_page(
    path: Path, environ: Mapping[str, str], start: Callable[[Sequence[str]], bool] | None = None
) -> tuple[str, bool]:
    """Open it where a browser can be seen. What became of it in a sentence, and whether it was opened."""
    return _opened(path.as_uri(), inert(str(path)), environ, start)


def open_address(
    address: str, environ: Mapping[str, str], start: Callable[[Sequence[str]], bool] | None = None
) -> tuple[str, bool]:
    """Open a page of the web, as ``open_page``. What is no address of the web is told, and not opened."""
    where = inert(address)
    if not address.startswith(("https://", "http://")):
        return f"This is no address of the web: {where}", False
    return _opened(address, where, environ, start)


def _opened(
    uri: str, where: str, environ: Mapping[str, str], start: Callable[[Sequence[str]], bool] | None
) -> tuple[str, bool]:
    if far(environ):
        return f"This runs over ssh, where no browser of yours can be opened. The page is {where}", False
    if sys.platform == "linux" and not (environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")):
        # A browser for the terminal would be found, and would write over the app.
        return f"There is no desktop to open a browser on. The page is {where}", False
    if (start or _start)((sys.executable, "-c", _OPEN, uri)):
        return f"Opened in the browser: {where}", True
    return f"No browser was found. The page is {where}", False


def _start(command: Sequence[str]) -> bool:
    """In a process of its own: what a browser prints would fall into the app."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        return True  # it is at it
    except OSError:
        return False
    return done.returncode == 0
