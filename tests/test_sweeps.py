"""The engine over several variants: equal to each alone, resumed, in part, raced; and its commands."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mqf_tui
from mqf_tui import api, cli
from mqf_tui.fidelity import verdict as policies
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import BadSettingError, OutOfMemoryError, SaveError
from mqf_tui.fidelity.events import (
    ChunkFinished,
    Dropped,
    Estimated,
    Event,
    Failed,
    Finished,
    Started,
    StepScored,
    Stopped,
    Swept,
)
from mqf_tui.fidelity.positions import ARRAYS, Positions
from mqf_tui.fidelity.running import RunningSweep
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.spreading import spread, with_control
from mqf_tui.fidelity.text.chunking import Chunks
from mqf_tui.fidelity.verdict import KV_POLICY
from mqf_tui.library.runs import list_runs
from mqf_tui.library.spool import Spool
from mqf_tui.library.sweeps import list_sweeps, load_sweep

BASE = KVSettings("demo", chunk_length=128, max_chunks=5)
THREE = spread(BASE, bits=(8, 2), formats=("k8v4",))


def swept(settings: SweepSettings, **options: Any) -> list[Event]:
    return list(api.sweep_events(settings, **options))


def of_kind(events: Sequence[Event], kind: type) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def assert_equal(found: Positions, expected: Positions) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)


def test_a_sweep_equals_single_runs_bit_for_bit() -> None:
    events = swept(SweepSettings(THREE, sweep_id="a"))
    finished = of_kind(events, Finished)
    assert [one.variant for one in finished] == [0, 1, 2]
    for variant, one in zip(THREE, finished, strict=True):
        *_, alone = api.events(variant)
        assert isinstance(alone, Finished)
        assert_equal(one.positions, alone.positions)
        assert one.report.kl == alone.report.kl
        assert one.report.verdict == alone.report.verdict
        assert (one.report.sweep_id, alone.report.sweep_id) == ("a", None)
    settings = [one.report.setting for one in finished]
    assert settings[0] == "8-bit KV cache, group 64"
    assert settings[2] == "8-bit keys, 4-bit values, group 64"


def test_events_come_in_order_and_carry_all_that_a_screen_needs() -> None:
    events = swept(SweepSettings(THREE))
    kinds = [type(event) for event in events]
    assert kinds.index(Estimated) < kinds.index(Started) < kinds.index(StepScored)
    started = events[kinds.index(Started)]
    assert isinstance(started, Started)
    assert [plan.settings for plan in started.plans] == list(THREE)
    assert [plan.n_positions for plan in started.plans] == [5 * 127] * 3
    steps = of_kind(events, StepScored)
    assert [(s.chunk, s.variant) for s in steps] == [(c, v) for c in range(5) for v in range(3)]
    assert [s.n_positions for s in steps if s.variant == 1] == [127 * n for n in range(1, 6)]
    assert [(c.chunk, c.variant) for c in of_kind(events, ChunkFinished)] == [
        (c, v) for c in range(5) for v in range(3)
    ]
    last = events[-1]
    assert isinstance(last, Swept)
    assert (last.reference_passes, last.variant_passes) == (5, 15)
    assert not last.stopped
    assert last.error is None


def test_known_chunks_are_not_scored_again() -> None:
    whole = swept(SweepSettings(THREE))
    known = {
        chunk: [
            Positions.concatenate(
                [s.positions for s in of_kind(whole, StepScored) if (s.chunk, s.variant) == (chunk, v)]
            )
            for v in range(3)
        ]
        for chunk in (0, 3)
    }
    rest = swept(SweepSettings(THREE), known=known)
    assert of_kind(rest, Swept)[0].reference_passes == 3
    for one, other in zip(of_kind(rest, Finished), of_kind(whole, Finished), strict=True):
        assert_equal(one.positions, other.positions)
        assert one.report.kl == other.report.kl


def test_some_of_the_chunks_can_be_scored_alone() -> None:
    whole = of_kind(swept(SweepSettings(THREE)), Finished)
    some = of_kind(swept(SweepSettings(THREE), chunks=[1, 4]), Finished)
    for one, other in zip(some, whole, strict=True):
        chosen = np.isin(other.positions.chunk, [1, 4])
        assert_equal(one.positions, other.positions.where(chosen))


def test_chunks_that_begin_alike_give_the_same_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the same sweep without any sharing; the tokens are made to repeat."""
    made = RunningSweep._chunks
    variants = spread(dataclasses.replace(BASE, chunk_length=300), bits=(4, 2))

    def repeating(self: RunningSweep, corpus: Any) -> Iterator[Event]:
        chunks: Chunks = yield from made(self, corpus)
        tokens = chunks.tokens.copy()
        tokens[2, :260] = tokens[0, :260]
        tokens[4, :140] = tokens[0, :140]
        return dataclasses.replace(chunks, tokens=tokens)

    monkeypatch.setattr(RunningSweep, "_chunks", repeating)
    shared = of_kind(swept(SweepSettings(variants)), Finished)
    monkeypatch.setattr(RunningSweep, "_shared", lambda *_: None)
    plain = of_kind(swept(SweepSettings(variants)), Finished)
    for one, other in zip(shared, plain, strict=True):
        assert_equal(one.positions, other.positions)


def test_a_stop_keeps_what_every_variant_has() -> None:
    control, events = Control(), []
    for event in api.sweep_events(SweepSettings(THREE), control):
        events.append(event)
        if isinstance(event, ChunkFinished) and (event.chunk, event.variant) == (1, 2):
            control.stop()
    stopped = of_kind(events, Stopped)
    assert [one.variant for one in stopped] == [0, 1, 2]
    assert all(one.report.partial and one.report.n_chunks == 2 for one in stopped)
    assert events[-1].stopped


def test_what_does_not_fit_is_refused_before_loading() -> None:
    events = swept(SweepSettings(THREE, memory_limit=1_000_000))
    assert not of_kind(events, Started)
    (failed,) = of_kind(events, Failed)
    assert isinstance(failed.error, OutOfMemoryError)
    assert events[-1].error is failed.error


def test_variants_in_turns_where_memory_holds_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes of the reference for three variants, and the same numbers."""
    estimated = RunningSweep._estimated

    def few(self: RunningSweep, device: Any) -> Estimated:
        event = estimated(self, device)
        self._per_pass = 2
        return event

    whole = of_kind(swept(SweepSettings(THREE)), Finished)
    monkeypatch.setattr(RunningSweep, "_estimated", few)
    events = swept(SweepSettings(THREE))
    assert (events[-1].reference_passes, events[-1].variant_passes) == (10, 15)
    for one, other in zip(of_kind(events, Finished), whole, strict=True):
        assert_equal(one.positions, other.positions)


def test_a_race_drops_what_is_surely_bad() -> None:
    variants = spread(dataclasses.replace(BASE, max_chunks=30), bits=(8, 2))
    events = swept(SweepSettings(variants, race=True))
    dropped = of_kind(events, Dropped)
    assert [one.variant for one in dropped] == [1]
    assert "bad" in dropped[0].why
    reports = [one.report for one in of_kind(events, Finished)]
    assert reports[1].dropped == dropped[0].why
    assert reports[1].n_chunks < reports[0].n_chunks
    assert reports[0].dropped is None
    assert reports[1].verdict == "bad"


@pytest.mark.parametrize(
    ("variants", "words"),
    [
        ((), "at least one"),
        ((BASE, BASE), "twice"),
        ((BASE, dataclasses.replace(BASE, chunk_length=64)), "chunk length"),
        ((BASE, dataclasses.replace(BASE, kv_bits=4, max_kl=0.5)), "max kl"),
    ],
)
def test_sweeps_that_cannot_be(variants: tuple[KVSettings, ...], words: str) -> None:
    with pytest.raises(BadSettingError, match=words):
        SweepSettings(variants).check()


def test_spreads() -> None:
    words = [one.quantizers.word for one in spread(BASE, bits=(8, 4), groups=(32, 64))]
    assert words == ["8g32", "8g64", "4g32", "4g64"]
    words = [one.quantizers.word for one in spread(BASE, k_bits=(8, 16), v_bits=(16, 4))]
    assert words == ["k8v16g64", "k8v4g64", "k16v4g64"]
    words = [one.quantizers.word for one in spread(BASE, formats=("mxfp4", "k8v4g32", "4"), groups=(32, 64))]
    assert words == ["mxfp4", "k8v4g32", "4g32", "4g64"]
    pairs = [(one.kv_bits, one.kernel) for one in with_control(spread(BASE, bits=(4,)))]
    assert pairs == [(4, "quantized"), (4, "dequantized")]
    with pytest.raises(BadSettingError, match="values alone"):
        spread(BASE, v_bits=(4,))
    with pytest.raises(BadSettingError, match="no KV format"):
        spread(BASE, formats=("k8w4",))


def test_python_gives_the_report_and_the_runs() -> None:
    found = mqf_tui.measure_kv_sweep("demo", kv_bits=[8, 2], kv=["k8v4"], chunk_length=128, max_chunks=4)
    assert [run.kv_format for run in found.runs] == ["8g64", "2g64", "k8v4g64"]
    assert len(found.report.variants) == 3
    assert found.report.answer
    with pytest.raises(BadSettingError, match="both"):
        mqf_tui.measure_kv_sweep("demo", k_bits=[8])


@contextlib.contextmanager
def breaking_at(chunk: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Memory runs out at a chunk; the chunks that were begun."""
    begun: list[int] = []
    stock = RunningSweep._chunk

    def breaking(self: RunningSweep, model: Any, chunks: Any, index: int) -> Iterator[Event]:
        begun.append(index)
        if index == chunk:
            raise MemoryError
        yield from stock(self, model, chunks, index)

    with monkeypatch.context() as patched:
        patched.setattr(RunningSweep, "_chunk", breaking)
        yield begun


def sweep(*words: str) -> int:
    return cli.main(["sweep", "demo", "--chunk-length", "128", "--max-chunks", "4", *words])


def test_the_command_saves_runs_and_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("--kv-bits", "8,2", "--kv", "k8v4", "--format", "json") == 0
    out, err = capsys.readouterr()
    report = json.loads(out)
    runs = list_runs()
    assert {run.report.sweep_id for run in runs} == {report["sweep_id"]}
    assert {variant["run"] for variant in report["variants"]} == {run.id for run in runs}
    assert list_sweeps() == [report["sweep_id"]]
    assert load_sweep("last").answer == report["answer"]
    assert report["sweep_id"] in err
    assert cli.main(["sweeps", "list"]) == 0
    assert report["sweep_id"] in capsys.readouterr().out
    assert cli.main(["sweeps", "show", "last", "--format", "csv"]) == 0
    assert capsys.readouterr().out.count("\n") == 4


def test_a_sweep_that_broke_off_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with breaking_at(2, monkeypatch) as passes:
        assert sweep("--kv-bits", "8,2") == 3
    err = capsys.readouterr().err
    spool = Spool.open("last")
    assert f"--resume {spool.sweep_id}" in err
    assert sorted(spool.known(2)) == [0, 1]
    assert passes == [0, 1, 2]
    stock = RunningSweep._chunk

    def watched(self: RunningSweep, model: Any, chunks: Any, index: int) -> Iterator[Event]:
        passes.append(index)
        yield from stock(self, model, chunks, index)

    monkeypatch.setattr(RunningSweep, "_chunk", watched)
    assert cli.main(["sweep", "--resume", "last"]) == 0
    assert passes == [0, 1, 2, 2, 3]
    with pytest.raises(SaveError, match="there is none"):
        Spool.open("last")


def test_a_disk_that_is_full_loses_no_report(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once for the runs at the end, once for the chunks on the way."""

    def full(*_: Any, **__: Any) -> None:
        raise SaveError("the disk is full; make room there.")

    with monkeypatch.context() as patched:
        patched.setattr("mqf_tui.library.runs.save_run", full)
        assert sweep("--kv-bits", "8,2", "--format", "csv") == 2
    out, err = capsys.readouterr()
    assert out.count("\n") == 3
    assert "the disk is full" in err.splitlines()[-1]
    assert "--resume" in err
    monkeypatch.setattr(Spool, "add", full)
    assert sweep("--kv-bits", "8,2", "--format", "csv") == 2
    out, err = capsys.readouterr()
    assert out.count("\n") == 3
    assert len(list_runs()) == 2


def test_a_sweep_goes_on_only_with_what_it_began_with(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with breaking_at(2, monkeypatch):
        assert sweep("--kv-bits", "8,2") == 3
    with monkeypatch.context() as patched:
        other = policies.limited(KV_POLICY, 0.5, None)
        patched.setattr("mqf_tui.library.settings.user_policy", lambda: other)
        assert cli.main(["sweep", "--resume", "last"]) == 2
    assert "thresholds changed since" in capsys.readouterr().err.splitlines()[-1]
    assert cli.main(["sweep", "--resume", "last", "--format", "json"]) == 0
    err = capsys.readouterr().err
    assert "in the trash" in err
    runs = list_runs()
    assert [run.report.partial for run in runs] == [False, False]
    for run in runs:
        r = run.report
        assert any("taken up again" in warning for warning in r.warnings)
        assert r.positions_per_second == pytest.approx((r.n_positions - 2 * 127) / r.seconds)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kv", "k8w4"], "no KV format"),
        (["--kv-bits", "8,x"], "whole number"),
        (["--kv-bits", "7"], "7 bits do not exist"),
        (["--k-bits", "8"], "both"),
        (["--kv-bits", "8,4", "--context", "32k"], "belong together"),
        (["--kv-bits", "4", "--context", "32k", "--memory", "8XB"], "8XB"),
        (["--kv-bits", "4", "--layers", "9-12"], "layer"),
        (["--kv-bits", "4", "--layers", "0-1:k8w4"], "k8w4"),
        (["--kv-bits", "16"], "nothing to measure|quantize nothing"),
        (["--kv-bits", "4", "--kernel", "emulated", "--control"], "emulated"),
        (["--kv-bits", "4", "--score-last", "0"], "score last"),
        (["--kv-bits", "4", "--memory-limit", "1MB"], "1.0 MB"),
        (["--recipe", "/nowhere.toml"], "recipe"),
        (["--resume", "nothing"], "leave out the model"),
        (["--kv-bits", ""], "nothing is named"),
        (["--kv", ""], "nothing is named"),
        (["--recipe", ""], "recipe"),
        (["--kv", "mxfp4g64"], "groups of 32"),
        (["--layers", "0:4", "--kv-bits", "8"], "name their formats already"),
        (["--k-bits", "16", "--v-bits", "16"], "quantize nothing"),
        (["--kv-bits", "4", "--score-last", "9999"], "at most 127"),
        (["--kv-bits", "4", "--max-kv-bytes-per-token", "1"], "the smallest here, 4g64, takes 288"),
        (["--kv-bits", "4", "--max-kv-bytes-per-token", "inf"], "above 0"),
    ],
)
def test_bad_input_is_one_sentence(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = sweep(*words)
    out, err = capsys.readouterr()
    assert code in (2, 3)
    assert out == ""
    last = err.strip().splitlines()[-1]
    assert last.startswith("mqf-tui: ")
    assert re.search(message, last), last
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--kv", "k8v4", "--kv-bits", "3"], "--kv says"),
        (["--layers", "0:4,1:8", "--kv-bits", "3"], "--layers says"),
        (["--recipe", "", "--kv-bits", "3"], "recipe"),
        (["--kv", ""], "no KV format"),
        (["--control", "--format", "card"], "not as card"),
    ],
)
def test_one_setting_is_said_once(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["kv", "demo", *words]) == 2
    assert message in capsys.readouterr().err


def test_sets_that_name_their_formats_are_one_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("--layers", "0:4,3:mxfp8", "--no-save", "--format", "csv") == 0
    assert capsys.readouterr().out.count("\n") == 2
    found = mqf_tui.measure_kv_sweep("demo", layers="0:4,3:8", chunk_length=128, max_chunks=2)
    assert len(found.runs) == 1
    one = mqf_tui.measure_kv_sweep("demo", kv_bits=4, kv="k8v4", chunk_length=128, max_chunks=2)
    assert [run.kv_format for run in one.runs] == ["4g64", "k8v4g64"]


def test_what_cannot_fit_is_not_measured(capsys: pytest.CaptureFixture[str]) -> None:
    assert sweep("--kv-bits", "8,4", "--max-kv-bytes-per-token", "300", "--no-save", "--format", "csv") == 0
    out, err = capsys.readouterr()
    assert out.count("\n") == 2
    assert "left out" in err
    assert "8g64 (544 bytes)" in err


def test_a_sweep_that_runs_is_not_taken_up(capsys: pytest.CaptureFixture[str]) -> None:
    spool = Spool.create("20260101-000000-aaaa", ["sweep", "demo"])
    program = (
        "import sys, time; from mqf_tui.library.spool import Spool; Spool.open('last').hold(); "
        "print('held', flush=True); time.sleep(60)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert cli.main(["sweep", "--resume", "last"]) == 2
        assert "still running" in capsys.readouterr().err
    finally:
        holder.kill()
        holder.wait()
    spool.hold()
    spool.remove()


def test_resuming_gives_the_report_that_is_asked_for(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with breaking_at(0, monkeypatch):
        assert sweep("--kv-bits", "8") == 3
    assert not list((tmp_path / "data-home" / "spool").iterdir())
    with breaking_at(2, monkeypatch):
        assert sweep("--kv-bits", "8") == 3
    capsys.readouterr()
    assert cli.main(["sweep", "--resume", "last", "--kv-bits", "2"]) == 2
    assert "leave out --kv-bits" in capsys.readouterr().err
    output = tmp_path / "found.json"
    assert cli.main(["sweep", "--resume", "last", "--output", str(output)]) == 0
    assert json.loads(output.read_text())["variants"]


def test_a_control_compares_both_kernels(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["kv", "demo", "--kv-bits", "4", "--chunk-length", "128", "--max-chunks", "4"]
    assert cli.main([*words, "--control", "--no-save", "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    (control,) = report["controls"]
    assert abs(control["difference"]["value"]) < 0.05 * report["variants"][0]["kl"]["value"]


def test_a_control_of_layer_sets_is_a_control_too(capsys: pytest.CaptureFixture[str]) -> None:
    words = ["kv", "demo", "--layers", "0:4", "--chunk-length", "128", "--max-chunks", "2"]
    assert cli.main([*words, "--control", "--no-save", "--format", "json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert [variant["kernel"] for variant in report["variants"]] == ["quantized", "dequantized"]
    assert len(report["controls"]) == 1


def test_a_control_that_broke_off_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["kv", "demo", "--kv-bits", "4", "--chunk-length", "128", "--max-chunks", "4", "--control"]
    with breaking_at(2, monkeypatch):
        assert cli.main(words) == 3
    assert "--resume" in capsys.readouterr().err
    assert cli.main(["sweep", "--resume", "last", "--format", "json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["controls"]) == 1
    assert len(list_runs()) == 2


def test_a_recipe_of_the_command_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from mqf_tui.fidelity.quantizers import LayerQuantizers, parsed
    from mqf_tui.fidelity.recipe_files import to_toml
    from mqf_tui.fidelity.recipes import Recipe

    facts = api.facts_of(BASE)
    layers = (parsed("8g32"), LayerQuantizers(), parsed("k8v4g32"), *[parsed("4g32")] * 99)
    recipe = Recipe(layers[: facts.n_layers])
    file = tmp_path / "mine.toml"
    file.write_text(to_toml(recipe, model="demo"))
    words = ["kv", "demo", "--chunk-length", "128", "--max-chunks", "2", "--no-save", "--format", "json"]
    assert cli.main([*words, "--recipe", str(file)]) == 0
    by_file = json.loads(capsys.readouterr().out)
    assert by_file["kv_format"] == "recipe"
    assert by_file["kv_bits"] is None
    again = by_file["command"].split("--layers ")[1].split()[0]
    assert cli.main([*words, "--layers", again]) == 0
    by_sets = json.loads(capsys.readouterr().out)
    assert by_sets["kl"] == by_file["kl"]
    assert mqf_tui.measure_kv_fidelity(
        "demo", recipe=file, chunk_length=128, max_chunks=2
    ).kl.mean == pytest.approx(by_file["kl"]["mean"], rel=1e-12)
