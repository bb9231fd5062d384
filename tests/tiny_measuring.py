"""What happens when a tiny model is measured: by which of the ways to attend, or why not at all."""

from __future__ import annotations

import contextlib
import math
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, RotatingKVCache

from mqf_tui.api import sweep_events
from mqf_tui.fidelity import caches
from mqf_tui.fidelity.caches import Cache
from mqf_tui.fidelity.errors import FidelityError, UnsupportedModelError
from mqf_tui.fidelity.events import Failed, Finished
from mqf_tui.fidelity.model import architectures
from mqf_tui.fidelity.model.facts import ModelFacts, read_facts
from mqf_tui.fidelity.model.shapes import Shape, read_shape
from mqf_tui.fidelity.quantizers import Kernel
from mqf_tui.fidelity.recipes import LayerKind
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.reports.schema import Report
from tests.makers import text_file
from tests.tiny_configs import build, flat
from tests.tiny_models import TINY, config_of, folder_of

CHUNK, CHUNKS, FED = 48, 2, 20
# One after the other until one works: how a model is best measured comes first.
WAYS: tuple[tuple[Kernel, ...], ...] = (
    ("quantized", "dequantized", "emulated"),
    ("dequantized", "emulated"),
    ("emulated",),
)
# What a layer of several caches is in words; mlx-lm has no name for it.
COMPOSITE = {
    "latent+latent": "latent (MLA), two a layer",
    "recurrent+full": "full beside recurrent",
    "recurrent+sliding": "sliding window beside recurrent",
    "full+full": "sparse, with an indexer",
}
WORDS: dict[str, str] = {"sliding": "sliding window", "latent": "latent (MLA)", "other": "a kind of its own"}


@dataclass(frozen=True)
class Outcome:
    """``reports`` by kernel: of the first way that worked; ``errors``: of those before it, in order.

    ``kinds``: what each layer of the model's own cache is; ``attention``: the same in words.
    """

    reports: dict[str, Report]
    errors: tuple[FidelityError, ...]
    kinds: tuple[LayerKind, ...]
    attention: str


# These compute with kernels that were written for Apple's GPUs and nothing else.
METAL = frozenset({"bitnet", "muse_spark"})
BROKEN = frozenset({"olmo"})  # with the cache that mlx-lm itself makes


def outcome(name: str, home: Path) -> Outcome:
    """Measure this architecture's tiny model, with 4 bits in groups of 32 on two chunks of made-up words."""
    with present(TINY[name].needs):
        folder = folder_of(name, home)
        model = build(config_of(name))
        kinds, words = caches.layer_kinds(model), attention_words(name, model)
        del model
        text = text_file(home / f"{name}.txt", 60)
        errors: list[FidelityError] = []
        for way in WAYS:
            found = _measured(folder, text, way)
            if isinstance(found, dict):
                return Outcome(found, tuple(errors), kinds, words)
            errors.append(found)
    return Outcome({}, tuple(errors), kinds, words)


def refusal(name: str, home: Path) -> FidelityError | None:
    """Why this model is refused as it is here, with no package that it asks for."""
    with present(TINY[name].needs):
        folder = folder_of(name, home)
    found = _measured(folder, text_file(home / f"{name}.txt", 60), ("dequantized",))
    return found if isinstance(found, FidelityError) else None


def _measured(folder: Path, text: Path, kernels: tuple[Kernel, ...]) -> dict[str, Report] | FidelityError:
    variants = tuple(
        KVSettings(
            str(folder),
            kv_bits=4,
            kv_group_size=32,
            kernel=kernel,
            chunk_length=CHUNK,
            max_chunks=CHUNKS,
            corpus=str(text),
            keep_top=0,
        )
        for kernel in kernels
    )
    reports: dict[str, Report] = {}
    for event in sweep_events(SweepSettings(variants)):
        if isinstance(event, Failed):
            return event.error
        if isinstance(event, Finished):
            reports[event.report.kernel] = event.report
    return reports


@contextlib.contextmanager
def present(package: str) -> Generator[None]:
    """An empty stand-in for a package that mlx-lm only looks for, while the architecture of it is at work."""
    if not package:
        yield
        return
    sys.modules[package] = ModuleType(package)
    try:
        yield
    finally:
        del sys.modules[package]
        for name in [name for name in sys.modules if name.startswith("mlx_lm.models.olmo")]:
            if getattr(sys.modules[name], package, None) is not None:
                del sys.modules[name]


def check(name: str, home: Path) -> Outcome:
    """Measure the model of this architecture, and hold all that is said of it against what was built."""
    found = outcome(name, home)
    with present(TINY[name].needs):
        model = build(config_of(name))
        facts = read_facts(home / name)
        if name not in BROKEN and (name not in METAL or mx.metal.is_available()):
            cache = filled(model)
            check_facts(name, model, cache, facts)
            if "other" not in found.kinds:
                check_layers(name, model, cache, read_shape(facts))
            if found.reports:
                check_reports(found, cache)
    for error in found.errors:
        check_refusal(error)
    return found


def filled(model: Any, tokens: int = FED) -> Cache:
    """The model's own cache after so many tokens, fed in steps of different lengths."""
    cache, ids = caches.reference_cache(model), mx.arange(tokens)[None] % 96
    for start, end in ((0, 13), (13, 14), (14, tokens)):
        mx.eval(model(ids[:, start:end], cache=cache))
    return cache


def attention_words(name: str, model: Any) -> str:
    """What kinds of attention this model has, as its caches tell."""
    kinds = caches.layer_kinds(model)
    config = config_of(name)
    if "composite" in kinds:
        if architectures.latent_attention(config) and architectures.reads(config, "index_topk"):
            return "latent (MLA), sparse, with an indexer"
        parts = [_parts(layer, config) for layer in caches.reference_cache(model)]
        return " and ".join(sorted({COMPOSITE.get(part, part) for part in parts if part}))
    *most, last = [WORDS.get(kind, kind) for kind in sorted(set(kinds), key=lambda k: (k != "full", k))]
    words = f"{', '.join(most)} and {last}" if most else last
    rebuilt = set(kinds) == {"full"} and architectures.language_config(config).get("kv_lora_rank")
    return f"{words} (MLA, keys and values rebuilt)" if rebuilt else words


def _parts(layer: Any, config: dict[str, Any]) -> str:
    if not isinstance(layer, CacheList):
        return ""
    plain = "latent" if architectures.latent_attention(config) else "full"
    kinds = {ArraysCache: "recurrent", RotatingKVCache: "sliding"}
    return "+".join(kinds.get(type(part), plain) for part in layer.caches)


def check_layers(name: str, model: Any, cache: Cache, shape: Shape) -> None:
    """What the configuration told of the cache is what the built model's holds, layer by layer."""
    assert shape.kinds == caches.layer_kinds(model)
    for layer, told in zip(cache, shape.cache, strict=True):
        held = [part for part in caches._layers([layer]) if getattr(part, "keys", None) is not None]
        assert bool(held) == (told.kind != "recurrent")
        if held:
            rows = [(part.keys.shape[1] * part.keys.shape[3], _numbers(part.values)) for part in held]
            assert (told.keys, told.values) == tuple(map(sum, zip(*rows, strict=True)))
            bounds = {getattr(part, "max_size", getattr(part, "chunk_size", None)) for part in held}
            assert told.bound in bounds


def _numbers(rows: mx.array) -> int:
    return rows.shape[1] * rows.shape[3]


def check_facts(name: str, model: Any, cache: Cache, facts: ModelFacts) -> None:
    """Facts from configuration and headers are those of the built model."""
    kinds = caches.layer_kinds(model)
    assert facts.n_layers == len(model.layers)
    assert set(facts.special) == set(_types(cache)) - {"KVCache"}
    arrays = flat(model).values()
    if all(mx.issubdtype(array.dtype, mx.floating) for array in arrays):  # none is packed
        assert facts.n_parameters == sum(array.size for array in arrays)
    if set(kinds) == {"full"}:
        heads = {(layer.keys.shape[1], layer.keys.shape[3], layer.values.shape[3]) for layer in cache}
        assert (facts.n_kv_heads, facts.head_dim, facts.v_head_dim) == max(heads)
    if not set(kinds) & {"full", "sliding", "chunked", "composite", "other"}:
        assert facts.latent == ("latent" in kinds)
        assert bool(facts.n_heads) == ("latent" in kinds)


def _types(cache: Cache) -> list[str]:
    inner = [kind for layer in cache for kind in _types(list(getattr(layer, "caches", ())))]
    return [type(layer).__name__ for layer in cache] + inner


def check_reports(found: Outcome, cache: Cache) -> None:
    """Numbers that can be: finite, not zero, alike whichever way attention went, with the cache's bytes."""
    full = sum(kind == "full" for kind in found.kinds)
    other = sum(kind != "recurrent" for kind in found.kinds)
    for kernel, report in found.reports.items():
        assert report.n_positions == CHUNKS * (CHUNK - 1)
        assert math.isfinite(report.kl.max)
        assert report.kl.mean > 0
        quantized = report.layers.n_quantized if report.layers else 0
        assert quantized == (full or other)
        kv = report.kv_bytes_per_token
        assert kv is not None
        assert kv.reference == caches.bytes_per_token(cache)
        if kernel != "emulated":
            assert kv.variant == kv.variant_measured
            assert kv.reference == kv.reference_measured
    means = [report.kl.mean for report in found.reports.values()]
    assert max(means) == pytest.approx(min(means), rel=0.02, abs=1e-8)


def check_refusal(error: FidelityError) -> None:
    """One sentence that says what, why and what would work."""
    words = str(error)
    assert isinstance(error, UnsupportedModelError), words
    assert words.endswith(".")
    assert ";" in words
    assert "Traceback" not in words
    assert len(words) < 300
