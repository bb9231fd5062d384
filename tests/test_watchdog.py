"""Memory between steps: readings made up, limits of containers as files, and a real process that grows."""

from __future__ import annotations

import mmap
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import psutil
import pytest

from mqf_tui.api import events
from mqf_tui.cli import main
from mqf_tui.fidelity import device, memory, watchdog
from mqf_tui.fidelity.errors import BadSettingError, OutOfMemoryError
from mqf_tui.fidelity.events import Failed
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.fidelity.watchdog import Reading, Watchdog
from mqf_tui.library.runs import list_runs
from tests.makers import environment

MB, GB = 10**6, 10**9
PLENTY = 100 * GB


class Readings:
    """Made-up readings, one after the other; counts how often spare buffers were given back."""

    def __init__(self, *readings: Reading) -> None:
        self._left = list(readings)
        self.released = 0

    def __call__(self) -> Reading:
        return self._left.pop(0) if len(self._left) > 1 else self._left[0]

    def release(self) -> None:
        self.released += 1


def dog(limit: int | None, step: float, *readings: Reading) -> tuple[Watchdog, Readings]:
    found = Readings(*readings)
    return Watchdog(limit, step, found, found.release), found


def test_quiet_where_the_next_step_fits() -> None:
    watching, readings = dog(GB, 100 * MB, Reading(800 * MB, 0, PLENTY))
    for _ in range(3):
        watching.check()
    assert readings.released == 0


@pytest.mark.parametrize("used", [881 * MB, 990 * MB, 2 * GB])
def test_stops_before_the_limit_not_after(used: int) -> None:
    watching, readings = dog(GB, 100 * MB, Reading(used, 0, PLENTY))
    with pytest.raises(OutOfMemoryError) as error:
        watching.check()
    text = str(error.value)
    assert error.value.exit_code == 3
    assert "limit of 1.0 GB" in text
    assert "100 MB more" in text
    assert "--chunk-length" in text
    assert text.endswith(".")
    assert readings.released == 1


def test_spare_buffers_serve_the_next_step() -> None:
    watching, readings = dog(GB, 100 * MB, Reading(950 * MB, 90 * MB, PLENTY))
    watching.check()
    assert readings.released == 0


def test_spare_buffers_are_given_back_before_giving_up() -> None:
    full, freed = Reading(985 * MB, 300 * MB, PLENTY), Reading(685 * MB, 0, PLENTY)
    watching, readings = dog(GB, 100 * MB, full, freed, full, full)
    watching.check()
    assert readings.released == 1
    with pytest.raises(OutOfMemoryError):
        watching.check()


def test_the_machine_itself_may_run_out() -> None:
    watching, _ = dog(None, 500 * MB, Reading(3 * GB, 0, 700 * MB))
    watching.check()
    watching, _ = dog(None, 500 * MB, Reading(3 * GB, 0, 699 * MB))
    with pytest.raises(OutOfMemoryError, match=r"only 699 MB of memory are left on this machine"):
        watching.check()


def test_real_readings_count_this_process() -> None:
    before = watchdog.read_memory()
    # Fresh pages of the system: what malloc gives may be memory that this process has had before.
    with mmap.mmap(-1, 200 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANON) as ballast:
        ballast.write(b"x" * len(ballast))
        after = watchdog.read_memory()
    assert after.used - before.used > 150 * MB or mx.default_device() != mx.cpu
    assert 0 < after.free < psutil.virtual_memory().total


class Accelerator:
    """MLX's answers on a machine with one, and the machine's own free memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, free: int, *, metal: bool) -> None:
        monkeypatch.setattr(mx, "default_device", lambda: mx.gpu)
        monkeypatch.setattr(mx, "get_active_memory", lambda: 5 * GB)
        monkeypatch.setattr(mx, "get_cache_memory", lambda: GB)
        monkeypatch.setattr(mx.metal, "is_available", lambda: metal)
        monkeypatch.setattr(device, "prepare", lambda: device.Device("GPU", False, None, 48 * GB))
        monkeypatch.setattr(memory, "free_memory", lambda: free)


@pytest.mark.parametrize(
    ("free", "metal", "left"), [(10 * GB, True, 10 * GB), (60 * GB, True, 42 * GB), (10 * GB, False, 42 * GB)]
)
def test_readings_of_an_accelerator(
    monkeypatch: pytest.MonkeyPatch, free: int, metal: bool, left: int
) -> None:
    Accelerator(monkeypatch, free, metal=metal)
    assert watchdog.read_memory() == Reading(6 * GB, GB, left)


def test_release_gives_mlx_buffers_back() -> None:
    rows = mx.zeros((MB,)) + mx.arange(MB)
    mx.eval(rows)
    mx.synchronize()
    del rows
    assert watchdog.read_memory().spare >= 4 * MB
    watchdog.release_memory()
    assert watchdog.read_memory().spare < 4 * MB


def version_2(root: Path, path: str, limit: str, used: int, inactive: int = 0) -> None:
    folder = root / path
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\nactive_file 7\n")


def test_limits_of_version_2_of_every_group_around(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/user/box\n")
    version_2(tmp_path / "fs", "user", str(4 * GB), 3 * GB, inactive=GB)
    version_2(tmp_path / "fs", "user/box", "max", 2 * GB)
    assert memory.container_limits(tmp_path / "fs", own) == [(4 * GB, 2 * GB)]
    version_2(tmp_path / "fs", "user/box", str(GB), 900 * MB)
    assert memory.container_limits(tmp_path / "fs", own) == [(GB, 900 * MB), (4 * GB, 2 * GB)]


def test_inside_a_container_the_root_is_its_own(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.write_text("0::/../../system.slice/docker-0123.scope\n")
    version_2(tmp_path / "fs", "", str(2 * GB), GB)
    assert memory.container_limits(tmp_path / "fs", own) == [(2 * GB, GB)]


@pytest.mark.parametrize(("limit", "found"), [("9223372036854771712", []), (str(GB), [(GB, 400 * MB)])])
def test_limits_of_version_1(tmp_path: Path, limit: str, found: list[tuple[int, int]]) -> None:
    own = tmp_path / "own"
    own.write_text("5:devices:/\n4:cpu,memory:/box\n0::/\n")
    folder = tmp_path / "fs" / "memory" / "box"
    folder.mkdir(parents=True)
    (folder / "memory.limit_in_bytes").write_text(limit)
    (folder / "memory.usage_in_bytes").write_text(str(500 * MB))
    (folder / "memory.stat").write_text(f"inactive_file 1\ntotal_inactive_file {100 * MB}\n")
    assert memory.container_limits(tmp_path / "fs", own) == found


@pytest.mark.parametrize("text", ["", "nonsense", "0:", "::", "1:memory", "\0\0"])
def test_no_groups_are_no_limit(tmp_path: Path, text: str) -> None:
    own = tmp_path / "own"
    own.write_text(text)
    assert memory.container_limits(tmp_path / "fs", own) == []
    assert memory.container_limits(tmp_path / "fs", tmp_path / "none") == []


def test_the_lower_of_machine_and_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "container_limits", lambda: [(3 * MB, MB), (2 * MB, 3 * MB)])
    assert memory.all_memory() == 2 * MB
    assert memory.free_memory() == 0
    monkeypatch.setattr(memory, "container_limits", lambda: [(3 * MB, MB)])
    assert memory.free_memory() == 2 * MB
    monkeypatch.setattr(memory, "container_limits", list)
    assert memory.all_memory() == psutil.virtual_memory().total


def test_the_users_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(memory.LIMIT_VARIABLE, raising=False)
    assert memory.user_limit() is None
    monkeypatch.setenv(memory.LIMIT_VARIABLE, "500MB")
    assert memory.user_limit() == 500 * MB
    monkeypatch.setenv(memory.LIMIT_VARIABLE, "plenty")
    with pytest.raises(BadSettingError, match="MQF_TUI_MEMORY_LIMIT"):
        memory.user_limit()


GROWING = """
import sys
from mqf_tui.api import events
from mqf_tui.fidelity.events import Failed, Finished, Started, StepScored
from mqf_tui.fidelity.memory import resident_memory
from mqf_tui.fidelity.settings import KVSettings

ballast, scored, most = [], 0, 0
for event in events(KVSettings("demo", kv_bits=4, chunk_length=256, max_chunks=20)):
    if isinstance(event, StepScored):
        scored = event.n_positions
        ballast.append(b"x" * 40_000_000)  # some other part of this process grows
    most = max(most, resident_memory())
    last = event
assert isinstance(last, Failed), last
print(type(last.error).__name__, last.error.exit_code, last.report.partial, last.report.n_positions == scored)
print(scored, most)
print(last.error)
"""


@pytest.mark.skipif(mx.default_device() != mx.cpu, reason="counts the whole process's memory")
def test_a_real_process_stops_in_time_and_keeps_what_was_scored() -> None:
    limited = environment(MQF_TUI_MEMORY_LIMIT="500MB")
    done = subprocess.run(
        [sys.executable, "-c", GROWING], env=limited, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    kinds, numbers, words = done.stdout.splitlines()
    scored, most = map(int, numbers.split())
    assert kinds == "OutOfMemoryError 3 True True"
    assert 2 <= scored / 127.5 < 38  # some steps, and not all
    assert 300 * MB < most <= 540 * MB  # no step foresees what others take during it
    assert "limit of 500 MB" in words


def test_a_plan_that_cannot_fit_loads_nothing(tmp_path: Path) -> None:
    words = ["kv", "demo", "--memory-limit", "100MB", "--max-chunks", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "mqf_tui", *words],
        env=environment(MQF_TUI_DATA_DIR=str(tmp_path)),
        capture_output=True,
        text=True,
        timeout=250,
    )
    assert done.returncode == 3
    assert "the limit is 100 MB" in done.stderr
    assert "--memory-limit" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line_ends_with_3_and_saves_a_partial_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    readings = iter([Reading(GB, 0, PLENTY)] * 3)
    monkeypatch.setattr(watchdog, "read_memory", lambda: next(readings, Reading(9 * GB, 0, PLENTY)))
    words = ["kv", "demo", "--memory-limit", "8GB", "--chunk-length", "256", "--max-chunks", "4"]
    assert main([*words, "--format", "json"]) == 3
    printed = capsys.readouterr().err
    assert "memory is at 9.0 GB" in printed
    assert "saved as run" in printed
    (run,) = list_runs()
    assert run.report.partial
    assert 0 < run.report.n_positions <= 3 * 128


def test_memory_is_looked_at_in_the_part_that_is_not_scored_too(monkeypatch: pytest.MonkeyPatch) -> None:
    looked = 0

    def read() -> Reading:
        nonlocal looked
        looked += 1
        return Reading(GB, 0, PLENTY if looked < 6 else 0)

    monkeypatch.setattr(watchdog, "read_memory", read)
    last = list(events(KVSettings("demo", chunk_length=2048, max_chunks=1, score_last=16)))[-1]
    assert isinstance(last, Failed)
    assert isinstance(last.error, OutOfMemoryError)
    assert last.report is None  # that was before the first position that is scored
    assert looked < 10
