"""Tokenised texts on this machine's disk, so that the same text is tokenised once for each tokenizer.

One file a text, ``<key>.npy``: int32 in one dimension. The key is a hash of the text, of the tokenizer's
files, and of the versions of what encodes. Whatever goes wrong with a file, the text is tokenised anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from mqf_tui.library.files import TEMPORARY, replace_synced
from mqf_tui.library.folders import user_dir

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_BYTES = 512 * 2**20  # of all files together
FORMAT = "2"  # without the tokens that a tokenizer puts around a text
ENCODERS = ("transformers", "tokenizers", "sentencepiece", "tiktoken", "mistral-common")
# A tokenizer may be made of any of these; weights and their index are not among them.
TOKENIZER_SUFFIXES = frozenset({".json", ".model", ".txt", ".py", ".tiktoken", ".jinja"})


def cache_dir() -> Path:
    """Where files lie that can be made again; ``MQF_TUI_CACHE_DIR`` overrides."""
    return user_dir("cache")


class FileTokens:
    """The tokens of one model's tokenizer (a ``chunking.TokenStore``); never raises.

    Past ``max_bytes`` the files that were not read for longest go first.
    """

    def __init__(self, model_folder: Path, home: Path | None = None, max_bytes: int = MAX_BYTES) -> None:
        self._model_folder = model_folder
        self._home = home or cache_dir() / "tokens"
        self._max_bytes = max_bytes
        self._tokenizer: str | None = None

    def get(self, text: str) -> NDArray[np.int32] | None:
        """The tokens of ``text``, shape (n,); None where they are not there, or not whole."""
        try:
            path = self._path(text)
            tokens = _read(path.read_bytes())
        except (OSError, ValueError, EOFError, UnicodeError):
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # read just now, so not the next to go
        return tokens

    def put(self, text: str, tokens: NDArray[np.int32]) -> None:
        """Keep the tokens of ``text``, where the disk takes them."""
        try:
            path = self._path(text)
            content = _written(tokens)
            if len(content) > self._max_bytes:
                return
            self._home.mkdir(parents=True, exist_ok=True)
            replace_synced(path, content)
            self._make_room(path)
        except (OSError, ValueError, UnicodeError):
            return

    def _path(self, text: str) -> Path:
        if self._tokenizer is None:
            self._tokenizer = tokenizer_key(self._model_folder)
        digest = hashlib.sha256(f"{FORMAT}\0{self._tokenizer}\0".encode())
        digest.update(text.encode())
        return self._home / f"{digest.hexdigest()[:40]}.npy"

    def _make_room(self, newest: Path) -> None:
        """Remove what was not read for longest until all files together are within bounds."""
        files: list[tuple[float, int, Path]] = []
        for path in self._home.iterdir():
            if path.suffix == ".npy" or path.name.startswith(TEMPORARY):
                with contextlib.suppress(OSError):
                    found = path.stat()
                    files.append((found.st_mtime, found.st_size, path))
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files, key=lambda file: file[0]):
            if total <= self._max_bytes:
                return
            if path != newest:
                with contextlib.suppress(OSError):
                    path.unlink()
                    total -= size


def tokenizer_key(model_folder: Path) -> str:
    """A hash of everything that decides how the tokenizer of a model folder encodes; raises OSError."""
    digest = hashlib.sha256()
    for path in sorted(model_folder.iterdir()):
        if path.suffix in TOKENIZER_SUFFIXES and not path.name.endswith(".index.json"):
            content = path.read_bytes()
            digest.update(f"{path.name}\0{len(content)}\0".encode())
            digest.update(content)
    for name in ENCODERS:
        digest.update(f"{name}\0{_version(name)}\0".encode())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


def _written(tokens: NDArray[np.int32]) -> bytes:
    """The file: the array, and its own hash behind it."""
    import numpy as np

    buffer = io.BytesIO()
    np.save(buffer, tokens.astype("<i4"), allow_pickle=False)
    content = buffer.getvalue()
    return content + hashlib.sha256(content).digest()


def _read(content: bytes) -> NDArray[np.int32]:
    """The array of a file; raises ValueError where it is not what was written."""
    import numpy as np

    body, seal = content[:-32], content[-32:]
    if hashlib.sha256(body).digest() != seal:
        raise ValueError("damaged")
    tokens = np.load(io.BytesIO(body), allow_pickle=False)
    if tokens.ndim != 1 or tokens.dtype != np.dtype("<i4"):
        raise ValueError("of another kind")
    return tokens.astype(np.int32)
