"""Names of repositories: what the hub could have, and what must never become a path of the cache."""

from __future__ import annotations

import pytest

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.library.hub.names import RepoName, parse_repo


@pytest.mark.parametrize(
    ("word", "repo", "revision"),
    [
        ("mlx-community/Llama-3.2-1B-Instruct-4bit", "mlx-community/Llama-3.2-1B-Instruct-4bit", None),
        ("owner/name@main", "owner/name", "main"),
        ("owner/name@refs/pr/1", "owner/name", "refs/pr/1"),
        ("owner/name@0123abc", "owner/name", "0123abc"),
        ("gpt2", "gpt2", None),
        ("  owner/name \n", "owner/name", None),
        ("https://huggingface.co/owner/name", "owner/name", None),
        ("https://hf.co/owner/name/tree/v1.0", "owner/name", "v1.0"),
        ("_a/b_", "_a/b_", None),
    ],
)
def test_a_name(word: str, repo: str, revision: str | None) -> None:
    assert parse_repo(word) == RepoName(repo, revision)


@pytest.mark.parametrize(
    "word",
    [
        *(
            "",
            " ",
            "/",
            "a/",
            "/b",
            "a/b/c",
            "../x",
            "a/..",
            "a/.b",
            "a/b.",
            "-a/b",
            "a/b-",
            "a--b/c",
            "a/b..c",
        ),
        *("a/b c", "a/b\nc", "a/b\0", "a\\b", "a/b?x", "a/b#x", "x" * 97, "ä/b", "a/b.git", "a/b\x1b[31m"),
        *("https://github.com/a/b", "https://huggingface.co/datasets/a/b", "file:///etc/passwd", "~/a"),
    ],
)
def test_what_is_no_name(word: str) -> None:
    with pytest.raises(BadSettingError, match="owner/name"):
        parse_repo(word)


@pytest.mark.parametrize(
    "revision",
    ["", "../../x", "a/../b", "/etc", "a//b", "a/", "-x", "a b", "a\nb", "a\0", "ü", "~x", "a:b", "x" * 201],
)
def test_what_is_no_revision(revision: str) -> None:
    with pytest.raises(BadSettingError):
        parse_repo(f"owner/name@{revision}")
