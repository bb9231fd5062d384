"""Configurations held against weights: every architecture that mlx-lm builds fits its own, and what would not
is named before anything is built."""

from __future__ import annotations

import copy
import math
import re
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from mqf_tui.fidelity.errors import BrokenWeightsError
from mqf_tui.fidelity.model import headers
from mqf_tui.fidelity.model.facts import read_facts
from mqf_tui.fidelity.model.headers import Tensor, Weights
from mqf_tui.fidelity.model.heads import heads_of
from mqf_tui.fidelity.model.soundness import check_counts, check_fit
from tests.tiny_configs import LATENT, PLAIN, SPECIAL, build, flat, quantized_folder, stub_folder

EVERY = PLAIN | SPECIAL | LATENT
LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_transformer_layers")


def saved(path: Path, config: dict[str, Any]) -> Path:
    folder = stub_folder(path, config)
    mx.save_safetensors(str(folder / "model.safetensors"), flat(build(config)))
    return folder


def changed(config: dict[str, Any], keys: tuple[str, ...], value: int) -> dict[str, Any]:
    """The configuration with these numbers replaced, at whichever depth they are."""
    made = copy.deepcopy(config)
    for part in (made, made.get("text_config", {})):
        part |= {key: value for key in keys if key in part}
    return made


@pytest.mark.parametrize("name", EVERY)
def test_every_architecture_fits_itself_and_nothing_larger(name: str, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", EVERY[name])
    assert read_facts(folder).n_layers
    weights = headers.read_weights(folder, hashed=False)
    for keys, value, words in (
        (LAYER_COUNTS, 900, "900 layers are configured and [24] are there"),
        (("vocab_size",), 97, "a vocabulary of 97 is configured and the embedding has 96 rows"),
        (("hidden_size", "n_embd", "model_dim"), 2**40, "hidden size of 1099511627776 .* is (64|128)"),
    ):
        with pytest.raises(BrokenWeightsError, match=words):
            check_fit("it", changed(EVERY[name], keys, value), weights)


@pytest.mark.parametrize(("bits", "group"), [(2, 32), (3, 64), (4, 128), (5, 32), (6, 64), (8, 32)])
def test_a_packed_embedding_is_as_wide_as_it_was(bits: int, group: int, tmp_path: Path) -> None:
    config = PLAIN["qwen2"]
    folder = quantized_folder(tmp_path / "packed", build(config), config, group_size=group, bits=bits)
    weights = headers.read_weights(folder, hashed=False)
    check_fit("it", config, weights)
    with pytest.raises(BrokenWeightsError, match="hidden size of 8192"):
        check_fit("it", changed(config, ("hidden_size",), 8192), weights)


def numbered(*names: str) -> Weights:
    return Weights(tuple(Tensor(name, "F16", (4,)) for name in names), 0, "")


def test_layers_in_several_lists_and_layers_left_out() -> None:
    check_fit(
        "it", {"num_hidden_layers": 3}, numbered("model.layers.0.a", "model.layers.1.a", "model.more.0.a")
    )
    check_fit("it", {"num_hidden_layers": 3}, numbered("model.layers.0.a", "model.layers.2.a"))
    # Layers that predict further tokens are not counted.
    check_fit("it", {"num_hidden_layers": 1}, numbered("model.layers.0.a", "model.layers.1.a"))
    with pytest.raises(BrokenWeightsError, match="4 layers are configured and 3 are there"):
        check_fit("it", {"num_hidden_layers": 4}, numbered("model.layers.0.a", "model.layers.2.a.9.b"))


def test_weights_without_numbers_are_left_to_mlx_lm() -> None:
    check_fit("it", {"num_hidden_layers": 4, "hidden_size": 7}, numbered("model.embed_tokens.weight"))


@pytest.mark.parametrize(
    "key",
    [
        *("num_hidden_layers", "n_layer", "num_layers", "num_transformer_layers", "num_nextn_predict_layers"),
        *("num_loops", "num_experts", "n_routed_experts", "num_local_experts", "num_experts_per_tok"),
        *("num_attention_heads", "n_head", "num_key_value_heads", "mamba_n_heads"),
    ],
)
@pytest.mark.parametrize("inside", [False, True])
def test_counts_beyond_any_model_are_impossible(key: str, inside: bool) -> None:
    config = {"text_config": {key: 10**9}} if inside else {key: 10**9}
    with pytest.raises(ValueError, match=re.escape(f"{key} is 1000000000")):
        check_counts(config)


@pytest.mark.parametrize("value", [[10**9], [2, 3, 10**9], [math.nan, 1e9], [10**400], math.inf])
def test_a_count_for_each_layer_is_held_as_well(value: Any) -> None:
    with pytest.raises(ValueError, match=r"num_hidden_layers is (1|inf)"):
        check_counts({"num_hidden_layers": value})


@pytest.mark.parametrize("value", [10**400, [10**41]])
def test_sizes_that_no_float_can_hold_are_impossible(value: Any) -> None:
    with pytest.raises(ValueError, match="head_dim has more than 40 digits"):
        check_counts({"text_config": {"head_dim": value}})


@pytest.mark.parametrize("value", [1e308, 10**400])
def test_no_size_of_a_head_is_beyond_a_float(value: float) -> None:
    with pytest.raises(ValueError, match="hidden_size is 1"):
        heads_of(PLAIN["llama"] | {"hidden_size": value})


def test_large_numbers_that_count_nothing_are_let_through() -> None:
    check_counts(
        {"rope_theta": 1e300, "time_step_limit": [0.0, math.inf], "model_max_length": int(1e30)}
        | {"max_position_embeddings": 2**60, "n_positions": 131_072, "n_ctx": 131_072}
        | {"vocab_size": 262_144, "expert_hidden_size": 14336, "intermediate_size": 53248, "n_embd": 16384}
        | {"num_attention_heads": 128, "n_routed_experts": 512, "num_hidden_layers": 126, "block_size": 8192}
        | {"layer_norm_epsilon": 1e-5, "quantization": {"num_layers": "x"}}
    )
