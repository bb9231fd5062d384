"""The repositories of the tests' hub: files, revisions, and the JSON that the real hub sends of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

LARGE = 1_000_000  # bytes; from here on the hub keeps a file in LFS, whatever it is
IN_LFS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".parquet", ".npz", ".model")
CREATED = "2025-01-02T03:04:05.000Z"


@dataclass(frozen=True)
class Blob:
    """A file's content: bytes, or a file on disk for what is large."""

    content: bytes | Path
    claimed_size: int | None = None  # what the hub says of it, where that is not so
    in_lfs: bool | None = None  # None: by its name and size

    def read(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content.read_bytes()

    @cached_property
    def size(self) -> int:
        if self.claimed_size is not None:
            return self.claimed_size
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.read()).hexdigest()

    @cached_property
    def git_oid(self) -> str:
        data = self.read()
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


@dataclass
class Repo:
    """A repository; ``kind`` is ``models`` or ``datasets``."""

    name: str
    kind: str = "models"
    gated: str | bool = False
    private: bool = False
    downloads: int = 0
    likes: int = 0
    updated: str = "2026-11-20T10:00:00.000Z"
    safetensors: dict[str, int] | None = None  # parameters by dtype, as the hub counts them
    commits: dict[str, dict[str, Blob]] = field(default_factory=dict[str, dict[str, Blob]])
    branches: dict[str, str] = field(default_factory=dict[str, str])
    tags: dict[str, str] = field(default_factory=dict[str, str])

    def commit(
        self, revision: str, files: Mapping[str, bytes | Path | Blob], *, tag: str | None = None
    ) -> str:
        """Add a commit that ``revision``, a branch, then points to; returns its id."""
        blobs = {name: made if isinstance(made, Blob) else Blob(made) for name, made in files.items()}
        listing = repr([(self.name, revision, len(self.commits), *sorted(blobs))]).encode()
        sha = hashlib.sha1(listing).hexdigest()
        self.commits[sha] = blobs
        self.branches[revision] = sha
        if tag is not None:
            self.tags[tag] = sha
        return sha

    def resolve(self, revision: str) -> str | None:
        """The commit that a branch, a tag or (the beginning of) a commit's id names."""
        named = self.branches.get(revision) or self.tags.get(revision)
        if named:
            return named
        return next((sha for sha in self.commits if len(revision) >= 7 and sha.startswith(revision)), None)

    def files(self, sha: str) -> dict[str, Blob]:
        return self.commits[sha]

    def info(self, sha: str, *, blobs: bool) -> dict[str, Any]:
        siblings = [
            {"rfilename": name, **(self._sizes(name, blob) if blobs else {})}
            for name, blob in sorted(self.files(sha).items())
        ]
        return {**self.summary(), "sha": sha, "siblings": siblings, "disabled": False, "cardData": {}}

    def summary(self) -> dict[str, Any]:
        return {
            "_id": hashlib.md5(self.name.encode()).hexdigest()[:24],
            "id": self.name,
            "modelId": self.name,
            "author": self.name.partition("/")[0],
            "sha": self.branches.get("main", ""),
            "lastModified": self.updated,
            "createdAt": CREATED,
            "private": self.private,
            "gated": self.gated,
            "downloads": self.downloads,
            "likes": self.likes,
            "tags": ["safetensors", "mlx"],
            **(
                {"safetensors": {"parameters": self.safetensors, "total": sum(self.safetensors.values())}}
                if self.safetensors
                else {}
            ),
        }

    def refs(self) -> dict[str, Any]:
        return {
            "branches": [
                {"name": name, "ref": f"refs/heads/{name}", "targetCommit": sha}
                for name, sha in self.branches.items()
            ],
            "converts": [],
            "tags": [
                {"name": name, "ref": f"refs/tags/{name}", "targetCommit": sha}
                for name, sha in self.tags.items()
            ],
        }

    def tree(self, sha: str, folder: str, *, recursive: bool) -> list[dict[str, Any]] | None:
        """The entries below ``folder``; None where there is no such folder."""
        prefix = f"{folder}/" if folder else ""
        entries: dict[str, dict[str, Any]] = {}
        for name, blob in sorted(self.files(sha).items()):
            if not name.startswith(prefix):
                continue
            parts = name[len(prefix) :].split("/")
            for depth in range(1, len(parts)):
                path = prefix + "/".join(parts[:depth])
                entries.setdefault(path, _folder(path))
                if not recursive:
                    break
            if recursive or len(parts) == 1:
                entries[name] = self.entry(name, blob)
        return list(entries.values()) if entries or not folder else None

    def path_info(self, sha: str, path: str) -> dict[str, Any] | None:
        """What there is at a path: a file, a folder, or None."""
        files = self.files(sha)
        if path in files:
            return self.entry(path, files[path])
        return _folder(path) if any(name.startswith(f"{path}/") for name in files) or not path else None

    def entry(self, name: str, blob: Blob) -> dict[str, Any]:
        made: dict[str, Any] = {"type": "file", "oid": blob.git_oid, "size": blob.size, "path": name}
        if is_lfs(name, blob):
            made["lfs"] = {"oid": blob.sha256, "size": blob.size, "pointerSize": 134}
        return made

    def _sizes(self, name: str, blob: Blob) -> dict[str, Any]:
        made: dict[str, Any] = {"size": blob.size, "blobId": blob.git_oid}
        if is_lfs(name, blob):
            made["lfs"] = {"sha256": blob.sha256, "size": blob.size, "pointerSize": 134}
        return made


def is_lfs(name: str, blob: Blob) -> bool:
    if blob.in_lfs is not None:
        return blob.in_lfs
    return name.endswith(IN_LFS) or blob.size >= LARGE


def _folder(path: str) -> dict[str, Any]:
    return {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}
