"""Weights and tokenizer into memory (mlx); everything that can be refused was refused before."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.errors import (
    BrokenWeightsError,
    NotANumberError,
    OutOfMemoryError,
    UnsupportedModelError,
    brief,
)
from mqf_tui.fidelity.facts import ModelFacts
from mqf_tui.fidelity.loaded import LoadedFacts

MARGIN = 1.1  # weights, and a little for caches and logits


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
        from transformers import AutoTokenizer

        logging.getLogger("transformers").setLevel(logging.ERROR)
        try:
            return AutoTokenizer.from_pretrained(
                facts.folder, local_files_only=True, trust_remote_code=trust_remote_code
            )
        except Exception as error:
            raise BrokenWeightsError(
                f"the tokenizer of {facts.name} cannot be loaded ({brief(error)}); download the model again."
            ) from error


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
    with _quiet():
        from mlx_lm.utils import load_model as load

        try:
            return load(facts.folder, lazy=True, trust_remote_code=trust_remote_code)[0]
        except (ValueError, KeyError, IndexError, OSError, RuntimeError) as error:
            raise BrokenWeightsError(
                f"the weights of {facts.name} do not fit its configuration ({brief(error)}); "
                "download the model again or convert it anew."
            ) from error
        except (TypeError, AttributeError, NotImplementedError, ImportError) as error:
            raise UnsupportedModelError(
                f"mlx-lm cannot build {facts.name} ({brief(error)}); upgrade mlx-lm or choose another model."
            ) from error


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

    need = MARGIN * (facts.n_parameters * 4 if device.is_cpu else facts.size_bytes) / n_parts
    if need > device.memory_bytes:
        raise OutOfMemoryError(
            f"{facts.name} needs about {size(need)} of memory here and {size(device.memory_bytes)} are free; "
            "close other programs or take a smaller model."
        )


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Libraries that print or warn while they load would draw over the app's screen."""
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield
