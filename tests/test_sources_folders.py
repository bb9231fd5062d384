"""Folders as text: git itself says what is ignored; order, patterns, links, and what is no text."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.corpora import read_corpus
from mqf_tui.fidelity.text.corpus import Corpus
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.fidelity.text.sources import folders
from mqf_tui.fidelity.text.sources.folders import Folder, Skipped, split_glob


def texts(corpus: Corpus) -> list[str]:
    return [document.text for part in corpus.parts for document in part.documents]


def read(path: Path | str, **options: Any) -> list[str]:
    return texts(read_corpus(str(path), TextOptions(**options)))


def refused(word: str | Path, **options: Any) -> str:
    with pytest.raises(BadCorpusError) as caught:
        read(str(word), **options)
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def warnings(corpus: Corpus) -> tuple[str, ...]:
    texts(corpus)
    notices = corpus.parts[0].notices
    assert notices is not None
    return notices()


def plant(root: Path, *names: str, **contents: str) -> None:
    """Files that hold their own names."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name, encoding="utf-8")
    for name, content in contents.items():
        (root / name).write_text(content, encoding="utf-8")


def git(root: Path, *words: str) -> str:
    quiet = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    done = subprocess.run(["git", *words], cwd=root, env=os.environ | quiet, capture_output=True, check=True)
    return done.stdout.decode()


def by_git(root: Path) -> set[str]:
    """The files that git would add."""
    found = git(root, "ls-files", "--others", "--cached", "--exclude-standard", "-z")
    return {name for name in found.split("\0") if name}


def by_us(root: Path) -> list[str]:
    return [file.name for file in Folder(root, "x", None, TextOptions(), Skipped("x")).files()]


def test_files_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    names = ["b.txt", "a/z.txt", "a/b/c.txt", "c.txt", "B.txt", "é.md", "a.txt"]
    plant(tmp_path, *names)
    expected = ["B.txt", "a/b/c.txt", "a/z.txt", "a.txt", "b.txt", "c.txt", "é.md"]
    assert read(tmp_path) == expected
    corpus = read_corpus(str(tmp_path))
    assert (corpus.name, corpus.version, corpus.public) == (tmp_path.name, "folder", False)
    assert corpus.parts[0].complete
    assert warnings(corpus) == ()


@pytest.mark.parametrize(
    ("files", "ignored"),
    [
        (["a.log", "b.txt", "src/c.log"], {"": "*.log"}),
        (["build/a.txt", "src/build/b.txt", "c.txt"], {"": "/build/"}),
        (["a.log", "keep.log", "x/b.log"], {"": "*.log\n!keep.log"}),
        (["x/a.log", "x/b.txt"], {"": "*.log", "x": "!a.log"}),
        (["out/a.txt", "out/b.txt"], {"": "out/\n!out/a.txt"}),
        (["x/y/a.txt", "x/a.txt", "y/a.txt"], {"x": "y"}),
        (["a b.txt", "#a", "!b"], {"": "\\#a\n\\!b\na\\ b.txt\n# comment\n\n"}),
        (["docs/a/b/c.md", "docs/c.md", "c.md"], {"": "docs/**/c.md"}),
        (["a.txt", "b.txt", "c.txt"], {"": "[ab].txt"}),
        (["x/keep/a.txt", "x/b.txt"], {"": "x/*\n!x/keep/"}),
        ([".github/a.yml", ".env", "a.txt"], {"": ".env"}),
    ],
)
def test_what_git_ignores_is_left_out(files: list[str], ignored: dict[str, str], tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    plant(tmp_path, *files)
    for folder, content in ignored.items():
        (tmp_path / folder / ".gitignore").write_text(content)
    found = by_us(tmp_path)
    assert set(found) == by_git(tmp_path)
    assert len(set(found)) == len(found)


def test_what_git_ignores_at_random(tmp_path: Path) -> None:
    rng = random.Random(4)
    names = ["a", "b", "a.py", "b.py", "c.txt", "build"]
    patterns = [
        "*.py",
        "/a",
        "build/",
        "!a.py",
        "b",
        "**/c.txt",
        "a/b",
        "!build/",
        "a/**",
        "/b/*.py",
        "!*.txt",
        "*",
    ]
    for n in range(60):
        root = tmp_path / str(n)
        root.mkdir()
        git(root, "init", "-q")
        for _ in range(14):
            path = root.joinpath(
                *rng.choices(["a", "b", "build"], k=rng.randrange(4)), rng.choice(names[2:5])
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("x")
        for folder in [
            root,
            *(path for path in root.rglob("*") if path.is_dir() and ".git" not in path.parts),
        ]:
            if rng.random() < 0.5:
                (folder / ".gitignore").write_text("\n".join(rng.sample(patterns, rng.randint(1, 3))))
        assert set(by_us(root)) == by_git(root), {str(p): p.read_text() for p in root.rglob(".gitignore")}


def test_a_folder_inside_a_repository_follows_what_stands_above_it(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    plant(tmp_path, "src/a.py", "src/a.log", "src/gen/b.py", "build/x/c.py")
    (tmp_path / ".gitignore").write_text("*.log\n/src/gen/\nbuild/\n")
    assert read(tmp_path / "src") == ["src/a.py"]
    # Ignored, and named all the same.
    assert read(tmp_path / "build") == ["build/x/c.py"]
    assert read(tmp_path / "build" / "x") == ["build/x/c.py"]


def test_the_files_of_git_itself_are_no_text(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    plant(tmp_path, "a.txt")
    assert read(tmp_path) == ["a.txt"]


def test_patterns_choose_files(tmp_path: Path) -> None:
    plant(tmp_path, "a.md", "a.txt", "docs/b.md", "docs/x/c.md", "docs/x/d.txt", "[1].md")
    assert read(tmp_path, glob="*.md") == ["[1].md", "a.md", "docs/b.md", "docs/x/c.md"]
    assert read(tmp_path, glob="docs/*.md") == ["docs/b.md"]
    assert read(tmp_path, glob="docs/**/*.md") == ["docs/b.md", "docs/x/c.md"]
    assert read(f"{tmp_path}/*.md") == ["[1].md", "a.md"]
    assert read(f"{tmp_path}/docs/**/*.md") == ["docs/b.md", "docs/x/c.md"]
    assert read(f"{tmp_path}/d*/*/[cd].*") == ["docs/x/c.md", "docs/x/d.txt"]
    assert read_corpus(f"{tmp_path}/docs/**/*.md").name == "docs/**/*.md"
    assert read(tmp_path / "[1].md") == ["[1].md"]  # a file of that name
    assert "has no text file that fits '*.py' in it" in refused(tmp_path, glob="*.py")
    assert "leave out one" in refused(f"{tmp_path}/*.md", glob="*.txt")
    assert "is a file, and a glob chooses those of a folder" in refused(tmp_path / "a.md", glob="*.txt")
    assert "there is no corpus, file or folder" in refused(f"{tmp_path}/none/*.md")


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("docs/**/*.md", ("docs", "/**/*.md")),
        ("*.md", (".", "/*.md")),
        ("/*.md", ("/", "/*.md")),
        ("/a/b?/c", ("/a", "/b?/c")),
        ("plain/x", ("plain/x", "")),
    ],
)
def test_a_word_with_a_pattern(word: str, expected: tuple[str, str]) -> None:
    assert split_glob(word) == expected


def test_rows_of_several_files(tmp_path: Path) -> None:
    plant(
        tmp_path,
        **{"a.jsonl": '{"text": "one"}\n{"text": ""}\n', "b.jsonl": '{"text": "two"}\n', "c.txt": "no"},
    )
    assert read(f"{tmp_path}/*.jsonl") == ["one", "two"]
    assert "1 line of a.jsonl without text is left out" in warnings(read_corpus(f"{tmp_path}/*.jsonl"))
    plant(tmp_path, **{"b.jsonl": "{broken\n"})
    assert "line 1 of b.jsonl is not valid JSON" in refused(f"{tmp_path}/*.jsonl")


def test_what_is_no_text_is_counted(tmp_path: Path) -> None:
    plant(tmp_path, "a.txt", "empty.txt")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n\0\0")
    (tmp_path / "old.txt").write_bytes("Grüße".encode("latin-1"))
    (tmp_path / "wide.txt").write_bytes("Grüße".encode("utf-16"))
    os.mkfifo(tmp_path / "pipe")
    corpus = read_corpus(str(tmp_path))
    assert texts(corpus) == ["a.txt", "Grüße"]
    assert warnings(corpus) == (f"2 files of {tmp_path.name} are no UTF-8 text and left out",)
    assert warnings(corpus) == (f"2 files of {tmp_path.name} are no UTF-8 text and left out",)  # not twice
    only = tmp_path / "only"
    only.mkdir()
    (only / "x.png").write_bytes(b"\0\0\0")
    assert "only has no text file in it (1 file of only is no UTF-8 text and left out)" in refused(only)


def test_links_make_no_loops(tmp_path: Path) -> None:
    plant(tmp_path, "x/a.txt", "b.txt")
    (tmp_path / "x" / "up").symlink_to(tmp_path)
    (tmp_path / "self").symlink_to(tmp_path / "self")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    (tmp_path / "again.txt").symlink_to(tmp_path / "b.txt")
    os.link(tmp_path / "x" / "a.txt", tmp_path / "x" / "same.txt")
    other = tmp_path.parent / f"{tmp_path.name}-blob"
    other.write_text("from elsewhere")
    (tmp_path / "c.txt").symlink_to(other)
    corpus = read_corpus(str(tmp_path))
    assert texts(corpus).count("b.txt") == 1
    assert sorted(texts(corpus)) == ["b.txt", "from elsewhere", "x/a.txt"]
    assert set(warnings(corpus)) == {
        f"2 entries of {tmp_path.name} are not readable and left out",
        f"1 link to a folder of {tmp_path.name} is not followed and left out",
    }


def test_very_deep_folders(tmp_path: Path) -> None:
    deep = tmp_path
    for _ in range(1100):  # more than Python's calls may be nested
        deep = deep / "d"
        deep.mkdir()
    (deep / "a.txt").write_text("deep")
    try:
        assert read(tmp_path) == ["deep"]
    finally:  # pytest's own way to remove it goes no deeper than Python's calls
        subprocess.run(["rm", "-rf", tmp_path / "d"], check=True)


def test_of_a_large_folder_only_what_is_needed_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(tmp_path, *(f"{n:03}.txt" for n in range(50)))
    monkeypatch.setattr(folders, "MOST_LISTED", 10)
    opened: list[str] = []

    def counted(path: Path, shown: str) -> Any:
        opened.append(shown)
        return real(path, shown)

    real = folders.FileBytes
    monkeypatch.setattr(folders, "FileBytes", counted)
    corpus = read_corpus(str(tmp_path))
    assert not corpus.parts[0].complete
    opened.clear()
    documents: Any = iter(corpus.parts[0].documents)
    assert [next(documents).text for _ in range(3)] == ["000.txt", "001.txt", "002.txt"]
    assert opened == ["000.txt", "001.txt", "002.txt"]


def test_names_that_are_no_text(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path / "d")
    os.mkdir(folder)
    with open(folder + b"/\xff.txt", "wb") as file:
        file.write(b"words")
    assert read(tmp_path / "d") == ["words"]
