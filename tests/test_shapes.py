"""Sizes read from a configuration against the models that mlx-lm builds from it: what their caches really
hold, and how many parameters a position is multiplied with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models.cache import ChunkedKVCache, make_prompt_cache

from mqf_tui.fidelity.model.facts import read_facts
from mqf_tui.fidelity.model.shapes import CacheLayer, Shape, read_shape, shape_of
from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer, parsed
from tests.tiny_configs import LATENT, PLAIN, SPECIAL, build, flat, stub_folder

KINDS = {
    "KVCache": "full",
    "RotatingKVCache": "sliding",
    "ChunkedKVCache": "chunked",
    "ArraysCache": "recurrent",
}
FED = 40  # tokens, past every window of the tiny models
# Several caches in one layer: they count as growing.
UNTOLD = {"falcon_h1"}
HYBRIDS = {"granite hybrid", "qwen3_next", "qwen3_5_moe", "mamba"}


def folder_of(path: Path, config: dict[str, Any]) -> Path:
    """A model folder with the weights that mlx-lm makes for this configuration."""
    folder = stub_folder(path, config)
    mx.save_safetensors(str(folder / "model.safetensors"), flat(build(config)))
    return folder


def shape(path: Path, config: dict[str, Any]) -> Shape:
    return read_shape(read_facts(folder_of(path / "model", config)))


def filled(config: dict[str, Any], tokens: int = FED) -> list[Any]:
    model = build(config)
    cache = make_prompt_cache(model)
    for start in range(0, tokens, 8):
        mx.eval(model(mx.arange(start, start + 8)[None] % 96, cache=cache))
    return cache


def held(layer: Any, tokens: int) -> float:
    """Bytes of keys and values in the tokens that the layer has, its spare room left out."""
    kept = min(tokens, layer.keys.shape[-2])
    if isinstance(layer, ChunkedKVCache):  # its room is larger than what it keeps
        kept = layer.offset - layer.start_position
    return sum(a.nbytes / a.shape[-2] * kept for a in (layer.keys, layer.values))


@pytest.mark.parametrize("name", [*PLAIN, *LATENT])
def test_plain_caches_hold_what_the_shape_says(tmp_path: Path, name: str) -> None:
    config = (PLAIN | LATENT)[name]
    found = shape(tmp_path, config)
    cache = filled(config, 16)
    assert set(found.kinds) == ({"latent"} if name in LATENT else {"full"})
    number = cache[0].keys.dtype.size
    assert found.cache_bytes(16, number) == sum(held(layer, 16) for layer in cache)


@pytest.mark.parametrize("name", [name for name in SPECIAL if name not in UNTOLD])
def test_each_layer_is_of_the_kind_that_the_model_makes(tmp_path: Path, name: str) -> None:
    config = SPECIAL[name]
    made = tuple(KINDS[type(layer).__name__] for layer in make_prompt_cache(build(config)))
    assert shape(tmp_path, config).kinds == made


@pytest.mark.parametrize("name", [name for name in SPECIAL if name not in UNTOLD | HYBRIDS])
def test_bounded_layers_hold_their_window(tmp_path: Path, name: str) -> None:
    config = SPECIAL[name]
    found = shape(tmp_path, config)
    for layer, told in zip(filled(config), found.cache, strict=True):
        number = layer.keys.dtype.size
        window = FED if told.bound is None else told.bound
        assert told.bytes(FED, number) == told.bytes(window, number)
        # While a step is fed, they hold up to that step (of 8 tokens) beside their window.
        assert held(layer, FED) - told.bytes(FED, number) <= 8 * number * (told.keys + told.values)
        assert told.bytes(FED, number) <= held(layer, FED)


@pytest.mark.parametrize("name", sorted(UNTOLD))
def test_untold_kinds_are_never_taken_for_less(tmp_path: Path, name: str) -> None:
    assert all(layer.bound is None for layer in shape(tmp_path, SPECIAL[name]).cache)


@pytest.mark.parametrize("name", ["llama", "qwen3", "gemma2", "gpt_oss", "qwen3_moe"])
def test_parameters_that_a_position_is_multiplied_with(tmp_path: Path, name: str) -> None:
    config = (PLAIN | SPECIAL)[name] | ({"tie_word_embeddings": False} if name == "gpt_oss" else {})
    found = shape(tmp_path, config)
    arrays: Any = dict(tree_flatten(build(config).parameters()))
    used = config.get("num_experts_per_tok", 0)
    expected = 0.0
    for path, array in arrays.items():
        if "embed_tokens" in path or "lm_head" in path:
            continue
        experts = config.get("num_experts", config.get("num_local_experts", 0))
        share = used / experts if experts and (".experts." in path or "switch_mlp" in path) else 1.0
        expected += share * array.size
    assert found.hidden == config["hidden_size"]
    assert found.head_parameters == 96 * config["hidden_size"]
    assert found.body_parameters == pytest.approx(expected, rel=0.02)


def test_quantized_bytes_against_mlx() -> None:
    layer = CacheLayer("full", keys=3 * 64, values=3 * 128)
    for word in ("4g64", "8g32", "k8v4g64", "mxfp4", "nvfp4", "3g64"):
        quantizers = parsed(word)
        assert quantizers.keys is not None
        assert quantizers.values is not None
        expected = sum(packed(3, dim, q) for dim, q in ((64, quantizers.keys), (128, quantizers.values)))
        assert layer.bytes(10, 2, quantizers) == pytest.approx(expected)


def packed(heads: int, dim: int, q: Quantizer) -> int:
    """Bytes that mx.quantize itself gives for 10 tokens."""
    rows = mx.random.normal((1, heads, 10, dim)).astype(mx.float16)
    return sum(a.nbytes for a in mx.quantize(rows, group_size=q.group_size, bits=q.bits, mode=q.mode))


def test_one_side_in_full_precision_and_a_bound() -> None:
    layer = CacheLayer("sliding", keys=64, values=64, bound=16)
    eight = Quantizer(8, 64)
    assert layer.bytes(8, 4) == 8 * 128 * 4
    assert layer.bytes(1000, 4) == 16 * 128 * 4
    assert layer.bytes(8, 4, LayerQuantizers(None, eight)) == 8 * 64 * 4 + 8 * 64 * (1 + 8 / 64)


@pytest.mark.parametrize("entry", [None, "many", -3, [], {}, 10**30, True, math.nan])
def test_impossible_values_are_passed_over(tmp_path: Path, entry: Any) -> None:
    facts = read_facts(stub_folder(tmp_path / "model", SPECIAL["gemma3_text"]))
    bad = {"sliding_window_pattern": entry, "num_experts": entry}
    found = shape_of(facts, SPECIAL["gemma3_text"] | bad)
    assert len(found.cache) == 4
    assert found.body_parameters >= 1


@pytest.mark.parametrize("blocks", [-1, 2.5, True, "many", {"attention": {}}])
def test_blocks_that_are_no_list_are_passed_over(tmp_path: Path, blocks: Any) -> None:
    config = SPECIAL["gemma3_text"]
    facts = read_facts(stub_folder(tmp_path / "model", config))
    assert len(shape_of(facts, config | {"block_configs": blocks}).cache) == 4
