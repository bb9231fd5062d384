"""Weights as their files' headers describe them; no tensor is read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mqf_tui.fidelity.errors import BrokenWeightsError, ModelNotFoundError
from mqf_tui.reports.text import readable

INDEX = "model.safetensors.index.json"
MAX_HEADER = 100_000_000
OTHER_FORMATS = {
    ".gguf": "GGUF",
    ".bin": "PyTorch pickle",
    ".pt": "PyTorch pickle",
    ".pth": "PyTorch pickle",
    ".npz": "NPZ",
}
SAMPLE = 65_536
COMMIT = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True)
class Tensor:
    """One tensor of a safetensors file."""

    name: str
    dtype: str
    shape: tuple[int, ...]


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
    config = (folder / "config.json").read_bytes()
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
    return index.read_bytes() if index.exists() else b""


def weight_files(folder: Path) -> list[Path]:
    """The weight files that mlx-lm will load, checked against the index."""
    found = sorted(folder.glob("model*.safetensors"))
    index = folder / INDEX
    if index.exists():
        wanted = _indexed(index)
        absent = sorted(name for name in wanted if not (folder / name).exists())
        if absent:
            more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
            raise BrokenWeightsError(
                f"the weight file {absent[0]}{more} is missing from {folder_name(folder)}; "
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


def read_header(path: Path) -> Iterator[Tensor]:
    """The tensors of one safetensors file; raises BrokenWeightsError where file and header disagree."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        if start.startswith(b"version "):
            raise BrokenWeightsError(
                f"{path.name} is only a Git LFS pointer, not the weights; run `git lfs pull` or download "
                "the model again."
            )
        length = int.from_bytes(start, "little")
        if len(start) < 8 or length > MAX_HEADER or 8 + length > size:
            raise _broken(path)
        try:
            header: dict[str, Any] = json.loads(file.read(length))
            header.pop("__metadata__", None)
            ends = [int(entry["data_offsets"][1]) for entry in header.values()]
            tensors = [Tensor(n, str(e["dtype"]), tuple(map(int, e["shape"]))) for n, e in header.items()]
        except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError) as error:
            raise _broken(path) from error
    if 8 + length + max(ends, default=0) != size:
        raise _broken(path)
    yield from tensors


def parameters(weights: Weights, group_size: int | None = None, own: Mapping[str, int] | None = None) -> int:
    """Number of parameters, packed ones counted unpacked.

    ``group_size`` is the configuration's, ``own`` the group sizes of layers that it names apart.
    """
    by_name = {t.name: t for t in weights.tensors}
    total = 0
    for tensor in weights.tensors:
        stem, _, last = tensor.name.rpartition(".")
        packed = by_name.get(f"{stem}.scales")
        if last in ("scales", "biases") and f"{stem}.weight" in by_name:
            continue
        count = math.prod(tensor.shape)
        if packed is not None and tensor.dtype == "U32" and last == "weight":
            count = _unpacked(tensor, packed, (own or {}).get(stem) or group_size or 64)
        total += count
    return total


def _unpacked(tensor: Tensor, scales: Tensor, group_size: int) -> int:
    # bits · group = 32 · words per group, so the pair is only unique with the configuration's group;
    # where that cannot be, the usual ones are tried.
    words = tensor.shape[-1] / scales.shape[-1]
    for group in (group_size, 64, 32, 128, 16):
        if 32 * words / group in (1, 2, 3, 4, 5, 6, 8):
            return math.prod(scales.shape) * group
    return math.prod(tensor.shape) * 8


def _indexed(index: Path) -> set[str]:
    try:
        names = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, KeyError, TypeError, AttributeError, OSError, RecursionError) as error:
        raise BrokenWeightsError(f"{index.name} cannot be read; download the model again.") from error
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or "\\" in name:
            raise BrokenWeightsError(
                f"{index.name} points outside its folder ({name!r}); do not use this model."
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


def _broken(path: Path) -> BrokenWeightsError:
    return BrokenWeightsError(
        f"{path.name} is truncated or damaged (its header and its size disagree); download the model again."
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json; raises ModelNotFoundError, BrokenWeightsError."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise ModelNotFoundError(
                f"the model folder {folder} is gone; name another one, or see `mqf-tui models`."
            ) from error
        empty = "is empty" if not any(folder.iterdir()) else "has no config.json"
        raise ModelNotFoundError(
            f"{folder_name(folder)} {empty}, so it is no model folder; name one that `mlx_lm` would load."
        ) from error
    except OSError as error:
        raise ModelNotFoundError(
            f"config.json of {folder_name(folder)} cannot be read ({error.strerror}); check its permissions."
        ) from error
    except (ValueError, RecursionError) as error:
        raise BrokenWeightsError(
            f"config.json of {folder_name(folder)} is not valid JSON; download the model again."
        ) from error
    if not isinstance(config, dict):
        raise BrokenWeightsError(
            f"config.json of {folder_name(folder)} is not an object; download the model again."
        )
    return config
