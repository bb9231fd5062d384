"""Sweeps over real ranks: mlx.launch, MLX's ring on loopback, processes that die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from mqf_tui import api
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import OutOfMemoryError
from mqf_tui.fidelity.events import (
    ChunkFinished,
    Event,
    Failed,
    Finished,
    Started,
    StepScored,
    Stopped,
    Swept,
)
from mqf_tui.fidelity.positions import ARRAYS, Positions
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.library.spool import Spool
from mqf_tui.scale.hosts import Fleet, fleet_of
from tests.conftest import ROOT
from tests.makers import model_folder, text_file

RANK = "mqf_tui.scale.rank"


def settings(*bits: int, race: bool = False, chunks: int | None = 12, length: int = 128) -> SweepSettings:
    variants = (KVSettings("demo", kv_bits=b, max_chunks=chunks, chunk_length=length) for b in bits)
    return SweepSettings(tuple(variants), race=race)


def finished(events: Iterator[Event]) -> dict[int, Finished]:
    found = {event.variant: event for event in events if isinstance(event, Finished)}
    assert found
    return found


def assert_same(left: Positions, right: Positions) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(left, name), getattr(right, name), err_msg=name)
    assert left.texts == right.texts


def ranks_of(parent: int) -> dict[int, psutil.Process]:
    """The ranks below a process, by number."""
    found: dict[int, psutil.Process] = {}
    for process in psutil.Process(parent).children(recursive=True):
        try:
            if RANK in (words := process.cmdline()) and "--backend" not in words:  # that is mlx.launch
                found[int(process.environ()["MLX_RANK"])] = process
        except (psutil.Error, KeyError):
            continue
    return found


@pytest.fixture(scope="module")
def alone() -> Callable[[SweepSettings], dict[int, Finished]]:
    """The same in this process."""
    return lambda asked: finished(api.sweep_events(asked))


@pytest.mark.slow
def test_two_ranks_race_as_one_process_does(alone: Callable[[SweepSettings], dict[int, Finished]]) -> None:
    asked = settings(8, 4, 2, race=True, chunks=25)
    events = list(api.sweep_events(asked, fleet=fleet_of(ranks=2)))
    found, expected = finished(iter(events)), alone(asked)
    assert found.keys() == expected.keys() == {0, 1, 2}
    lengths = {len(one.positions) for one in expected.values()}
    assert len(lengths) > 1, "nothing was dropped on the way"
    for variant, one in found.items():
        other = expected[variant].report
        assert_same(one.positions, expected[variant].positions)
        assert one.report.kl == other.kl
        assert one.report.dropped == other.dropped
        assert one.report.kv_bytes_per_token == other.kv_bytes_per_token
        assert one.report.device.endswith("2 ranks")
        lists, ours = one.tops, expected[variant].tops
        assert lists is not None
        assert ours is not None
        assert (lists.texts, lists.left_out) == (ours.texts, ours.left_out)
        for name in ("index", "ids_ref", "probs_ref", "ids_quant", "probs_quant"):
            np.testing.assert_array_equal(getattr(lists, name), getattr(ours, name), err_msg=name)
    order = [event.chunk for event in events if isinstance(event, ChunkFinished) and event.variant == 0]
    assert order == sorted(order)
    assert isinstance(events[-1], Swept)


@pytest.fixture
def two_hosts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fleet:
    """Three ranks on machines of other names, which a stand-in for ssh starts here."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    options = "while [[ $1 == -* ]]; do [[ $1 == -o ]] && shift; shift; done"
    ssh.write_text(f'#!/bin/bash\n{options}\nshift\nexec bash -c "$*"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{ssh.parent}:{os.environ['PATH']}")
    hostfile = tmp_path / "hosts.json"
    names = ("anna", "berta", "berta")
    hostfile.write_text(json.dumps([{"ssh": name, "ips": ["127.0.0.1"]} for name in names]))
    return fleet_of(hostfile=str(hostfile), starting_port=free_port())


def free_port() -> int:
    from mqf_tui.scale.launching import free_ports

    return free_ports(3)


@pytest.mark.slow
def test_the_others_take_over_what_a_dead_rank_had(
    two_hosts: Fleet, alone: Callable[[SweepSettings], dict[int, Finished]]
) -> None:
    asked, said, kept = settings(4, chunks=30), list[str](), dict[int, int]()
    events: list[Event] = []
    for event in api.sweep_events(
        asked,
        fleet=two_hosts,
        notice=said.append,
        keep=lambda chunk, positions: kept.update({chunk: len(positions[0])}),
    ):
        if isinstance(event, ChunkFinished) and event.chunk == 0:
            ranks_of(os.getpid())[1].kill()
        events.append(event)
    found = finished(iter(events))[0]
    assert_same(found.positions, alone(asked)[0].positions)
    assert kept == dict.fromkeys(range(30), 127)
    assert said[0].split()[0].endswith("mlx.launch")
    assert len(said) == 2
    assert said[1].startswith("rank 1 on berta died (killed by SIGKILL) after ")
    assert any(warning.startswith("rank 1 on berta died") for warning in found.report.warnings)
    assert not ranks_of(os.getpid())


def rank_program(folder: Path, first: str) -> Path:
    """An interpreter for ranks that runs some Python first."""
    program, python = folder / "rank.py", folder / "python"
    program.write_text(
        f"import os, runpy, sys, time\n{first}\nsys.argv = ['rank', sys.argv[-1]]\n"
        f"runpy.run_module({RANK!r}, run_name='__main__')\n"
    )
    # `python -m` puts the current folder first, and so must this.
    python.write_text(f'#!/bin/bash\nPYTHONPATH=$PWD exec {sys.executable} {program} "$@"\n')
    python.chmod(0o755)
    return python


@pytest.mark.slow
def test_a_sweep_whose_ranks_all_die_is_resumed(
    tmp_path: Path, data_home: Path, alone: Callable[[SweepSettings], dict[int, Finished]]
) -> None:
    command = [sys.executable, "-m", "mqf_tui", "sweep"]
    slow = rank_program(
        tmp_path,
        "from mqf_tui.scale.share import Share; dealt = Share._dealt\n"
        "Share._dealt = lambda *args: (time.sleep(0.5), dealt(*args))",
    )
    begun = [*command, "demo", "--kv-bits", "4", "--max-chunks", "12", "--chunk-length", "128"]
    begun += ["--ranks", "2", "--host-python", str(slow), "--format", "json"]
    with subprocess.Popen(
        begun, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        while process.poll() is None and not list(data_home.glob("spool/*/*.npz")):
            time.sleep(0.01)
        for rank in ranks_of(process.pid).values():
            rank.kill()
        _, said = process.communicate()
    assert process.returncode == 1, said
    assert "died (killed by SIGKILL)" in said
    assert "no rank is left" in said
    assert "--resume" in said
    assert "Traceback" not in said
    spool = Spool.open("last")
    kept = spool.known(1)
    assert 0 < len(kept) < 12

    done = subprocess.run(
        [*command, "--resume", "last", "--ranks", "1", "--format", "json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert not list(data_home.glob("spool/*"))
    expected = alone(settings(4))[0]
    for chunk, (positions,) in kept.items():
        here = expected.positions.where(expected.positions.chunk == chunk)
        np.testing.assert_array_equal(positions.kl, here.kl)
    report = json.loads(done.stdout)
    assert report["sweep_id"] == spool.sweep_id
    saved = [json.loads(path.read_bytes()) for path in data_home.glob("runs/*/report.json")]
    whole = next(one for one in saved if not one["partial"])
    assert whole["kl"]["mean"] == expected.report.kl.mean
    assert whole["n_chunks"] == 12


# What makes rank 2 differ, as another host would: another model in the same place, another version, and
# something that keeps it from starting at all.
ODD = {
    "find = models.find_model; models.find_model = lambda name: find(name + '-other')": (
        "rank 2 has other weights for this model than the others"
    ),
    "messages.software = lambda: {**software(), 'mlx': '0.1'}": "rank 2 has mlx 0.1 and this process ",
    "sys.exit('no such thing here')": (
        "rank 2 died (exit code 1) before the sweep began (the last that was said: no such thing here)"
    ),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_rank_that_differs_is_named(odd: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path / "model")
    model_folder(tmp_path / "model-other", scale={"lm_head": 3.0})
    python = rank_program(
        tmp_path,
        "from mqf_tui.library import models\n"
        "from mqf_tui.scale import messages; software = messages.software\n"
        f"if os.environ['MLX_RANK'] == '2': {odd}",
    )
    asked = SweepSettings(
        (KVSettings(str(folder), kv_bits=4, chunk_length=32, corpus=str(text_file(tmp_path / "text"))),)
    )
    *_, failed, swept = api.sweep_events(asked, fleet=fleet_of(ranks=3, python=str(python)))
    assert isinstance(failed, Failed)
    assert isinstance(swept, Swept)
    assert swept.error is failed.error
    assert str(failed.error).startswith(ODD[odd])
    assert not ranks_of(os.getpid())


def test_ranks_that_cannot_be_started_are_said(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho there is no Python here >&2; exit 127\n")
    python.chmod(0o755)
    *_, failed, _swept = api.sweep_events(settings(4), fleet=fleet_of(ranks=2, python=str(python)))
    assert isinstance(failed, Failed)
    assert failed.error.exit_code == 2
    assert "could not be started (the last that was said: there is no Python here)" in str(failed.error)


@pytest.mark.slow
def test_a_stop_reaches_all_ranks() -> None:
    control, events = Control(), list[Event]()
    for event in api.sweep_events(settings(4, chunks=None), control, fleet=fleet_of(ranks=2)):
        if isinstance(event, ChunkFinished):
            control.stop()
        events.append(event)
    *_, stopped, swept = events
    assert isinstance(stopped, Stopped)
    assert isinstance(swept, Swept)
    assert swept.stopped
    assert stopped.report is not None
    assert stopped.report.partial
    assert not ranks_of(os.getpid())


@pytest.mark.slow
@pytest.mark.parametrize("split", ["tensor", "pipeline"])
def test_a_model_over_two_ranks_gives_what_one_gives(split: str, tmp_path: Path) -> None:
    folder = split_model(tmp_path / "model")
    corpus = str(text_file(tmp_path / "text"))
    asked = SweepSettings(
        tuple(
            KVSettings(str(folder), kv_bits=8, layers=layers, chunk_length=64, max_chunks=3, corpus=corpus)
            for layers in ("all", "1:4g32")
        )
    )
    # One rank has room for less than the other: both must go through the model as that one can.
    small = rank_program(
        tmp_path,
        "from dataclasses import replace\n"
        "from mqf_tui.fidelity import planning; plan = planning.plan_memory\n"
        "less = lambda *a, **k: replace(plan(*a, **k), variants_per_pass=1, step=32)\n"
        "if os.environ['MLX_RANK'] == '1': planning.plan_memory = less",
    )
    fleet = fleet_of(ranks=2, split=split, python=str(small))
    events = list(api.sweep_events(asked, fleet=fleet))
    found, expected = finished(iter(events)), finished(api.sweep_events(asked))
    plans = next(event.plans for event in events if isinstance(event, Started))
    assert plans[1].recipe.sets == "0:16,1:4g32,2-3:16"
    steps = [(event.variant, event.step) for event in events if isinstance(event, StepScored)]
    assert steps == [(0, 0), (0, 1), (1, 0), (1, 1)] * 3
    assert isinstance(swept := events[-1], Swept)
    assert (swept.reference_passes, swept.variant_passes) == (6, 6)
    for variant, one in found.items():
        other = expected[variant]
        assert f"model split ({split})" in one.report.device
        assert one.report.kv_bytes_per_token == other.report.kv_bytes_per_token
        # Sums over shares are rounded in another order.
        np.testing.assert_allclose(one.positions.nll_ref, other.positions.nll_ref, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(one.positions.kl, other.positions.kl, rtol=2e-2, atol=1e-4)
        assert other.positions.kl.max() > 1e-3


@pytest.mark.slow
def test_a_model_that_lost_a_share_ends_the_sweep(tmp_path: Path) -> None:
    corpus = str(text_file(tmp_path / "text"))
    one = KVSettings(str(split_model(tmp_path / "model")), kv_bits=4, chunk_length=64, corpus=corpus)
    kept: list[int] = []
    events: list[Event] = []
    for event in api.sweep_events(
        SweepSettings((one,)),
        fleet=fleet_of(ranks=2, split="tensor"),
        keep=lambda chunk, _positions: kept.append(chunk),
    ):
        if isinstance(event, ChunkFinished) and event.chunk == 1:
            ranks_of(os.getpid())[1].kill()
        events.append(event)
    *_, failed, _swept = events
    assert isinstance(failed, Failed)
    assert str(failed.error).startswith("rank 1 died (killed by SIGKILL), and with it a share of the model")
    assert failed.error.exit_code == 1
    assert kept[:2] == [0, 1]
    assert failed.report is not None
    assert failed.report.partial
    assert failed.report.n_chunks == len(kept)
    assert not ranks_of(os.getpid())


# What keeps one of two ranks from going on: a plan that does not fit, memory that is gone on the way.
NO_ROOM = {
    "from mqf_tui.fidelity import planning; plan = planning.plan_memory\n"
    "full = lambda *a, **k: replace(plan(*a, **k), limit_bytes=10**6, advice='this is too much.')\n"
    "if os.environ['MLX_RANK'] == '1': planning.plan_memory = full": "rank 1: this is too much.",
    "from mqf_tui.fidelity import watchdog; read = watchdog.read_memory; looks = []\n"
    "less = lambda: (looks.append(1), replace(read(), free=10**6 if len(looks) > 10 else 10**12))[1]\n"
    "if os.environ['MLX_RANK'] == '1': watchdog.read_memory = less": "rank 1: only 1.0 MB of memory are left",
}


@pytest.mark.slow
@pytest.mark.parametrize("broken", NO_ROOM)
def test_a_rank_without_room_for_its_share_ends_the_sweep(broken: str, tmp_path: Path) -> None:
    corpus = str(text_file(tmp_path / "text"))
    one = KVSettings(str(split_model(tmp_path / "model")), kv_bits=4, chunk_length=300, corpus=corpus)
    python = str(rank_program(tmp_path, f"from dataclasses import replace\n{broken}"))
    kept: list[int] = []
    *_, failed, swept = api.sweep_events(
        SweepSettings((one,)),
        fleet=fleet_of(ranks=2, split="tensor", python=python),
        keep=lambda chunk, _positions: kept.append(chunk),
    )
    assert isinstance(failed, Failed)
    assert isinstance(swept, Swept)
    assert isinstance(swept.error, OutOfMemoryError)
    assert str(swept.error).startswith(NO_ROOM[broken])
    assert (failed.report.n_chunks if failed.report else 0) == len(kept)
    assert bool(kept) == ("watchdog" in broken)
    assert not ranks_of(os.getpid())


def split_model(folder: Path) -> Path:
    """A tiny Qwen2 of 4 heads and 2 layers, which mlx-lm can split in both ways."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models import qwen2

    from tests.makers import config, write_tokenizer

    made = config(
        model_type="qwen2",
        architectures=["Qwen2ForCausalLM"],
        num_attention_heads=4,
        num_key_value_heads=2,
        hidden_size=256,
        num_hidden_layers=4,
    )
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(made))
    write_tokenizer(folder)
    mx.random.seed(3)
    model = qwen2.Model(qwen2.ModelArgs.from_dict(made))
    sharp = {"q_proj.weight": 4.0, "k_proj.weight": 4.0, "lm_head": 2.0}
    arrays = {}
    for name, array in tree_flatten(model.parameters()):
        arrays[name] = array * next((f for part, f in sharp.items() if part in name), 1.0)
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, metadata={"format": "mlx"})
    return folder
