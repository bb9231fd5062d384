"""Putting files into the Hugging Face cache, laid out as ``huggingface_hub`` does, so that it finds them too.

``hf_hub_download`` itself cannot be used: since version 2 it throws away what a cancelled or broken download
has fetched, and it cannot be stopped while it waits.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Generator
from pathlib import Path
from typing import BinaryIO

from mqf_tui.fidelity.errors import HubError
from mqf_tui.library.files import replace_synced
from mqf_tui.library.hub.cache import PREFIX, hub_cache
from mqf_tui.library.hub.calls import Patience
from mqf_tui.library.hub.files import HubFile
from mqf_tui.reports.text import size

PARTIAL = ".incomplete"
LOCKS = ".locks"
FULL = {errno.ENOSPC, errno.EDQUOT}
IN_THE_WAY = {errno.EEXIST, errno.ENOTDIR, errno.EISDIR}
BLOCK = 1 << 20  # bytes read at once
TRY_LOCK = 0.2  # seconds


class Store:
    """One repository in the cache; raises HubError where it cannot be written."""

    def __init__(self, repo: str, commit: str) -> None:
        folder = PREFIX + repo.replace("/", "--")
        self.cache = hub_cache()
        self.home = self.cache / folder
        self.commit = commit
        self._locks = self.cache / LOCKS / folder

    @property
    def snapshot(self) -> Path:
        """The model's folder."""
        return self.home / "snapshots" / self.commit

    def has_content(self, file: HubFile) -> bool:
        """Whether the content of a file is there, of whichever commit."""
        return _size(self.blob(file)) == file.size

    def blob(self, file: HubFile) -> Path:
        """Where the content of a file lies once it is whole."""
        return self.home / "blobs" / file.blob

    def partial(self, file: HubFile) -> Path:
        """Where it grows until then."""
        return self.home / "blobs" / f"{file.blob}{PARTIAL}"

    def has(self, file: HubFile) -> bool:
        """Whether a file is there, whole."""
        return _size(self.snapshot / file.path) == file.size

    def begun(self, file: HubFile) -> int:
        """Bytes of a file that were fetched before."""
        if self.has(file) or self.has_content(file):
            return file.size
        return min(_size(self.partial(file)) or 0, file.size)

    def check_room(self, name: str, needed: int) -> None:
        """Raise HubError where the disk has less than ``needed`` bytes free."""
        folder = nearest_folder(self.cache)
        free = free_bytes(folder)
        if free is not None and needed > free:
            raise HubError(
                f"{name} needs {size(needed)} more and {folder} has {size(free)} free; make room there, "
                "or name a folder on a larger disk in HF_HUB_CACHE."
            )

    @contextlib.contextmanager
    def locked(self, file: HubFile, patience: Patience) -> Generator[None]:
        """While no other download, of ours or of huggingface_hub, works on the file."""
        from huggingface_hub.utils import WeakFileLock

        lock = self._locks / f"{file.blob}.lock"
        with contextlib.ExitStack() as held, self.writing():
            for folder in (lock.parent, self.blob(file).parent, (self.snapshot / file.path).parent):
                folder.mkdir(parents=True, exist_ok=True)
            while True:
                try:
                    held.enter_context(WeakFileLock(lock, timeout=TRY_LOCK))
                    break
                except TimeoutError:
                    patience.check()
                    patience.on_waiting("another download of this file is at work")
            yield

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        """Errors of the disk, with their sentence; what was fetched so far stays."""
        try:
            yield
        except OSError as error:
            if error.errno in FULL:
                raise HubError(
                    f"the disk with {self.cache} is full; make room there, then fetch it again, which goes "
                    "on where it broke off."
                ) from error
            if error.errno == errno.EFBIG:
                raise HubError(
                    f"the disk with {self.cache} takes no file as large as this; name a folder on another "
                    "disk in HF_HUB_CACHE."
                ) from error
            why, cure = error.strerror or type(error).__name__, "check its permissions"
            if error.errno in IN_THE_WAY and error.filename is not None:
                why, cure = f"{why}: {os.fsdecode(error.filename)}", "move that away"
            raise HubError(
                f"{self.cache} cannot be written ({why}); {cure}, or name another folder in HF_HUB_CACHE."
            ) from error

    @contextlib.contextmanager
    def growing(self, file: HubFile) -> Generator[BinaryIO]:
        """The partial file, open; what is there when it breaks off stays, unless that is nothing: a model of
        which nothing is here would be listed as one that has begun."""
        partial = self.partial(file)
        try:
            with partial.open("a+b") as opened:
                yield opened
        except BaseException:
            if _size(partial) == 0:
                self.drop(file)
            raise

    def finish(self, file: HubFile) -> None:
        """Make a partial file, whole and checked, the content of ``file``."""
        self.partial(file).replace(self.blob(file))
        self.link(file)

    def drop(self, file: HubFile) -> None:
        """Throw a partial file away."""
        self.partial(file).unlink(missing_ok=True)

    def link(self, file: HubFile) -> None:
        """Put a file whose content is there into the model's folder."""
        place, blob = self.snapshot / file.path, self.blob(file)
        place.unlink(missing_ok=True)
        try:
            place.symlink_to(os.path.relpath(blob, place.parent))
        except OSError as error:
            if error.errno in FULL:
                raise
            blob.replace(place)  # a disk without links: the content itself, as huggingface_hub does there

    def point(self, revision: str) -> None:
        """Let a branch or tag mean this commit."""
        if re.fullmatch(r"[0-9a-f]{7,40}", revision) and self.commit.startswith(revision):
            return  # it was asked for by its id
        ref = self.home / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        replace_synced(ref, self.commit.encode())


class Checksum:
    """The hash of a file as it grows: SHA-256 of a large one, else the object id that git gives it."""

    def __init__(self, file: HubFile) -> None:
        self._file = file
        self.restart()

    def restart(self) -> None:
        """From the beginning."""
        if self._file.large:
            self._hash = hashlib.sha256()
        else:
            self._hash = hashlib.sha1(b"blob %d\0" % self._file.size, usedforsecurity=False)

    def add(self, data: bytes) -> None:
        """The next bytes."""
        self._hash.update(data)

    def add_file(self, file: BinaryIO, check: Callable[[], None]) -> int:
        """What a file holds from where it stands; returns how many bytes. ``check`` may raise to give up."""
        read = 0
        while block := file.read(BLOCK):
            check()
            self._hash.update(block)
            read += len(block)
        return read

    @property
    def right(self) -> bool:
        """Whether it is what the hub says."""
        return self._hash.hexdigest() == self._file.blob


def nearest_folder(path: Path) -> Path:
    """The folder itself, or the nearest above it that is there."""
    return next((one for one in (path, *path.parents) if os.path.exists(one)), path)


def free_bytes(folder: Path) -> int | None:
    """Bytes that are free on a folder's disk; None where that cannot be told."""
    try:
        return shutil.disk_usage(folder).free
    except OSError:
        return None


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
