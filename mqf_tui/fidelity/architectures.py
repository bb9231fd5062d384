"""What the installed mlx-lm knows about an architecture, read from its source without importing it.

Importing mlx-lm takes seconds and a list of models must not; a table copied from it would be wrong
with its next version.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
from pathlib import Path
from typing import Any

SPECIAL_CACHES = re.compile(
    r"\b(RotatingKVCache|ChunkedKVCache|ArraysCache|MambaCache|CacheList|LayerCache)\("
)
# Their layers are full-attention ones unless `layer_types` says otherwise.
FULL_BY_DEFAULT = ("llama", "ministral3")


def module_of(config: dict[str, Any]) -> str:
    """The mlx-lm module that a model type is loaded with."""
    kind = str(config.get("model_type", ""))
    return _remapping().get(kind, kind)


def known(module: str) -> bool:
    """Whether the installed mlx-lm has this architecture."""
    return bool(re.fullmatch(r"[\w-]+", module)) and _source(module) is not None


def special_caches(config: dict[str, Any]) -> frozenset[str]:
    """Kinds of cache other than the plain one that this model will use, as far as its source tells."""
    module = module_of(config)
    kinds = _cache_kinds(module)
    text = config.get("text_config")
    if isinstance(text, dict) and known(inner := module_of(text)):
        kinds |= _cache_kinds(inner)
        config = text
    types = config.get("layer_types")
    if kinds == {"RotatingKVCache"} and (
        set(types) == {"full_attention"} if isinstance(types, list) and types else module in FULL_BY_DEFAULT
    ):
        return frozenset()
    return kinds


def latent_attention(config: dict[str, Any]) -> bool:
    """Whether the cache holds DeepSeek's latents (MLA), which quantized attention cannot use."""
    source = _source(module_of(config)) or ""
    return bool(config.get("kv_lora_rank")) and "MultiLinear" in source


def _cache_kinds(module: str) -> frozenset[str]:
    source = _source(module)
    if source is None:
        return frozenset()
    makers = [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.FunctionDef) and node.name == "make_cache"
    ]
    return frozenset(kind for maker in makers for kind in SPECIAL_CACHES.findall(maker))


@functools.cache
def _package() -> Path | None:
    spec = importlib.util.find_spec("mlx_lm")
    return Path(spec.origin).parent if spec and spec.origin else None


@functools.cache
def _source(module: str) -> str | None:
    package = _package()
    path = package / "models" / f"{module}.py" if package and module else None
    return path.read_text(encoding="utf-8") if path and path.is_file() else None


@functools.cache
def _remapping() -> dict[str, str]:
    package = _package()
    if package is None:
        return {}
    for node in ast.parse((package / "utils.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODEL_REMAPPING":
            return dict(ast.literal_eval(node.value))
    return {}
