"""Copying: each way with made tools, the bytes of OSC 52 taken apart by other means, and a real tmux."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from mqf_tui.app import clipboard
from mqf_tui.app.clipboard import MOST, MOST_EVERYWHERE, Copied, copy
from mqf_tui.app.copying import copied_words
from tests.conftest import ROOT

TEXT = "KL 0.0123 ± 0.001\n| größe | 漢字 |\n"


def tool(folder: Path, name: str, *, fails: bool = False) -> Path:
    """An executable that writes its arguments and its input beside itself, or fails."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    keep = shlex.quote(str(folder / f"{name}.got"))
    arguments = shlex.quote(str(folder / f"{name}.arguments"))
    end = "exit 1" if fails else f'/bin/cat > {keep}; echo "$*" > {arguments}'
    path.write_text(f"#!/bin/sh\n{end}\n")
    path.chmod(0o755)
    return path


def taken_apart(sent: str) -> str:
    """The text in a bare OSC 52, as a terminal reads it."""
    found = re.fullmatch(r"\x1b\]52;c;([A-Za-z0-9+/]*={0,2})\x07", sent)
    assert found is not None, sent[:40]
    raw = subprocess.run(["base64", "-d"], input=found[1].encode(), capture_output=True, check=True).stdout
    return raw.decode()


def from_tmux(sent: str) -> str:
    """What tmux hands on of a passed-through string: its inner escapes are doubled."""
    assert sent.startswith("\x1bPtmux;")
    assert sent.endswith("\x1b\\")
    inner = sent.removeprefix("\x1bPtmux;").removesuffix("\x1b\\")
    assert not re.search("(?<!\x1b)(\x1b\x1b)*\x1b(?!\x1b)", inner)  # a single one would end it
    return inner.replace("\x1b\x1b", "\x1b")


@pytest.mark.parametrize(
    ("name", "display", "arguments"),
    [
        ("pbcopy", {}, ""),
        ("wl-copy", {"WAYLAND_DISPLAY": "wayland-0"}, "--type text/plain;charset=utf-8"),
        ("xclip", {"DISPLAY": ":0"}, "-selection clipboard -in"),
        ("xsel", {"DISPLAY": ":0"}, "--clipboard --input"),
    ],
)
def test_the_tools_of_this_machine(
    tmp_path: Path, name: str, display: dict[str, str], arguments: str
) -> None:
    tool(tmp_path, name)
    sent: list[str] = []
    environ = {"PATH": str(tmp_path), **display}
    assert copy(TEXT, sent.append, environ) == Copied(name, True)
    assert (tmp_path / f"{name}.got").read_text(encoding="utf-8") == TEXT
    assert (tmp_path / f"{name}.arguments").read_text().strip() == arguments
    assert sent == []
    if display:  # without its display the tool cannot do anything, and is not asked
        (tmp_path / f"{name}.got").unlink()
        assert copy(TEXT, sent.append, {"PATH": str(tmp_path)}).ok is None
        assert not (tmp_path / f"{name}.got").exists()
    # Over ssh it would fill the clipboard of the machine that nobody sits at.
    far = copy(TEXT, sent.append, environ | {"SSH_CONNECTION": "10.0.0.1 1 10.0.0.2 22"})
    assert far.ok is None
    assert taken_apart(sent[-1]) == TEXT


def test_a_tool_that_fails_or_hangs_gives_way_to_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = {"PATH": str(tmp_path), "DISPLAY": ":0", "WAYLAND_DISPLAY": "w"}
    tool(tmp_path, "wl-copy", fails=True)
    hangs = tool(tmp_path, "xclip")
    hangs.write_text("#!/bin/sh\nexec /bin/sleep 20\n")
    monkeypatch.setattr(clipboard, "TIMEOUT", 0.3)
    tool(tmp_path, "xsel")
    assert copy(TEXT, None, environ) == Copied("xsel", True)
    (tmp_path / "xsel").unlink()
    sent: list[str] = []
    found = copy(TEXT, sent.append, environ)
    assert (found.how, found.ok) == ("the terminal (OSC 52)", None)
    assert "save it to a file" in found.advice
    assert taken_apart(sent[0]) == TEXT
    assert copied_words(found, "Markdown").startswith("Markdown sent to the terminal (OSC 52). If nothing")


def test_the_terminals_that_stand_in_between() -> None:
    sent: list[str] = []

    def told(text: str = TEXT, **environ: str) -> Copied:
        sent.clear()
        return copy(text, sent.append, environ)

    found = told(TMUX="/tmp/s,1,0", TERM="screen")  # no tmux on the PATH: both ways are tried
    bare, _, rest = sent[0].partition("\x1bP")
    assert taken_apart(bare) == TEXT
    assert taken_apart(from_tmux("\x1bP" + rest)) == TEXT
    assert "allow-passthrough" in found.advice
    assert "set-clipboard" in found.advice
    told(TERM="tmux-256color")  # on another machine, from within tmux
    assert taken_apart(sent[0].partition("\x1bP")[0]) == TEXT
    long = TEXT * 60
    found = told(long, STY="1.pts", TERM="screen")
    pieces = re.findall("\x1bP(.*?)\x1b\\\\", sent[0], re.DOTALL)
    assert "".join(f"\x1bP{piece}\x1b\\" for piece in pieces) == sent[0]
    assert max(map(len, pieces)) <= 250
    assert taken_apart("".join(pieces)) == long
    assert found.how.endswith("through screen)")
    told(TERM="screen-256color")  # tmux or screen around another machine: bare, and for screen
    assert taken_apart(sent[0].partition("\x1bP")[0]) == TEXT


def test_what_is_too_long_or_has_no_terminal(tmp_path: Path) -> None:
    sent: list[str] = []
    for n, ok, count in (
        (MOST_EVERYWHERE * 3 // 4 - 10, None, 1),
        (MOST_EVERYWHERE * 3 // 4 + 10, None, 2),
        (MOST * 3 // 4 + 10, False, 2),
    ):
        found = copy("x" * n, sent.append, {})
        assert (found.ok, len(sent)) == (ok, count)
        assert ("more than some terminals take" in found.advice) == (count == 2 and ok is None)
    assert "too many for terminals; save it to a file" in found.advice
    assert copied_words(found, "JSON").startswith("JSON was not copied: 10")
    assert copy(TEXT, None, {}).ok is False

    def closed(_: str) -> None:
        raise RuntimeError("the driver is closed")

    assert copy(TEXT, closed, {}).ok is False
    # A tool takes any length, and half a character of a token does not stop it.
    tool(tmp_path, "pbcopy")
    assert copy("x" * 10**6 + "\udce4", sent.append, {"PATH": str(tmp_path)}).ok is True
    assert (tmp_path / "pbcopy.got").read_text() == "x" * 10**6 + "?"


def test_no_tool_is_asked_twice_and_pbcopy_hears_utf_8(tmp_path: Path) -> None:
    for name in ("pbcopy", "xclip"):
        tool(tmp_path, name)
    ran: list[tuple[str, str | None]] = []

    def run(command: Sequence[str], content: bytes, environ: Mapping[str, str]) -> bool:
        assert content.decode() == TEXT
        ran.append((Path(command[0]).name, environ.get("LC_CTYPE")))
        return False

    copy(TEXT, lambda _: None, {"PATH": str(tmp_path), "DISPLAY": ":0"}, run)
    assert ran == [("pbcopy", "UTF-8"), ("xclip", None)]


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")
@pytest.mark.parametrize("finds_tmux", [True, False])
def test_through_a_real_tmux(tmp_path: Path, finds_tmux: bool) -> None:
    """With its command at hand; and by the sequence alone, which it obeys where set-clipboard is on."""
    tmux = ["tmux", "-S", str(tmp_path / "socket"), "-f", "/dev/null"]
    done = tmp_path / "done"
    script = (
        "import os, sys; from mqf_tui.app.clipboard import copy\n"
        "environ = dict(os.environ)\n"
        f"environ.pop('PATH', None) if not {finds_tmux} else None\n"
        "def write(signs): sys.stdout.write(signs); sys.stdout.flush()\n"
        f"found = copy({TEXT!r}, write, environ)\n"
        f"open({str(done)!r}, 'w').write(found.how)\n"
    )
    (tmp_path / "handing.py").write_text(script)
    command = shlex.join([sys.executable, str(tmp_path / "handing.py")]) + "; exec cat"
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("SSH_", "DISPLAY", "WAYLAND"))}
    environ["PYTHONPATH"] = str(ROOT)
    try:
        subprocess.run([*tmux, "new-session", "-d", "cat"], check=True, env=environ)
        subprocess.run([*tmux, "set-option", "-g", "set-clipboard", "on"], check=True)
        subprocess.run([*tmux, "new-window", command], check=True)
        shown = ""
        for _ in range(300):
            answer = subprocess.run([*tmux, "show-buffer"], capture_output=True, check=False)
            shown = answer.stdout.decode()
            if done.exists() and shown:
                break
            time.sleep(0.05)
        pane = subprocess.run([*tmux, "capture-pane", "-p"], capture_output=True, check=False).stdout
        assert shown == TEXT, pane.decode()
        assert ("tmux's buffer" in done.read_text()) == finds_tmux
        buffers = subprocess.run([*tmux, "list-buffers"], capture_output=True, check=True).stdout
        assert buffers.count(b"\n") == 1  # not once for each way
    finally:
        subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)
