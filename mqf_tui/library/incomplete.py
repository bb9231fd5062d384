"""What is missing of a model whose download has not come to its end."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mqf_tui.fidelity.model import headers
from mqf_tui.fidelity.model.facts import TOKENIZER_FILES
from mqf_tui.fidelity.model.headers import INDEX
from mqf_tui.library.hub.cache import CONFIG, PREFIX
from mqf_tui.reports.text import inert, size

WEIGHTS = ".safetensors"
OTHER_WEIGHTS = (".gguf", ".bin", ".pt", ".pth", ".npz")
HUB_PART, LM_STUDIO_PART = ".incomplete", ".part"
DOWNLOADING = "downloading_"  # what LM Studio puts before a name until the file is whole
LOCAL_PARTS = ".cache/huggingface/download"  # in a folder that `hf download --local-dir` writes to
MAX_NAMED = 2
MAX_NAME = 80


@dataclass(frozen=True)
class Missing:
    """``weights`` and ``others``: names of files that are missing; ``n_weights``: of how many weight files.

    ``n_weights`` None: no weights are here, and nothing tells how many files they should be.
    ``here_bytes``: of the weights that are here, begun ones included.
    """

    weights: tuple[str, ...]
    n_weights: int | None
    others: tuple[str, ...]
    here_bytes: int

    @property
    def words(self) -> str:
        """What is missing and how much is here."""
        parts = [self._weights] if self.weights or self.n_weights is None else []
        parts += self.others
        listed = ", ".join(parts[:-1]) + " and " + parts[-1] if len(parts) > 1 else parts[0]
        here = f" and {size(self.here_bytes)} here" if self.here_bytes else ""
        return f"{listed} missing{here}"

    @property
    def _weights(self) -> str:
        if self.n_weights is None:
            return "the weights"
        named = ", ".join(inert(name)[:MAX_NAME] for name in self.weights[:MAX_NAMED])
        more = ", …" if len(self.weights) > MAX_NAMED else ""
        files = "weight file" if self.n_weights == 1 else "weight files"
        return f"{len(self.weights)} of {self.n_weights} {files} ({named}{more})"


def missing(folder: Path) -> Missing | None:
    """What a model folder lacks; None where nothing says that it was to be downloaded."""
    blobs = _blobs(folder)
    names, wanted = _names(folder), _indexed(folder)
    if wanted is None:
        return None
    weights = {name for name in names if name.endswith(WEIGHTS) and not name.startswith(DOWNLOADING)}
    begun = sum(_begun(folder, blobs))
    others = () if CONFIG in names else (CONFIG,)
    if names.isdisjoint(TOKENIZER_FILES):
        others += ("the tokenizer",)
    absent = tuple(sorted(wanted - names))
    n_weights = len(wanted) or len(weights) or None
    if n_weights is None and not begun and any(name.endswith(OTHER_WEIGHTS) for name in names):
        return None
    if not absent and ((not others and n_weights) or (blobs is None and not begun)):
        return None
    here = begun + sum(_size(folder / name) for name in weights)
    return Missing(absent, n_weights, others, here)


def begun_download(names: Iterable[str]) -> bool:
    """Whether files of these names are what LM Studio leaves of weights while it fetches them."""
    return any(name.endswith(WEIGHTS + LM_STUDIO_PART) for name in names)


def _names(folder: Path) -> frozenset[str]:
    """The files that are here; a link to what is not here counts as none."""
    found: set[str] = set()
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            try:
                entry.stat()
            except FileNotFoundError:
                continue
            except OSError:
                pass  # it is there, and cannot be read
            found.add(entry.name)
    return frozenset(found)


def _indexed(folder: Path) -> frozenset[str] | None:
    """The weight files that there should be, none where nothing tells; None: the index cannot be trusted."""
    index = folder / INDEX
    try:
        if not index.is_file():
            return frozenset()
        names = headers.indexed(index)
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    plain = all(isinstance(name, str) and name and os.path.basename(name) == name for name in names)
    return frozenset(names) if plain else None


def _blobs(folder: Path) -> Path | None:
    """Where the unfinished files of a repository in the hub's cache lie; a whole repository may be given."""
    repo = folder.parent.parent if folder.parent.name == "snapshots" else folder
    return repo / "blobs" if repo.name.startswith(PREFIX) else None


def _begun(folder: Path, blobs: Path | None) -> Iterator[int]:
    """Bytes of each file that is not whole yet."""
    for home in (folder, folder / LOCAL_PARTS, *([blobs] if blobs else [])):
        with contextlib.suppress(OSError), os.scandir(home) as entries:
            for entry in entries:
                if entry.name.endswith((HUB_PART, LM_STUDIO_PART)):
                    yield _size(entry.path)


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError:
        return 0
