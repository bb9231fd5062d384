"""``mqf-tui sensitivity`` and ``mqf-tui tune``, from their options to their output, and their Python API."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from mqf_tui.console import tuning
from mqf_tui.console.arguments import Parser
from mqf_tui.console.tuning_arguments import add_sensitivity, add_tune
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.recipe_files import from_toml
from mqf_tui.fidelity.tuning import Stage
from mqf_tui.library.recipes import read_recipe
from mqf_tui.library.runs import list_runs
from mqf_tui.library.sweeps import load_sweep
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
