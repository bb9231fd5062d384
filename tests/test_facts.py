"""Facts from hand-written configurations, refusals before any work, and bytes against filled caches."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest
from mlx_lm.models.cache import RotatingKVCache
from mlx_lm.utils import load_model

from mqf_tui.fidelity.caches import bytes_per_token, converted, layer_kinds, reference_cache, variant_cache
from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.errors import (
    BrokenWeightsError,
    FidelityError,
    OutOfMemoryError,
    UnsupportedModelError,
    UntrustedCodeError,
)
from mqf_tui.fidelity.model import architectures
from mqf_tui.fidelity.model.about import About, load_bytes
from mqf_tui.fidelity.model.facts import ModelFacts, check_setting, read_facts, recipe_bytes_per_token
from mqf_tui.fidelity.model.loading import _check_memory
from mqf_tui.fidelity.quantizers import Kernel, LayerQuantizers, Quantizer, parsed
from mqf_tui.fidelity.recipes import Recipe
from mqf_tui.fidelity.settings import KV_BITS, KVSettings
from tests.tiny_configs import LATENT, PLAIN, SPECIAL, build, quantized_folder, stub_folder

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 16, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 64, "vocab_size": 128256, "max_position_embeddings": 131072,
}  # fmt: skip


def facts_of(tmp_path: Path, config: dict[str, Any], **options: Any) -> ModelFacts:
    return read_facts(stub_folder(tmp_path / "model", config), **options)


def without(config: dict[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key not in keys}


def message(error: pytest.ExceptionInfo[FidelityError]) -> str:
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


def test_what_the_configuration_gives_is_taken(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, LLAMA)
    assert (facts.n_layers, facts.n_heads, facts.n_kv_heads) == (16, 32, 8)
    assert (facts.head_dim, facts.v_head_dim) == (64, 64)
    assert (facts.vocab_size, facts.context) == (128256, 131072)
    assert (facts.architecture, facts.name, facts.weights) == ("llama", "model", "float32")
    assert facts.size_bytes == (tmp_path / "model" / "model.safetensors").stat().st_size
    assert facts.n_parameters == 96 * 8 + 8
    assert facts.refusal is None


def test_what_it_leaves_out_is_derived(tmp_path: Path) -> None:
    left = ("head_dim", "num_key_value_heads", "vocab_size", "max_position_embeddings")
    facts = facts_of(tmp_path, without(LLAMA, *left) | {"num_attention_heads": 16}, name="org/name")
    assert (facts.n_kv_heads, facts.head_dim, facts.v_head_dim) == (16, 128, 128)
    assert facts.vocab_size == 96  # rows of the stub's embedding
    assert facts.context is None
    assert facts.name == "org/name"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"v_head_dim": 128}, (8, 64, 128)),
        ({"head_dim": None}, (8, 64, 64)),
        ({"head_dim": 128.0}, (8, 128, 128)),
        ({"num_key_value_heads": 1}, (1, 64, 64)),
        ({"num_key_value_heads": [4, 2, 4, 8]}, (8, 64, 64)),
        ({"num_key_value_heads": None, "multi_query": True}, (1, 64, 64)),
        ({"num_key_value_heads": None, "multi_query": False}, (32, 64, 64)),
        ({"qk_nope_head_dim": 128, "qk_rope_head_dim": 64, "v_head_dim": 128}, (8, 192, 128)),
    ],
)
def test_heads(tmp_path: Path, change: dict[str, Any], expected: tuple[int, int, int]) -> None:
    facts = facts_of(tmp_path, LLAMA | change)
    assert (facts.n_kv_heads, facts.head_dim, facts.v_head_dim) == expected


def test_a_nested_text_config_wins(tmp_path: Path) -> None:
    text = LLAMA | {"model_type": "mistral", "num_hidden_layers": 5}
    outer = {"model_type": "mistral3", "num_hidden_layers": 99, "vision_config": {"hidden_size": 3}}
    facts = facts_of(tmp_path, outer | {"text_config": text})
    assert (facts.architecture, facts.n_layers, facts.head_dim) == ("mistral3", 5, 64)
    assert facts.refusal is None


@pytest.mark.parametrize(
    "key", ["num_attention_heads", "num_hidden_layers", "head_dim", "max_position_embeddings"]
)
@pytest.mark.parametrize(
    "value", [-1, 2.5, "16", "many", True, {}, [1, None], ["a"], float("inf"), float("nan")]
)
def test_nonsense_is_an_error_with_a_sentence(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        facts_of(tmp_path, LLAMA | {key: value})
    assert "impossible value" in message(caught)
    assert "download the model again" in message(caught)


@pytest.mark.parametrize(
    "key", ["num_attention_heads", "num_hidden_layers", "num_key_value_heads", "v_head_dim"]
)
def test_a_model_without_heads_is_refused(tmp_path: Path, key: str) -> None:
    facts = facts_of(tmp_path, LLAMA | {key: 0})
    assert facts.refusal is not None
    assert "no attention heads" in facts.refusal


@pytest.mark.parametrize("value", [None, "", 0])
def test_no_model_type(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        facts_of(tmp_path, LLAMA | {"model_type": value})
    assert "names no model_type" in message(caught)


@pytest.mark.parametrize("value", ["bert-of-tomorrow", "../../etc/passwd", ["llama"], 3])
def test_an_unknown_architecture(tmp_path: Path, value: Any) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        facts_of(tmp_path, LLAMA | {"model_type": value})
    assert str(value) in message(caught)
    assert "upgrade mlx-lm" in message(caught)


def test_no_tokenizer(tmp_path: Path) -> None:
    folder = stub_folder(tmp_path / "model", LLAMA)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BrokenWeightsError) as caught:
        read_facts(folder)
    assert "no tokenizer" in message(caught)
    (folder / "tokenizer.model").touch()
    assert read_facts(folder).n_layers == 16


def test_a_model_file_needs_trust(tmp_path: Path) -> None:
    config = LLAMA | {"model_file": "modeling.py", "model_type": "made-here"}
    # Nothing is asked of the user that would not help.
    for trust in (False, True):
        with pytest.raises(BrokenWeightsError) as missing:
            facts_of(tmp_path, config, trust_remote_code=trust)
        assert "(modeling.py), which is not in its folder" in message(missing)
    (tmp_path / "model" / "modeling.py").touch()
    with pytest.raises(UntrustedCodeError) as caught:
        facts_of(tmp_path, config)
    assert "modeling.py" in message(caught)
    assert "--trust-remote-code" in message(caught)
    assert facts_of(tmp_path, config, trust_remote_code=True).architecture == "made-here"


@pytest.mark.parametrize(
    "auto_map",
    [
        {"AutoModelForCausalLM": "modeling_x.XForCausalLM"},
        {"AutoConfig": None, "AutoTokenizer": ["modeling_x.XTokenizer", None]},
        {"AutoConfig": "org/repo--modeling_x.XConfig"},
    ],
)
def test_an_auto_map_needs_trust_where_its_code_is_there(tmp_path: Path, auto_map: dict[str, Any]) -> None:
    config = LLAMA | {"auto_map": auto_map}
    assert facts_of(tmp_path, config).refusal is None
    (tmp_path / "model" / "modeling_x.py").write_text("raise SystemExit('never run')")
    with pytest.raises(UntrustedCodeError) as caught:
        facts_of(tmp_path, config)
    assert "modeling_x.py" in message(caught)
    other = {"org/repo--modeling_x.py"} if "org" in str(auto_map) else set[str]()
    assert {*caught.value.files} == {"modeling_x.py"} | other
    assert facts_of(tmp_path, config, trust_remote_code=True).refusal is None


@pytest.mark.parametrize("head", [48, 80, 112, 1, 100])
def test_heads_that_no_group_divides_are_refused(tmp_path: Path, head: int) -> None:
    facts = facts_of(tmp_path, LLAMA | {"head_dim": head})
    assert facts.valid_groups == ()
    with pytest.raises(UnsupportedModelError) as caught:
        check_setting(facts, KVSettings("x", 8, 32))
    assert f"head size of {head} " in message(caught)
    assert "64, 96 or 128" in message(caught)


def test_a_value_size_that_no_group_divides_is_named(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, LLAMA | {"v_head_dim": 80})
    assert facts.refusal is not None
    assert "head size of 80 " in facts.refusal


@pytest.mark.parametrize(
    ("head", "v_head", "groups"),
    [(32, 32, (32,)), (64, 64, (32, 64)), (96, 96, (32,)), (128, 128, (32, 64, 128)), (192, 128, (32, 64)),
     (256, 256, (32, 64, 128))],
)  # fmt: skip
def test_groups_that_fit_are_those_that_mlx_takes(
    tmp_path: Path, head: int, v_head: int, groups: tuple[int, ...]
) -> None:
    facts = facts_of(tmp_path, LLAMA | {"head_dim": head, "v_head_dim": v_head})
    assert facts.valid_groups == groups
    for group in (32, 64, 128):
        fits = head % group == 0 and v_head % group == 0
        assert (group in groups) == fits
        if fits:
            check_setting(facts, KVSettings("x", 8, group))
        else:
            with pytest.raises(UnsupportedModelError) as caught:
                check_setting(facts, KVSettings("x", 8, group))
            assert f"group size {group}" in message(caught)
            assert " or ".join(map(str, groups)) in message(caught)


@pytest.mark.parametrize("name", SPECIAL)
def test_models_with_other_caches_are_told_apart(tmp_path: Path, name: str) -> None:
    facts = facts_of(tmp_path, SPECIAL[name])
    assert facts.special
    assert set(facts.special) == set(architectures.special_caches(SPECIAL[name]))
    if name != "mamba":
        check_setting(facts, KVSettings("x", 8, 32))


@pytest.mark.parametrize("name", LATENT)
def test_models_with_latents_are_told_apart(tmp_path: Path, name: str) -> None:
    facts = facts_of(tmp_path, LATENT[name])
    assert facts.latent
    check_setting(facts, KVSettings("x", 8, 32))


@pytest.mark.parametrize("word", ["k8v4g32", "mxfp4", "k16v4g32", "nvfp4"])
def test_every_format_is_held_against_the_heads(tmp_path: Path, word: str) -> None:
    layer = parsed(word)
    check_setting(facts_of(tmp_path, LLAMA | {"head_dim": 96}), KVSettings("x", kv=layer))
    odd = facts_of(tmp_path / "odd", LLAMA | {"head_dim": 80})
    if word == "nvfp4":
        check_setting(odd, KVSettings("x", kv=layer))  # groups of 16
    else:
        with pytest.raises(UnsupportedModelError) as caught:
            check_setting(odd, KVSettings("x", kv=layer))
        assert "head size of 80" in message(caught)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_models_are_not_refused(tmp_path: Path, name: str) -> None:
    facts = facts_of(tmp_path, PLAIN[name])
    for bits in KV_BITS:
        check_setting(facts, KVSettings("x", bits, 32))


def test_the_number_format_is_that_of_most_tensors(tmp_path: Path) -> None:
    folder = stub_folder(tmp_path / "model", LLAMA)
    arrays = {f"a{n}": mx.zeros((2, 2), mx.bfloat16) for n in range(3)} | {"b": mx.zeros((9, 9))}
    mx.save_safetensors(str(folder / "model.safetensors"), arrays)
    assert read_facts(folder).weights == "bfloat16"
    mx.save_safetensors(str(folder / "model.safetensors"), {"a": mx.zeros((2, 2), mx.int8)})
    assert read_facts(folder).weights == "unknown"


@pytest.mark.parametrize("entry", [{"bits": "4"}, {"quant_method": "fp8"}, [], "int4", {"bits": 4}])
def test_quantization_entries_of_any_kind(tmp_path: Path, entry: Any) -> None:
    facts = facts_of(tmp_path, LLAMA | {"quantization_config": entry})
    assert facts.weights == ("4-bit" if entry == {"bits": 4} else "float32")
    assert facts.n_parameters == 96 * 8 + 8


def stored(cache: list[Any]) -> float:
    """Bytes a token that mlx-lm's own view of the filled caches holds."""
    total = 0
    for layer in cache:
        for side in layer.keys_and_values():
            parts = side if isinstance(side, (list, tuple)) else [side]
            total += sum(part.size // part.shape[2] * part.dtype.size for part in parts)
    return total


def kv_bytes_per_token(
    facts: ModelFacts, bits: int | None, group: int = 64, *, scale_bytes: int = 2
) -> float:
    """Of the same quantizer for all keys and values; ``bits`` None: full precision."""
    one = None if bits is None else Quantizer(bits, group)
    recipe = Recipe.uniform(facts.n_layers, LayerQuantizers(one, one))
    return recipe_bytes_per_token(facts, recipe, ("full",) * facts.n_layers, scale_bytes)


@pytest.mark.parametrize(("dtype", "scale_bytes"), [(mx.float16, 2), (mx.float32, 4)])
@pytest.mark.parametrize("name", ["llama", "deepseek_v2"])
def test_bytes_per_token_are_those_of_a_filled_cache(
    tmp_path: Path, name: str, dtype: mx.Dtype, scale_bytes: int
) -> None:
    config = PLAIN[name] | ({"head_dim": 128} if name == "llama" else {})
    model = build(config)
    model.set_dtype(dtype)
    facts = facts_of(tmp_path, config)
    tokens = mx.arange(37)[None]

    plain = reference_cache(model)
    mx.eval(model(tokens, cache=plain))
    assert stored(plain) == kv_bytes_per_token(facts, None, scale_bytes=scale_bytes) == bytes_per_token(plain)

    for group in facts.valid_groups:
        for bits in KV_BITS:
            one = Quantizer(bits, group)
            recipe = Recipe.uniform(facts.n_layers, LayerQuantizers(one, one))
            expected = kv_bytes_per_token(facts, bits, group, scale_bytes=scale_bytes)
            stress = variant_cache(model, recipe, "quantized")
            mx.eval(model(tokens, cache=stress))
            for cache in (stress, converted(plain, recipe, "quantized")):
                assert stored(cache) == expected
                assert bytes_per_token(cache) == expected


def test_bytes_per_token_by_hand() -> None:
    facts = ModelFacts(
        Path(), "", "llama", n_layers=30, n_heads=9, n_kv_heads=3, head_dim=64, v_head_dim=64, vocab_size=1,
        context=None, weight_bits=None, weight_group_size=None, dtype="", size_bytes=0, n_parameters=0,
        content_hash="",
    )  # fmt: skip
    assert kv_bytes_per_token(facts, None) == 23040
    assert kv_bytes_per_token(facts, 4, 64) == 11520 * (0.5 + 4 / 64) == 6480
    assert kv_bytes_per_token(replace(facts, v_head_dim=32), 8, 32, scale_bytes=4) == 8640 * 1.25


def test_real_folder(smollm2: Path) -> None:
    facts = read_facts(smollm2)
    config = json.loads((smollm2 / "config.json").read_text())
    assert (facts.n_layers, facts.n_heads, facts.n_kv_heads) == (30, 9, 3)
    assert (facts.head_dim, facts.vocab_size, facts.context) == (64, config["vocab_size"], 8192)
    weights = mx.load(str(smollm2 / "model.safetensors"))
    assert isinstance(weights, dict)
    assert facts.n_parameters == sum(a.size for a in weights.values())
    assert (facts.weights, facts.refusal) == ("float16", None)


MIXED = {
    "model_type": "qwen2", "hidden_size": 128, "num_hidden_layers": 4, "intermediate_size": 256,
    "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "vocab_size": 70,
    "tie_word_embeddings": False,
}  # fmt: skip


def by_mlx_lm(model: Any) -> Counter[tuple[int | None, int | None, str]]:
    """How each matrix is held, as the loaded modules themselves say."""
    found: Counter[tuple[int | None, int | None, str]] = Counter()
    for _, module in model.named_modules():
        if hasattr(module, "bits"):
            found[module.bits, module.group_size, module.mode] += 1
        elif isinstance(module, nn.Linear | nn.Embedding):
            found[None, None, str(module.weight.dtype).removeprefix("mlx.core.")] += 1
    return found


RECIPES: dict[str, Callable[[str, Any], bool | dict[str, Any]]] = {
    "one for all": lambda path, module: True,
    "an own one for some": lambda path, module: (
        {"group_size": 32, "bits": 8} if "v_proj" in path or "embed" in path else True
    ),
    "some left out": lambda path, module: "down_proj" not in path and "lm_head" not in path,
    "other modes": lambda path, module: (
        {"group_size": 32, "bits": 4, "mode": "mxfp4"} if "mlp" in path else {"group_size": 64, "bits": 6}
    ),
}


@pytest.mark.parametrize("named", [True, False], ids=["named", "to be guessed"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_formats_are_those_that_mlx_lm_loads(tmp_path: Path, recipe: str, named: bool) -> None:
    folder = quantized_folder(
        tmp_path / "model", build(MIXED), MIXED, group_size=64, bits=4, quant_predicate=RECIPES[recipe]
    )
    if not named:  # as older conversions are, whose matrices mlx-lm looks at
        told = json.loads((folder / "config.json").read_text())
        told["quantization"] = {"group_size": 64, "bits": 4}
        told.pop("quantization_config", None)
        (folder / "config.json").write_text(json.dumps(told))
    facts = read_facts(folder)
    loaded, _ = load_model(folder)
    truth = by_mlx_lm(loaded)
    if not named and recipe == "an own one for some":
        # 8 bits in groups of 32 pack as 4 in groups of 64: only the length of the rows tells.
        truth = Counter({(4, 64, "affine"): sum(truth.values())})
    assert Counter({(f.bits, f.group_size, f.mode): f.n_matrices for f in facts.formats}) == truth


def test_a_mixed_recipe_in_words(tmp_path: Path) -> None:
    def predicate(path: str, module: Any) -> bool | dict[str, int]:
        if path.endswith("lm_head"):
            return {"group_size": 64, "bits": 6}
        early = "layers.0." in path or "layers.1." in path
        return {"group_size": 64, "bits": 6} if early and ("v_proj" in path or "down_proj" in path) else True

    folder = quantized_folder(
        tmp_path / "model", build(MIXED), MIXED, group_size=64, bits=4, quant_predicate=predicate
    )
    facts = read_facts(folder)
    assert facts.weights == "4/6-bit, group 64"
    assert facts.formats[1].where == "down_proj, v_proj in layers 0-1; lm_head"
    rows = [value for title, value in About.of(facts).rows() if title in ("weights", "")]
    others = "6-bit, group 64 in 5 of 30 matrices: down_proj, v_proj in layers 0-1; lm_head"
    assert rows == ["4-bit, group 64", others]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"quant_method": "mxfp4"}, "4-bit mxfp4, group 32"),
        ({"quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized"}, "4-bit nvfp4, group 16"),
        ({"quant_method": "awq", "bits": 4, "group_size": 128}, "4-bit, group 128"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "float32"),
        ({"bits": True, "group_size": -1}, "float32"),
        ({"bits": 4, "group_size": "64", "mode": ["x"]}, "4-bit"),
    ],
)
def test_words_of_other_tools(tmp_path: Path, entry: dict[str, Any], words: str) -> None:
    assert facts_of(tmp_path, LLAMA | {"quantization_config": entry}).weights.startswith(words)
    nested = {"model_type": "mistral3", "text_config": LLAMA | {"quantization_config": entry}}
    assert facts_of(tmp_path / "nested", nested).weights.startswith(words)


CARDS = {
    "apache-2.0": "---\nlanguage:\n- en\nlicense: apache-2.0\ntags: [mlx]\n---\n# A model\nlicense: mit\n",
    "mit": '\ufeff---\r\nlicense: "mit"  # by hand\r\n---\r\n',
    "llama3.2": "---\nlicense: other\nlicense_name: llama3.2\nlicense_link: LICENSE\n---\n",
    "gemma": "---\nlicense:\n  - gemma\n---\n",
    "cc-by-4.0": "---\nlicense: [cc-by-4.0, mit]\n---\n",
    "": "# no front matter\n\nlicense: mit\n",
}


@pytest.mark.parametrize("licence", CARDS)
def test_the_licence_of_the_card(tmp_path: Path, licence: str) -> None:
    folder = stub_folder(tmp_path / "model", LLAMA)
    (folder / "README.md").write_text(CARDS[licence], newline="")
    assert read_facts(folder).licence == licence


TEXTS = {
    "apache-2.0": f"\n{' ' * 33}Apache License\n{' ' * 27}Version 2.0, January 2004",
    "mit": "MIT License\n\nPermission is hereby granted, free of charge, to any person obtaining",
    "llama3.1": "LLAMA 3.1 COMMUNITY LICENSE AGREEMENT\nLlama 3.1 Version Release Date: July 23, 2024",
    "agpl-3.0": f"{' ' * 20}GNU AFFERO GENERAL PUBLIC LICENSE\n{' ' * 23}Version 3, 19 November",
    "gpl-3.0": "GNU GENERAL PUBLIC LICENSE\n                       Version 3, 29 June 2007",
    "": "All is forbidden.",
}


@pytest.mark.parametrize("licence", TEXTS)
def test_the_licence_by_its_text(tmp_path: Path, licence: str) -> None:
    folder = stub_folder(tmp_path / "model", LLAMA)
    (folder / "LICENSE").write_text(TEXTS[licence])
    assert read_facts(folder).licence == licence
    (folder / "README.md").write_text("---\nlicense: unknown\n---\n")
    assert read_facts(folder).licence == (licence or "unknown")


@pytest.mark.parametrize("junk", [b"", b"\xff\xfe\x00---", b"---\n" * 9000, b"---\nlicense: " + b"x" * 99999])
def test_a_card_may_be_anything(tmp_path: Path, junk: bytes) -> None:
    folder = stub_folder(tmp_path / "model", LLAMA)
    (folder / "README.md").write_bytes(junk)
    assert len(read_facts(folder).licence) <= 60


@pytest.mark.parametrize(
    ("file", "text", "there"),
    [
        ("tokenizer_config.json", '{"a": 1, "chat_template": "{{ x }}"}', True),
        ("tokenizer_config.json", '{"chat_template" : [ {"name": "default", "template": "x"}]}', True),
        ("tokenizer_config.json", '{"chat_template": null}', False),
        ("tokenizer_config.json", '{"chat_template": ""}', False),
        ("tokenizer_config.json", "[1", False),
        ("chat_template.jinja", "{{ x }}", True),
        ("chat_template.json", '{"chat_template": "x"}', True),
    ],
)
def test_chat_templates(tmp_path: Path, file: str, text: str, there: bool) -> None:
    folder = stub_folder(tmp_path / "model", LLAMA)
    assert not read_facts(folder).chat_template
    (folder / file).write_text(text)
    assert read_facts(folder).chat_template is there


def test_the_chat_template_of_a_real_model(smollm2: Path) -> None:
    assert read_facts(smollm2).chat_template


@pytest.mark.parametrize("is_cpu", [True, False])
def test_memory_to_load_is_what_loading_asks_for(tmp_path: Path, is_cpu: bool) -> None:
    facts = facts_of(tmp_path, LLAMA)
    need = load_bytes(facts, is_cpu)
    _check_memory(facts, Device("x", is_cpu, None, need + 1), 1)
    with pytest.raises(OutOfMemoryError):
        _check_memory(facts, Device("x", is_cpu, None, need - 1), 1)


@pytest.mark.parametrize("name", ["llama", "llama sliding", "deepseek_v3", "mamba"])
def test_costs_are_what_filled_caches_grow_by(tmp_path: Path, name: str) -> None:
    """A cache of 40 tokens against one of 39, with 16-bit numbers; formats that mlx-lm can hold."""
    config = ({**PLAIN, **SPECIAL, **LATENT})[name]
    model = build(config)
    model.set_dtype(mx.float16)
    about = About.of(facts_of(tmp_path, config))
    kernel: Kernel = "quantized" if about.quantizable else "emulated"

    def filled(n: int, quantizer: Quantizer | None) -> float:
        cache = reference_cache(model)
        mx.eval(model(mx.arange(n)[None], cache=cache))
        if quantizer is not None:
            plain = [kind == "full" or not about.quantizable for kind in kinds]
            both = LayerQuantizers(quantizer, quantizer)
            layers = tuple(both if one else LayerQuantizers() for one in plain)
            cache = converted(cache, Recipe(layers), kernel)
        return n * stored_of(cache)

    kinds = layer_kinds(model)
    assert about.kinds == Counter(kinds)
    if name == "mamba":
        assert about.cost(None).n_bytes == 0
        return
    for cost in about.costs():
        if kernel == "emulated" and cost.quantizer is not None:
            continue  # an emulated cache holds numbers in full
        assert filled(40, cost.quantizer) - filled(39, cost.quantizer) == cost.n_bytes, cost.word


def stored_of(cache: list[Any]) -> float:
    """Bytes a token of the layers that keep every token."""
    total = 0.0
    for layer in cache:
        if isinstance(layer, RotatingKVCache):
            continue
        total += stored([layer])
    return total


MEASURABLE = {
    "llama": "every format, in all layers.",
    "llama sliding": "every format, in the 2 full-attention layers; "
    "the 2 sliding-window ones stay as they are.",
    "deepseek_v3": "with --kernel emulated only: mlx-lm cannot quantize its latent-attention layers.",
}


@pytest.mark.parametrize("name", MEASURABLE)
def test_what_can_be_measured_in_words(tmp_path: Path, name: str) -> None:
    about = About.of(facts_of(tmp_path, ({**PLAIN, **SPECIAL, **LATENT})[name]))
    assert about.measured == MEASURABLE[name]
    assert dict(about.rows())["measurable"] == MEASURABLE[name]
    assert about.window == (16 if name == "llama sliding" else None)


def test_a_refusal_is_what_cannot_be_measured(tmp_path: Path) -> None:
    about = About.of(facts_of(tmp_path, LLAMA | {"head_dim": 80}))
    assert "head size of 80" in about.measured
    assert about.data()["kv_groups"] == []


def test_all_facts_are_plain_data(tmp_path: Path) -> None:
    for name, config in {**PLAIN, **SPECIAL, **LATENT}.items():
        about = About.of(facts_of(tmp_path / name, config))
        assert json.loads(json.dumps(about.data(), allow_nan=False)) == about.data()
        assert all(value for _, value in about.rows())
