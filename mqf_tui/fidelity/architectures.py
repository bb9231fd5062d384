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
from typing import Any, TypeGuard

SPECIAL_CACHES = re.compile(
    r"\b(RotatingKVCache|ChunkedKVCache|ArraysCache|MambaCache|CacheList|LayerCache)\("
)
# Layers of these kinds give way to plain caches where the configuration asks for none of them.
OPTIONAL_CACHES = frozenset({"RotatingKVCache", "ArraysCache"})
FULL_TYPES = frozenset({"full_attention", "attention"})
# Their layers are full-attention ones unless this key says otherwise.
FULL_UNLESS = {
    "llama": "layer_types",
    "ministral3": "layer_types",
    "laguna": "layer_types",
    "step3p5": "layer_types",
    "exaone4": "sliding_window_pattern",
}


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
    config = language_config(config)
    if not kinds <= OPTIONAL_CACHES:
        return kinds
    if module in FULL_UNLESS and not config.get(FULL_UNLESS[module]):
        return frozenset()
    types = config.get("layer_types")
    named = isinstance(types, list) and types and all(kind in FULL_TYPES for kind in map(str, types))
    return frozenset() if named and _mentions(module, "layer_types") else kinds


def latent_attention(config: dict[str, Any]) -> bool:
    """Whether the cache holds DeepSeek's latents (MLA), which quantized attention cannot use."""
    return bool(language_config(config).get("kv_lora_rank")) and _mentions(module_of(config), "MultiLinear")


def attention_sinks(config: dict[str, Any]) -> bool:
    """Whether the model's attention has sinks, with which mlx-lm's quantized attention does not work."""
    return "sinks=" in (_source(module_of(config)) or "")


def language_config(config: dict[str, Any]) -> dict[str, Any]:
    """The part of the configuration that describes the language model, where it is nested."""
    text = config.get("text_config")
    return {**config, **text} if isinstance(text, dict) else config


@functools.cache
def _cache_kinds(module: str) -> frozenset[str]:
    """Kinds named where the caches are made: here, in the base class, or in the model this one wraps."""
    tree = _tree(module)
    if tree is None:
        return frozenset()
    makers = "\n".join(
        ast.unparse(node)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef) and node.name == "make_cache"
    )
    if not makers:
        bases = {base for node in tree.body if _is_model(node) for base in map(ast.unparse, node.bases)}
        elsewhere = {source for name, source in _imports(tree) if name in bases or f"{name}.Model" in bases}
    else:
        elsewhere = {source for _, source in _imports(tree)} if ".make_cache()" in makers else set()
    kinds = frozenset(SPECIAL_CACHES.findall(makers))
    return kinds.union(*(_cache_kinds(source) for source in elsewhere if source != module))


def _mentions(module: str, word: str) -> bool:
    tree = _tree(module)
    if tree is None:
        return False
    sources = {module, *(source for _, source in _imports(tree))}
    return any(word in (_source(source) or "") for source in sources)


def _is_model(node: ast.stmt) -> TypeGuard[ast.ClassDef]:
    return isinstance(node, ast.ClassDef) and node.name == "Model"


def _imports(tree: ast.Module) -> list[tuple[str, str]]:
    """Local name and module of everything imported from a neighbouring architecture."""
    return [
        (alias.asname or alias.name, node.module or alias.name)
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    ]


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
def _tree(module: str) -> ast.Module | None:
    source = _source(module)
    return None if source is None else ast.parse(source)


@functools.cache
def _remapping() -> dict[str, str]:
    package = _package()
    if package is None:
        return {}
    for node in ast.parse((package / "utils.py").read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "MODEL_REMAPPING":
            return dict(ast.literal_eval(node.value))
    return {}
