"""Whatever is wrong with the input: one sentence, the right exit code, and never a traceback."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqf_tui.cli import main
from tests import makers
from tests.bad_inputs import CASES, Place

NOBODY = 65534


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.model_folder(tmp_path_factory.mktemp("bad") / "tiny-llama")


@pytest.fixture(scope="module")
def notes(tiny: Path) -> Path:
    return makers.text_file(tiny.parent / "notes.txt")


@pytest.fixture
def place(tiny: Path, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    # No model of this machine's own cache may come up as what was meant.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    home = tmp_path / "home"
    home.mkdir()
    return Place(tiny, notes, home)


def exit_code(words: list[str]) -> int:
    """What the process would exit with; argparse leaves by an exception of its own."""
    try:
        return main(words)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else -1


def one_sentence(err: str) -> bool:
    line, rest = err.split("\n", 1)
    return rest == "" and line.isprintable() and re.fullmatch(r"mqf-tui: \S.*\S[.?]", line) is not None


@pytest.mark.parametrize("name", CASES)
def test_bad_input(name: str, place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    make, code, says = CASES[name]
    words = make(place)
    got = exit_code(words)
    out, err = capfd.readouterr()
    assert (got, out) == (code, "")
    assert one_sentence(err), err
    assert "Traceback" not in err
    assert "unexpected" not in err
    assert re.search(says, err), err


def process(words: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mqf_tui", *words],
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        text=True,
        env=makers.environment(**options.pop("environment", {})),
        timeout=200,
        **options,
    )


@pytest.mark.parametrize("name", ["truncated weights", "NaN weights", "bits as text", "ambiguous run"])
def test_bad_input_to_a_real_process(name: str, place: Place) -> None:
    make, code, says = CASES[name]
    done = process(make(place))
    assert (done.returncode, done.stdout) == (code, "")
    assert one_sentence(done.stderr), done.stderr
    assert re.search(says, done.stderr)


def test_wikitext_without_a_network(place: Place, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    done = process(place.kv(corpus="wikitext-2"), environment=offline)
    assert (done.returncode, done.stdout) == (2, "")
    assert one_sentence(done.stderr), done.stderr
    assert "wikitext-2 cannot be read: it is not on this machine" in done.stderr
    assert "use --corpus builtin or a text file of your own" in done.stderr


FULL = Path("/dev/full")


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
@pytest.mark.parametrize("command", ["kv", "doctor", "list"])
def test_output_to_a_full_disk(command: str, place: Place) -> None:
    place.runs("20260101-a")
    words = {"kv": place.kv(), "doctor": ["doctor"], "list": ["runs", "list"]}[command]
    with FULL.open("w") as full:
        done = process(words, stdout=full)
    assert done.returncode == 2
    assert one_sentence(done.stderr), done.stderr
    assert "could not be written (No space left on device)" in done.stderr


@pytest.mark.skipif(not FULL.exists(), reason="this system has no device that is always full")
def test_a_report_file_on_a_full_disk(place: Place, capfd: pytest.CaptureFixture[str]) -> None:
    assert exit_code(place.kv("--output", str(FULL))) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert one_sentence(err), err
    assert "choose another --output" in err


def test_a_run_on_a_full_disk(place: Place, data_home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = [word for word in place.kv("--max-chunks", "8") if word != "--no-save"]
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The printed report, which pytest puts into a file as well, is smaller than this; its run is not.
    resource.setrlimit(resource.RLIMIT_FSIZE, (4000, hard))
    try:
        code = exit_code(words)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    out, err = capfd.readouterr()
    assert code == 2
    assert out.startswith("### tiny-llama: 2-bit")
    assert one_sentence(err), err
    assert "the run could not be saved" in err
    assert list((data_home / "runs").iterdir()) == []


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    """Root may read everything; for a while be a user who may not."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user may enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.mark.parametrize(
    ("what", "says"),
    [
        ("model", "cannot be read (Permission denied); check its permissions"),
        ("model/config.json", "config.json of model cannot be read (Permission denied)"),
        ("model/model.safetensors", "model.safetensors cannot be read (Permission denied)"),
        ("text/notes.txt", "notes.txt cannot be read (Permission denied); check its permissions"),
        ("settings.toml", "settings.toml cannot be read (Permission denied); make it readable or remove it"),
        ("text", "notes.txt cannot be read (Permission denied); check its permissions"),
    ],
)
def test_no_permission(
    what: str,
    says: str,
    place: Place,
    public: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Imported now: the other user may not be able to read this Python.
    from mqf_tui.console import measuring
    from mqf_tui.fidelity import engine
    from mqf_tui.fidelity.text import corpora

    assert measuring
    assert corpora
    assert engine
    shutil.copytree(place.tiny, public / "model")
    (public / "text").mkdir()
    (public / "settings.toml").write_text("")
    monkeypatch.setenv("MQF_TUI_CONFIG_DIR", str(public))
    shutil.copy(place.notes, public / "text" / "notes.txt")
    (public / what).chmod(0)
    try:
        with nobody():
            code = exit_code(place.kv(model=public / "model", corpus=public / "text" / "notes.txt"))
    finally:
        (public / what).chmod(0o700)
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert one_sentence(err), err
    assert says in err
