"""Text to the user's clipboard: by a tool of this machine, by tmux, or by the terminal itself (OSC 52).

Only a tool can say that it worked. A terminal answers nothing, so what is told then is what was tried, and
what to do where nothing arrived.
"""

from __future__ import annotations

import base64
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from mqf_tui.reports.text import size

Run = Callable[[Sequence[str], bytes, Mapping[str, str]], bool]
Write = Callable[[str], None]

TIMEOUT = 3.0  # seconds for a tool
MOST_EVERYWHERE = 74_994  # signs of base64 that every terminal with a limit still takes
MOST = 100_000  # beyond that many terminals drop the text, or cut it
SCREEN_PIECE = 240  # GNU screen drops longer strings: at 256 before version 4.2.1, at 768 since
# A tool, the variable that says that its display is there, and its words. pbcopy is macOS's.
TOOLS: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("pbcopy", "", ()),
    ("wl-copy", "WAYLAND_DISPLAY", ("--type", "text/plain;charset=utf-8")),
    ("xclip", "DISPLAY", ("-selection", "clipboard", "-in")),
    ("xsel", "DISPLAY", ("--clipboard", "--input")),
)
FILE = "save it to a file (w in the report)"
SET_TMUX = "in tmux.conf: set -g set-clipboard on, set -g allow-passthrough on"


@dataclass(frozen=True)
class Copied:
    """``how``: what was used, in words. ``ok``: whether it arrived (None: a terminal does not say).

    ``advice``: what to do where nothing arrived, a clause ("": no need).
    """

    how: str
    ok: bool | None
    advice: str = ""


def copy(text: str, write: Write | None, environ: Mapping[str, str], run: Run | None = None) -> Copied:
    """Hand ``text`` on in the first way that works; takes as long as a tool does, so keep it off the screen.

    ``write`` sends signs to the terminal (None: there is none); ``environ`` decides which ways there are;
    ``run`` starts a tool with the text as its input and says whether it took it. Never raises.
    """
    run = run or start
    tmux = bool(environ.get("TMUX"))
    # Over ssh a tool would fill the clipboard of a machine that the user does not sit at.
    used = "" if far(environ) else _by_tool(text, environ, run)
    if used and not tmux:
        return Copied(used, True)
    buffer = "tmux's buffer" if tmux and _by_tmux(text, environ, run) else ""
    if used:
        return Copied(f"{used} and {buffer}" if buffer else used, True)
    return _by_terminal(text, write, environ, buffer)


def far(environ: Mapping[str, str]) -> bool:
    """Whether this runs over ssh."""
    return any(environ.get(name) for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY"))


def start(command: Sequence[str], content: bytes, environ: Mapping[str, str]) -> bool:
    """Run a tool with ``content`` as its input; whether it ended well in time."""
    try:
        # The tools stay behind to serve the clipboard: pipes would never close, and Ctrl+C must not end them.
        done = subprocess.run(
            command,
            input=content,
            env=dict(environ),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=TIMEOUT,
            check=False,
            start_new_session=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return False
    return done.returncode == 0


def osc52(text: str) -> str:
    """The sequence that asks a terminal to take ``text`` as its clipboard."""
    return f"\x1b]52;c;{_encoded(text)}\a"


def through_tmux(sequence: str) -> str:
    """``sequence`` as tmux hands it on to the terminal around it, where ``allow-passthrough`` is on."""
    return f"\x1bPtmux;{sequence.replace(chr(27), chr(27) * 2)}\x1b\\"


def through_screen(sequence: str) -> str:
    """``sequence`` in pieces that GNU screen hands on to the terminal around it."""
    pieces = (sequence[i : i + SCREEN_PIECE] for i in range(0, len(sequence), SCREEN_PIECE))
    return "".join(f"\x1bP{piece}\x1b\\" for piece in pieces)


def wrapped(sequence: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """``sequence`` for the terminal that these variables tell of, and what it goes through ("": nothing)."""
    term = environ.get("TERM", "")
    if environ.get("TMUX") or term.startswith("tmux"):
        # Bare for set-clipboard, wrapped for allow-passthrough: tmux obeys each only where it is on.
        return sequence + through_tmux(sequence), "tmux"
    if environ.get("STY"):
        return through_screen(sequence), "screen"
    if term.startswith("screen"):
        # On another machine, from within tmux or screen: each drops what is the other's.
        return sequence + through_screen(sequence), "tmux or screen"
    return sequence, ""


def _by_tool(text: str, environ: Mapping[str, str], run: Run) -> str:
    """The name of the tool that took it; empty where none did."""
    # pbcopy takes the encoding from the locale, and that may be unset.
    variables = {**environ, "LC_CTYPE": "UTF-8"} if "LC_ALL" not in environ else environ
    for name, display, words in TOOLS:
        found = shutil.which(name, path=environ.get("PATH", ""))
        if found is None or (display and not environ.get(display)):
            continue
        if run((found, *words), _bytes(text), variables if name == "pbcopy" else environ):
            return name
    return ""


def _by_tmux(text: str, environ: Mapping[str, str], run: Run) -> bool:
    """Into tmux's own buffer, which it hands on to the terminal around it (-w; tmux 3.2)."""
    found = shutil.which("tmux", path=environ.get("PATH", ""))
    return found is not None and run((found, "load-buffer", "-w", "-"), _bytes(text), environ)


def _by_terminal(text: str, write: Write | None, environ: Mapping[str, str], buffer: str) -> Copied:
    length = len(_encoded(text))
    if write is None or length > MOST:
        why = "there is no terminal to ask" if write is None else f"{size(length)} are too many for terminals"
        if buffer:
            return Copied(buffer, None, f"{why}, so it may be there alone: {FILE} if nothing arrived")
        return Copied("", False, f"{why}; {FILE}")
    # tmux's buffer has it already: the bare sequence would put it there once more.
    sent, around = (through_tmux(osc52(text)), "tmux") if buffer else wrapped(osc52(text), environ)
    try:
        write(sent)
    except (OSError, RuntimeError, AssertionError, ValueError):  # a driver that has just closed
        return Copied(buffer, None if buffer else False, FILE)
    how = "the terminal (OSC 52" + (f", through {around})" if around else ")")
    many = f"{size(length)} are more than some terminals take" if length > MOST_EVERYWHERE else ""
    mend = SET_TMUX if "tmux" in around else "not every terminal takes it"
    if around == "screen":
        mend = "the terminal around screen may not take it"
    advice = "; ".join(word for word in (many, mend) if word)
    return Copied(f"{buffer} and {how}" if buffer else how, None, f"if nothing arrived, {FILE} ({advice})")


def _encoded(text: str) -> str:
    return base64.b64encode(_bytes(text)).decode("ascii")


def _bytes(text: str) -> bytes:
    # Texts of tokens may hold lone surrogates, which UTF-8 cannot.
    return text.encode("utf-8", "replace")
