"""What may be done to the keys and the values of a cache layer, and what it costs (no mlx)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mqf_tui.fidelity.errors import BadSettingError

Mode = Literal["affine", "mxfp4", "mxfp8", "nvfp4"]
Kernel = Literal["auto", "quantized", "dequantized", "emulated"]

AFFINE_BITS = (2, 3, 4, 5, 6, 8)
AFFINE_GROUPS = (32, 64, 128)
FULL = 16  # the word for "not quantized" among bits, whatever the cache's own number format
# Bits and group size of the formats that have one of each (OCP MX 1.0; NVFP4).
FIXED: dict[str, tuple[int, int]] = {"mxfp4": (4, 32), "mxfp8": (8, 32), "nvfp4": (4, 16)}
MODES: tuple[Mode, ...] = ("affine", "mxfp4", "mxfp8", "nvfp4")
KERNELS: tuple[Kernel, ...] = ("auto", "quantized", "dequantized", "emulated")


@dataclass(frozen=True)
class Quantizer:
    """One format of ``mx.quantize``. Raises BadSettingError from ``check()`` where it does not exist."""

    bits: int
    group_size: int
    mode: Mode = "affine"

    @classmethod
    def fixed(cls, mode: Mode) -> Quantizer:
        """The one quantizer of a format that has no choice of bits and group."""
        return cls(*FIXED[mode], mode)

    def check(self) -> None:
        """Raise BadSettingError where MLX has no such format."""
        if self.mode not in MODES:
            raise BadSettingError(f"mode {self.mode!r} does not exist; choose one of {', '.join(MODES)}.")
        if self.mode != "affine":
            if (self.bits, self.group_size) != FIXED[self.mode]:
                bits, group = FIXED[self.mode]
                raise BadSettingError(f"{self.mode} has {bits} bits in groups of {group}, and no others.")
        elif type(self.bits) is not int:
            raise BadSettingError(f"the bits of a KV cache are {self.bits!r}; use a whole number.")
        elif self.bits not in AFFINE_BITS:
            raise BadSettingError(
                f"{self.bits} bits do not exist for a KV cache; choose one of {_listed(AFFINE_BITS)}."
            )
        elif self.group_size not in AFFINE_GROUPS:
            raise BadSettingError(
                f"group size {self.group_size} does not exist; choose one of {_listed(AFFINE_GROUPS)}."
            )

    def fits(self, dim: int) -> bool:
        """Whether rows of ``dim`` numbers are whole groups."""
        return dim > 0 and dim % self.group_size == 0

    def bytes_per_value(self, number_bytes: int) -> float:
        """Bytes that one number takes: its bits, and its share of the group's scale (and bias).

        Affine groups have both in the cache's own number format of ``number_bytes``; the others one byte.
        """
        scales = 2 * number_bytes if self.mode == "affine" else 1
        return self.bits / 8 + scales / self.group_size

    @property
    def word(self) -> str:
        """``4`` or ``mxfp4``."""
        return str(self.bits) if self.mode == "affine" else self.mode


@dataclass(frozen=True)
class LayerQuantizers:
    """What is done to one layer's keys and values; None: kept in full precision."""

    keys: Quantizer | None = None
    values: Quantizer | None = None

    @property
    def full(self) -> bool:
        """Whether nothing is quantized."""
        return self.keys is None and self.values is None

    @property
    def layout(self) -> tuple[object, ...]:
        """What decides which cache holds it, and whether it can: all but the width of a number.

        Whether both sides are alike, and of each its group, its format and whether whole words are filled.
        """
        sides = (self.keys, self.values)
        parts = (None if q is None else (q.group_size, q.mode, 32 % q.bits == 0) for q in sides)
        return (self.keys == self.values, *parts)

    @property
    def word(self) -> str:
        """``4g64``, ``k8v4g64``, ``k8g64v4g32``, ``mxfp4``, ``k16v4g64``, ``16``: what ``parsed`` reads."""
        k, v = self.keys, self.values
        if k is None and v is None:
            return str(FULL)
        if k == v:
            assert k is not None
            return k.word + _group(k)
        groups = {q.group_size for q in (k, v) if q is not None and q.mode == "affine"}
        if len(groups) == 1:
            return f"k{_side(k)}v{_side(v)}g{groups.pop()}"
        return f"k{_side(k)}{_group(k)}v{_side(v)}{_group(v)}"


FORMAT = r"(\d{1,4}|mxfp4|mxfp8|nvfp4)(?:g(\d{1,4}))?"
_BOTH = re.compile(rf"(?:kv)?{FORMAT}")
_APART = re.compile(rf"k{FORMAT}v{FORMAT}")


def parsed(word: str, group_size: int = 64) -> LayerQuantizers:
    """The quantizers that a word such as ``4``, ``k8v4``, ``k8v4g32``, ``mxfp8`` or ``k16v4`` means.

    16 is full precision. A group that stands at the end only counts for both; where none stands it is
    ``group_size``. Raises BadSettingError.
    """
    given = word.strip().lower()
    if match := _BOTH.fullmatch(given):
        one = _quantizer(match[1], match[2], group_size)
        return LayerQuantizers(one, one)
    if match := _APART.fullmatch(given):
        last = int(match[4] or group_size)
        # A group at the end is the keys' too, so it may stand behind values that have one of their own.
        own = None if match[3] in FIXED and match[1] not in FIXED else match[4]
        return LayerQuantizers(_quantizer(match[1], match[2], last), _quantizer(match[3], own, group_size))
    raise BadSettingError(
        f"{word!r} is no KV format; use bits such as 4, keys and values apart such as k8v4 or k8v4g32 "
        "(16: full precision), or one of mxfp4, mxfp8, nvfp4."
    )


def quantizer(bits: int, group_size: int, mode: Mode = "affine") -> Quantizer | None:
    """The quantizer of settings; None for 16 bits, which is full precision."""
    if bits == FULL and mode == "affine":
        return None
    return Quantizer(bits, group_size, mode) if mode == "affine" else Quantizer.fixed(mode)


def _quantizer(word: str, group: str | None, group_size: int) -> Quantizer | None:
    """``group``: the one that stands with the word, None where none does; then it is ``group_size``."""
    if not word.isdigit():
        mode: Mode = word  # pyright: ignore[reportAssignmentType] (the pattern has these words only)
        if group is not None and int(group) != FIXED[mode][1]:
            raise BadSettingError(
                f"{mode} has groups of {FIXED[mode][1]}, and no others; leave out g{group}."
            )
        return Quantizer.fixed(mode)
    found = quantizer(int(word), int(group or group_size))
    if found is not None:
        found.check()
    return found


def _side(q: Quantizer | None) -> str:
    return str(FULL) if q is None else q.word


def _group(q: Quantizer | None) -> str:
    return "" if q is None or q.mode != "affine" else f"g{q.group_size}"


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(map(str, values[:-1])) + f" or {values[-1]}"
