"""Replayed layers: the same bits as whole passes, and no layer run twice for nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.cache import KVCache, make_prompt_cache
from mlx_lm.utils import _get_classes, load_model

from mqf_tui.fidelity.replaying import Replay, passed

from . import tiny_configs

CONFIGS = tiny_configs.PLAIN | tiny_configs.SPECIAL | tiny_configs.LATENT
CONFIGS["gemma4_text"] = {
    **tiny_configs._plain("gemma4_text", global_head_dim=32, num_kv_shared_layers=1, sliding_window=16),
    "layer_types": ["sliding_attention", "full_attention", "full_attention", "sliding_attention"],
    "hidden_size_per_layer_input": 8,
    "vocab_size_per_layer_input": 96,
}
MIXED = (
    "llama",
    "gemma3_text",
    "gemma4_text",
    "gpt_oss",
    "llama4",
    "granite hybrid",
    "falcon_h1",
    "deepseek_v3",
)
N, STEPS = 60, ((0, 25), (25, 50), (50, 59), (59, 60))  # beyond the windows of 16, and one position alone


def _tiny(name: str) -> Any:
    mx.random.seed(3)
    kind, arguments = _get_classes(CONFIGS[name])
    return kind(arguments.from_dict(CONFIGS[name]))


def _damaged(entry: Any) -> Any:
    """A cache entry that rounds what goes into it."""
    for part in getattr(entry, "caches", (entry,)):
        if hasattr(part, "update_and_fetch"):
            store = part.update_and_fetch
            part.update_and_fetch = lambda k, v, store=store: store(mx.round(k * 4) / 4, mx.round(v * 4) / 4)
    return entry


def _variant(model: Any, layer: int) -> list[Any]:
    cache = make_prompt_cache(model)
    cache[layer] = _damaged(cache[layer])
    return cache


def _whole(model: Any, cache: list[Any], tokens: mx.array, steps: Any = STEPS) -> list[np.ndarray]:
    return [np.array(model(tokens[:, a:b], cache=cache)) for a, b in steps]


def _replayed(
    model: Any, replay: Replay, variants: list[int], tokens: mx.array, steps: Any = STEPS
) -> dict[int, list[np.ndarray]]:
    reference, own = make_prompt_cache(model), {k: _variant(model, k) for k in variants}
    found: dict[int, list[np.ndarray]] = {k: [] for k in (-1, *variants)}
    for a, b in steps:
        with replay.recording(reference, variants):
            found[-1].append(np.array(model(tokens[:, a:b], cache=reference)))
        for k in variants:
            with replay.replaying(k):
                found[k].append(np.array(model(tokens[:, a:b], cache=replay.cache(own[k], k))))
    return found


@pytest.mark.parametrize("name", MIXED)
def test_replayed_variants_give_the_bits_of_whole_passes(name: str) -> None:
    model = _tiny(name)
    replay = Replay.of(model, 96)
    assert replay is not None
    n = len(make_prompt_cache(model))
    tokens = (mx.arange(N)[None] * 7 + 3) % 96
    found = _replayed(model, replay, list(range(n)), tokens)
    plain = _whole(model, make_prompt_cache(model), tokens)
    damage = []
    for k in (-1, *range(n)):
        expected = plain if k == -1 else _whole(model, _variant(model, k), tokens)
        assert all(np.array_equal(x, y) for x, y in zip(found[k], expected, strict=True))
        damage.append(np.abs(np.concatenate(expected, 1) - np.concatenate(plain, 1)).max())
    assert damage[0] == 0
    if name != "granite hybrid":  # its states take no rounding
        assert min(damage[1:]) > 0


@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_every_kind_of_model_can_be_replayed(name: str) -> None:
    assert Replay.of(_tiny(name), 96) is not None


def _counted(model: Any) -> Counter[int]:
    """Count the calls of each layer of a model from now on."""
    calls: Counter[int] = Counter()
    for index, layer in enumerate(model.layers):
        kind = type(layer)

        def call(self: Any, *args: Any, index: int = index, kind: Any = kind, **kwargs: Any) -> Any:
            calls[index] += 1
            return kind.__call__(self, *args, **kwargs)

        layer.__class__ = type(kind.__name__, (kind,), {"__call__": call})
    return calls


def test_no_layer_runs_again_for_a_variant_that_leaves_it_alone() -> None:
    model = _tiny("llama")
    replay = Replay.of(model, 96)
    assert replay is not None
    calls = _counted(model)
    _replayed(model, replay, [0, 1, 2, 3], mx.arange(N)[None], ((0, 30), (30, 60)))
    # Twice (two steps): the reference, and the variants that quantize this layer or one before it.
    assert calls == {0: 2 * 2, 1: 2 * 3, 2: 2 * 4, 3: 2 * 5}


def test_the_model_is_as_it_was_even_after_an_error() -> None:
    model = _tiny("llama")
    layers = list(model.layers)
    replay = Replay(model)
    with pytest.raises(RuntimeError, match="stop"), replay.recording(make_prompt_cache(model), [2]):
        raise RuntimeError("stop")
    with pytest.raises(KeyError), replay.replaying(2):  # nothing was recorded
        model(mx.array([[1]]), cache=make_prompt_cache(model))
    assert [id(layer) for layer in model.layers] == [id(layer) for layer in layers]


def test_what_a_passed_entry_knows_and_what_it_does_not() -> None:
    entry = KVCache()
    entry.update_and_fetch(mx.zeros((1, 1, 7, 8)), mx.zeros((1, 1, 7, 8)))
    twin = passed(entry)
    assert (twin.offset, twin.keys, twin.values) == (7, None, None)
    assert entry.keys is not None
    assert mx.array_equal(
        twin.make_mask(3, return_array=True, window_size=None),
        entry.make_mask(3, return_array=True, window_size=None),
    )
    with pytest.raises(ValueError, match="replayed layer"):
        twin.update_and_fetch(entry.keys, entry.values)


class _Odd(nn.Module):
    """A model with two layers whose passes do not end with their layers' outputs."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.embed = nn.Embedding(96, 8)
        self.layers = [_OddLayer() for _ in range(3)]
        if how == "one layer twice":
            self.layers[2] = self.layers[1]
        self.how = how

    def make_cache(self) -> list[Any]:
        return [KVCache() for _ in self.layers]

    def __call__(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        h = self.embed(tokens)
        passed_on = []
        for layer, entry in zip(self.layers, cache, strict=True):
            h = layer(h, cache[0] if self.how == "shared cache" else entry)
            passed_on.append(h)
        if self.how == "adds all layers":
            return sum(passed_on[1:], passed_on[0])
        if self.how == "asks for an attribute":
            return h * self.layers[0].scale
        return h


class _OddLayer(nn.Module):
    scale = 2.0

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def __call__(self, x: mx.array, cache: Any) -> mx.array:
        y = self.linear(x)[:, None]
        x *= 1.5  # in place: also for whoever gave it
        return x + cache.update_and_fetch(y, y)[0][:, 0, -x.shape[1] :]


@pytest.mark.parametrize(
    ("how", "can"),
    [
        ("", True),
        ("asks for an attribute", True),
        ("adds all layers", False),
        ("shared cache", False),
        ("one layer twice", False),
    ],
)
def test_what_cannot_be_replayed_is_found_out(how: str, can: bool) -> None:
    mx.random.seed(1)
    assert (Replay.of(_Odd(how), 96) is not None) is can


@pytest.mark.smollm
@pytest.mark.slow
def test_smollm2_replayed(smollm2: Path) -> None:
    model: Any = load_model(smollm2)[0]
    model.set_dtype(mx.float32)
    replay = Replay.of(model, 49152)
    assert replay is not None
    tokens = (mx.arange(48)[None] * 613 + 5) % 49152
    steps, variants = ((0, 32), (32, 48)), [3, 15, 29]
    found = _replayed(model, replay, variants, tokens, steps)
    for k in variants:
        expected = _whole(model, _variant(model, k), tokens, steps)
        assert all(np.array_equal(x, y) for x, y in zip(found[k], expected, strict=True))
