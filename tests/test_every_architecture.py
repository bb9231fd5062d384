"""Every architecture of the installed mlx-lm: a tiny model is measured, or refused for the right reason.

Half of them; the others are in test_every_other_architecture.py, so that two processes share the work.
"""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import mlx_lm.utils
import pytest

from mqf_tui.fidelity import architectures
from mqf_tui.fidelity.facts import read_facts
from mqf_tui.fidelity.shapes import read_shape
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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def test_each_has_its_tiny_model() -> None:
    assert len(modules()) > 100
    assert list(TINY) == modules()


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
