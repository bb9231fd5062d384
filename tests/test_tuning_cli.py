"""``mqf-tui sensitivity`` and ``mqf-tui tune``, from their options to their output, and their Python API."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mqf_tui.console import tuning
from mqf_tui.console.arguments import Parser
from mqf_tui.console.tuning_arguments import add_sensitivity, add_tune
from mqf_tui.fidelity import watchdog
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import INTERRUPTED, FidelityError, OutOfMemoryError
from mqf_tui.fidelity.events import StepScored
from mqf_tui.fidelity.recipe_files import from_toml
from mqf_tui.fidelity.tuning import Stage
from mqf_tui.library.recipes import read_recipe
from mqf_tui.library.runs import list_runs
from mqf_tui.library.sweeps import list_sweeps, load_sweep
from mqf_tui.reports.tuning_report import to_markdown
from mqf_tui.reports.tuning_schema import Tuning
from mqf_tui.tuning_api import measure_kv_sensitivity, tune_kv

SHORT = ("--chunk-length", "48", "--max-chunks", "2")


def _options(*words: str) -> argparse.Namespace:
    top = Parser(prog="mqf-tui")
    commands = top.add_subparsers(dest="command")
    add_sensitivity(commands.add_parser("sensitivity"))
    add_tune(commands.add_parser("tune"))
    return top.parse_args(words)


def _run(*words: str) -> int:
    options = _options(*words)
    return {"sensitivity": tuning.sensitivity, "tune": tuning.tune}[options.command](options)


def test_sensitivity_prints_and_keeps_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run("sensitivity", "demo", *SHORT) == 0
    out, err = capsys.readouterr()
    assert "Layer by layer" in out
    assert "mqf-tui sensitivity demo --kv-bits 4" in out
    kept = load_sweep("last")
    assert kept.sweep_id in err
    assert kept.sensitivity is not None
    assert len(kept.sensitivity.layers) == 8
    # 2 chunks: the reference once each, and 4 layers times keys and values.
    assert (kept.passes.reference, kept.passes.variants) == (2, 16)


def test_sensitivity_as_a_page_with_its_picture(tmp_path: Path) -> None:
    page = tmp_path / "layers.html"
    assert _run("sensitivity", "demo", *SHORT, "--together", "--no-save", "--output", str(page)) == 0
    assert "Each layer alone at 4g64" in page.read_text()
    with pytest.raises(FidelityError, match="no sweep"):
        load_sweep("last")


def test_tune_writes_a_recipe_that_kv_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "demo.toml"
    words = ("--max-kv-bytes-per-token", "300", "--sense-chunks", "1", "--sense-bits", "4", "--bits", "8,4,2")
    assert _run("tune", "demo", *SHORT, *words, "--save-recipe", str(file)) == 0
    out, err = capsys.readouterr()
    assert "measuring each layer alone: 8 settings" in err
    assert "**recipe**" in out
    assert "for all layers" in out
    recipe = read_recipe(str(file))
    assert recipe.n_quantized
    assert f"--layers {recipe.sets}" in out
    (run,) = list_runs()
    assert run.report.layers is not None
    assert [(part.layers, part.format) for part in run.report.layers.recipe] == [
        tuple(part.split(":")) for part in recipe.sets.split(",")
    ]
    assert run.report.kv_bytes_per_token is not None
    assert run.report.kv_bytes_per_token.variant_16bit is not None
    assert run.report.kv_bytes_per_token.variant_16bit <= 300


def test_tune_keeps_its_recipe_where_no_file_is_named(
    data_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--max-kl", "0.05", "--sense-chunks", "1", "--together", "--format", "json")
    assert _run("tune", "demo", *SHORT, *words) == 0
    found = Tuning.model_validate_json(capsys.readouterr().out)
    (kept,) = (data_home / "recipes").iterdir()
    assert kept.read_text() == found.toml
    assert found.met
    assert found.max_kl == 0.05
    # Keys and values alike in each layer: mlx-lm's own class holds what does not have 3 or 6 bits.
    assert all(layer.keys == layer.values for layer in from_toml(found.toml).layers)
    compile(found.code, "code", "exec")
    json.dumps(found.model_dump(mode="json"))


def _watched(monkeypatch: pytest.MonkeyPatch, look: Callable[[str, Any], None]) -> None:
    """``look`` sees every event that is drawn, and the stage that it belongs to."""
    show, stages = tuning.TuningProgress.show, [""]

    def shown(self: Any, event: Any) -> None:
        show(self, event)
        if isinstance(event, Stage):
            stages.append(event.what)
        look(stages[-1], event)

    monkeypatch.setattr(tuning.TuningProgress, "show", shown)


def _memory_ends(monkeypatch: pytest.MonkeyPatch, stage: str, chunk: int) -> None:
    """Nothing is left of the machine's memory as soon as ``chunk`` of ``stage`` has begun."""
    free = [10**12]
    monkeypatch.setattr(watchdog, "read_memory", lambda: watchdog.Reading(10**9, 0, free[0]))

    def look(at: str, event: Any) -> None:
        if at.endswith(stage) and isinstance(event, StepScored) and event.chunk == chunk:
            free[0] = 0

    _watched(monkeypatch, look)


def _stops(monkeypatch: pytest.MonkeyPatch, stage: str) -> None:
    """Ctrl+C as ``stage`` begins."""
    controls: list[Control] = []
    monkeypatch.setattr(tuning, "Control", lambda: controls.append(Control()) or controls[-1])

    def look(at: str, event: Any) -> None:
        if isinstance(event, Stage) and at.endswith(stage):
            controls[-1].stop()

    _watched(monkeypatch, look)


def test_what_was_sensed_is_kept_where_memory_ends(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _memory_ends(monkeypatch, "", 2)
    with pytest.raises(OutOfMemoryError, match="what was scored is kept"):
        _run("sensitivity", "demo", "--chunk-length", "48", "--max-chunks", "4")
    kept = load_sweep("last")
    assert kept.sensitivity is not None
    assert (kept.sensitivity.n_chunks, kept.sensitivity.n_positions) == (2, 2 * 47)
    assert kept.partial
    assert "what was scored is kept" in kept.ended
    out, _ = capsys.readouterr()
    assert "Layer by layer" in out
    with pytest.raises(OutOfMemoryError):
        measure_kv_sensitivity("demo", memory_limit=1, chunk_length=48, max_chunks=4)


@pytest.mark.parametrize(("stage", "n_chunks", "n_runs"), [("alone", 1, 0), ("round 1", 2, 5)])
def test_what_a_tuning_scored_is_kept_where_memory_ends(
    monkeypatch: pytest.MonkeyPatch, stage: str, n_chunks: int, n_runs: int
) -> None:
    _memory_ends(monkeypatch, stage, 1)
    with pytest.raises(OutOfMemoryError, match="what was scored is kept"):
        _run("tune", "demo", *SHORT, "--max-kl", "0.01", "--kv-group-size", "32")
    kept = [load_sweep(name) for name in list_sweeps()]
    assert {s.sensitivity.format for s in kept if s.sensitivity} == {"4g32", "2g32"}
    assert {s.sensitivity.n_chunks for s in kept if s.sensitivity} == {n_chunks}
    assert all(s.partial == (stage == "alone") for s in kept)
    # Whole or not, each width's own 4 layers times keys and values.
    assert {len(s.sensitivity.layers) for s in kept if s.sensitivity} == {8}
    assert {s.passes.variants for s in kept} <= {8, 16}
    runs = list_runs()
    assert len(runs) >= n_runs
    assert all(run.report.partial for run in runs)


def test_a_tuning_that_is_stopped_gives_its_best_recipe(
    data_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    four = ("--chunk-length", "64", "--max-chunks", "4", "--sense-chunks", "1")  # predicts badly: more rounds
    words = ("tune", "demo", *four, "--max-kl", "0.0005", "--format", "json")
    _stops(monkeypatch, "round 2")
    assert _run(*words) == INTERRUPTED
    out, err = capsys.readouterr()
    found = Tuning.model_validate_json(out)
    assert found.partial
    assert "stopped" in found.ended
    (recipe,) = (data_home / "recipes").iterdir()
    assert recipe.read_text() == found.toml
    assert [run.report.kl.mean for run in list_runs()] == [found.recipe.kl.value]
    assert len(list_sweeps()) == 2
    assert "saved as sweep" in err
    assert "Partial" in to_markdown(found)


def test_a_tuning_that_is_stopped_before_any_recipe_keeps_what_it_sensed(
    data_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("tune", "demo", *SHORT, "--max-kl", "0.01", "--sense-chunks", "1")
    _stops(monkeypatch, "round 1")
    assert _run(*words, "--no-save") == INTERRUPTED
    assert "nothing to report yet" in capsys.readouterr().err
    assert not list_sweeps()
    _stops(monkeypatch, "round 1")
    assert _run(*words) == INTERRUPTED
    out, err = capsys.readouterr()
    assert not out
    assert "what was scored is kept" in err
    assert not (data_home / "recipes").exists()
    four = next(s for s in map(load_sweep, list_sweeps()) if s.sensitivity and s.sensitivity.format == "4g64")
    assert four.command.startswith("mqf-tui sensitivity demo --kv-bits 4")
    # Its own command finds the same.
    before = set(list_sweeps())
    assert _run(*shlex.split(four.command)[1:]) == 0
    (new,) = set(list_sweeps()) - before
    assert load_sweep(new).sensitivity == four.sensitivity


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tune", "demo"), "one goal"),
        (("tune", "demo", "--max-kl", "0"), "max KL is 0"),
        (("tune", "demo", "--max-kl", "0.1", "--bits", "7"), "7 bits do not exist"),
        (("tune", "demo", "--max-kl", "0.1", "--bits", "x"), "no whole number"),
        (("tune", "demo", "--context", "1k"), "belong together"),
        (
            ("tune", "demo", "--max-kv-bytes-per-token", "-5"),
            "--max-kv-bytes-per-token is -5; use a number above 0",
        ),
        (("tune", "demo", "--max-kv-bytes-per-token", "5"), "smallest formats"),
        (("tune", "demo", "--max-kl", "0.1", "--save-recipe", "/nowhere/x.toml"), "/nowhere"),
        (("tune", "no/such", "--max-kl", "0.1"), "no/such"),
        (("sensitivity", "no/such"), "no/such"),
        (("sensitivity", "demo", "--kv-bits", "16"), "16 bits do not exist"),
        (("sensitivity", "demo", "--kv-group-size", "128"), "group size 128"),
        (("sensitivity", "demo", "--output", "/nowhere/x.md"), "/nowhere"),
        (("sensitivity", "demo", "--chunk-length", "4"), "too short"),
    ],
)
def test_what_cannot_be_asked_for(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(FidelityError, match=message) as failure:
        _run(*words)
    assert failure.value.exit_code == 2


def test_the_python_api() -> None:
    short: dict[str, Any] = {"chunk_length": 48, "max_chunks": 2}
    report = measure_kv_sensitivity("demo", kv_bits=3, apart=False, **short)
    assert report.sensitivity is not None
    assert [(c.layer, c.side) for c in report.sensitivity.layers] == [(i, "both") for i in range(4)]
    stages: list[str] = []
    found = tune_kv(
        "demo",
        max_kl=0.05,
        bits=(8, 4),
        sensed_chunks=1,
        **short,
        on_event=lambda e: stages.append(e.what) if isinstance(e, Stage) else None,
    )
    assert found.met
    assert found.recipe.kl.value <= 0.05
    assert stages[0] == "measuring each layer alone"
    with pytest.raises(FidelityError, match="one goal"):
        tune_kv("demo", **short)
