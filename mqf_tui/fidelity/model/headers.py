"""Weights as their files' headers describe them; no tensor is read."""

from __future__ import annotations

import codecs
import contextlib
import hashlib
import math
import operator
import os
import re
from collections import Counter
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mqf_tui.fidelity.errors import BrokenWeightsError, ModelNotFoundError
from mqf_tui.fidelity.model.bounded import (
    NotAFileError,
    TooLargeError,
    TooManyPartsError,
    parsed,
    read_plain,
)
from mqf_tui.fidelity.model.safetensors_header import Tensor, read_header
from mqf_tui.reports.text import readable, size

INDEX = "model.safetensors.index.json"
MAX_CONFIG = 8_000_000  # bytes
MAX_INDEX = 24_000_000  # of all files of a model: those with unstacked experts have 140,000 tensors
OTHER_FORMATS = {
    ".gguf": "GGUF",
    ".bin": "PyTorch pickle",
    ".pt": "PyTorch pickle",
    ".pth": "PyTorch pickle",
    ".npz": "NPZ",
}
WIDTHS = (1, 2, 3, 4, 5, 6, 8)  # bits that MLX packs
GROUPS = (64, 32, 128, 16)  # numbers with a scale in common, the usual ones first
SAMPLE = 65_536
ADAPTER = {"adapter_config.json", "adapters.safetensors", "adapters.npz", "adapter_model.safetensors"}
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Weights:
    """All tensors of a model folder; ``size_bytes`` of the files.

    Hashes are the beginnings of SHA-256: ``config_hash`` of config.json, ``weights_hash`` of the index and of
    samples of the weight files, ``content_hash`` of config.json and the samples together.
    """

    tensors: tuple[Tensor, ...]
    size_bytes: int
    content_hash: str
    config_hash: str = ""
    weights_hash: str = ""

    @cached_property
    def by_name(self) -> dict[str, Tensor]:
        """The tensors by their names."""
        return {tensor[0]: tensor for tensor in self.tensors}

    @cached_property
    def kinds(self) -> Counter[tuple[str, tuple[int, ...]]]:
        """How many tensors have a number format and a shape."""
        return Counter(map(operator.itemgetter(1, 2), self.tensors))

    @cached_property
    def packed(self) -> dict[str, tuple[Tensor, Tensor]]:
        """Weight and scales of each quantized matrix, by what their names begin with."""
        ends = ".scales"
        stems = [name[: -len(ends)] for name, _, _ in self.tensors if name.endswith(ends)]
        pairs = {stem: (self.by_name.get(f"{stem}.weight"), self.by_name[stem + ends]) for stem in stems}
        return {stem: (weight, scales) for stem, (weight, scales) in pairs.items() if weight is not None}


def folder_name(folder: Path) -> str:
    """The folder's last part; for a snapshot in a Hugging Face cache the repository's name."""
    path = Path(os.path.abspath(folder))
    if path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--"):
        return readable(path.parent.parent.name.removeprefix("models--").replace("--", "/"))
    return readable(path.name)


def revision(folder: Path) -> str:
    """The commit of a snapshot in a Hugging Face cache, which is its folder's name; else nothing."""
    path = Path(os.path.abspath(folder))
    snapshot = path.parent.name == "snapshots" and path.parent.parent.name.startswith("models--")
    return path.name if snapshot and COMMIT.fullmatch(path.name) else ""


def read_weights(folder: Path, *, hashed: bool = True) -> Weights:
    """Read the headers of every weight file; raises BrokenWeightsError, ModelNotFoundError.

    ``hashed``: samples of the data are read too, for the hashes, which stay empty without.
    """
    files = weight_files(folder)
    tensors: list[Tensor] = []
    size = 0
    for path in files:
        with _readable(path):
            tensors += read_header(path)
            size += path.stat().st_size
    return Weights(tuple(tensors), size, *(hashes(folder, files) if hashed else ("", "", "")))


def hashes(folder: Path, files: Sequence[Path]) -> tuple[str, str, str]:
    """The three hashes of a model with these weight files, in the order of ``Weights``."""
    config = read_plain(folder / "config.json", MAX_CONFIG)
    digest, own = hashlib.sha256(config), hashlib.sha256(_index_bytes(folder))
    for path in files:
        with _readable(path):
            samples = b"".join(_samples(path))
        digest.update(samples)
        own.update(samples)
    return digest.hexdigest()[:12], hashlib.sha256(config).hexdigest()[:16], own.hexdigest()[:16]


@contextlib.contextmanager
def _readable(path: Path) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise BrokenWeightsError(
            f"{path.name} cannot be read ({error.strerror}); check its permissions or download "
            "the model again."
        ) from error


def _index_bytes(folder: Path) -> bytes:
    index = folder / INDEX
    return read_plain(index, MAX_INDEX) if index.exists() else b""


def weight_files(folder: Path) -> list[Path]:
    """The weight files that mlx-lm will load, checked against the index."""
    names = sorted(name for name in os.listdir(folder) if name.startswith("model"))
    found = [folder / name for name in names if name.endswith(".safetensors")]
    index = folder / INDEX
    if index.exists():
        wanted = _indexed(index)
        absent = sorted(name for name in wanted if not os.path.exists(folder / name))
        if absent:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            raise BrokenWeightsError(
                f"the weight file {absent[0][:80]}{more} is missing from {folder_name(folder)}; "
                "finish the download of the model."
            )
    if found:
        return found
    other = next((kind for p in sorted(folder.iterdir()) if (kind := OTHER_FORMATS.get(p.suffix))), None)
    if other:
        raise BrokenWeightsError(
            f"{folder_name(folder)} holds {other} weights; only MLX's safetensors can be measured, so "
            "convert the original model with `mlx_lm.convert` or take one from mlx-community."
        )
    if any(folder.glob("*.safetensors")):
        raise BrokenWeightsError(
            f"{folder_name(folder)} has safetensors but none named model*.safetensors, which mlx-lm loads; "
            "convert it with `mlx_lm.convert` or rename the file."
        )
    raise BrokenWeightsError(
        f"{folder_name(folder)} has a configuration but no weights; finish the download of the model."
    )


def parameters(weights: Weights, group_size: int | None = None, own: Mapping[str, int] | None = None) -> int:
    """Number of parameters, packed ones counted unpacked.

    ``group_size`` is the configuration's, ``own`` the group sizes of layers that it names apart.
    """
    total = sum(math.prod(shape) * n for (_, shape), n in weights.kinds.items())
    more: dict[object, int] = {}  # most matrices have the shapes of another one
    for stem, (packed, scales) in weights.packed.items():
        biases = weights.by_name.get(f"{stem}.biases")
        group = (own or {}).get(stem) or group_size or 64
        key = packed[1:], scales.shape, biases and biases.shape, group
        if key not in more:
            more[key] = -math.prod(scales.shape) - (math.prod(biases.shape) if biases else 0)
            if packed.dtype == "U32":
                more[key] += _unpacked(packed, scales, group) - math.prod(packed.shape)
        total += more[key]
    return total


def _unpacked(tensor: Tensor, scales: Tensor, group_size: int) -> int:
    # bits · group = 32 · words per group, so the pair is only unique with the configuration's group;
    # where that cannot be, the usual ones are tried.
    words = tensor.shape[-1] / scales.shape[-1]
    for group in (group_size, *GROUPS):
        if 32 * words / group in WIDTHS:
            return math.prod(scales.shape) * group
    return math.prod(tensor.shape) * 8


def indexed(index: Path) -> set[Any]:
    """The files that an index names, of whatever kind they are.

    Raises OSError, and for wrong JSON ValueError, LookupError, TypeError, AttributeError or RecursionError.
    """
    return set(parsed(read_plain(index, MAX_INDEX))["weight_map"].values())


def _indexed(index: Path) -> set[str]:
    try:
        names = indexed(index)
    except TooLargeError as error:
        raise BrokenWeightsError(
            f"{index.name} has {size(error.size)}, more than that of any model; download the model again."
        ) from error
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError) as error:
        why = f" ({error.strerror})" if isinstance(error, OSError) and error.strerror else ""
        raise BrokenWeightsError(f"{index.name} cannot be read{why}; download the model again.") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or "\\" in name:
            raise BrokenWeightsError(
                f"{index.name} points outside its folder ({str(name)[:80]!r}); do not use this model."
            )
    return names


def _samples(path: Path) -> Iterator[bytes]:
    """Size, and a few blocks over the whole file: tells fine-tunes apart without reading 40 GB."""
    size = path.stat().st_size
    yield size.to_bytes(8, "little")
    with path.open("rb") as file:
        for k in range(8):
            file.seek(max(0, size - SAMPLE) * k // 7)
            yield file.read(SAMPLE)


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json; raises ModelNotFoundError, BrokenWeightsError."""
    path, name = folder / "config.json", folder_name(folder)
    try:
        raw = read_plain(path, MAX_CONFIG)
    except FileNotFoundError as error:
        raise ModelNotFoundError(_no_config(folder)) from error
    except TooLargeError as error:
        raise BrokenWeightsError(
            f"config.json of {name} has {size(error.size)}, more than that of any model; "
            "download the model again."
        ) from error
    except NotAFileError as error:
        raise ModelNotFoundError(
            f"config.json of {name} cannot be read ({error.strerror}); download the model again."
        ) from error
    except OSError as error:
        raise ModelNotFoundError(
            f"config.json of {name} cannot be read ({error.strerror}); check its permissions."
        ) from error
    try:
        config = parsed(raw)
    except TooManyPartsError as error:
        raise BrokenWeightsError(
            f"config.json of {name} has more parts than that of any model; download the model again."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BrokenWeightsError(
            f"config.json of {name} is not valid JSON{_encoding(raw)}; download the model again."
        ) from error
    if not isinstance(config, dict):
        raise BrokenWeightsError(f"config.json of {name} is not an object; download the model again.")
    return config


def _no_config(folder: Path) -> str:
    if not folder.is_dir():
        return f"the model folder {folder} is gone; name another one, or see `mqf-tui models`."
    name = folder_name(folder)
    if (folder / "config.json").is_symlink():
        return f"config.json of {name} is a link to a file that is gone; finish the download of the model."
    held = {path.name for path in folder.iterdir()}
    if held & ADAPTER:
        return f"{name} is an adapter without its model; join the two with `mlx_lm.fuse` and name the result."
    empty = "has no config.json" if held else "is empty"
    return f"{name} {empty}, so it is no model folder; name one that `mlx_lm` would load."


def _encoding(raw: bytes) -> str:
    """What else than JSON in UTF-8 it is, where that can be told."""
    if not raw:
        return " (it is empty)"
    if raw.startswith(codecs.BOM_UTF8):
        return " (it begins with a byte order mark)"
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return " (it is not UTF-8)"
    return ""
