"""A model that is in memory already, as a pair (model, tokenizer) of mlx-lm's: what the objects tell of it.

Nothing here changes them, and no folder is read: the model may have been trained, merged or quantized since
it was loaded.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import reprlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from importlib import resources
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

from mqf_tui.fidelity.errors import BadSettingError, ModelNotFoundError, UnsupportedModelError, brief
from mqf_tui.fidelity.model.facts import ModelFacts, facts_from
from mqf_tui.fidelity.model.headers import Tensor, Weights, folder_name, read_config
from mqf_tui.fidelity.model.weight_formats import AFFINE
from mqf_tui.reports.text import inert, readable

if TYPE_CHECKING:
    from mqf_tui.reports.schema import Report

IN_MEMORY = "loaded in memory"  # what a report's ``compute`` says of such a model
NOWHERE = Path("loaded-in-memory")  # in place of its folder
PAIR = "pass the pair (model, tokenizer) that mlx_lm.load returns"
SAMPLES = 64  # words of each array that go into the hash as they are
TYPES = {
    **{"float16": "F16", "bfloat16": "BF16", "float32": "F32", "float64": "F64"},
    **{"uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL"},
}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, kw_only=True)
class LoadedFacts(ModelFacts):
    """The facts of a loaded pair: ``model`` and ``tokenizer`` are the user's own objects.

    ``config``: what the model was made from, as its config.json would say it. ``size_bytes`` is what the
    arrays take; ``content_hash`` is of names, shapes, formats and values, and unlike that of a folder.
    ``folder`` is none that exists.
    """

    model: Any = field(compare=False, repr=False)
    tokenizer: Any = field(compare=False, repr=False)
    config: dict[str, Any] = field(compare=False, repr=False)

    def as_it_is(self, is_cpu: bool) -> bool:
        """Whether it computes in its own format; on a CPU device what is not quantized is cast to float32."""
        return not is_cpu or self.weight_bits is not None


def config_of(facts: ModelFacts) -> dict[str, Any]:
    """The configuration: of the objects where they are in memory, else config.json.

    Raises ModelNotFoundError, BrokenWeightsError.
    """
    return facts.config if isinstance(facts, LoadedFacts) else read_config(facts.folder)


def loaded_facts(pair: object) -> LoadedFacts:
    """The facts of a pair (model, tokenizer); all arrays are read once.

    The tokenizer is mlx-lm's or one of transformers'. Raises BadSettingError where it is no such pair,
    UnsupportedModelError where the model's arguments have impossible values.
    """
    model, tokenizer = _checked(pair)
    arrays = _arrays(model)
    config = _config(model)
    weights = _weights(arrays, config)
    try:
        base = facts_from(NOWHERE, _name(tokenizer, config), config, weights)
    except (ValueError, TypeError, ArithmeticError, LookupError, RecursionError) as error:
        raise UnsupportedModelError(
            f"the arguments of the loaded {_kind(model)} have an impossible value ({brief(error)}); load it "
            "with mlx_lm.load."
        ) from error
    known = {one.name: getattr(base, one.name) for one in fields(ModelFacts)}
    known["chat_template"] = bool(getattr(tokenizer, "chat_template", None))
    return LoadedFacts(**known, model=model, tokenizer=tokenizer, config=config)


def check_on_disk(report: Report) -> None:
    """Raise ModelNotFoundError where what a report is of was in memory, so that there is nothing to load."""
    if IN_MEMORY in report.compute:
        raise ModelNotFoundError(
            f"this run was measured on a model that was {IN_MEMORY}, which is not kept, so it cannot be "
            "scored again; save that model in a folder and measure it by its path."
        )


def not_a_model(given: object) -> BadSettingError:
    """What is wrong with something that is neither a name, nor a path, nor a pair."""
    if _is_module(given):
        return BadSettingError(f"model is a loaded {_kind(given)} without its tokenizer; {PAIR}.")
    if _is_torch(given):
        return BadSettingError(_torch_words(given))
    return BadSettingError(f"model is {_said(given)}; use a name, a path or a (model, tokenizer) pair.")


def _checked(pair: object) -> tuple[Any, Any]:
    """Model and tokenizer, mlx-lm's wrapper taken off; raises BadSettingError."""
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        what = f"{type(pair).__name__} of {len(pair)}" if isinstance(pair, tuple | list) else "no pair"
        raise BadSettingError(f"model is a {what}, not a model and its tokenizer; {PAIR}.")
    model, tokenizer = pair
    _check_model(model, tokenizer)
    if not callable(getattr(tokenizer, "encode", None)) or isinstance(tokenizer, str | bytes):
        raise BadSettingError(f"the tokenizer of the pair is {_said(tokenizer)}, which is none; {PAIR}.")
    # mlx-lm wraps the tokenizer of transformers, which is what a model that is loaded by its path gets.
    inner = vars(tokenizer).get("_tokenizer") if _named(tokenizer, "mlx_lm", "TokenizerWrapper") else None
    tokenizer = tokenizer if inner is None else inner
    try:
        ids = list(tokenizer.encode("a", add_special_tokens=False))  # as text will be
        whole = all(isinstance(token, int) for token in ids)
    except Exception as error:  # whatever it is, it may raise anything
        raise BadSettingError(
            f"the tokenizer of the pair ({_kind(tokenizer)}) cannot encode text ({brief(error)}); {PAIR}."
        ) from error
    if not whole:
        raise BadSettingError(
            f"the tokenizer of the pair ({_kind(tokenizer)}) does not encode text as token ids; {PAIR}."
        )
    return model, tokenizer


def _check_model(model: Any, tokenizer: Any) -> None:
    if _is_torch(model):
        raise BadSettingError(_torch_words(model))
    if not _is_module(model):
        if _is_module(tokenizer):
            raise BadSettingError("the pair is the wrong way round; pass it as (model, tokenizer).")
        raise BadSettingError(f"the model of the pair is {_said(model)}, which is none of mlx-lm's; {PAIR}.")
    try:
        layers = len(model.layers)
        arguments = _arguments(model)
    except (AttributeError, TypeError, KeyError):
        layers, arguments = 0, None
    if not layers or arguments is None:
        lacks = "no layers" if not layers else "no arguments (args) that tell what it is"
        raise BadSettingError(f"the loaded {_kind(model)} has {lacks}, so it is no language model; {PAIR}.")
    if not any(True for _ in _flat(model)):
        raise BadSettingError(f"the loaded {_kind(model)} has no weights; {PAIR}.")


def _torch_words(model: object) -> str:
    return f"the model is PyTorch's ({_kind(model)}), and only mlx-lm's can be measured; {PAIR}."


def _is_torch(given: object) -> bool:
    return any(kind.__module__.split(".")[0] == "torch" for kind in type(given).__mro__)


def _is_module(given: object) -> bool:
    return _named(given, "mlx", "Module")


def _named(given: object, package: str, name: str) -> bool:
    """Whether it is of a class of this name out of this package, which need not be imported for that."""
    return any(k.__name__ == name and k.__module__.split(".")[0] == package for k in type(given).__mro__)


def _kind(given: object) -> str:
    return f"{type(given).__module__.split('.')[-1]}.{type(given).__name__}"


def _said(given: object) -> str:
    """A value where it is short to say, else what kind of value it is."""
    plain = given is None or isinstance(given, str | bytes | bool | int | float)
    return reprlib.repr(given) if plain else f"of the type {_kind(given)}"


def _arguments(model: Any) -> Any:
    """What the model was made from; None where it does not keep that."""
    for name in ("args", "config"):
        found = getattr(model, name, None)
        if isinstance(found, Mapping) or dataclasses.is_dataclass(found) or hasattr(found, "__dict__"):
            return found
    return None


def _config(model: Any) -> dict[str, Any]:
    """The model's arguments as a configuration; how it is quantized is seen from its modules."""
    config = {key: entry for key, entry in _plain(_arguments(model)).items() if entry is not None}
    config.setdefault("model_type", str(getattr(model, "model_type", "") or _kind(model).split(".")[0]))
    for name in ("quantization", "quantization_config", "auto_map", "model_file"):
        config.pop(name, None)
    if found := _quantization(model):
        config["quantization"] = found
    return config


def _plain(value: Any) -> Any:
    """A value as JSON could hold it."""
    if isinstance(value, Mapping):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if dataclasses.is_dataclass(value) or hasattr(value, "__dict__"):
        return {name: _plain(entry) for name, entry in vars(value).items() if not name.startswith("_")}
    return type(value).__name__


def _quantization(model: Any) -> dict[str, Any]:
    """Bits, group and mode of most quantized weights, and of each module that has others; {} for none."""
    each: dict[str, tuple[int, int, str]] = {}
    sizes: Counter[tuple[int, int, str]] = Counter()
    for name, module in model.named_modules():
        bits, group = getattr(module, "bits", None), getattr(module, "group_size", None)
        if "scales" in module and isinstance(bits, int) and isinstance(group, int):
            each[name] = bits, group, str(getattr(module, "mode", AFFINE))
            sizes[each[name]] += int(module["weight"].nbytes)
    if not sizes:
        return {}
    most = sizes.most_common(1)[0][0]
    others = {name: _format(*one) for name, one in each.items() if one != most}
    return {**_format(*most), **others}


def _format(bits: int, group_size: int, mode: str) -> dict[str, int | str]:
    """As a config.json says it."""
    found: dict[str, int | str] = {"bits": bits, "group_size": group_size}
    return found if mode == AFFINE else {**found, "mode": mode}


def _flat(model: Any) -> Iterable[tuple[str, Any]]:
    from mlx.utils import tree_flatten

    found: Any = tree_flatten(model.parameters())
    return found


def _arrays(model: Any) -> dict[str, Any]:
    """Every array of the model once, by its first name."""
    once = {id(array): (name, array) for name, array in reversed(list(_flat(model)))}
    return dict(sorted(once.values(), key=lambda pair: pair[0]))


def _weights(arrays: Mapping[str, Any], config: Mapping[str, Any]) -> Weights:
    tensors = [Tensor(name, _type(array), tuple(map(int, array.shape))) for name, array in arrays.items()]
    said = json.dumps(config, sort_keys=True).encode()
    digest = hashlib.sha256()
    for tensor, array in zip(tensors, arrays.values(), strict=True):
        digest.update(f"{tensor.name}\0{tensor.dtype}\0{tensor.shape}\0".encode(errors="replace"))
        digest.update(_fingerprint(array))
    return Weights(
        tensors=tuple(tensors),
        size_bytes=sum(int(array.nbytes) for array in arrays.values()),
        content_hash=hashlib.sha256(said + digest.digest()).hexdigest()[:12],
        config_hash=hashlib.sha256(said).hexdigest()[:16],
        weights_hash=digest.hexdigest()[:16],
    )


def _type(array: Any) -> str:
    name = str(array.dtype).rsplit(".", 1)[-1]
    return TYPES.get(name, name)


def _fingerprint(array: Any) -> bytes:
    """The sum of an array's bits, which tells where anything changed, and some of them as they are."""
    import mlx.core as mx
    import numpy as np

    if not array.size:
        return b""
    words = mx.reshape(array, (-1,))
    size = int(array.nbytes)
    words = words.view(mx.uint32 if size % 4 == 0 else mx.uint16 if size % 2 == 0 else mx.uint8)
    places = np.linspace(0, words.size - 1, min(SAMPLES, words.size)).astype(np.int64)
    some = words[mx.array(places)].astype(mx.uint32)
    total = mx.sum(words.astype(mx.uint32))
    return np.array(mx.concatenate([total.reshape(1), some])).astype("<u4").tobytes()


def _name(tokenizer: Any, config: Mapping[str, Any]) -> str:
    """What reports call the model: a name on the hub, or the last part of the tokenizer's path."""
    word = getattr(tokenizer, "name_or_path", "")
    word = readable(inert(word)).strip() if isinstance(word, str) else ""
    if word and os.path.abspath(word) == str(resources.files("mqf_tui.demo") / "model"):
        return "demo"
    if "\\" in word:
        word = PureWindowsPath(word).name
    elif word and (not HUB_NAME.fullmatch(word) or os.path.exists(word)):
        word = folder_name(Path(word))
    return word or str(config["model_type"])
