"""The real app in a real terminal: keys sent and the screen read through tmux."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqf_tui.library.runs import list_runs
from tests.conftest import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not installed")]


class Terminal:
    """One tmux server of our own with one window, whose command tells its exit code."""

    def __init__(self, socket: Path, data: Path, words: list[str], size: tuple[int, int]) -> None:
        self._tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
        command = shlex.join([sys.executable, "-m", "mqf_tui", *words])
        script = (
            f"cd {shlex.quote(str(ROOT))}; {command}; echo EXIT=$?; stty -a | grep -o '.icanon'; exec cat"
        )
        environment = {**os.environ, "MQF_TUI_DATA_DIR": str(data), "HF_HUB_OFFLINE": "1"}
        width, height = map(str, size)
        subprocess.run(
            [*self._tmux, "new-session", "-d", "-x", width, "-y", height, "sh", "-c", script],
            check=True,
            env=environment,
        )

    def run(self, *words: str) -> str:
        return subprocess.run([*self._tmux, *words], check=True, capture_output=True, text=True).stdout

    def keys(self, *keys: str) -> None:
        self.run("send-keys", *keys)

    def screen(self) -> str:
        return self.run("capture-pane", "-p")

    def wait(self, *texts: str, seconds: float = 120) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            shown = self.screen()
            if all(text in shown for text in texts):
                return shown
            time.sleep(0.1)
        raise AssertionError(f"{texts} never appeared; the screen is\n{self.screen()}")

    def until_gone(self, text: str, seconds: float = 120) -> None:
        """What lies under a dialog is seen beside it, so that only its going tells that it is gone."""
        end = time.monotonic() + seconds
        while text in self.screen():
            assert time.monotonic() < end, f"{text} is still there; the screen is\n{self.screen()}"
            time.sleep(0.1)

    def app_pid(self) -> int:
        shell = self.run("list-panes", "-F", "#{pane_pid}").strip()
        out = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", shell], capture_output=True, text=True, check=True
        )
        return int(out.stdout.split()[0])

    def close(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True)


@pytest.fixture
def start(tmp_path: Path, data_home: Path) -> Iterator[object]:
    opened: list[Terminal] = []

    def open_terminal(*words: str, size: tuple[int, int] = (80, 24)) -> Terminal:
        terminal = Terminal(tmp_path / f"tmux-{len(opened)}", data_home, list(words), size)
        opened.append(terminal)
        return terminal

    yield open_terminal
    for terminal in opened:
        terminal.close()


@pytest.mark.parametrize("size", [(80, 24), (120, 40)], ids=str)
def test_models_set_up_live_saved(start, data_home: Path, size: tuple[int, int]) -> None:
    terminal = start(size=size)
    terminal.wait("Models", "demo", "llama")
    terminal.keys("Enter")
    terminal.wait("Set-up", "5,110 positions")
    # One burst, as a paste or a fast typist sends it: 4 bits, 5 chunks of 256 tokens.
    terminal.keys("Right", "Right", "Right", "Down", "Down", "Down", "Left", "Down", "5", "Enter")
    terminal.wait("Live")
    shown = terminal.wait("Result", "KL mean", "Quit")
    [run] = list_runs()
    r = run.report
    assert (r.kv_bits, r.corpus.chunk_length, r.n_chunks, r.partial) == (4, 256, 5, False)
    assert r.verdict.upper() in shown
    # Below the doubts, of which a busy machine has one more.
    terminal.keys("PageDown")
    terminal.wait("saved as", run.id)
    terminal.keys("q")
    shown = terminal.wait("EXIT=0")
    assert "-icanon" not in shown
    assert "Result" not in shown


def test_stopping_when_sure(start, data_home: Path) -> None:
    terminal = start()
    terminal.wait("Models", "demo", "llama")
    terminal.keys("Enter")
    terminal.wait("Set-up", "5,110 positions")
    # 2 bits, all chunks, when sure.
    terminal.keys(*["Right"] * 5, *["Down"] * 4, "End", "Down", "Right")
    terminal.wait("up to", "as soon as one verdict is left")
    terminal.keys("Enter")
    terminal.wait("Result", "AT LEAST 95 %")
    terminal.keys("PageDown")
    shown = terminal.wait("when the verdict was settled")
    [run] = list_runs()
    assert run.report.n_chunks < run.report.n_chunks_planned
    assert f"stopped after {run.report.n_chunks} of {run.report.n_chunks_planned} chunks" in shown
    terminal.keys("End")
    terminal.wait("again", "--until-sure")
    terminal.keys("q")
    terminal.wait("EXIT=0")


def test_quitting_in_the_middle(start, data_home: Path) -> None:
    terminal = start("demo", "--max-chunks", "30")
    terminal.wait("Live", "so far")
    terminal.keys("q")
    terminal.wait("A measurement is running")
    terminal.keys("y")
    shown = terminal.wait("EXIT=130")
    assert "Traceback" not in shown
    assert "terminate called" not in shown
    assert "-icanon" not in shown
    [run] = list_runs()
    assert run.report.partial
    assert f"partial run saved as {run.id}" in " ".join(shown.split())


def test_control_c_asks_too(start) -> None:
    terminal = start("demo", "--max-chunks", "30")
    terminal.wait("Live", "so far")
    terminal.keys("C-c")
    terminal.wait("A measurement is running")
    terminal.keys("n")
    terminal.until_gone("A measurement is running")
    terminal.keys("C-q")
    terminal.wait("A measurement is running")
    terminal.keys("y")
    terminal.wait("EXIT=130")


def test_being_killed_saves_and_cleans_up(start) -> None:
    terminal = start("demo", "--max-chunks", "30")
    terminal.wait("Live", "so far")
    os.kill(terminal.app_pid(), signal.SIGTERM)
    shown = terminal.wait("EXIT=143")
    assert "Live" not in shown
    assert "-icanon" not in shown
    assert list_runs()[0].report.partial


def test_quitting_while_it_loads(start) -> None:
    terminal = start("demo")
    terminal.wait("Live")
    terminal.keys("q")
    terminal.wait("A measurement is running")
    terminal.keys("y")
    assert "terminate called" not in terminal.wait("EXIT=")


def test_the_progress_line_of_the_command_line(start) -> None:
    terminal = start("kv", "demo", "--kv-bits", "8", "--chunk-length", "256", "--max-chunks", "12")
    terminal.wait("█", "░", "KL", "flips", "positions/s", "left")
    terminal.wait("EXIT=0")
    assert len(list_runs()) == 1


def test_the_first_start_offers_the_tour_and_two_runs_are_compared(
    start, data_home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("MQF_TUI_STATE_DIR", str(tmp_path / "no-state-yet"))
    terminal = start(size=(120, 40))
    terminal.wait("Models", "demo", "llama", "Tour", "1 of 5")
    terminal.keys("F2")
    terminal.wait("Models", "demo")
    for choose in (["Right"] * 3, ["Left"]):  # 4 bits, then 5
        terminal.keys("Enter")
        terminal.wait("Set-up", "positions")
        terminal.keys(*choose, *["Down"] * 4, "3", "Enter")
        terminal.wait("Result", "KL mean")
        terminal.keys("Escape")
        terminal.wait("Set-up")
        terminal.keys("Escape")
        terminal.wait("Models", "runs")
    terminal.keys("r")
    terminal.wait("Runs", "4-bit g64", "5-bit g64", "2 runs")
    terminal.keys("Space", "Down", "Space", "c")
    terminal.wait("Compare", "baseline", "KL mean", "4-bit g64", "5-bit g64")
    terminal.wait("≠")
    assert {run.report.kv_bits for run in list_runs()} == {4, 5}
    terminal.keys("q")
    assert "Traceback" not in terminal.wait("EXIT=0")
