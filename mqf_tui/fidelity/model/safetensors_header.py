"""The header of one safetensors file, held against the file: what MLX would trust must be true."""

from __future__ import annotations

import json
import math
import operator
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mqf_tui.fidelity.errors import BrokenWeightsError
from mqf_tui.fidelity.model.bounded import open_plain, parsed
from mqf_tui.reports.text import size

MAX_HEADER = 8_000_000  # bytes; one file of a real model has a few thousand tensors at most
# What files begin with that are called *.safetensors and are something else.
PICKLE = "a Python pickle under another name, which can hold code; do not use this model"
DISGUISES = (
    (b"version ", "only a Git LFS pointer, not the weights; run `git lfs pull` or download the model again"),
    (b"PK\x03\x04", PICKLE),
    *((start, PICKLE) for start in (b"\x80\x02\x8a\x0a", b"\x80\x02}q", b"\x80\x04\x95", b"\x80\x05\x95")),
    (b"GGUF", "a GGUF file under another name; convert the original model with `mlx_lm.convert`"),
    (b"<!DOCTYP", "a web page, not the weights; download the model again"),
)
# Bytes a number, of all that MLX reads.
NUMBERS = {
    "BOOL": 1, "U8": 1, "I8": 1, "F8_E4M3": 1, "F8_E8M0": 1, "U16": 2, "I16": 2, "F16": 2, "BF16": 2,
    "U32": 4, "I32": 4, "F32": 4, "U64": 8, "I64": 8, "C64": 8,
}  # fmt: skip
MAX_DIMENSION = 2**31 - 1  # MLX's own; a larger one would wrap around


class Tensor(NamedTuple):
    """One tensor of a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> Iterator[Tensor]:
    """The tensors of one safetensors file.

    Raises BrokenWeightsError where header and file disagree or MLX could not read it, OSError.
    """
    with open_plain(path) as file:
        held = os.fstat(file.fileno()).st_size
        start = file.read(8)
        for magic, words in DISGUISES:
            if start.startswith(magic):
                raise BrokenWeightsError(f"{path.name} is {words}.")
        length = int.from_bytes(start, "little")
        if len(start) < 8 or 8 + length > held:
            raise _broken(path, "its header and its size disagree")
        if length > MAX_HEADER:
            raise BrokenWeightsError(
                f"the header of {path.name} has {size(length)}, more than that of any real model; "
                "do not use this file."
            )
        raw = file.read(length)
    try:
        yield from _tensors(path.name, raw, held - 8 - length)
    except _HeaderError as error:
        raise _broken(path, str(error)) from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
        raise _broken(path, "its header cannot be understood") from error


_FIELDS = operator.itemgetter("dtype", "shape", "data_offsets")


class _HeaderError(ValueError):
    """What is wrong with a header, in words."""


def _no_fraction(text: str) -> None:
    raise _HeaderError(f"its header holds the number {text[:20]}")


_DECODER = json.JSONDecoder(parse_float=_no_fraction, parse_constant=_no_fraction)


def _tensors(file: str, raw: bytes, n_bytes: int) -> list[Tensor]:
    """The tensors of a header of ``n_bytes`` of data; raises BrokenWeightsError, or what wrong JSON gives."""
    header: dict[str, Any] = parsed(raw, _DECODER)
    about = header.pop("__metadata__", None) or {}  # MLX writes null for none
    if not all(isinstance(value, str) for value in about.values()):
        raise _HeaderError("its metadata are no text")
    if raw.count(b'"data_offsets"') > len(header):
        raise _HeaderError("its header names a tensor twice")
    if b"\\u" in raw:
        "".join(header).encode("utf-8")  # half a surrogate pair would not come through MLX
    if (sound := _all_sound(header, n_bytes)) is not None:
        return sound
    tensors: list[Tensor] = []
    places: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        dtype, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        if dtype not in NUMBERS:
            raise BrokenWeightsError(
                f"{file} holds numbers of type {str(dtype)[:20]!r} (in {name[:80]}), which MLX cannot read; "
                "convert the original model with `mlx_lm.convert`."
            )
        if shape and not 0 <= min(shape) <= max(shape) <= MAX_DIMENSION:
            raise _HeaderError(f"{name[:80]} has an impossible shape")
        if math.prod(shape) * NUMBERS[dtype] != end - begin:
            raise _HeaderError(f"{name[:80]} takes other space than its shape needs")
        tensors.append(Tensor(name, dtype, tuple(shape)))
        places.append((begin, end, name))
    places.sort()
    last = 0
    for begin, end, name in places:
        if begin < last:
            raise _HeaderError(f"{name[:80]} lies where another tensor is")
        last = end
    if last != n_bytes:
        raise _HeaderError("its header and its size disagree")
    return tensors


def _all_sound(header: dict[str, Any], n_bytes: int) -> list[Tensor] | None:
    """All tensors at once, where they are as they should be and lie without gaps: a list of models has tens
    of thousands. None: each must be looked at, to accept or to name it."""
    try:
        dtypes, listed, places = zip(*map(_FIELDS, header.values()), strict=True)
        shapes = [*map(tuple, listed)]
        kinds = [*zip(dtypes, shapes, strict=True)]
        takes = {kind: _n_bytes(*kind) for kind in set(kinds)}
        begins, ends = zip(*places, strict=True)
        fits = all(map(operator.eq, map(takes.__getitem__, kinds), map(operator.sub, ends, begins)))
        if begins != (0, *ends[:-1]):  # they need not lie in the order of their names
            begins, ends = zip(*sorted(places), strict=True)
    except (ValueError, LookupError, TypeError):
        return None
    if not fits or begins != (0, *ends[:-1]) or ends[-1] != n_bytes:
        return None
    return [*map(Tensor._make, zip(header, dtypes, shapes, strict=True))]


def _n_bytes(dtype: str, shape: tuple[int, ...]) -> int:
    if shape and not 0 <= min(shape) <= max(shape) <= MAX_DIMENSION:
        raise ValueError
    return math.prod(shape) * NUMBERS[dtype]


def _broken(path: Path, why: str) -> BrokenWeightsError:
    return BrokenWeightsError(f"{path.name} is truncated or damaged ({why}); download the model again.")
