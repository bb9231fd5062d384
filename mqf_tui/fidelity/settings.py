"""What is to be measured: the settings of one KV-cache measurement."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mqf_tui.fidelity.errors import BadSettingError

if TYPE_CHECKING:
    from mqf_tui.reports.schema import Thresholds

KV_BITS = (2, 3, 4, 5, 6, 8)
KV_GROUP_SIZES = (32, 64, 128)
STEP = 128  # positions per forward pass
MIN_CHUNK_LENGTH = 16


@dataclass(frozen=True)
class KVSettings:
    """One KV-cache quantization on one corpus. Lengths are in tokens.

    ``until_sure`` stops when the verdict is settled, ``precision`` when the half-width of mean KL's
    confidence sequence is that share of it, both together when both are. ``thresholds`` None: the user's
    own where the settings file has any, or else the default; ``max_kl`` (nats) and ``max_flips`` (a share)
    are the most of it that is still good, and go before both. See ``policy``.

    Raises BadSettingError from ``check()`` where a value does not exist.
    """

    model: str
    kv_bits: int = 8
    kv_group_size: int = 64
    quantize_start: int = 0
    chunk_length: int = 512
    max_chunks: int | None = None
    corpus: str = "builtin"
    trust_remote_code: bool = False
    until_sure: bool = False
    precision: float | None = None
    thresholds: Thresholds | None = None
    max_kl: float | None = None
    max_flips: float | None = None

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
        for name in ("kv_bits", "kv_group_size", "quantize_start", "chunk_length", "max_chunks"):
            value = getattr(self, name)
            if type(value) is not int and not (name == "max_chunks" and value is None):
                raise BadSettingError(f"{name} is {value!r}; use a whole number.")
        if self.kv_bits not in KV_BITS:
            raise BadSettingError(
                f"{self.kv_bits} bits do not exist for a KV cache; choose one of {_listed(KV_BITS)}."
            )
        if self.kv_group_size not in KV_GROUP_SIZES:
            raise BadSettingError(
                f"group size {self.kv_group_size} does not exist; choose one of {_listed(KV_GROUP_SIZES)}."
            )
        if self.chunk_length < MIN_CHUNK_LENGTH:
            raise BadSettingError(
                f"chunk length {self.chunk_length} is too short to measure; use at least {MIN_CHUNK_LENGTH}."
            )
        if self.max_chunks is not None and self.max_chunks < 1:
            raise BadSettingError(f"max chunks is {self.max_chunks}; use 1 or more, or leave it out for all.")
        if self.quantize_start < 0:
            raise BadSettingError(
                f"quantize start is {self.quantize_start}; use 0 (stress) or a positive number (deployment)."
            )
        if self.quantize_start > self.chunk_length - 2:
            raise BadSettingError(
                f"quantize start {self.quantize_start} leaves no position to score in chunks of "
                f"{self.chunk_length}; use at most {self.chunk_length - 2}, or longer chunks."
            )
        self._check_judging()

    def _check_judging(self) -> None:
        if type(self.until_sure) is not bool:
            raise BadSettingError(f"until_sure is {self.until_sure!r}; use True or False.")
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


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values[:-1])) + f" or {values[-1]}"
