"""What is to be measured: the settings of one KV-cache measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.quantizers import (
    AFFINE_BITS,
    AFFINE_GROUPS,
    KERNELS,
    Kernel,
    LayerQuantizers,
    Quantizer,
)
from mqf_tui.fidelity.text.options import TextOptions

if TYPE_CHECKING:
    from mqf_tui.fidelity.recipes import Recipe
    from mqf_tui.fidelity.text.mixtures import Mixture
    from mqf_tui.reports.schema import Thresholds

KV_BITS = AFFINE_BITS
KV_GROUP_SIZES = AFFINE_GROUPS
STEP = 128  # positions per forward pass
MIN_CHUNK_LENGTH = 16
KEEP_TOP, MOST_KEPT = 10, 100  # likeliest tokens that are kept of a position, unless told otherwise; at most


@dataclass(frozen=True)
class KVSettings:
    """One KV-cache quantization on one corpus. Lengths are in tokens.

    ``kv`` says what is done to keys and values where it is not the same affine quantizer for both, and goes
    before ``kv_bits`` and ``kv_group_size``. ``layers`` chooses layers (see ``recipes.resolve``), a
    ``recipe`` each one's quantizers, and goes before all of these. ``score_last``: of each chunk only the
    last so many positions are scored.

    ``until_sure`` stops when the verdict is settled, ``precision`` when the half-width of mean KL's
    confidence sequence is that share of it, both together when both are. ``thresholds`` None: the user's
    own where the settings file has any, or else the default; ``max_kl`` (nats) and ``max_flips`` (a share)
    are the most of it that is still good, and go before both. See ``policy``. ``keep_top``: of the worst
    positions and the confident flips so many of the likeliest tokens are kept (0: none; see ``tops``).
    ``text``: how the corpus is read and cut; ``mixture``: what the corpus is where its name is one of those
    that the user's corpora.toml mixes.

    Raises BadSettingError from ``check()`` where a value does not exist.
    """

    model: str
    kv_bits: int = 8
    kv_group_size: int = 64
    kv: LayerQuantizers | None = None
    layers: str | None = None
    recipe: Recipe | None = None
    kernel: Kernel = "auto"
    quantize_start: int = 0
    chunk_length: int = 512
    max_chunks: int | None = None
    score_last: int | None = None
    corpus: str = "builtin"
    trust_remote_code: bool = False
    until_sure: bool = False
    precision: float | None = None
    thresholds: Thresholds | None = None
    max_kl: float | None = None
    max_flips: float | None = None
    keep_top: int = KEEP_TOP
    text: TextOptions = field(default_factory=TextOptions)
    mixture: Mixture | None = None

    @property
    def quantizers(self) -> LayerQuantizers:
        """What is done to keys and values of a layer, where no recipe says otherwise."""
        if self.kv is not None:
            return self.kv
        one = Quantizer(self.kv_bits, self.kv_group_size)
        return LayerQuantizers(one, one)

    @property
    def word(self) -> str:
        """The variant as a short word: ``4g64``, ``k8v4g64``, ``4g64 0-3``, ``recipe``."""
        if self.recipe is not None:
            return "recipe"
        return self.quantizers.word + (f" {self.layers}" if self.layers else "")

    @property
    def first_scored(self) -> int:
        """Depth of the first position of a chunk that is scored."""
        last = self.chunk_length - 1 - (self.score_last or self.chunk_length)
        return max(self.quantize_start, last)

    @property
    def policy(self) -> Thresholds:
        """What the verdict is taken from."""
        from mqf_tui.fidelity.verdict import KV_POLICY, limited

        return limited(self.thresholds or KV_POLICY, self.max_kl, self.max_flips)

    @property
    def stops_early(self) -> bool:
        """Whether the measurement may end before its last chunk."""
        return self.until_sure or self.precision is not None

    @property
    def mode(self) -> str:
        """``stress`` or ``deployment``."""
        return "deployment" if self.quantize_start else "stress"

    def check(self) -> None:
        """Raise BadSettingError on the first value that cannot be."""
        optional = ("max_chunks", "score_last")
        whole = ("kv_bits", "kv_group_size", "quantize_start", "chunk_length", "keep_top", *optional)
        for name in whole:
            value = getattr(self, name)
            if type(value) is not int and not (name in optional and value is None):
                raise BadSettingError(f"{name} is {value!r}; use a whole number.")
        self._check_variant()
        self.text.check(self.chunk_length)
        if self.chunk_length < MIN_CHUNK_LENGTH:
            raise BadSettingError(
                f"chunk length {self.chunk_length} is too short to measure; use at least {MIN_CHUNK_LENGTH}."
            )
        if self.max_chunks is not None and self.max_chunks < 1:
            raise BadSettingError(f"max chunks is {self.max_chunks}; use 1 or more, or leave it out for all.")
        if not 0 <= self.keep_top <= MOST_KEPT:
            raise BadSettingError(
                f"keep top is {self.keep_top}; use 0 (none) to {MOST_KEPT} of the likeliest tokens."
            )
        if self.quantize_start < 0:
            raise BadSettingError(
                f"quantize start is {self.quantize_start}; use 0 (stress) or a positive number (deployment)."
            )
        if self.quantize_start > self.chunk_length - 2:
            raise BadSettingError(
                f"quantize start {self.quantize_start} leaves no position to score in chunks of "
                f"{self.chunk_length}; use at most {self.chunk_length - 2}, or longer chunks."
            )
        if self.score_last is not None and self.score_last < 1:
            raise BadSettingError(
                f"score last is {self.score_last}; use 1 or more positions, or leave it out for all."
            )
        most = self.chunk_length - 1 - self.quantize_start
        if self.score_last is not None and self.score_last > most:
            raise BadSettingError(
                f"score last {self.score_last} is more than the {most} positions that a chunk of "
                f"{self.chunk_length} has to score; use at most {most}, or leave it out."
            )
        self._check_judging()

    def _check_variant(self) -> None:
        sides = (self.quantizers.keys, self.quantizers.values)
        for quantizer in sides:
            if quantizer is not None:
                quantizer.check()
        if self.kernel not in KERNELS:
            raise BadSettingError(
                f"kernel {self.kernel!r} does not exist; choose one of {', '.join(KERNELS)}."
            )
        if self.layers is not None and not isinstance(self.layers, str):
            raise BadSettingError(
                f"layers is {self.layers!r}; use full-attention, all, or sets such as 0-3:8,4-:k8v4."
            )
        if self.recipe is None and self.layers is None and sides == (None, None):
            raise BadSettingError(
                "16 bits for keys and values quantize nothing, so there is nothing to measure; use fewer."
            )
        if self.recipe is not None:
            if self.layers is not None:
                raise BadSettingError("a recipe says what each layer gets; leave out it or the layers.")
            if not self.recipe.n_quantized:
                raise BadSettingError("the recipe quantizes no layer, so there is nothing to measure.")

    def _check_judging(self) -> None:
        for name in ("until_sure", "trust_remote_code"):
            if type(getattr(self, name)) is not bool:
                raise BadSettingError(f"{name} is {getattr(self, name)!r}; use True or False.")
        if self.precision is not None and not (is_number(self.precision) and 0 < self.precision < 1):
            raise BadSettingError(
                f"precision is {self.precision!r}; use a share of mean KL between 0 and 100 %, such as 5% "
                "or 0.05."
            )
        if self.max_kl is not None and not (is_number(self.max_kl) and self.max_kl > 0):
            raise BadSettingError(f"max KL is {self.max_kl!r}; use a mean KL in nats above 0, such as 0.02.")
        if self.max_flips is not None and not (is_number(self.max_flips) and 0 <= self.max_flips <= 1):
            raise BadSettingError(
                f"max flips is {self.max_flips!r}; use a share from 0 to 100 %, such as 1% or 0.01."
            )


def share_word(share: float) -> str:
    """A share as an option takes it, and gives it back exactly: ``5%`` or ``0.07142857142857142``."""
    word = f"{100 * share:.6g}"
    return f"{word}%" if float(word) / 100 == share else repr(float(share))


def is_number(value: object) -> bool:
    """Whether it is a finite number of Python's, and not a truth value."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond any float
        return False


# What all variants of a sweep must have in common.
SHARED = (
    *("model", "quantize_start", "chunk_length", "max_chunks", "score_last", "corpus"),
    *("trust_remote_code", "until_sure", "precision", "thresholds", "max_kl", "max_flips"),
    *("keep_top", "text", "mixture"),
)


@dataclass(frozen=True)
class SweepSettings:
    """Variants that share one reference pass: they differ in what is quantized, and in nothing else.

    ``race``: settings that are surely bad, surely worse than one that takes no more, or settled leave on the
    way. ``memory_limit``: bytes that may be used (None: what the machine has). ``sweep_id`` "" for a single
    measurement. Raises BadSettingError from ``check()``.
    """

    variants: tuple[KVSettings, ...]
    race: bool = False
    memory_limit: int | None = None
    sweep_id: str = ""

    @property
    def first(self) -> KVSettings:
        """What they have in common is in each, so in the first."""
        return self.variants[0]

    def check(self) -> None:
        """Raise BadSettingError on the first value that cannot be."""
        if not self.variants:
            raise BadSettingError("a sweep needs at least one setting to measure.")
        for variant in self.variants:
            variant.check()
            for name in SHARED:
                if getattr(variant, name) != getattr(self.first, name):
                    words = name.replace("_", " ")
                    raise BadSettingError(
                        f"the settings of a sweep differ in {words}; all share one pass of the reference, so "
                        "measure them apart."
                    )
        if self.memory_limit is not None and not (is_number(self.memory_limit) and self.memory_limit > 0):
            raise BadSettingError(
                f"memory limit is {self.memory_limit!r}; use bytes above 0, such as 8_000_000_000, or leave "
                "it out."
            )
        if len(set(self.variants)) < len(self.variants):
            raise BadSettingError("a setting is in the sweep twice; name each once.")
