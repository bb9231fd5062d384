"""Names of repositories on the hub: ``owner/name``, with ``@revision`` where it is not the newest."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mqf_tui.fidelity.errors import BadSettingError

PAGE = re.compile(
    r"https?://(?:huggingface|hf)\.co/(?P<repo>[^/\s?#]+/[^/\s?#]+)(?:/tree/(?P<revision>[^\s?#]+))?/?"
)
AUTHOR = "mlx-community"  # who converts models for MLX; where one looks first
LONGEST = 96  # characters of a name, as the hub has it
LONGEST_REVISION = 200


@dataclass(frozen=True)
class RepoName:
    """A repository, and which of its revisions: a branch, a tag or a commit; None: the newest of ``main``."""

    repo: str
    revision: str | None = None

    def __str__(self) -> str:
        return self.repo if self.revision is None else f"{self.repo}@{self.revision}"


def parse_repo(word: str) -> RepoName:
    """``owner/name``, ``owner/name@revision``, or the address of a model's page.

    Raises BadSettingError for what cannot be the name of a repository.
    """
    typed = word.strip()
    if page := PAGE.fullmatch(typed):
        repo, revision = page["repo"], page["revision"]
    else:
        repo, at, after = typed.partition("@")
        revision = after if at else None
    if not is_repo(repo):
        raise BadSettingError(
            f"{word!r} is no name of a repository on the hub; write owner/name, or owner/name@revision."
        )
    if revision is not None and not _is_revision(revision):
        raise BadSettingError(
            f"{revision!r} is no name of a revision; after the @ write a branch, a tag or a commit."
        )
    return RepoName(repo, revision)


def is_repo(text: str) -> bool:
    """Whether the hub could have a repository of that name."""
    owner, slash, name = text.partition("/")
    parts = (owner, name) if slash else (owner,)
    return (
        len(text) <= LONGEST
        and all(re.fullmatch(r"[A-Za-z0-9_](?:[\w.-]*[A-Za-z0-9_])?", part, re.ASCII) for part in parts)
        and "--" not in text
        and ".." not in text
        and not text.endswith(".git")
    )


def _is_revision(text: str) -> bool:
    # It becomes a path in the cache, so it must not lead out of it.
    return (
        0 < len(text) <= LONGEST_REVISION
        and re.fullmatch(r"[\w.+/-]+", text, re.ASCII) is not None
        and all(part not in ("", ".", "..") for part in text.split("/"))
        and not text.startswith("-")
    )
