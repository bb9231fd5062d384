"""How the weights of a model are stored, matrix by matrix, from its configuration and headers (no mlx)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mqf_tui.fidelity.model.headers import GROUPS, WIDTHS, Weights
from mqf_tui.fidelity.recipes import spans

AFFINE = "affine"
FLOATS = {"F32": "float32", "F16": "float16", "BF16": "bfloat16", "F64": "float64"}
# The formats whose scales are no numbers of the weights' own kind, by bits times group.
SCALED = {64: (4, 16, "nvfp4"), 128: (4, 32, "mxfp4"), 256: (8, 32, "mxfp8")}
# What mlx-lm takes other tools' words for it as.
METHODS = {"mxfp4": (4, 32, "mxfp4"), "mxfp8": (8, 32, "mxfp8"), "modelopt": (4, 16, "nvfp4")}
PACKED = {"nvfp4-pack-quantized": (4, 16, "nvfp4"), "mxfp4-pack-quantized": (4, 32, "mxfp4"),
          "pack-quantized": (4, 32, AFFINE)}  # fmt: skip
MAX_MODE = 16  # characters
MAX_PARTS = 4  # names of matrices that are listed
_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d{1,5})\.(.*)")

Key = tuple[int | None, int | None, str]  # bits, group size, mode


@dataclass(frozen=True)
class WeightFormat:
    """One way in which matrices are stored. ``bits`` None: not quantized, ``mode`` is the number format then.

    ``n_matrices``: how many are; ``where``: which, where these are not most of them.
    """

    bits: int | None
    group_size: int | None
    mode: str
    n_matrices: int
    where: str = ""

    @property
    def words(self) -> str:
        """``4-bit, group 64``, ``4-bit mxfp4, group 32`` or ``bfloat16``."""
        if self.bits is None:
            return self.mode
        mode = "" if self.mode == AFFINE else f" {self.mode}"
        return f"{self.bits}-bit{mode}" + (f", group {self.group_size}" if self.group_size else "")


def default_format(config: Mapping[str, Any]) -> Key:
    """Bits, group size and mode that the configuration names for all that it does not name apart."""
    entry = _entry(config)
    if entry is None:
        return None, None, ""
    bits, group = _whole(entry.get("bits")), _whole(entry.get("group_size"))
    if bits is not None:
        return bits, group, _mode(entry.get("mode")) or AFFINE
    method = str(entry.get("quant_method"))
    if method == "compressed-tensors":
        return PACKED.get(str(entry.get("format")), (None, None, ""))
    return METHODS.get(method, (None, None, ""))


def own_groups(config: Mapping[str, Any]) -> dict[str, int]:
    """Group sizes of the matrices that are quantized otherwise than the rest."""
    entry = _entry(config) or {}
    return {
        name: own["group_size"]
        for name, own in entry.items()
        if isinstance(own, dict) and isinstance(own.get("group_size"), int)
    }


def weight_formats(config: Mapping[str, Any], weights: Weights) -> tuple[WeightFormat, ...]:
    """How the matrices are stored, the most frequent way first; empty where none is quantized."""
    packed = weights.packed
    if not packed:
        return ()
    entry, default = _entry(config) or {}, default_format(config)
    found: dict[Key, list[str]] = {}
    guessed: dict[tuple[int, int, str], Key] = {}
    for stem, (weight, scales) in packed.items():
        own = entry.get(stem)
        if isinstance(own, dict) and (bits := _whole(own.get("bits"))) is not None:
            key = bits, _whole(own.get("group_size")), _mode(own.get("mode")) or default[2] or AFFINE
        else:
            shape = weight.shape[-1], scales.shape[-1], scales.dtype
            key = guessed[shape] if shape in guessed else guessed.setdefault(shape, _guessed(*shape, default))
        found.setdefault(key, []).append(stem)
    end = ".weight"
    for name, dtype, shape in weights.tensors:
        if len(shape) > 1 and name.endswith(end) and dtype in FLOATS and name[: -len(end)] not in packed:
            found.setdefault((None, None, FLOATS[dtype]), []).append(name[: -len(end)])
    ordered = sorted(found.items(), key=lambda item: (item[0][0] is None, -len(item[1]), str(item[0])))
    return tuple(
        WeightFormat(*key, len(stems), "" if rank == 0 else _where(stems))
        for rank, (key, stems) in enumerate(ordered)
    )


def short_words(formats: tuple[WeightFormat, ...]) -> str:
    """All quantized ways in few characters: ``4-bit, group 64``, or ``4/6-bit, group 64`` of a mixed one."""
    quantized = [one for one in formats if one.bits is not None]
    if len(quantized) == 1:
        return quantized[0].words
    bits = "/".join(map(str, sorted({one.bits or 0 for one in quantized})))
    modes = sorted({one.mode for one in quantized})
    mode = "" if modes == [AFFINE] else f" {'/'.join(modes)}"
    groups = "/".join(map(str, sorted({one.group_size for one in quantized if one.group_size})))
    return f"{bits}-bit{mode}" + (f", group {groups}" if groups else "")


def _entry(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the configuration says of the weights' quantization, here or in the part of the language model."""
    inner = config.get("text_config")
    for part in (config, inner if isinstance(inner, dict) else {}):
        entry = part.get("quantization") or part.get("quantization_config")
        if isinstance(entry, dict):
            return entry
    return None


def _guessed(words: int, groups: int, dtype: str, default: Key) -> Key:
    """What fits the shapes: ``words`` of 32 bits in a row and ``groups`` of values with a scale each.

    bits · group = 32 · words per group, so that the pair is only unique with the default; mlx-lm, which knows
    the rows' length, has the last word.
    """
    product = 32 * words / groups
    if default[0] is not None and default[1] is not None and default[0] * default[1] == product:
        return default
    if dtype == "U8":
        return SCALED.get(int(product), (None, None, "unknown"))
    for group in (default[1], *GROUPS):
        if group and product / group in WIDTHS:
            return int(product / group), group, AFFINE
    return None, None, "unknown"


def _where(stems: list[str]) -> str:
    """``down_proj, v_proj in layers 0-3,28-31; lm_head``."""
    layers: dict[str, list[int]] = {}
    others: list[str] = []
    for stem in stems:
        found = _LAYER.search(stem)
        if found:
            layers.setdefault(found[2].rpartition(".")[2] or found[2], []).append(int(found[1]))
        else:
            others.append(stem.rpartition(".")[2])
    alike: dict[str, list[str]] = {}
    for part, numbers in layers.items():
        alike.setdefault(spans(sorted(set(numbers))), []).append(part)
    said = [f"{_listed(parts)} in layers {numbers}" for numbers, parts in alike.items()]
    said += [_listed(list(dict.fromkeys(others)))] if others else []
    return "; ".join(said)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:MAX_PARTS]) + (", …" if len(names) > MAX_PARTS else "")


def _mode(value: Any) -> str:
    return value[:MAX_MODE] if isinstance(value, str) else ""


def _whole(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None
