"""The command line as a user runs it: real processes, real exit codes, a real terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mqf_tui import __version__, api, cli
from mqf_tui.cli import main
from mqf_tui.library.runs import list_runs, load_run, save_run
from tests import makers

COMMAND = [sys.executable, "-m", "mqf_tui"]
SAVED = re.compile(r"saved as run (\S+) \(mqf-tui runs show (\S+)\)\n")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.model_folder(tmp_path_factory.mktemp("cli") / "tiny-llama")


@pytest.fixture(scope="module")
def notes(tiny: Path) -> Path:
    return makers.text_file(tiny.parent / "notes.txt")


@pytest.fixture
def kv(tiny: Path, notes: Path) -> list[str]:
    """A measurement of two chunks."""
    words = ["kv", str(tiny), "--kv-bits", "4", "--chunk-length", "64", "--max-chunks", "2"]
    return [*words, "--corpus", str(notes)]


@pytest.fixture
def environment(data_home: Path, tmp_path: Path) -> dict[str, str]:
    return makers.environment(HF_HUB_CACHE=str(tmp_path / "hub"))


def run(words: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True, env=environment, timeout=120)


def test_a_measurement_from_beginning_to_end(kv: list[str], environment: dict[str, str]) -> None:
    done = run(kv, environment)
    assert done.returncode == 0
    assert done.stdout.startswith("### tiny-llama: 4-bit KV cache, group 64, stress\n\n**")
    assert "bad" in done.stdout.splitlines()[2]
    saved = SAVED.fullmatch(done.stderr)
    assert saved is not None
    shown = run(["runs", "show", saved[1]], environment)
    assert (shown.returncode, shown.stdout, shown.stderr) == (0, done.stdout, "")
    listed = run(["runs", "list"], environment)
    assert saved[1] in listed.stdout.splitlines()[1]
    assert listed.stderr == ""


def test_the_module_and_the_version(environment: dict[str, str]) -> None:
    done = run(["--version"], environment)
    assert (done.returncode, done.stdout) == (0, f"mqf-tui {__version__}\n")


def test_json_to_a_file_without_a_run(
    kv: list[str], tmp_path: Path, data_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "report.json"
    target.write_text("an older report, longer or shorter")
    assert main([*kv, "--format", "json", "--output", str(target), "--no-save"]) == 0
    assert capfd.readouterr() == ("", "")
    data = json.loads(target.read_text())
    assert (data["model"], data["kv_bits"], data["n_chunks"], data["n_positions"]) == (
        "tiny-llama",
        4,
        2,
        126,
    )
    assert not data_home.exists()


def test_json_on_standard_output_and_again_from_the_run(
    kv: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*kv, "--format", "json"]) == 0
    printed = capfd.readouterr().out
    assert main(["runs", "show", "last", "--format", "json"]) == 0
    assert capfd.readouterr().out == printed
    assert json.loads(printed)["corpus"]["name"] == "notes.txt"


def test_the_settings_arrive(kv: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    more = ["--kv-group-size", "32", "--quantize-start", "40", "--format", "json", "--no-save"]
    assert main([*kv, *more]) == 0
    data = json.loads(capfd.readouterr().out)
    assert (data["kv_bits"], data["kv_group_size"]) == (4, 32)
    assert (data["mode"], data["quantize_start"]) == ("deployment", 40)
    assert (data["corpus"]["chunk_length"], data["n_chunks"], data["n_positions"]) == (64, 2, 2 * 23)


def test_runs_list(data_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list"]) == 0
    assert "no runs yet" in capsys.readouterr().out
    assert main(["runs", "list", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []
    old = save_run(makers.report(created="2026-01-01T00:00:00+00:00"), makers.positions())
    new = save_run(makers.report(model="org/\x1b[31mred", partial=True), makers.positions())
    hurt = data_home / "runs" / "hurt"
    hurt.mkdir()
    (hurt / "report.json").write_text("{")
    assert main(["runs", "list"]) == 0
    out, err = capsys.readouterr()
    rows = out.splitlines()
    assert [row.split()[0] for row in rows] == ["RUN", new.id, old.id]
    assert "marginal (partial)" in rows[1]
    assert "\x1b" not in out
    assert err.startswith("mqf-tui: run hurt cannot be read: ")
    assert len(err.splitlines()) == 1
    assert main(["runs", "list", "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [row["id"] for row in listed] == [new.id, old.id]
    assert listed[1]["kl"]["mean"] == 0.0234


def test_models_of_a_hub_cache(tiny: Path, environment: dict[str, str]) -> None:
    makers.hub_cache(Path(environment["HF_HUB_CACHE"]), {"org/tiny": tiny, "org/cut": tiny})
    (weights,) = Path(environment["HF_HUB_CACHE"]).glob("models--org--cut/snapshots/*/model.safetensors")
    weights.resolve().write_bytes(b"short")
    done = run(["models", "--format", "json"], environment)
    assert (done.returncode, done.stderr) == (0, "")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert rows["org/tiny"]["problem"] is None
    assert rows["org/tiny"]["head_dim"] == 64
    assert "truncated or damaged" in rows["org/cut"]["problem"]
    words = ["kv", "org/tiny", "--chunk-length", "64", "--max-chunks", "1", "--no-save", "--format", "json"]
    measured = run([*words, "--corpus", str(makers.text_file(weights.parents[4] / "a.txt"))], environment)
    assert measured.returncode == 0
    assert (
        json.loads(measured.stdout)["model"]
        == json.loads(measured.stdout)["corpus"]["tokenizer_id"]
        == "org/tiny"
    )


def test_models_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    head, demo, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["MODEL", "ARCHITECTURE", "WEIGHTS", "PARAMETERS", "SIZE", "WHERE"]
    assert demo.startswith("demo ")


def test_doctor(capsys: pytest.CaptureFixture[str], data_home: Path) -> None:
    from importlib.metadata import version

    assert main(["doctor"]) == 0
    told = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert told["mlx"] == version("mlx")
    assert told["runs"] == str(data_home / "runs")
    assert {"device", "memory", "BLAS", "system", "mlx-lm", "hub"} <= set(told)


class Terminal:
    """A process whose standard error (and nothing else) is a terminal of 120 columns."""

    def __init__(self, words: list[str], environment: dict[str, str], output: Path) -> None:
        self._ours, theirs = pty.openpty()
        self.seen = ""
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [*COMMAND, *words],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=theirs,
                env=environment | {"COLUMNS": "120", "TERM": "xterm"},
            )
        os.close(theirs)

    def read(self) -> bool:
        """Read what comes next; False at the end."""
        ready, _, _ = select.select([self._ours], [], [], 100)
        try:
            piece = os.read(self._ours, 4096) if ready else b""
        except OSError:  # Linux says so when the other side is closed
            piece = b""
        self.seen += piece.decode(errors="replace")
        return bool(piece)

    def until(self, found: Callable[[str], object]) -> None:
        while not found(self.seen):
            assert self.read(), f"ended before it was seen: {self.seen!r}"

    def finish(self) -> int:
        while self.read():
            pass
        return self.process.wait(timeout=100)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)


@pytest.fixture
def terminal(environment: dict[str, str], tmp_path: Path) -> Iterator[Callable[[list[str]], Terminal]]:
    opened: list[Terminal] = []

    def start(words: list[str]) -> Terminal:
        opened.append(Terminal(words, environment, tmp_path / "stdout"))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


@pytest.fixture(scope="module")
def long_kv(tiny: Path) -> list[str]:
    """A measurement far longer than the time to interrupt it."""
    text = makers.text_file(tiny.parent / "long.txt", 60_000)
    return ["kv", str(tiny), "--kv-bits", "4", "--chunk-length", "64", "--corpus", str(text)]


def test_a_terminal_shows_progress(
    kv: list[str], terminal: Callable[[list[str]], Terminal], tmp_path: Path
) -> None:
    shown = terminal(kv)
    assert shown.finish() == 0
    assert "loading the weights 100%" in shown.seen
    assert re.search(r"█+░* +\d+%  KL \S+  flips [\d.]+ %  [\d,]+ positions/s  .* left", shown.seen)
    # The line is wiped before the last words, and none of it is among the output.
    assert re.search(r"\r\x1b\[2Ksaved as run \S+ \(mqf-tui runs show \S+\)\r\n$", shown.seen)
    assert (tmp_path / "stdout").read_text().startswith("### tiny-llama")
    assert "\x1b" not in (tmp_path / "stdout").read_text()


def test_progress_says_that_it_may_end_earlier(
    kv: list[str], terminal: Callable[[list[str]], Terminal]
) -> None:
    shown = terminal([*kv, "--until-sure", "--no-save"])
    assert shown.finish() == 0
    assert re.search(r"positions/s  .* left at most", shown.seen)
    assert shown.seen.endswith("the verdict was not settled after 2 chunks\r\n")


def test_a_demo_that_may_fail_prints_its_report_even_in_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    opened: list[object] = []
    monkeypatch.setattr(cli, "_app", lambda options: opened.append(options) or 0)
    for stream in (sys.stdin, sys.stdout):
        monkeypatch.setattr(stream, "isatty", lambda: True)
    words = ["demo", "--max-chunks", "1", "--chunk-length", "64"]
    assert main(words) == 0
    assert len(opened) == 1
    assert main([*words, "--kv-bits", "2", "--fail-on", "bad"]) == 4
    assert len(opened) == 1
    assert capsys.readouterr().out.startswith("### demo: 2-bit")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_keeps_what_was_scored(
    sign: signal.Signals, long_kv: list[str], terminal: Callable[[list[str]], Terminal], tmp_path: Path
) -> None:
    # Bad as it is, what was interrupted is no verdict on the whole.
    shown = terminal([*long_kv, "--fail-on", "marginal"])
    shown.until(lambda seen: "positions/s" in seen)
    shown.process.send_signal(sign)
    assert shown.finish() == 130
    assert shown.seen.endswith("mqf-tui: interrupted; what was scored is marked partial.\r\n")
    assert "Traceback" not in shown.seen
    (saved,) = list_runs()
    assert saved.report.partial
    assert 0 < saved.report.n_positions == len(saved.positions())
    assert saved.report.n_chunks < saved.report.n_chunks_planned
    assert "partial" in (tmp_path / "stdout").read_text().split("\n")[2].lower()


def test_a_second_interrupt_keeps_it_too(
    long_kv: list[str], terminal: Callable[[list[str]], Terminal]
) -> None:
    shown = terminal(long_kv)
    shown.until(lambda seen: "positions/s" in seen)
    shown.process.send_signal(signal.SIGINT)
    shown.process.send_signal(signal.SIGINT)
    assert shown.finish() == 130
    assert "Traceback" not in shown.seen
    (saved,) = list_runs()
    assert saved.report.partial


def test_an_interrupt_before_scoring_saves_nothing(
    long_kv: list[str], terminal: Callable[[list[str]], Terminal], data_home: Path
) -> None:
    shown = terminal(long_kv)
    shown.until(lambda seen: "loading the tokenizer" in seen)
    shown.process.send_signal(signal.SIGINT)
    assert shown.finish() == 130
    assert shown.seen.endswith("mqf-tui: interrupted; nothing was scored yet.\r\n")
    assert list((data_home / "runs").iterdir()) == []


@pytest.mark.parametrize("words", [["runs", "show", "last"], ["runs", "list"], ["doctor"], ["models"]])
def test_a_reader_that_goes_away_is_no_failure(words: list[str], environment: dict[str, str]) -> None:
    save_run(makers.report(), makers.positions())
    ours, theirs = os.pipe()
    os.close(ours)
    with os.fdopen(theirs, "wb") as closed:
        done = subprocess.run(
            [*COMMAND, *words], stdout=closed, stderr=subprocess.PIPE, text=True, env=environment, timeout=100
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_head_of_a_long_list(environment: dict[str, str]) -> None:
    for _ in range(3):
        save_run(makers.report(notes="x" * 100_000), makers.positions(1, 2))
    words = shlex.join([*COMMAND, "runs", "list", "--format", "json"])
    done = subprocess.run(
        ["bash", "-c", f"{words} | head -1; echo ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
        env=environment,
        timeout=100,
    )
    assert (done.stdout, done.stderr) == ("[\n0\n", "")


def test_a_run_that_cannot_be_saved_is_printed_all_the_same(
    kv: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main(kv) == 2
    out, err = capsys.readouterr()
    assert out.startswith("### tiny-llama: 4-bit")
    assert re.fullmatch(
        r"mqf-tui: the run could not be saved in .*MQF_TUI_DATA_DIR to another folder\.\n", err
    )
    assert list_runs() == []


def test_a_folder_that_takes_no_runs_is_found_before_scoring(
    kv: list[str], data_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data_home.write_text("a file, not a folder")
    with monkeypatch.context() as patch:
        patch.setattr(api, "events", None)
        assert main(kv) == 2
    assert capsys.readouterr() == (
        "",
        f"mqf-tui: no run can be saved in {data_home}/runs (Not a directory); make room there, check its "
        "permissions or set MQF_TUI_DATA_DIR to another folder.\n",
    )
    assert main([*kv, "--no-save"]) == 0


@pytest.mark.parametrize(
    ("name", "given", "form"),
    [
        ("x.html", None, "html"),
        ("X.HTML", None, "html"),
        ("x.svg", None, "svg"),
        ("x.badge.svg", None, "badge"),
        ("x.csv", None, "csv"),
        ("x.json", None, "json"),
        ("x.badge.json", None, "badge-json"),
        ("x.card.md", None, "card"),
        ("x.md", None, "md"),
        ("x.report", None, "md"),
        ("html", None, "md"),
        ("x.html", "json", "json"),
    ],
)
def test_the_format_of_a_file_by_its_ending(
    name: str, given: str | None, form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = save_run(makers.report(), makers.positions()).id
    words = ["runs", "export", run_id, "--output", str(tmp_path / name)]
    assert main([*words, *(["--format", given] if given else [])]) == 0
    assert main(["runs", "show", run_id, "--format", form]) == 0
    assert (tmp_path / name).read_bytes().decode() == capsys.readouterr().out


def test_a_measurement_written_by_its_ending(kv: list[str], tmp_path: Path) -> None:
    assert main([*kv, "--no-save", "--output", str(tmp_path / "x.html")]) == 0
    assert (tmp_path / "x.html").read_text().lower().startswith("<!doctype html>")


def test_output_that_cannot_show_every_sign(kv: list[str], environment: dict[str, str]) -> None:
    run_id = save_run(makers.report(model="模型"), makers.positions()).id
    done = run(["runs", "show", run_id], environment | {"PYTHONIOENCODING": "ascii"})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("### ??: 4-bit")


def test_the_app_needs_a_terminal(environment: dict[str, str]) -> None:
    done = subprocess.run(
        COMMAND, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment, timeout=100
    )
    assert done.returncode == 2
    assert "the app needs a terminal" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_saved_run_is_found_by_what_the_command_line_said(
    kv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(kv) == 0
    saved = SAVED.fullmatch(capsys.readouterr().err)
    assert saved is not None
    assert saved[1] == saved[2]
    run = load_run(saved[1])
    assert len(run.positions()) == 126
    assert run.positions().part_names == ("notes.txt",)
