"""What is read from mlx-lm's source, against models that mlx-lm really builds."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm.models
import mlx_lm.utils
import pytest
from mlx_lm.models.cache import make_prompt_cache

from mqf_tui.fidelity.caches import Cache
from mqf_tui.fidelity.model import architectures
from mqf_tui.fidelity.model.facts import read_facts
from tests.tiny_configs import LATENT, PLAIN, SPECIAL, build, stub_folder

EVERY = PLAIN | SPECIAL | LATENT


def kinds_of(cache: Cache) -> Iterator[str]:
    for layer in cache:
        yield type(layer).__name__
        yield from kinds_of(list(getattr(layer, "caches", ())))


@pytest.mark.parametrize("name", EVERY)
def test_the_kinds_are_those_of_the_built_model(name: str) -> None:
    truth = set(kinds_of(make_prompt_cache(build(EVERY[name])))) - {"KVCache"}
    assert architectures.special_caches(EVERY[name]) == truth
    assert bool(truth) == (name in SPECIAL)


@pytest.mark.parametrize("name", PLAIN)
def test_heads_and_layers_are_those_of_a_filled_cache(name: str, tmp_path: Path) -> None:
    model = build(PLAIN[name])
    cache = make_prompt_cache(model)
    mx.eval(model(mx.array([[1, 2, 3]]), cache=cache))
    facts = read_facts(stub_folder(tmp_path / "model", PLAIN[name]))
    keys, values = cache[0].keys.shape, cache[0].values.shape
    assert facts.refusal is None
    assert facts.n_layers == len(cache)
    assert (facts.n_kv_heads, facts.head_dim, facts.v_head_dim) == (keys[1], keys[3], values[3])


@pytest.mark.parametrize("name", LATENT)
def test_latents_are_known_where_the_cache_holds_them(name: str) -> None:
    model = build(LATENT[name])
    cache = make_prompt_cache(model)
    mx.eval(model(mx.array([[1, 2, 3]]), cache=cache))
    text = LATENT[name].get("text_config", LATENT[name])
    assert cache[0].keys.shape[1] == 1
    assert cache[0].keys.shape[3] == text["kv_lora_rank"]
    assert architectures.latent_attention(LATENT[name])


@pytest.mark.parametrize("name", PLAIN | SPECIAL)
def test_no_latents_elsewhere(name: str) -> None:
    assert not architectures.latent_attention(EVERY[name])


def test_remapped_types_are_those_of_mlx_lm() -> None:
    assert architectures._table("MODEL_REMAPPING") == mlx_lm.utils.MODEL_REMAPPING
    for kind, module in mlx_lm.utils.MODEL_REMAPPING.items():
        assert architectures.module_of({"model_type": kind}) == module
    assert architectures.module_of({"model_type": "qwen3"}) == "qwen3"
    assert architectures.module_of({}) == ""


def test_every_architecture_of_the_package_is_known() -> None:
    folder = Path(mlx_lm.models.__path__[0])
    modules = [path.stem for path in folder.glob("*.py") if "class Model(" in path.read_text("utf-8")]
    assert len(modules) > 50
    assert all(map(architectures.known, modules))


@pytest.mark.parametrize(
    "module",
    ["", "no_such_model", "../utils", "models/llama", "llama.py", "/etc/passwd", "x" * 300, "llama\0"],
)
def test_other_names_are_not(module: str) -> None:
    assert not architectures.known(module)


@pytest.mark.parametrize("kind", ["../utils", "x" * 5000, "llama\0", 10**400, ["llama"], {"a": 1}, None])
def test_a_nested_type_of_any_kind_is_no_place_to_read(kind: Any) -> None:
    config = {"model_type": "mistral3", "text_config": {"model_type": kind, "hidden_size": 7}}
    assert architectures.family(config)[0] == "mistral3"
    assert architectures.language_config(config)["hidden_size"] == 7


def test_inherited_and_wrapped_makers_are_followed() -> None:
    assert architectures.special_caches({"model_type": "glm_moe_dsa"}) == {"CacheList"}
    assert architectures.special_caches({"model_type": "lfm2-vl", "text_config": {}}) == {"ArraysCache"}


@pytest.mark.parametrize("types", [[], "full_attention", [None], [["full_attention"]], 3, {"a": 1}])
def test_layer_types_of_any_kind_do_no_harm(types: Any) -> None:
    config = SPECIAL["gpt_oss"] | {"layer_types": types}
    assert architectures.special_caches(config) == {"RotatingKVCache"}


def test_nothing_of_it_imports_mlx() -> None:
    program = (
        "import sys; from mqf_tui.fidelity.model import architectures as a; "
        "a.special_caches({'model_type': 'gemma3'}); a.latent_attention({'model_type': 'kimi_vl'}); "
        "print([m for m in sys.modules if m.startswith('mlx')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "[]"
