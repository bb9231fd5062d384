"""Saved runs: whole or not there at all, whatever fails."""

from __future__ import annotations

import hashlib
import json
import math
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqf_tui.cli import main
from mqf_tui.fidelity.errors import SaveError
from mqf_tui.fidelity.positions import ARRAYS, Positions
from mqf_tui.library.runs import broken_runs, check_writable, data_dir, list_runs, load_run, save_run
from tests import makers

FILES = ("files.json", "positions.npz", "report.json", "report.md")


def put(root: Path, name: str, **changes: Any) -> Path:
    """A run's folder written by hand, as another version of the program might leave it."""
    folder = root / "runs" / name
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(makers.report_data(**changes)))
    return folder


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_saved_run_reads_back(tmp_path: Path) -> None:
    report, positions = makers.report(), makers.positions()
    saved = save_run(report, positions, tmp_path)
    assert everything(tmp_path / "runs") == sorted([saved.id, *(f"{saved.id}/{name}" for name in FILES)])
    hashes = json.loads((saved.folder / "files.json").read_text())["sha256"]
    assert hashes == {
        name: hashlib.sha256((saved.folder / name).read_bytes()).hexdigest()
        for name in ("positions.npz", "report.json")
    }
    assert saved.id.startswith("20260304-050607-tiny-llama-4bit-")
    assert json.loads((saved.folder / "report.json").read_text()) == makers.report_data()
    assert (saved.folder / "report.md").read_text().startswith("### org/tiny-llama: 4-bit")
    again = load_run(saved.id, tmp_path)
    assert again.report == report
    read = again.positions()
    assert read.part_names == positions.part_names
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(read, name), getattr(positions, name))
        assert getattr(read, name).dtype == getattr(positions, name).dtype


def test_positions_bear_infinity_and_none_at_all(tmp_path: Path) -> None:
    positions = makers.positions()
    positions.kl[3] = math.inf
    assert save_run(makers.report(), positions, tmp_path).positions().kl[3] == math.inf
    empty = save_run(makers.report(), Positions.empty(), tmp_path).positions()
    assert (len(empty), empty.part_names) == (0, ())


def test_keys_of_a_newer_version_survive_a_run(tmp_path: Path) -> None:
    put(tmp_path, "newer", schema_version=4, energy={"joules": 3})
    saved = save_run(load_run("newer", tmp_path).report, makers.positions(), tmp_path)
    data = json.loads((saved.folder / "report.json").read_text())
    assert (data["schema_version"], data["energy"]) == (4, {"joules": 3})


def test_the_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert data_dir() == tmp_path / "data-home"
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MQF_TUI_DATA_DIR", "~/mine")
    assert data_dir() == tmp_path / "mine"
    monkeypatch.setenv("MQF_TUI_DATA_DIR", "~no-such-user/mine")
    assert data_dir() == Path("~no-such-user/mine")
    monkeypatch.delenv("MQF_TUI_DATA_DIR")
    assert data_dir().name == "mqf-tui"


@pytest.mark.parametrize(
    "model", ["../../etc/passwd", "org/..", "\x1b[2J\n|", "", "模型", "x" * 500, ".hidden"]
)
def test_a_models_name_cannot_leave_the_folder(model: str, tmp_path: Path) -> None:
    saved = save_run(makers.report(model=model), makers.positions(), tmp_path)
    assert saved.folder.parent == tmp_path / "runs"
    assert saved.id.isascii()
    assert saved.id.isprintable()
    assert [run.id for run in list_runs(tmp_path)] == [saved.id]


STEPS = ["pathlib.Path.mkdir", "pathlib.Path.open", "pathlib.Path.rename", "os.fsync"]


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left on device"), PermissionError(13, "Permission denied")]
)
@pytest.mark.parametrize("call", [1, 2, 3, 4])
@pytest.mark.parametrize("step", STEPS)
def test_no_half_run_when_a_step_fails(
    step: str, call: int, error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "runs").mkdir()
    if not fail_at(
        monkeypatch, step, call, error, lambda: save_run(makers.report(), makers.positions(), tmp_path)
    ):
        assert step in ("pathlib.Path.mkdir", "pathlib.Path.rename")
        return
    assert everything(tmp_path) == ["runs"]
    assert list_runs(tmp_path) == []


def fail_at(monkeypatch: pytest.MonkeyPatch, step: str, call: int, error: OSError, work: Any) -> bool:
    """Let the ``call``-th call of ``step`` fail; whether it came to that, and to a SaveError."""
    module, _, name = step.rpartition(".")
    home: Any = Path if module == "pathlib.Path" else os
    real, calls = getattr(home, name), [0]

    def sometimes(*words: Any, **options: Any) -> Any:
        calls[0] += 1
        if calls[0] == call:
            raise error
        return real(*words, **options)

    with monkeypatch.context() as patch:
        patch.setattr(home, name, sometimes)
        try:
            work()
        except SaveError as caught:
            said = str(caught)
        else:
            return False
    assert str(error.strerror) in said
    assert "MQF_TUI_DATA_DIR" in said
    return True


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, ValueError])
def test_no_half_run_when_it_is_interrupted(
    error: type[BaseException], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(descriptor: int) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", stop)
        with pytest.raises(error):
            save_run(makers.report(), makers.positions(), tmp_path)
    assert everything(tmp_path) == ["runs"]


def test_a_folder_that_cannot_be_synced_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.fsync, []

    def last_fails(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == len(FILES) + 1:
            raise OSError(22, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", last_fails)
    saved = save_run(makers.report(), makers.positions(), tmp_path)
    assert len(calls) == len(FILES) + 1
    assert load_run(saved.id, tmp_path).positions().part_names == ("prose", "code")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small-disk"
    folder.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("this user cannot mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_leaves_nothing(small_disk: Path) -> None:
    with pytest.raises(SaveError, match="No space left on device"):
        save_run(makers.report(), makers.positions(n_chunks=40), small_disk)
    assert everything(small_disk) == ["runs"]
    save_run(makers.report(), makers.positions(n_chunks=1, per_chunk=4), small_disk)
    assert len(list_runs(small_disk)) == 1


@pytest.mark.parametrize("limit", [100, 3000])
def test_a_limit_of_the_file_size_leaves_nothing(limit: int, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(SaveError, match="could not be saved"):
            save_run(makers.report(), makers.positions(), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert everything(tmp_path) == ["runs"]


def test_a_data_folder_that_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SaveError, match="Not a directory"):
        save_run(makers.report(), makers.positions(), file)
    with pytest.raises(SaveError, match="cannot be read"):
        list_runs(file)
    with pytest.raises(SaveError, match="cannot be read"):
        load_run("last", file)


def test_no_runs_yet(tmp_path: Path) -> None:
    assert list_runs(tmp_path / "nowhere") == []
    assert broken_runs(tmp_path / "nowhere") == []
    with pytest.raises(SaveError, match="no runs yet"):
        load_run("last", tmp_path / "nowhere")


def test_runs_are_listed_newest_first(tmp_path: Path) -> None:
    put(tmp_path, "a", created="2026-01-02T00:00:00+00:00")
    put(tmp_path, "b", created="2026-01-03T00:00:00+00:00")
    put(tmp_path, "c", created="2025-12-31T23:59:59+00:00")
    # A time may be in whole seconds.
    put(tmp_path, "0", created="2026-01-03T00:00:00.250+00:00")
    put(tmp_path, "z", created="2026-01-03T00:00:00.100+00:00")
    assert [run.id for run in list_runs(tmp_path)] == ["0", "z", "b", "a", "c"]
    assert load_run("last", tmp_path).id == "0"


def test_what_is_no_run_is_passed_over(tmp_path: Path) -> None:
    put(tmp_path, "good")
    put(tmp_path, ".writing-0123456789ab")
    (tmp_path / "runs" / "notes.txt").write_text("mine")
    assert [run.id for run in list_runs(tmp_path)] == ["good"]
    assert broken_runs(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "report.json is damaged (it is empty)"),
        (b"{", "report.json is damaged (it is no whole JSON)"),
        (b"\xff\xfe", "report.json is damaged (it is no whole JSON)"),
        (b"[1]", "report.json is damaged (it is JSON, but no report)"),
        (b"{}", "report.json is damaged (it lacks created)"),
        (None, "report.json is missing"),
    ],
)
def test_a_damaged_run_is_named_and_not_fatal(content: bytes | None, why: str, tmp_path: Path) -> None:
    put(tmp_path, "good")
    damaged = put(tmp_path, "hurt") / "report.json"
    damaged.unlink()
    if content is not None:
        damaged.write_bytes(content)
    assert [run.id for run in list_runs(tmp_path)] == ["good"]
    ((name, reason),) = broken_runs(tmp_path)
    assert name == "hurt"
    assert reason == why
    assert load_run("last", tmp_path).id == "good"
    with pytest.raises(SaveError, match=r"^run hurt cannot be read: .*\.$"):
        load_run("hurt", tmp_path)


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    for name in ("20260101-a", "20260101-ab", "20260202-c"):
        put(tmp_path, name)
    assert load_run("20260202", tmp_path).id == "20260202-c"
    assert load_run("20260101-ab", tmp_path).id == "20260101-ab"
    # A whole id wins over being the beginning of another.
    assert load_run("20260101-a", tmp_path).id == "20260101-a"
    with pytest.raises(SaveError, match=r"^2 runs begin with '20260101'; name more of it \(20260101-a, …\)"):
        load_run("20260101", tmp_path)


@pytest.mark.parametrize("name", ["", "nope", "../runs/20260101-a", ".", "..", "/", "a\0b"])
def test_an_unknown_run(name: str, tmp_path: Path) -> None:
    put(tmp_path, "20260101-a")
    with pytest.raises(SaveError, match=r"there is no run .*runs list"):
        load_run(name, tmp_path)


def test_damaged_positions_are_told(tmp_path: Path) -> None:
    saved = save_run(makers.report(), makers.positions(), tmp_path)
    file = saved.folder / "positions.npz"
    whole = file.read_bytes()
    without_kl = tmp_path / "without.npz"
    np.savez(without_kl, part_names=np.array(["a"]))
    plain = tmp_path / "plain.npy"
    np.save(plain, np.arange(3))
    pickled = tmp_path / "pickled.npz"
    np.savez(pickled, part_names=np.array([{}], dtype=object))
    broken = [b"", b"PK", whole[: len(whole) // 2], whole[:-30], without_kl.read_bytes(), plain.read_bytes()]
    for content in [*broken, pickled.read_bytes()]:
        file.write_bytes(content)
        with pytest.raises(SaveError, match=f"positions of run {saved.id} cannot be read"):
            saved.positions()
    file.unlink()
    with pytest.raises(SaveError, match="cannot be read"):
        saved.positions()


def test_any_flipped_byte_gives_the_numbers_or_a_save_error(tmp_path: Path) -> None:
    written = makers.positions(per_chunk=10)
    saved = save_run(makers.report(), written, tmp_path)
    file = saved.folder / "positions.npz"
    whole = bytearray(file.read_bytes())
    refused = 0
    for place in range(0, len(whole), 13):
        hurt = whole.copy()
        hurt[place] ^= 0xFF
        file.write_bytes(hurt)
        try:
            read = saved.positions()
        except SaveError:
            refused += 1
        else:
            # Some bytes, such as time stamps, mean nothing.
            assert all(np.array_equal(getattr(read, name), getattr(written, name)) for name in ARRAYS)
    assert refused > 50


def changed_positions(folder: Path, name: str, value: float) -> None:
    with np.load(folder / "positions.npz") as stored:
        arrays = dict(stored)
    arrays[name] = arrays[name].copy()
    arrays[name][7] = value
    np.savez_compressed(folder / "positions.npz", **arrays)


@pytest.mark.parametrize(
    "words",
    [
        ["runs", "show", "{}", "--format", "html"],
        ["runs", "show", "{}", "--format", "svg"],
        ["runs", "show", "{}", "--format", "csv", "--positions"],
        ["compare", "{}", "{}"],
        ["rank", "{}"],
    ],
)
def test_other_positions_than_were_saved_are_not_used(
    words: list[str], data_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = save_run(makers.report(), makers.positions())
    changed_positions(saved.folder, "kl", 0.0)
    assert main([word.format(saved.id) for word in words]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err == (
        f"mqf-tui: the positions of run {saved.id} do not match what was saved with it; `mqf-tui runs verify "
        f"{saved.id}` tells more, and measuring again gives new ones.\n"
    )
    # What does without them is shown all the same, and a record of hashes is what decides.
    assert main(["runs", "show", saved.id]) == 0
    (saved.folder / "files.json").unlink()
    assert saved.positions().kl[7] == 0


@pytest.mark.parametrize(
    ("name", "value"), [("kl", math.nan), ("token", -1), ("top1_quant", -5), ("chunk", -1), ("depth", -2)]
)
def test_positions_that_cannot_be(name: str, value: float, tmp_path: Path) -> None:
    saved = save_run(makers.report(), makers.positions(), tmp_path)
    (saved.folder / "files.json").unlink()
    changed_positions(saved.folder, name, value)
    with pytest.raises(SaveError, match="cannot be read"):
        saved.positions()


def test_whether_a_run_could_be_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "new")
    assert everything(tmp_path / "new") == ["runs"]
    file = tmp_path / "file"
    file.touch()
    with pytest.raises(SaveError, match=r"no run can be saved in .*file/runs \(Not a directory\); make room"):
        check_writable(file)
    for step in ("pathlib.Path.mkdir", "pathlib.Path.open"):
        assert fail_at(monkeypatch, step, 1, OSError(30, "Read-only"), lambda: check_writable(tmp_path / "x"))
    assert everything(tmp_path / "x") in ([], ["runs"])
