"""Every architecture of the installed mlx-lm: a tiny model is measured, or refused for the right reason.

Half of them; the others are in test_every_other_architecture.py, so that two processes share the work.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm.utils
import pytest

from mqf_tui.fidelity.model import architectures
from mqf_tui.fidelity.model.facts import read_facts
from mqf_tui.fidelity.model.shapes import read_shape
from tests.conftest import ROOT
from tests.tiny_configs import build
from tests.tiny_measuring import METAL, check, check_facts, check_layers, filled, refusal
from tests.tiny_models import TINY, VARIED, folder_with, modules

# Why these give no number, whatever the setting.
REFUSED = {
    "mamba": "has no attention heads",
    "mamba2": "has no attention heads",
    "rwkv7": "has no attention heads",
    "olmo": "mlx-lm cannot run this model, whatever its cache",  # a mask in words, added to numbers
    "deepseek_v41": "a cache of its own kind (LayerCache)",
} | ({} if mx.metal.is_available() else dict.fromkeys(METAL, "kernels for Apple GPUs"))


def tool() -> Any:
    spec = importlib.util.spec_from_file_location(
        "make_models_table", ROOT / "tools" / "make_models_table.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


TABLE = tool()
PAGE = TABLE.PAGE.read_text(encoding="utf-8")
STALE = "docs/models.md does not say so; run python tools/make_models_table.py and look at the difference"


def same_version() -> bool:
    """Whether the page is of the mlx-lm that is installed: another one may know more, or less."""
    return f"with mlx-lm {TABLE.version()}." in PAGE


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def test_each_has_its_tiny_model() -> None:
    assert len(modules()) > 100
    assert list(TINY) == modules()


def test_the_page_has_all_of_them_and_nothing_else() -> None:
    if not same_version():
        pytest.skip("docs/models.md is of another mlx-lm")
    rows = TABLE.rows_of(PAGE)
    assert sorted(line.split("`")[1] for _, line in rows) == modules()
    assert TABLE.page(rows) == PAGE, STALE


def test_each_model_type_of_mlx_lm_leads_to_one() -> None:
    for kind in mlx_lm.utils.MODEL_REMAPPING:
        assert architectures.module_of({"model_type": kind}) in TINY
    for (kind, own), module in mlx_lm.utils.MODEL_ARCHITECTURE_REMAPPING.items():
        assert architectures.module_of({"model_type": kind, "architectures": [own]}) == module
        assert architectures.module_of({"model_type": kind, "architectures": ["Another"]}) == kind
        assert module in TINY


@pytest.mark.parametrize("name", list(TINY)[::2])
def test_measured_or_refused(name: str, home: Path) -> None:
    held(name, home)


def held(name: str, home: Path) -> None:
    found = check(name, home)
    if same_version() and not mx.metal.is_available():
        assert TABLE.row(name, found) in TABLE.rows_of(PAGE), STALE
    assert bool(found.reports) == (name not in REFUSED)
    if name in REFUSED:
        assert REFUSED[name] in str(found.errors[-1])


def test_a_module_that_would_end_the_program_is_refused(home: Path) -> None:
    error = refusal("olmo", home / "bare")
    assert "To run olmo install ai2-olmo" in str(error)


@pytest.mark.parametrize("name", VARIED)
def test_layers_told_in_other_ways(name: str, tmp_path: Path) -> None:
    config = VARIED[name]
    model = build(config)
    cache = filled(model)
    facts = read_facts(folder_with(config, model, tmp_path / "model"))
    check_facts(name, model, cache, facts)
    check_layers(name, model, cache, read_shape(facts))
