"""Models with caches of other kinds, built from mlx-lm's own classes, against attention in float64.

Everything about attention is the oracle's own: which token sees which, what a quantizer makes of keys and
values, sinks. DeepSeek's latents are a whole model of NumPy.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.models.cache import CacheList, KVCache

from mqf_tui.fidelity import attention, caches
from mqf_tui.fidelity.emulated import EmulatedCache
from mqf_tui.fidelity.errors import UnsupportedModelError
from mqf_tui.fidelity.quantizers import LayerQuantizers, parsed
from mqf_tui.fidelity.recipes import LayerKind, Recipe
from tests import float64_attention as oracle
from tests.float64_attention import Seen, causal, float64
from tests.test_caches import Runs, assert_same_drift, run, texts
from tests.tiny_configs import LATENT, PLAIN, SPECIAL, build

WINDOW = oracle.window(16)
CHUNK = oracle.chunks(16)
# Cache layers by kind, and what the attention layers among them see.
MODELS: dict[str, tuple[str, tuple[LayerKind, ...], list[Seen]]] = {
    "gemma3_text": ("gemma3_text", ("sliding", "full") * 2, [WINDOW, causal] * 2),
    "llama sliding": ("llama", ("sliding", "full") * 2, [WINDOW, causal] * 2),
    "gpt_oss": ("gpt_oss", ("sliding", "full") * 2, [WINDOW, causal] * 2),
    "exaone4 large": ("exaone4", ("sliding",) * 3 + ("full",), [WINDOW] * 3 + [causal]),
    "llama4": ("llama4", ("chunked",) * 3 + ("full",), [CHUNK] * 3 + [causal]),
    "qwen3_next": ("qwen3_next", ("recurrent",) * 3 + ("full",), [causal]),
    "granite hybrid": ("granitemoehybrid", ("recurrent", "full") * 2, [causal] * 2),
    "falcon_h1": ("falcon_h1", ("composite",) * 4, [causal] * 4),
}
WORDS = ("4g32", "k4v3g32", "mxfp4", "k16v4g32")
SIZES = ((45,), (7,), (13, 1, 1, 9))  # of steps, over and over


def made(config: dict[str, Any]) -> Any:
    """The model, with attention that is sharp enough for a coarse cache to show."""
    mx.random.seed(5)
    model = build(config)
    for path, part in model.named_modules():
        if path.endswith(("q_proj", "k_proj", "q_b_proj", "kv_a_proj_with_mqa")):
            part.weight = part.weight * 3
        if path.endswith("self_attn") and hasattr(part, "sinks"):
            part.sinks = mx.random.normal(part.sinks.shape) * 2
        if path.endswith("o_proj"):
            part.weight = part.weight * 3
    mx.eval(model.parameters())
    return model


def recipe_of(kinds: tuple[LayerKind, ...], word: str, only: LayerKind | None = None) -> Recipe:
    return Recipe(
        tuple(
            LayerQuantizers() if kind == "recurrent" or only not in (None, kind) else parsed(word)
            for kind in kinds
        )
    )


def expected(
    model: Any, name: str, recipe: Recipe, ids: np.ndarray, patch: pytest.MonkeyPatch, start: int = 0
) -> np.ndarray:
    module, kinds, seen = MODELS[name]
    attending = [layer for layer, kind in zip(recipe.layers, kinds, strict=True) if kind != "recurrent"]
    return oracle.logits(model, module, ids, list(zip(attending, seen, strict=True)), patch, start)


@pytest.mark.parametrize("name", PLAIN)
def test_plain_models_have_full_layers_only(name: str) -> None:
    assert set(caches.layer_kinds(build(PLAIN[name]))) == {"full"}


@pytest.mark.parametrize("name", LATENT)
def test_latents_are_told_from_keys(name: str) -> None:
    assert set(caches.layer_kinds(build(LATENT[name]))) == {"latent"}


@pytest.mark.parametrize("name", MODELS)
def test_kinds_of_layers(name: str) -> None:
    assert caches.layer_kinds(build(SPECIAL[name])) == MODELS[name][1]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("word", WORDS)
def test_emulated_equals_float64(name: str, word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(SPECIAL[name])
    recipe = recipe_of(MODELS[name][1], word)
    full = recipe_of(MODELS[name][1], "16")
    caches.check_cache(model, recipe, "emulated", 96)
    runs = Runs()
    for ids, sizes in zip(texts(45), SIZES, strict=True):
        plain = expected(model, name, full, ids, monkeypatch)
        reference = run(model, ids, caches.reference_cache(model), *sizes)
        np.testing.assert_allclose(reference, plain, atol=1e-4 * np.abs(plain).max())
        cache = caches.variant_cache(model, recipe, "emulated")
        runs.append((run(model, ids, cache, *sizes), expected(model, name, recipe, ids, monkeypatch), plain))
        caches.eval_cache(cache)
        assert caches.nbytes(cache) > 0
    assert_same_drift(runs)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "falcon_h1"])
@pytest.mark.parametrize("kernel", ["quantized", "dequantized"])
def test_full_layers_alone_equal_float64(name: str, kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounded and recurrent layers keep their own caches; the others hold packed rows."""
    model = made(SPECIAL[name])
    recipe = recipe_of(MODELS[name][1], "k4v3g32", "full")
    full = recipe_of(MODELS[name][1], "16")
    if name == "gpt_oss" and kernel == "quantized":
        with pytest.raises(UnsupportedModelError, match=r"attention sinks.*emulated.*dequantized"):
            run_check(model, recipe, kernel)
        return
    run_check(model, recipe, kernel)
    runs = Runs()
    for ids, sizes in zip(texts(45), SIZES, strict=True):
        cache = caches.variant_cache(model, recipe, kernel)
        runs.append(
            (
                run(model, ids, cache, *sizes),
                expected(model, name, recipe, ids, monkeypatch),
                expected(model, name, full, ids, monkeypatch),
            )
        )
        # Keys of 4 bits and values of 3, and two scales of 4 bytes for each group of 32.
        rows = 2 * 32 * ((4 + 3) / 8 + 2 * 8 / 32)
        assert caches.bytes_per_token(cache) == rows * recipe.n_quantized
    assert_same_drift(runs)


def run_check(model: Any, recipe: Recipe, kernel: Any) -> None:
    with attention.installed(model):
        caches.check_cache(model, recipe, kernel, 96)


@pytest.mark.parametrize("name", MODELS)
def test_deployment_equals_float64(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = made(SPECIAL[name])
    recipe = recipe_of(MODELS[name][1], "4g32")
    full = recipe_of(MODELS[name][1], "16")
    runs, start = Runs(), 27
    for ids, sizes in zip(texts(45), SIZES, strict=True):
        plain = expected(model, name, full, ids, monkeypatch)
        reference = caches.reference_cache(model)
        run(model, ids[:start], reference, *sizes)
        cache = caches.converted(reference, recipe, "emulated")
        found = run(model, ids[start:], cache, *sizes)
        wanted = expected(model, name, recipe, ids, monkeypatch, start)
        runs.append((found, wanted[start:], plain[start:]))
        # The reference was not touched by the other's steps.
        after = run(model, ids[start:], reference, *sizes)
        np.testing.assert_allclose(after, plain[start:], atol=1e-4 * np.abs(plain).max())
    assert_same_drift(runs)


class Latents:
    """DeepSeek-V3's attention and dense MLPs in float64: every key and value rebuilt from its latent."""

    def __init__(self, model: Any, config: dict[str, Any]) -> None:
        self.model, self.config = model, config

    def logits(self, ids: np.ndarray, quantizers: LayerQuantizers, start: int = 0) -> np.ndarray:
        """Queries from ``start`` on meet latents (a cache's keys) and rotary keys (its values) as stored."""
        x = float64(self.model.model.embed_tokens.weight)[ids]
        for layer in self.model.layers:
            att = layer.self_attn
            h = self._norm(x, layer.input_layernorm.weight)
            latent, rotary = np.split(h @ float64(att.kv_a_proj_with_mqa.weight).T, [self._rank], axis=-1)
            latent = self._norm(latent, att.kv_a_layernorm.weight, 1e-5)
            rotary = self._rope(rotary[None])[0]
            kept = [
                oracle.stored(mx.array(rows.astype(np.float32)), q)
                for rows, q in ((latent, quantizers.keys), (rotary, quantizers.values))
            ]
            full, packed = self._attend(att, h, latent, rotary), self._attend(att, h, *kept)
            out = np.concatenate([full[:start], packed[start:]])
            x = x + out @ float64(att.o_proj.weight).T
            h = self._norm(x, layer.post_attention_layernorm.weight)
            gate = h @ float64(layer.mlp.gate_proj.weight).T
            up = h @ float64(layer.mlp.up_proj.weight).T
            x = x + (gate / (1 + np.exp(-gate)) * up) @ float64(layer.mlp.down_proj.weight).T
        return self._norm(x, self.model.model.norm.weight) @ float64(self.model.lm_head.weight).T

    @property
    def _rank(self) -> int:
        return self.config["kv_lora_rank"]

    def _attend(self, att: Any, h: np.ndarray, latent: np.ndarray, rotary: np.ndarray) -> np.ndarray:
        heads, plain = self.config["num_attention_heads"], self.config["qk_nope_head_dim"]
        q = self._norm(h @ float64(att.q_a_proj.weight).T, att.q_a_layernorm.weight, 1e-6)
        q = (q @ float64(att.q_b_proj.weight).T).reshape(len(h), heads, -1).transpose(1, 0, 2)
        q_plain, q_rotary = np.split(q, [plain], axis=-1)
        k = latent @ float64(att.embed_q.weight)  # (heads, T, plain)
        v = latent @ float64(att.unembed_out.weight).transpose(0, 2, 1)
        keys = np.concatenate([k, np.broadcast_to(rotary, (heads, *rotary.shape))], axis=-1)
        queries = np.concatenate([q_plain, self._rope(q_rotary)], axis=-1)
        add = np.where(causal(len(h)), 0, -np.inf)
        out = oracle.attention(queries[None], keys[None], v[None], q.shape[-1] ** -0.5, add)[0]
        return out.transpose(1, 0, 2).reshape(len(h), -1)

    def _norm(self, x: np.ndarray, weight: mx.array, eps: float | None = None) -> np.ndarray:
        eps = self.config["rms_norm_eps"] if eps is None else eps
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + eps) * float64(weight)

    def _rope(self, x: np.ndarray) -> np.ndarray:
        """Rotary positions over neighbouring pairs."""
        half = x.shape[-1] // 2
        angle = np.arange(x.shape[-2])[:, None] * self.config["rope_theta"] ** (-np.arange(half) / half)
        a, b = x[..., 0::2], x[..., 1::2]
        turned = np.stack([a * np.cos(angle) - b * np.sin(angle), a * np.sin(angle) + b * np.cos(angle)], -1)
        return turned.reshape(x.shape)


# Latents in a composite cache, beside the keys of an indexer that takes all tokens of so short a text.
INDEXED = LATENT["deepseek_v3"] | {"model_type": "deepseek_v32", "index_n_heads": 4, "index_head_dim": 32}


@pytest.mark.parametrize(("kind", "word"), [*(("latent", word) for word in WORDS), ("composite", "4g32")])
def test_latents_equal_float64(kind: str, word: str) -> None:
    config = LATENT["deepseek_v3"] if kind == "latent" else INDEXED
    model = made(config)
    whole = Latents(model, config)
    assert set(caches.layer_kinds(model)) == {kind}
    stress, deployment, start = Runs(), Runs(), 23
    recipe = Recipe.uniform(4, parsed(word))
    caches.check_cache(model, recipe, "emulated", 96)
    for ids, sizes in zip(texts(45), SIZES, strict=True):
        plain = whole.logits(ids, LayerQuantizers())
        reference = caches.reference_cache(model)
        first = run(model, ids[:start], reference, *sizes)
        cache = caches.converted(reference, recipe, "emulated")
        found = np.concatenate([first, run(model, ids[start:], reference, *sizes)])
        np.testing.assert_allclose(found, plain, atol=1e-4 * np.abs(plain).max())
        deployed = whole.logits(ids, parsed(word), start)
        deployment.append((run(model, ids[start:], cache, *sizes), deployed[start:], plain[start:]))
        cache = caches.variant_cache(model, recipe, "emulated")
        stress.append((run(model, ids, cache, *sizes), whole.logits(ids, parsed(word)), plain))
    assert_same_drift(stress)
    assert_same_drift(deployment)


def test_latents_are_refused_where_rows_stay_packed() -> None:
    with pytest.raises(UnsupportedModelError, match="--kernel emulated"):
        run_check(made(LATENT["deepseek_v3"]), Recipe.uniform(4, parsed("4g32")), "quantized")


def test_rows_that_are_no_whole_groups_are_refused() -> None:
    with pytest.raises(UnsupportedModelError, match=r"keys .* rows of 32 .* group size that divides 32"):
        run_check(made(LATENT["deepseek_v3"]), Recipe.uniform(4, parsed("4g64")), "emulated")
    with pytest.raises(UnsupportedModelError, match=r"values .* rows of 32 .* group size that divides 32"):
        run_check(made(LATENT["deepseek_v3"]), Recipe.uniform(4, parsed("k4g32v4g64")), "emulated")


def test_an_emulated_cache_is_its_inner_cache_otherwise() -> None:
    inner = KVCache()
    cache = EmulatedCache(inner, parsed("4g32"))
    rows = mx.random.normal((1, 1, 3, 32))
    cache.update_and_fetch(rows, rows)
    assert (cache.offset, cache.size(), cache.nbytes) == (3, 3, inner.nbytes)
    assert cache.make_mask(2, return_array=False, window_size=None) == "causal"
    assert not hasattr(cache, "bits")
    cache.offset = 1
    assert inner.offset == 1
    listed = EmulatedCache(CacheList(KVCache(), inner), parsed("4g32"))
    assert listed[1] is inner
    with pytest.raises(AttributeError):
        _ = cache.no_such_thing


def test_parts_of_a_composite_without_rows_are_left_alone() -> None:
    """DeepSeek-V3.2 keeps its indexer's keys beside values of no width."""
    cache = EmulatedCache(KVCache(), parsed("4g32"))
    keys, values = cache.update_and_fetch(mx.ones((1, 1, 3, 32)), mx.zeros((1, 1, 3, 0)))
    assert keys.shape == (1, 1, 3, 32)
    assert values.shape == (1, 1, 3, 0)
    caches.eval_cache([cache])
    assert caches.bytes_per_token([cache]) == 32 * 4


def test_a_recurrent_state_is_no_layer_to_quantize() -> None:
    with pytest.raises(UnsupportedModelError, match="takes no keys and values"):
        caches.variant_cache(made(SPECIAL["qwen3_next"]), Recipe.uniform(4, parsed("4g32")), "emulated")
