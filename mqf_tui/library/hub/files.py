"""Which files of a repository are fetched: what a model is loaded from, its licence; no code, no pickles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

from mqf_tui.fidelity.errors import HubError
from mqf_tui.fidelity.model.facts import TOKENIZER_FILES
from mqf_tui.library.hub.calls import Patience, endpoint, get_json
from mqf_tui.library.hub.faults import NotTheHubError, told
from mqf_tui.library.hub.names import RepoName

CONFIG = "config.json"
WEIGHTS = "model*.safetensors"  # what mlx-lm loads, all of it
SMALL = (
    *("*.json", "*.jinja", "*.txt", "*.model", "*.tiktoken", "additional_chat_templates/*.jinja"),
    *("README.md", "LICENSE*", "LICENCE*", "NOTICE*", "COPYING*", "*LICENSE.md", "USE_POLICY*"),
)
NEVER = ("*.py", "*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt", "*.gguf", "*.npz", "*.h5")
PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.pickle", "*.ckpt")
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
MAX_FILES = 100_000
MAX_SIZE = 1 << 60  # bytes, beyond which a file is a lie


@dataclass(frozen=True)
class HubFile:
    """A file of a repository; ``blob`` is what the cache calls its content.

    That is the content's SHA-256 for what the hub keeps as a large file, else its object id in git.
    """

    path: str
    size: int
    blob: str

    @property
    def large(self) -> bool:
        """Whether the hub keeps it as a large file."""
        return SHA256.fullmatch(self.blob) is not None


@dataclass(frozen=True)
class Listing:
    """What a repository holds at one commit."""

    commit: str
    files: tuple[HubFile, ...]


def listing(name: RepoName, patience: Patience) -> Listing:
    """What the hub says of a repository; raises HubError."""
    from urllib.parse import quote

    revision = quote(name.revision or "main", safe="")
    said = get_json(f"/api/models/{name.repo}/revision/{revision}", {"blobs": "true"}, patience, name)
    try:
        commit, siblings = said["sha"], said["siblings"]
        if not COMMIT.fullmatch(commit) or len(siblings) > MAX_FILES:
            raise ValueError
        return Listing(commit, tuple(_file(one) for one in siblings))
    except (LookupError, TypeError, ValueError):
        # Its commits and blobs become names in the cache: what is none must not get there.
        raise told(NotTheHubError("it sent no list of files"), endpoint(), name) from None


def wanted(name: RepoName, files: Sequence[HubFile]) -> tuple[HubFile, ...]:
    """The files to fetch, small ones first; raises HubError where they make no model that MLX loads."""
    names = {file.path for file in files}
    weights = [file for file in files if _fits(file.path, (WEIGHTS,))]
    if CONFIG not in names or not weights:
        raise HubError(_no_model(name, names))
    if names.isdisjoint(TOKENIZER_FILES):
        raise HubError(
            f"{name} has no tokenizer ({', '.join(TOKENIZER_FILES)}), so no text can be measured with it; "
            f"nothing was fetched, {elsewhere(name)}."
        )
    small = [f for f in files if _fits(f.path, SMALL) and not _fits(f.path, NEVER)]
    # The configuration first: who may not read it, for want of the conditions accepted, fetches nothing else.
    small.sort(key=lambda f: (f.path != CONFIG, f.path))
    return (*small, *sorted(weights, key=lambda f: f.path))


def _file(said: Any) -> HubFile:
    """Raises LookupError, TypeError or ValueError for what is none."""
    facts = cast("dict[str, Any]", said)
    path, large = facts["rfilename"], facts.get("lfs")
    size, blob = (large["size"], large["sha256"]) if large else (facts["size"], facts["blobId"])
    named = (SHA256 if large else COMMIT).fullmatch(blob)
    if not isinstance(path, str) or type(size) is not int or not 0 <= size <= MAX_SIZE or not named:
        raise ValueError
    return HubFile(path, size, blob)


def _fits(path: str, patterns: Sequence[str]) -> bool:
    """Whether a path fits; a * stands for no slash, so that what lies in folders is left where it is."""
    plain = not path.startswith(".") and ".." not in path and "\\" not in path and path.isprintable()
    return plain and any(
        path.count("/") == pattern.count("/") and fnmatchcase(path, pattern) for pattern in patterns
    )


def _no_model(name: RepoName, names: set[str]) -> str:
    found = elsewhere(name)
    if any(path.endswith(".safetensors") for path in names) and CONFIG in names:
        return (
            f"{name} has safetensors but none named {WEIGHTS} beside its {CONFIG}, which MLX loads; nothing "
            f"was fetched, {found}."
        )
    if any(path.endswith(".gguf") for path in names):
        return f"{name} holds GGUF files and no safetensors, which MLX loads; nothing was fetched, {found}."
    if any(fnmatchcase(path, pattern) for path in names for pattern in PICKLES):
        return (
            f"{name} has its weights as pickle files only, which can run code when they are opened; nothing "
            f"was fetched, {found}."
        )
    lacking = "weights in safetensors" if CONFIG in names else CONFIG
    return f"{name} has no {lacking}, so it is no model that MLX loads; nothing was fetched, {found}."


def elsewhere(name: RepoName) -> str:
    """What may help where a repository does not hold what it should."""
    return f"look for a conversion with `mqf-tui models search {name.repo.rpartition('/')[2]}`"
