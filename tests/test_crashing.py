"""A mistake inside the app: the terminal is given back, the run is saved, the details are in a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mqf_tui.app import app as app_module
from mqf_tui.app.app import MqfTuiApp, run_app
from mqf_tui.app.crashing import crash_log
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.library.runs import list_runs


class Broken(MqfTuiApp):
    """Makes a mistake as soon as something is scored."""

    CSS_PATH = Path(app_module.__file__).with_name("styles.tcss")

    def on_ready(self) -> None:
        self.set_interval(0.02, self.look)

    def look(self) -> None:
        current = self.bridge.current
        if current is not None and current.numbers() is not None:
            secret = "text of a corpus"  # noqa: F841 # pyright: ignore[reportUnusedVariable]
            raise ValueError("\x1b[2J [red]broken[/nope]")

    def run(self, *args: object, **options: object) -> None:
        super().run(headless=True, size=(80, 24))


def test_a_crash_saves_the_run_and_names_the_file(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(app_module, "MqfTuiApp", Broken)
    assert run_app(KVSettings("demo", chunk_length=128, max_chunks=64), autostart=True) == 1
    printed = capfd.readouterr()
    said = " ".join((printed.out + printed.err).split())
    [run] = list_runs()
    assert run.report.partial
    assert "ValueError: [2J [red]broken[/nope]" in said
    assert "\x1b[2J" not in printed.out + printed.err
    assert "Traceback" not in said
    assert "crash.log" in said.replace(" ", "")
    assert f"partial run saved as {run.id}" in said
    details = crash_log().read_text()
    assert "in look" in details
    assert "\x1b" not in details
    assert "text of a corpus" not in details.replace('= "text of a corpus"', "")


def test_a_crash_where_no_file_can_be_written(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(app_module, "MqfTuiApp", Broken)
    monkeypatch.setattr("mqf_tui.app.crashing.crash_log", lambda: tmp_path / "file" / "crash.log")
    assert run_app(KVSettings("demo", chunk_length=128, max_chunks=64), autostart=True) == 1
    printed = capfd.readouterr()
    assert "could not be written" in " ".join((printed.out + printed.err).split())
    assert len(list_runs()) == 1
