"""What fits: a model and its KV cache at a context, in so much memory, where the model is to be used.

That is another question than what a measurement takes here (see ``planning``): the weights are as they lie
on disk, the cache has 16-bit numbers, and there is one cache.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.model.facts import ModelFacts, recipe_bytes_per_token
from mqf_tui.fidelity.model.shapes import Shape, read_shape
from mqf_tui.fidelity.quantizers import LayerQuantizers
from mqf_tui.fidelity.recipes import resolve
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.reports.text import size

NUMBER_BYTES = 2
PROMPT_STEP = 2048  # tokens of a prompt that mlx-lm feeds at a time unless told otherwise
ROWS = 4  # rows of a layer's width that one forward pass holds at a time
PROCESS = 300 * 10**6  # what MLX, Python and the libraries take beside the model

BYTES = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_NUMBER = r"(\d+(?:\.\d+)?|\.\d+)"
_BYTES = re.compile(rf"{_NUMBER}\s*([KMGT]I?B?|B)?", re.IGNORECASE | re.ASCII)
_TOKENS = re.compile(rf"{_NUMBER}\s*([KM])?", re.IGNORECASE | re.ASCII)
_THOUSANDS = re.compile(r"\d{1,3}([,_]\d{3})+(?!\d)", re.ASCII)
MAX_DIGITS = 20


@dataclass(frozen=True)
class Fit:
    """A model with one KV cache of ``context`` tokens. All sizes in bytes.

    ``prompt_bytes``: what mlx-lm's quantized attention takes beside that while it reads a prompt of the
    whole context in its default steps (0 for a full-precision cache); not part of ``need_bytes``, because
    smaller steps (``--prefill-step-size``) avoid it.
    """

    context: int
    memory_bytes: float
    weights_bytes: float
    cache_bytes: float
    working_bytes: float
    prompt_bytes: float = 0.0

    @property
    def need_bytes(self) -> float:
        """Weights, cache and working room."""
        return self.weights_bytes + self.cache_bytes + self.working_bytes

    @property
    def fits(self) -> bool:
        """Whether that is within the memory."""
        return self.need_bytes <= self.memory_bytes


def parse_tokens(word: str) -> int:
    """Tokens that ``32k``, ``131072`` or ``1M`` mean (k: 1,024; M: 1,048,576); raises BadSettingError."""
    found = _TOKENS.fullmatch(_plain(word))
    tokens = float(found[1]) * {"": 1, "K": 2**10, "M": 2**20}[(found[2] or "").upper()] if found else 0
    if tokens < 1 or tokens != int(tokens):
        raise BadSettingError(
            f"{word!r} is no number of tokens; use a whole number such as 32768, or 32k (k: 1,024)."
        )
    return int(tokens)


def parse_bytes(word: str) -> int:
    """Bytes that ``8GB``, ``7.5GiB``, ``500 MB`` or ``8G`` (as 8GB) mean; raises BadSettingError.

    A number alone counts as bytes, and too small a one is refused: it was meant otherwise.
    """
    found = _BYTES.fullmatch(_plain(word))
    if not found:
        raise BadSettingError(
            f"{word!r} is no amount of memory; use a number and a unit such as 8GB or 7.5GiB."
        )
    unit = (found[2] or "B").upper()
    amount = int(float(found[1]) * BYTES[unit if unit.endswith("B") else unit + "B"])
    if amount < 10**6:
        unitless = "" if found[2] else " (a number alone counts as bytes)"
        raise BadSettingError(
            f"{word!r} is less than 1 MB{unitless}; use a number and a unit such as 8GB or 7.5GiB."
        )
    return amount


def fits_at(
    facts: ModelFacts,
    quantizers: LayerQuantizers,
    context: int,
    memory_bytes: float,
    *,
    shape: Shape | None = None,
) -> Fit:
    """Weights as stored, a cache of ``context`` tokens with these quantizers, and working room.

    Layers that keep a bounded context are counted as they stay: in full precision.
    """
    shape = shape or read_shape(facts)
    layers = tuple(quantizers if layer.kind == "full" else LayerQuantizers() for layer in shape.cache)
    prompt = 0 if quantizers.full else shape.n_heads * min(PROMPT_STEP, context) * context * NUMBER_BYTES
    return Fit(
        context=context,
        memory_bytes=memory_bytes,
        weights_bytes=facts.size_bytes,
        cache_bytes=shape.cache_bytes(context, NUMBER_BYTES, layers),
        working_bytes=_working(shape),
        prompt_bytes=prompt,
    )


def max_kv_bytes_per_token(
    facts: ModelFacts, context: int, memory_bytes: float, *, shape: Shape | None = None
) -> float:
    """The most that one token's keys and values may take so that ``context`` tokens fit.

    Counted for a 16-bit cache and over the layers that grow with the context; what bounded layers hold is
    taken off first. Raises BadSettingError where nothing is left, or where the context is not the model's.
    """
    if facts.context and context > facts.context:
        raise BadSettingError(
            f"a context of {context:,} tokens is longer than this model's {facts.context:,}; "
            f"use --context {facts.context} or less."
        )
    shape = shape or read_shape(facts)
    bounded = sum(layer.bytes(context, NUMBER_BYTES) for layer in shape.cache if layer.bound is not None)
    fixed = facts.size_bytes + _working(shape) + bounded
    if fixed >= memory_bytes:
        raise BadSettingError(
            f"{facts.name} does not fit in {size(memory_bytes)} with any cache: its weights take "
            f"{size(facts.size_bytes)} and working room {size(_working(shape) + bounded)}; use weights of "
            "fewer bits, or more memory."
        )
    return (memory_bytes - fixed) / context


def variant_bytes_per_token(facts: ModelFacts, settings: KVSettings) -> float:
    """Bytes of a 16-bit cache's keys and values that one token takes with these settings, as far as the
    configuration tells what its layers keep. Raises BadSettingError, UnsupportedModelError."""
    shape = read_shape(facts)
    recipe = settings.recipe or resolve(
        shape.kinds,
        settings.quantizers,
        settings.layers,
        group_size=settings.kv_group_size,
        emulated=settings.kernel == "emulated",
    )
    return recipe_bytes_per_token(facts, recipe, shape.kinds, NUMBER_BYTES, shape=shape)


def fitting_words(
    facts: ModelFacts,
    formats: Sequence[LayerQuantizers],
    context: int,
    memory_bytes: float,
    *,
    shape: Shape | None = None,
) -> str:
    """One sentence: which of ``formats`` fit at this context in this memory.

    ``at 32,768 tokens in 8.0 GB: 4-bit group 64 and smaller fit.`` Raises BadSettingError as
    ``max_kv_bytes_per_token`` does.
    """
    shape = shape or read_shape(facts)
    max_kv_bytes_per_token(facts, context, memory_bytes, shape=shape)
    fits = {q: fits_at(facts, q, context, memory_bytes, shape=shape) for q in (LayerQuantizers(), *formats)}
    where = f"at {context:,} tokens in {size(memory_bytes)}"
    if fits[LayerQuantizers()].fits:
        return f"{where}: even the full-precision cache fits."
    by_size = sorted(formats, key=lambda q: fits[q].cache_bytes, reverse=True)
    kept = [q for q in by_size if fits[q].fits]
    if not kept:
        least = f"; the smallest, {format_words(by_size[-1])}, needs {size(fits[by_size[-1]].need_bytes)}"
        return f"{where}: none of the settings fits{least if by_size else ''}."
    if len(kept) == 1:
        return f"{where}: only {format_words(kept[0])} fits."
    if len(kept) == len(by_size):
        return f"{where}: all {len(kept)} settings fit."
    return f"{where}: {format_words(kept[0])} and smaller fit."


def format_words(quantizers: LayerQuantizers) -> str:
    """``4-bit group 64``, or the word that ``parsed`` reads where keys and values differ."""
    q = quantizers.keys
    if q is not None and q == quantizers.values and q.mode == "affine":
        return f"{q.bits}-bit group {q.group_size}"
    return "full precision" if quantizers.full else quantizers.word


def _working(shape: Shape) -> float:
    """One forward pass over a step of a prompt, and the process."""
    return PROCESS + ROWS * PROMPT_STEP * shape.inner * NUMBER_BYTES


def _plain(word: str) -> str:
    """Without blanks around it and separators of thousands; nothing where no person typed that."""
    plain = word.strip()
    if _THOUSANDS.match(plain):
        plain = plain.replace(",", "").replace("_", "")
    return plain if len(plain) <= MAX_DIGITS else ""
