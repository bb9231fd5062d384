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

CACHES = re.compile(
    r"\b(KVCache|RotatingKVCache|ChunkedKVCache|ArraysCache|MambaCache|CacheList|LayerCache)\("
)
PLAIN_CACHE = "KVCache"
# A configuration may have anything in a module's place: a path, or more than a file can be called.
_NAME = re.compile(r"[\w-]{1,64}")
_MODEL = re.compile(r"^class Model\(|^from \.\w+ import Model\b(?! as)", re.MULTILINE)
# Before each line that begins a statement at the top of a module.
_BLOCK = re.compile(r"^(?=[^\s#)\]}])", re.MULTILINE)
# How a wrapper fills in what its nested configuration lacks.
_FILLED = re.compile(r"""text_config\.get\(\s*["'](\w+)["'],\s*(\d+)\s*\)""")
# Layers of these kinds give way to plain caches where the configuration asks for none of them.
OPTIONAL_CACHES = frozenset({"RotatingKVCache", "ArraysCache"})
FULL_TYPES = frozenset({"full_attention", "attention"})
# Their layers are full-attention ones unless this key says otherwise.
FULL_UNLESS = {
    "llama": "layer_types",
    "ministral3": "layer_types",
    "laguna": "layer_types",
    "exaone4": "sliding_window_pattern",
}
# Keys that a module names and then computes otherwise.
UNUSED = {"helium": frozenset({"head_dim"})}
# Classes in which mlx-lm's modules say what a configuration has.
ARGUMENTS = frozenset({"ModelArgs", "TextArgs", "TextConfig", "TextModelArgs"})
_TOLD = re.compile(rf"^from \.|^class (?:Model|{'|'.join(ARGUMENTS)})\b|^ *def make_cache\(", re.MULTILINE)
# Of these a default says nothing about a model: its weights know better, or nobody does.
WITHOUT_DEFAULT = frozenset({"model_type", "vocab_size", "max_position_embeddings"})


def module_of(config: dict[str, Any]) -> str:
    """The mlx-lm module that a model type is loaded with."""
    kind = str(config.get("model_type", ""))
    named = config.get("architectures")
    for name in [named] if isinstance(named, str) else named if isinstance(named, list) else ():
        own = _table("MODEL_ARCHITECTURE_REMAPPING").get((kind, str(name)))
        if own is not None:
            return own
    return _table("MODEL_REMAPPING").get(kind, kind)


@functools.cache
def known(module: str) -> bool:
    """Whether the installed mlx-lm has this architecture."""
    # By its text: most of what is imported has none, and parsing that takes long.
    return bool(_MODEL.search(_source(module) or ""))


def family(config: dict[str, Any]) -> tuple[str, ...]:
    """The module of this model, and those of the models that it wraps or is derived from."""
    module = module_of(config)
    others = _neighbours(module)
    text = config.get("text_config")
    inner = module_of(text) if isinstance(text, dict) else ""
    return (module, inner) if inner in others else (module, *others)


def reads(config: dict[str, Any], key: str) -> bool:
    """Whether this model's modules name a key of the configuration at all."""
    return any(key in _words(module) for module in family(config))


def keeps_plain_caches(config: dict[str, Any]) -> bool:
    """Whether some layer may have mlx-lm's plain cache, as far as the source tells."""
    kinds = _cache_kinds(module_of(config))
    return not kinds or PLAIN_CACHE in kinds


def recurrent_only(config: dict[str, Any]) -> bool:
    """Whether no layer keeps keys and values, as far as the source tells."""
    return _cache_kinds(module_of(config)) == frozenset({"ArraysCache"})


def special_caches(config: dict[str, Any]) -> frozenset[str]:
    """Kinds of cache other than the plain one that this model will use, as far as its source tells."""
    module = module_of(config)
    kinds = _cache_kinds(module) - {PLAIN_CACHE}
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
    """What the configuration says of the language model, nested or not; for the rest what mlx-lm takes."""
    text = config.get("text_config")
    told = {**config, **text} if isinstance(text, dict) else config
    modules = family(config)
    found = _all_defaults(modules) | told
    for key in [key for key, value in told.items() if value is None]:
        found[key] = _all_defaults(modules).get(key)
    for module in modules:
        for key in UNUSED.get(module, ()):
            found.pop(key, None)
    return found


@functools.cache
def _all_defaults(modules: tuple[str, ...]) -> dict[str, Any]:
    """What several modules take for keys that a configuration lacks; the first has the last word."""
    found: dict[str, Any] = {}
    for module in reversed(modules):
        found |= _defaults(module)
    return found


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
    kinds = frozenset(CACHES.findall(makers))
    return kinds.union(*(_cache_kinds(source) for source in elsewhere if source != module))


@functools.cache
def _words(module: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", _source(module) or ""))


@functools.cache
def _mentions(module: str, word: str) -> bool:
    tree = _tree(module)
    if tree is None:
        return False
    sources = {module, *(source for _, source in _imports(tree))}
    return any(word in (_source(source) or "") for source in sources)


@functools.cache
def _defaults(module: str) -> dict[str, Any]:
    """What a module takes for keys that a configuration lacks, as far as that is written plainly."""
    tree = _tree(module)
    found: dict[str, Any] = {}
    for node in tree.body if tree else ():
        if isinstance(node, ast.ClassDef) and node.name in ARGUMENTS:
            for entry in node.body:
                if isinstance(entry, ast.AnnAssign) and isinstance(entry.value, ast.Constant):
                    found[ast.unparse(entry.target)] = entry.value.value
    # Wrappers fill in what is nested by hand.
    for key, value in _FILLED.findall(_source(module) or ""):
        found[key] = int(value)
    return {k: v for k, v in found.items() if v is not None and k not in WITHOUT_DEFAULT}


@functools.cache
def _neighbours(module: str) -> tuple[str, ...]:
    """Modules of this package that have a model themselves and are imported by this one, each once."""
    tree = _tree(module)
    names = [name for pair in _imports(tree) for name in reversed(pair)] if tree else []
    return tuple(dict.fromkeys(name for name in names if known(name)))


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
    path = package / "models" / f"{module}.py" if package and _NAME.fullmatch(module) else None
    return path.read_text(encoding="utf-8") if path and path.is_file() else None


@functools.cache
def _tree(module: str) -> ast.Module | None:
    """What is looked into here of a module: its neighbours, its arguments, its model, how caches are made."""
    source = _source(module)
    return None if source is None else _parsed(source, _TOLD)


def _parsed(source: str, wanted: re.Pattern[str]) -> ast.Module:
    """The statements at the top of a module in which ``wanted`` is found: to parse all takes many times as
    long. All of it where its lines do not take it apart, as those of a long text would not."""
    blocks = (block for block in _BLOCK.split(source) if wanted.search(block))
    try:
        return ast.parse("".join(blocks))
    except SyntaxError:
        return ast.parse(source)


@functools.cache
def _table(name: str) -> dict[Any, str]:
    """A dictionary that mlx-lm's loader writes down."""
    package = _package()
    if package is None:
        return {}
    source = (package / "utils.py").read_text(encoding="utf-8")
    for node in _parsed(source, re.compile(rf"^{name}\b")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return dict(ast.literal_eval(node.value))
    return {}
