"""Recipes: from the words of a user, to a file and back, and to code that runs with mlx-lm alone."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlx_lm.models.cache import load_prompt_cache, make_prompt_cache, save_prompt_cache
from mlx_lm.utils import _get_classes, load_model

from mqf_tui.fidelity.errors import BadSettingError, UnsupportedModelError
from mqf_tui.fidelity.quantizers import AFFINE_BITS, AFFINE_GROUPS, MODES, LayerQuantizers, Quantizer, parsed
from mqf_tui.fidelity.recipe_code import mlx_lm_code
from mqf_tui.fidelity.recipe_files import from_toml, model_of, to_toml
from mqf_tui.fidelity.recipes import (
    LayerKind,
    Recipe,
    from_ranges,
    kv_bytes_per_token,
    layers_words,
    resolve,
    spans,
)

from . import tiny_configs

FOUR, FULL = parsed("4"), LayerQuantizers()
GEMMA: list[LayerKind] = (["sliding"] * 3 + ["full"]) * 2  # pyright: ignore[reportAssignmentType]
HYBRID: list[LayerKind] = ["recurrent", "full", "recurrent", "full"]

affine = st.builds(Quantizer, st.sampled_from(AFFINE_BITS), st.sampled_from(AFFINE_GROUPS))
sides = st.none() | affine | st.sampled_from(MODES[1:]).map(Quantizer.fixed)
recipes = st.lists(st.builds(LayerQuantizers, sides, sides), min_size=1, max_size=40).map(
    lambda layers: Recipe(tuple(layers))
)


def test_every_layer_gets_the_main_format_where_all_are_full() -> None:
    assert resolve(["full"] * 3, FOUR) == Recipe((FOUR,) * 3)
    assert resolve(["full"] * 3, FOUR, "all") == Recipe((FOUR,) * 3)


@pytest.mark.parametrize("layers", [None, "full-attention"])
@pytest.mark.parametrize("kinds", [GEMMA, HYBRID])
def test_only_full_attention_layers_of_a_mixed_model(kinds: list[LayerKind], layers: str | None) -> None:
    recipe = resolve(kinds, FOUR, layers)
    assert [not layer.full for layer in recipe.layers] == [kind == "full" for kind in kinds]


def test_all_layers_need_the_emulated_kernel_but_never_recurrent_ones() -> None:
    assert resolve(GEMMA, FOUR, "all", emulated=True).n_quantized == 8
    assert resolve(HYBRID, FOUR, "all") == resolve(HYBRID, FOUR, "all", emulated=True)
    assert resolve(HYBRID, FOUR, "all").n_quantized == 2
    with pytest.raises(UnsupportedModelError, match=r"6 sliding-window.*full-attention.*--kernel emulated"):
        resolve(GEMMA, FOUR, "all")


def test_a_latent_model_is_offered_the_emulated_kernel() -> None:
    assert resolve(["latent"] * 2, FOUR, emulated=True) == Recipe((FOUR, FOUR))
    with pytest.raises(UnsupportedModelError, match=r"2 latent-attention layers .*use --kernel emulated"):
        resolve(["latent"] * 2, FOUR)


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ("0-1:8,2-:4", ["8", "8", "4", "4", "4"]),
        ("0-1:k8v4g32, 4:mxfp4", ["k8v4g32", "k8v4g32", "16", "16", "mxfp4"]),
        ("0-1,4", ["4", "4", "16", "16", "4"]),
        ("3", ["16", "16", "16", "4", "16"]),
    ],
)
def test_sets_of_layers(sets: str, expected: list[str]) -> None:
    assert resolve(["full"] * 5, FOUR, sets) == Recipe(tuple(map(parsed, expected)))


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ("0-5:8", "5 layers, 0 to 4"),
        ("5", "5 layers, 0 to 4"),
        ("7-", "5 layers, 0 to 4"),
        ("999999999999", "names no layers"),
        ("0-2:8,2-:4", "layer 2 is named twice"),
        ("0:8,0:4", "named twice"),
        ("3-1", "write 1-3"),
        ("", "names no layers"),
        ("a-b:4", "names no layers"),
        ("0-2:", "is no KV format"),
        ("0-2:7", "7 bits do not exist"),
        ("-:4", "names no layers"),
        ("0-1:16", "no layer is quantized"),
    ],
)
def test_sets_that_cannot_be(sets: str, message: str) -> None:
    with pytest.raises(BadSettingError, match=message):
        resolve(["full"] * 5, FOUR, sets)


def test_sets_may_name_bounded_layers_only_where_emulated() -> None:
    with pytest.raises(BadSettingError, match=r"layer 2 is a sliding-window one \(.* are 3,7\); .*emulated"):
        resolve(GEMMA, FOUR, "2-3")
    assert resolve(GEMMA, FOUR, "2-3", emulated=True).n_quantized == 2
    assert resolve(GEMMA, FOUR, "2:16,3:8").n_quantized == 1
    with pytest.raises(BadSettingError, match="layer 0 keeps a recurrent state"):
        resolve(HYBRID, FOUR, "0-1", emulated=True)


def test_models_without_what_was_asked_for() -> None:
    with pytest.raises(UnsupportedModelError, match="no full-attention layers"):
        resolve(["sliding"] * 2, FOUR, "full-attention", emulated=True)
    with pytest.raises(UnsupportedModelError, match="no KV cache to quantize"):
        resolve(["recurrent"] * 2, FOUR)


@pytest.mark.parametrize(
    ("kinds", "sets", "words"),
    [
        (["full"] * 4, None, None),
        (
            (["sliding"] * 3 + ["full"]) * 12,
            None,
            "12 of 48 layers quantized, the 36 sliding-window ones are bounded and stay",
        ),
        (["sliding", "full"], None, "1 of 2 layers quantized, the 1 sliding-window one is bounded and stays"),
        (["full"] * 4, "0-1:8,2-:4", "all layers quantized (0-1 at 8g64, 2-3 at 4g64)"),
        (["full"] * 4, "0", "1 of 4 layers quantized, 3 stay in full precision"),
        (["full"] * 6, "0:8,1:4,2:8,3:4,4:8,5:4", "all layers quantized (in 2 formats)"),
    ],
)
def test_words_for_layers(kinds: list[LayerKind], sets: str | None, words: str | None) -> None:
    assert layers_words(resolve(kinds, FOUR, sets), kinds) == words


@given(recipes)
def test_a_recipe_reads_back_from_its_file_and_from_its_words(recipe: Recipe) -> None:
    assert from_toml(to_toml(recipe, model="org/x", notes=["a\nb", "\x1b[31m"])) == recipe
    assert from_ranges({s: parsed(w) for s, w in tomllib.loads(to_toml(recipe, model=""))["layers"].items()},
                       len(recipe.layers)) == recipe  # fmt: skip
    if recipe.n_quantized:
        assert resolve(["full"] * len(recipe.layers), FOUR, recipe.sets) == recipe


@given(st.text())
def test_any_name_of_a_model_can_be_written(name: str) -> None:
    text = to_toml(Recipe((FOUR,)), model=name + "\udc80")
    assert from_toml(text.encode().decode()) == Recipe((FOUR,))
    assert model_of(text) == name + "?"


def test_a_recipe_written_by_hand() -> None:
    text = 'version = 1\nn_layers = 4\n[layers]\n0-1 = 8\n"3-" = "k8v4g32"\n'
    assert from_toml(text) == Recipe((parsed("8"), parsed("8"), FULL, parsed("k8v4g32")))
    assert model_of(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("version = ", "no TOML"),
        ("n_layers = 4", "no version"),
        ("version = 2", "version 2"),
        ("version = true", "version True"),
        ("version = 1\nbits = 4", "unknown entry 'bits'"),
        ("version = 1\nn_layers = 0\n[layers]\n0 = 4", "n_layers is 0"),
        ("version = 1\nn_layers = 100000000000\n[layers]\n0 = 4", "n_layers is 100000000000"),
        ("version = 1\nn_layers = 2", r"no \[layers\]"),
        ("version = 1\nn_layers = 2\nlayers = 3", r"no \[layers\]"),
        ("version = 1\nn_layers = 2\n[layers]\n0 = 4.5", "0 of the recipe have 4.5"),
        ("version = 1\nn_layers = 2\n[layers]\n0 = {}", "0 of the recipe have {}"),
        ("version = 1\nn_layers = 2\n[layers]\n0 = 7", "7 bits do not exist"),
        ("version = 1\nn_layers = 2\n[layers]\n5 = 4", "2 layers, 0 to 1"),
        ("version = 1\nn_layers = 2\n[layers]\nx = 4", "names no layers"),
        ("version = 1\nn_layers = 2\n[layers]\n0- = 4\n1 = 8", "named twice"),
    ],
)
def test_files_that_are_no_recipe(text: str, message: str) -> None:
    with pytest.raises(BadSettingError, match=message):
        from_toml(text)


def test_bytes_per_token_of_a_mixed_recipe() -> None:
    # By hand, 2 heads of 64, 16-bit numbers. Full: 2·64·2·2 = 512 bytes. k8v4g32: 8/8 + 4/32 = 1.125 bytes
    # a key's number and 4/8 + 4/32 = 0.625 a value's, 2·64·1.75 = 224. mxfp4: 2·64·2·(4/8 + 1/32) = 136.
    recipe = Recipe((FULL, parsed("k8v4g32"), parsed("mxfp4")))
    assert kv_bytes_per_token(recipe, 2, 64, 64, 2) == 512 + 224 + 136
    assert kv_bytes_per_token(recipe, 2, 64, 64, 2, ["sliding", "full", "full"]) == 224 + 136


def test_spans() -> None:
    assert spans([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert spans([]) == ""


def _made(code: str, model: Any) -> list[Any]:
    """The cache that the printed code makes."""
    namespace: dict[str, Any] = {"__name__": "printed"}
    exec(compile(code, "printed", "exec"), namespace)
    return namespace["make_cache"](model)


def _logits(model: Any, cache: list[Any], n: int = 40, vocab: int = 96) -> np.ndarray:
    """Logits of ``n`` tokens in three steps, the last of one token."""
    tokens = (mx.arange(n)[None] * 7 + 3) % vocab
    pieces = [model(tokens[:, a:b], cache=cache)[0] for a, b in ((0, 25), (25, n - 1), (n - 1, n))]
    return np.array(mx.concatenate(pieces))


def _rounding(model: Any, recipe: Recipe) -> list[Any]:
    """The model's own cache, what goes into it quantized and dequantized row by row."""

    def through(x: mx.array, q: Quantizer | None) -> mx.array:
        if q is None:
            return x
        how: Any = {"group_size": q.group_size, "bits": q.bits, "mode": q.mode}
        return mx.dequantize(*mx.quantize(x, **how), **how).astype(x.dtype)

    class Rounding:
        def __init__(self, cache: Any, layer: LayerQuantizers) -> None:
            self.cache, self.layer = cache, layer

        def __getattr__(self, name: str) -> Any:
            return getattr(self.cache, name)

        def update_and_fetch(self, keys: mx.array, values: mx.array) -> Any:
            return self.cache.update_and_fetch(
                through(keys, self.layer.keys), through(values, self.layer.values)
            )

    return [
        c if layer.full else Rounding(c, layer)
        for c, layer in zip(make_prompt_cache(model), recipe.layers, strict=True)
    ]


def _tiny(name: str, seed: int = 4) -> Any:
    mx.random.seed(seed)
    config: Any = (tiny_configs.PLAIN | tiny_configs.SPECIAL | tiny_configs.LATENT)[name]
    kind, arguments = _get_classes(config)
    return kind(arguments.from_dict(config))


@pytest.mark.parametrize(
    ("name", "kinds", "sets"),
    [
        ("qwen3", None, "0:8,1:k8v4g32,2:3,3:k16v4"),
        ("llama", None, "0:8g32,1:mxfp8,2:5g32"),
        ("gpt_oss", ["sliding", "full"] * 2, "1:4g32,3:k8v4g32"),
        ("gemma3_text", ["sliding", "full"] * 2, "0:4g32,1:8g32,2:k16v3g32"),
        ("deepseek_v3", ["latent"] * 4, "0:4g32,2:k8v4g32"),
    ],
)
def test_the_printed_code_gives_the_logits_of_the_recipe(
    name: str, kinds: list[LayerKind] | None, sets: str
) -> None:
    model, sinks = _tiny(name), name == "gpt_oss"
    recipe = resolve(kinds or ["full"] * 4, FOUR, sets, emulated=True)
    cache = _made(mlx_lm_code(recipe, kinds=kinds, sinks=sinks), model)
    found, expected = _logits(model, cache), _logits(model, _rounding(model, recipe))
    plain = _logits(model, make_prompt_cache(model))
    # Quantized attention adds in another order.
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected - plain).max()


def test_the_printed_code_uses_the_stock_class_where_it_can(demo_model: Path) -> None:
    model: Any = load_model(demo_model)[0]
    n = len(make_prompt_cache(model))
    code = mlx_lm_code(Recipe.uniform(n, parsed("8g32")), model="demo")
    assert "PackedKVCache" not in code
    assert "mx." not in code
    assert {type(c).__name__ for c in _made(code, model)} == {"QuantizedKVCache"}
    mixed = Recipe((parsed("k8v3g32"), *(FULL,) * (n - 1)))
    cache = _made(mlx_lm_code(mixed, model="demo"), model)
    assert [type(c).__name__ for c in cache] == ["PackedKVCache", *["KVCache"] * (n - 1)]
    found, expected = _logits(model, cache), _logits(model, _rounding(model, mixed))
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.parametrize("kernel", ["quantized", "dequantized"])
def test_the_printed_code_gives_what_is_measured(demo_model: Path, kernel: Any) -> None:
    from mqf_tui.fidelity.attention import installed
    from mqf_tui.fidelity.caches import variant_cache

    model: Any = load_model(demo_model)[0]
    model.set_dtype(mx.float32)
    recipe = resolve(["full"] * len(make_prompt_cache(model)), FOUR, "0:k8v4g32,1:3g64,2:8g64")
    cache = _made(mlx_lm_code(recipe, model="demo"), model)
    found = _logits(model, cache)
    with installed(model):
        expected = _logits(model, variant_cache(model, recipe, kernel))
    plain = _logits(model, make_prompt_cache(model))
    assert np.abs(found - expected).max() < 1e-3 * np.abs(expected - plain).max()


def test_the_printed_code_can_be_trimmed_and_generates() -> None:
    from mlx_lm.generate import generate_step

    model = _tiny("qwen3")
    recipe = Recipe.uniform(4, parsed("k8v4"))
    cache = _made(mlx_lm_code(recipe), model)
    whole = _logits(model, cache)
    for layer in cache:
        layer.trim(1)
    again = np.array(model((mx.array([[39]]) * 7 + 3) % 96, cache=cache)[0, -1])
    assert np.array_equal(again, whole[-1])
    steps = generate_step(mx.arange(9), model, max_tokens=3, prompt_cache=_made(mlx_lm_code(recipe), model))
    assert len(list(steps)) == 3


@pytest.mark.parametrize(
    ("name", "sets"), [("qwen3", "0:8,1:k8v4g32,2:mxfp8,3:k16v3"), ("llama", "0-3:5g32")]
)
def test_a_saved_prompt_cache_goes_on_where_it_was(tmp_path: Path, name: str, sets: str) -> None:
    model = _tiny(name)
    recipe = resolve(["full"] * 4, FOUR, sets)
    cache = _made(mlx_lm_code(recipe), model)
    _logits(model, cache)
    save_prompt_cache(str(tmp_path / "cache.safetensors"), cache)
    loaded: Any = load_prompt_cache(str(tmp_path / "cache.safetensors"))
    assert [type(c) for c in loaded] == [type(c) for c in cache]
    assert [c.offset for c in loaded] == [40] * 4
    more = mx.array([[5, 11, 2]])
    assert np.array_equal(np.array(model(more, cache=loaded)), np.array(model(more, cache=cache)))
    empty = _made(mlx_lm_code(recipe), model)
    save_prompt_cache(str(tmp_path / "empty.safetensors"), empty)
    again: Any = load_prompt_cache(str(tmp_path / "empty.safetensors"))
    assert np.array_equal(_logits(model, again), _logits(model, empty))


def test_the_printed_class_grows_by_blocks() -> None:
    """Over two blocks, back into the first, and on: as a cache that stores what it is given, rounded."""
    model = _tiny("qwen3")
    recipe = Recipe.uniform(4, parsed("k8v4g32"))
    cache, plain = _made(mlx_lm_code(recipe), model), _rounding(model, recipe)
    tokens = (mx.arange(530)[None] * 7 + 3) % 96
    first, expected = (np.array(model(tokens[:, :255], cache=c)) for c in (cache, plain))
    assert np.abs(first - expected).max() < 1e-3
    stored = cache[0].parts[0][0]
    for i in range(255, 259):
        found, expected = (np.array(model(tokens[:, i : i + 1], cache=c)) for c in (cache, plain))
        assert np.abs(found - expected).max() < 1e-3
        # One more token in the same block is written into it, and nothing is copied.
        assert (cache[0].parts[0][0] is stored) == (i < 256 or i > 256)
        stored = cache[0].parts[0][0]
        assert stored.shape[-2] == (256 if i < 256 else 512)
    for c in (*cache, *plain):
        c.trim(100)
    found, expected = (np.array(model(tokens[:, 159:530], cache=c)) for c in (cache, plain))
    assert np.abs(found - expected).max() < 1e-3
    assert {c.offset for c in cache} == {530}


def test_no_code_for_composite_layers() -> None:
    with pytest.raises(UnsupportedModelError, match="composite"):
        mlx_lm_code(Recipe((FOUR,)), kinds=["composite"])
