"""Weights and tokenizer into memory (mlx); everything that can be refused was refused before."""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten, tree_map

from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.errors import (
    BrokenWeightsError,
    FidelityError,
    NotANumberError,
    OutOfMemoryError,
    UnsupportedModelError,
    brief,
)
from mqf_tui.fidelity.libraries import ONE_AT_A_TIME
from mqf_tui.fidelity.model.about import load_bytes
from mqf_tui.fidelity.model.bounded import read_plain
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.model.headers import MAX_CONFIG
from mqf_tui.fidelity.model.loaded import LoadedFacts

PLAIN = (nn.Linear, nn.Embedding, nn.RMSNorm, nn.LayerNorm)


@dataclass(frozen=True)
class Loaded:
    """A model on its way into memory; ``share`` (0..1) of it is there."""

    model: Any
    share: float


def load_tokenizer(facts: ModelFacts, *, trust_remote_code: bool = False) -> Any:
    """The model's own tokenizer (transformers); raises BrokenWeightsError."""
    if isinstance(facts, LoadedFacts):
        return facts.tokenizer
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    with _quiet():
        import transformers

        logging.getLogger("transformers").setLevel(logging.ERROR)
        try:
            tokenizer = _tokenizer(transformers, facts, trust_remote_code)
            tokenizer.encode("a")
            return tokenizer
        except BaseException as error:
            # A panic of the tokenizers library is no Exception, and still only a broken file.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise BrokenWeightsError(
                f"the tokenizer of {facts.name} cannot be loaded ({brief(error)}); download the model again."
            ) from error


def _tokenizer(transformers: Any, facts: ModelFacts, trusted: bool) -> Any:
    from huggingface_hub.errors import StrictDataclassError

    load = transformers.AutoTokenizer.from_pretrained
    options = {"local_files_only": True, "trust_remote_code": trusted}
    try:
        return load(facts.folder, **options)
    except (StrictDataclassError, TypeError):
        # The model's configuration is not as transformers wants it; a tokenizer needs nothing of that.
        return load(facts.folder, config=transformers.PreTrainedConfig(), **options)


def load_model(
    facts: ModelFacts,
    device: Device,
    *,
    trust_remote_code: bool = False,
    part: Callable[[Any], None] | None = None,
    n_parts: int = 1,
) -> Iterator[Loaded]:
    """Load the model layer by layer, yielding after each.

    ``part``: takes from the model, before any weight is read, what other processes hold; this one is then
    left with about an ``n_parts``-th of it.

    On a CPU device quantized weights are dequantized and everything is cast to float32: MLX computes
    quantized and half-precision products there hundreds of times slower. Elsewhere it stays as it is.

    Raises BrokenWeightsError, UnsupportedModelError, NotANumberError, OutOfMemoryError.
    """
    _check_memory(facts, device, n_parts)
    model = lazy_model(facts, trust_remote_code)
    if device.is_cpu:
        with _fitting(facts):
            model = _for_cpu(model)
    if part is not None:
        part(model)
    yield from looked_through(model)


def looked_through(model: Any) -> Iterator[Loaded]:
    """Have the weights computed layer by layer, yielding after each; raises NotANumberError."""
    pieces = [*model.layers, model]
    checked: set[int] = set()
    for index, piece in enumerate(pieces):
        mx.eval(piece.parameters())
        checked |= _check_numbers(piece, checked)
        yield Loaded(model, (index + 1) / len(pieces))
    mx.clear_cache()


def compute_words(facts: ModelFacts, device: Device) -> str:
    """How the model computes here, for the report."""
    if not device.is_cpu:
        return f"{facts.weights} weights, as they are"
    if facts.weight_bits is not None:
        return f"{facts.weights} weights dequantized to float32"
    return f"{facts.dtype} weights cast to float32" if facts.dtype != "float32" else "float32 weights"


def lazy_model(facts: ModelFacts, trust_remote_code: bool) -> Any:
    """The model with none of its weights read yet; raises BrokenWeightsError, UnsupportedModelError."""
    _check_unchanged(facts)
    with _quiet() as said, _fitting(facts), _staying(facts, said):
        from mlx_lm.utils import load_model as load

        model = load(facts.folder, lazy=True, trust_remote_code=trust_remote_code)[0]
    _check_kinds(facts, model)
    return model


@contextlib.contextmanager
def _staying(facts: ModelFacts, said: io.StringIO) -> Generator[None]:
    """A module of mlx-lm that would end the program (OLMo's, where a package is missing) is refused."""
    try:
        yield
    except SystemExit as error:
        why = " ".join(said.getvalue().split())[-200:] or "its module ends the program"
        raise UnsupportedModelError(
            f"mlx-lm cannot build {facts.name} ({why}); install what it asks for, or choose another model."
        ) from error


@contextlib.contextmanager
def _fitting(facts: ModelFacts) -> Generator[None]:
    """What mlx-lm says of a model that it cannot make, in a sentence."""
    try:
        yield
    except (FidelityError, MemoryError):
        raise
    except (ValueError, KeyError, IndexError, OSError, RuntimeError) as error:
        raise BrokenWeightsError(
            f"the weights of {facts.name} do not fit its configuration ({brief(error)}); "
            "download the model again or convert it anew."
        ) from error
    except Exception as error:
        raise UnsupportedModelError(
            f"mlx-lm cannot build {facts.name} ({brief(error)}); upgrade mlx-lm or choose another model."
        ) from error


def _check_kinds(facts: ModelFacts, model: Any) -> None:
    """Raise BrokenWeightsError where plain weights are whole numbers: MLX would compute with them."""
    for path, module in model.named_modules():
        dtype = module.weight.dtype if type(module) in PLAIN and "weight" in module else mx.float32
        if not mx.issubdtype(dtype, mx.floating):
            raise BrokenWeightsError(
                f"the weights of {facts.name} do not fit its configuration ({path}.weight is of {dtype}); "
                "download the model again or convert it anew."
            )


def _check_unchanged(facts: ModelFacts) -> None:
    """What was looked at must be what is loaded: the folder may have been changed in between."""
    if not facts.config_hash:
        return
    with contextlib.suppress(OSError):  # mlx-lm will say it
        raw = read_plain(facts.folder / "config.json", MAX_CONFIG)
        if not hashlib.sha256(raw).hexdigest().startswith(facts.config_hash):
            raise BrokenWeightsError(
                f"config.json of {facts.name} was changed after it was looked at; measure once more."
            )


def _for_cpu(model: Any) -> Any:
    from mlx_lm.utils import dequantize_model

    def cast(array: mx.array) -> mx.array:
        return array.astype(mx.float32) if mx.issubdtype(array.dtype, mx.floating) else array

    # Scales first, or each weight would be rounded to their half precision; formats without
    # floating scales come out in half precision, so again afterwards.
    model.update(tree_map(cast, model.parameters()))
    model = dequantize_model(model)
    model.update(tree_map(cast, model.parameters()))
    return model


def _check_numbers(piece: Any, checked: set[int]) -> set[int]:
    """Look at the arrays whose ids are not in ``checked``; return theirs. Raises NotANumberError."""
    flat: Any = tree_flatten(piece.parameters())
    new = {name: a for name, a in flat if id(a) not in checked and mx.issubdtype(a.dtype, mx.floating)}
    bad = {name: mx.isnan(a).any() for name, a in new.items()}
    if not bad or not mx.stack(list(bad.values())).any().item():
        return {id(a) for a in new.values()}
    name = next(name for name, found in bad.items() if found.item())
    raise NotANumberError(
        f"the weights hold not-a-number values (in {name}), so nothing can be computed with them; "
        "download the model again or convert it anew."
    )


def _check_memory(facts: ModelFacts, device: Device, n_parts: int) -> None:
    from mqf_tui.reports.text import size

    need = load_bytes(facts, device.is_cpu) / n_parts
    if need > device.memory_bytes:
        raise OutOfMemoryError(
            f"{facts.name} needs about {size(need)} of memory here and {size(device.memory_bytes)} are free; "
            "close other programs or take a smaller model."
        )


@contextlib.contextmanager
def _quiet() -> Generator[io.StringIO]:
    """Libraries that print or warn while they load would draw over the app's screen; what they print.

    One thread at a time: it is the process's streams and filters that are put aside.
    """
    with (
        ONE_AT_A_TIME,
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()) as said,
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield said
