"""Data sets of the hub: by the real library, from a hub on loopback, with everything that goes wrong."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.corpora import read_corpus
from mqf_tui.fidelity.text.corpus import Corpus
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.fidelity.text.sources import datasets_hub as sources_hub
from mqf_tui.fidelity.text.sources.hub_words import HubWord, hub_word
from tests.hub_server import Fault, LocalHub

WIKI = ["", " = Title = \n", "", " First — Σ . \n"]


def parquet(rows: dict[str, Any], row_group: int | None = None) -> bytes:
    import pyarrow
    import pyarrow.parquet

    file = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(rows), file, row_group_size=row_group)
    return file.getvalue()


def jsonl(*rows: dict[str, Any]) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def card(*configs: tuple[str, dict[str, str]]) -> bytes:
    """A data set's card that names the files of each configuration's splits."""
    lines = ["---", "configs:"]
    for name, files in configs:
        lines += [f"- config_name: {name}", "  data_files:"]
        lines += [line for s, path in files.items() for line in (f"  - split: {s}", f"    path: {path}")]
    return "\n".join([*lines, "---", "# A data set"]).encode()


def texts(corpus: Corpus) -> list[str]:
    return [document.text for part in corpus.parts for document in part.documents]


def refused(word: str, options: TextOptions | None = None) -> str:
    with pytest.raises(BadCorpusError) as caught:
        texts(read_corpus(word, options))
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


@pytest.fixture
def wiki(datasets_hub: LocalHub) -> LocalHub:
    configs = {
        name: {"test": f"{name}/test.parquet", "train": f"{name}/train.parquet"} for name in ("a", "b")
    }
    files = {
        f"{name}/{split}.parquet": parquet({"text": [f"{name} {split}", *WIKI], "id": list(range(5))})
        for name in configs
        for split in ("test", "train")
    }
    datasets_hub.add_dataset("org/wiki", {"README.md": card(*configs.items()), **files})
    return datasets_hub


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("hf:a/b", HubWord("a/b")),
        ("hf:a/b:c", HubWord("a/b", "c")),
        ("hf:a/b/d", HubWord("a/b", None, "d")),
        ("hf:a/b#e f", HubWord("a/b", None, None, "e f")),
        ("hf:a-1/b.2:20231101.en/train#x.y", HubWord("a-1/b.2", "20231101.en", "train", "x.y")),
        ("hf:a/b:c#d", HubWord("a/b", "c", None, "d")),
    ],
)
def test_words_that_name_a_data_set(word: str, expected: HubWord) -> None:
    assert hub_word(word) == expected
    assert str(expected) == word


@pytest.mark.parametrize(
    "word",
    [
        *(
            "hf:",
            "hf:a",
            "hf:a/",
            "hf:/b",
            "hf:a/b:",
            "hf:a/b/",
            "hf:a/b#",
            "hf:a/b:c/",
            "hf:a/b/c/d",
            "hf: a/b",
        ),
        *("hf:a/b/test[:10%]", "hf:a/b##c", "hf:../../etc/passwd", "hf:a/b\n", "hf:a"),
    ],
)
def test_words_that_name_none(word: str) -> None:
    assert "hf:owner/name[:config][/split][#column]" in refused(word)


def test_a_small_one_is_kept_on_this_machine(wiki: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = read_corpus("hf:org/wiki:b")
    assert texts(corpus) == ["b test", *WIKI]
    assert (corpus.name, corpus.split, corpus.public) == ("hf:org/wiki:b/test#text", "test", True)
    assert corpus.version.split() == ["b", wiki.repos["datasets", "org/wiki"].branches["main"][:10]]
    assert corpus.parts[0].complete
    assert texts(corpus) == ["b test", *WIKI]  # a second reading

    asked = len(wiki.requests)
    monkeypatch.setattr(sources_hub, "_reachable", lambda: False)
    again = read_corpus("hf:org/wiki:b/test#text")
    assert texts(again) == ["b test", *WIKI]
    assert (again.name, again.version) == (corpus.name, corpus.version)
    assert len(wiki.requests) == asked


def test_only_the_column_and_the_rows_that_are_needed_are_fetched(
    datasets_hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources_hub, "SMALL", 0)
    many = [f"row {n} " + os.urandom(20_000).hex() for n in range(400)]
    datasets_hub.add_dataset("org/large", {"train-0.parquet": parquet({"other": many, "text": many}, 50)})
    (part,) = read_corpus("hf:org/large#text").parts
    documents: Any = iter(part.documents)
    assert [next(documents).text for _ in range(3)] == many[:3]
    documents.close()
    got = 0
    for one in datasets_hub.asked("/cdn/*", "GET"):
        assert one.part is not None
        first, last = one.part.removeprefix("bytes=").split("-")
        got += int(last) + 1 - int(first)
    # A row group's column is 2 MB, and 5 MB are read ahead; the file has 32 MB.
    assert 1_000_000 < got < 8_000_000


def test_the_split_that_is_taken_by_default(datasets_hub: LocalHub) -> None:
    def rows(split: str) -> dict[str, bytes]:
        return {f"data/{split}-0.jsonl": jsonl({"text": split})}

    datasets_hub.add_dataset("org/one", rows("train") | rows("validation"))
    datasets_hub.add_dataset("org/two", rows("train"))
    assert read_corpus("hf:org/one").split == "validation"
    assert read_corpus("hf:org/two").name == "hf:org/two/train#text"
    assert texts(read_corpus("hf:org/one/train")) == ["train"]
    assert "has no split 'test'; name one as hf:org/one/SPLIT, of " in refused("hf:org/one/test")
    assert {"train", "validation"} <= set(
        refused("hf:org/one/test").replace(".", "").replace(",", "").split()
    )


def test_the_column_that_is_taken_by_default(datasets_hub: LocalHub) -> None:
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    shared = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]
    for name, rows in {
        "only": {"id": 1, "story": "Once."},
        "chat": {"prompt": "Hi", "prompt_id": "x", "messages": chat},
        "shared": {"id": "a", "conversations": shared},
        "both": {"text": "flat", "messages": chat},
        "none": {"question": "Why?", "answer": "So."},
    }.items():
        datasets_hub.add_dataset(f"org/{name}", {"train.jsonl": jsonl(rows)})
        datasets_hub.add_dataset(
            f"org/{name}-p", {"train.parquet": parquet({k: [v] for k, v in rows.items()})}
        )
    for kind in ("", "-p"):
        assert texts(read_corpus(f"hf:org/only{kind}")) == ["Once."]
        for name in ("chat", "shared"):
            (document,) = read_corpus(f"hf:org/{name}{kind}").parts[0].documents
            assert list(document.messages) == chat
        assert texts(read_corpus(f"hf:org/both{kind}")) == ["flat"]
        (document,) = read_corpus(f"hf:org/both{kind}", TextOptions(assistant_only=True)).parts[0].documents
        assert list(document.messages) == chat
        why = refused(f"hf:org/none{kind}")
        assert "name one behind #: " in why
        assert {"question", "answer"} <= set(why.replace(".", "").replace(",", "").split())
        assert texts(read_corpus(f"hf:org/none{kind}#answer")) == ["So."]
        assert texts(read_corpus(f"hf:org/none{kind}", TextOptions(field="question"))) == ["Why?"]
        assert "has no column 'reply'; there is " in refused(f"hf:org/none{kind}#reply")


def test_wikitext_is_the_librarys_rows_joined_by_blank_lines(datasets_hub: LocalHub) -> None:
    configs = {c: {"test": f"{c}/t.parquet"} for c in ("wikitext-2-raw-v1", "wikitext-103-raw-v1")}
    files = {f"{c}/t.parquet": parquet({"text": [c, *WIKI]}) for c in configs}
    datasets_hub.add_dataset("Salesforce/wikitext", {"README.md": card(*configs.items()), **files})
    corpus = read_corpus("wikitext-2")
    (part,) = corpus.parts
    joined = part.separator.join(texts(corpus))
    assert joined == "wikitext-2-raw-v1\n\n\n\n = Title = \n\n\n\n\n First — Σ . \n"
    assert (corpus.name, corpus.split, part.name) == ("wikitext-2", "test", "wikitext-2")
    assert corpus.version.split()[0] == "wikitext-2-raw-v1"
    assert texts(read_corpus("wikitext-103"))[0] == "wikitext-103-raw-v1"
    assert texts(read_corpus("hf:Salesforce/wikitext:wikitext-2-raw-v1")) == texts(corpus)


def test_rows_without_a_text_are_counted(datasets_hub: LocalHub) -> None:
    datasets_hub.add_dataset("org/gaps", {"train.parquet": parquet({"text": ["a", None, "b", None]})})
    corpus = read_corpus("hf:org/gaps")
    assert texts(corpus) == ["a", "b"]
    notices = corpus.parts[0].notices
    assert notices is not None
    assert notices() == ("2 rows of hf:org/gaps/train#text without text are left out",)


# What goes wrong


def test_what_is_not_there(wiki: LocalHub) -> None:
    assert "it has several configurations, so name one as hf:org/wiki:CONFIG, of a, b." in refused(
        "hf:org/wiki"
    )
    assert "it has no such configuration; there is a, b." in refused("hf:org/wiki:c")
    assert "there is no such data set on the hub, or it is private" in refused("hf:org/nothing")
    wiki.add_dataset("org/empty", {"README.md": b"# Nothing"})
    assert "it has no files of rows" in refused("hf:org/empty")
    wiki.add_dataset("org/script", {"script.py": b"raise SystemExit(3)"})
    assert "made by a script, which is never run" in refused("hf:org/script")


def test_files_that_may_run_code_are_not_opened(datasets_hub: LocalHub) -> None:
    class Told:
        def __reduce__(self) -> Any:
            return (os.mkdir, (str(told),))

    told = Path(os.environ["HF_HOME"]) / "told"
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        for name, content in {"0.txt": b"words", "0.pickle": pickle.dumps(Told())}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    datasets_hub.add_dataset("org/tar", {"train.tar": archive.getvalue()})
    assert "hf:org/tar is made of webdataset files, and only parquet, json, csv" in refused("hf:org/tar")
    datasets_hub.add_dataset("org/pickle", {"train.pkl": pickle.dumps(Told())})
    assert refused("hf:org/pickle")
    assert not told.exists()


def test_what_is_gated(datasets_hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"README.md": b"# Gated", "train.jsonl": jsonl({"text": "secret"})}
    datasets_hub.add_dataset("org/gated", files, gated="manual")
    why = refused("hf:org/gated")
    assert "it is gated and nobody is logged in" in why
    assert "https://huggingface.co/datasets/org/gated" in why
    datasets_hub.add_token("hf_good")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    why = refused("hf:org/gated")
    assert "it is gated and this account has no access" in why
    assert "hf_good" not in why
    monkeypatch.setenv("HF_TOKEN", "hf_old")
    assert "the hub does not take this machine's token" in refused("hf:org/gated")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    datasets_hub.add_token("hf_good", accepted=["org/gated"])
    gated = read_corpus("hf:org/gated")
    assert texts(gated) == ["secret"]
    assert not gated.public


def test_what_is_private_is_not_public(datasets_hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets_hub.add_dataset("org/own", {"train.jsonl": jsonl({"text": "ours"})}, private=True)
    assert "there is no such data set on the hub, or it is private" in refused("hf:org/own")
    datasets_hub.add_token("hf_good")
    monkeypatch.setenv("HF_TOKEN", "hf_good")
    own = read_corpus("hf:org/own")
    assert texts(own) == ["ours"]
    assert not own.public


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Fault(status=429), "the hub wants fewer requests (429)"),
        (Fault(status=503), "the hub has trouble (503)"),
        (Fault(status=403), "the hub refused access (403)"),
    ],
)
def test_what_the_hub_refuses(
    datasets_hub: LocalHub, monkeypatch: pytest.MonkeyPatch, fault: Fault, reason: str
) -> None:
    from huggingface_hub.utils import _http

    # It waits longer from one try to the next.
    monkeypatch.setattr(_http, "time", SimpleNamespace(sleep=lambda _: None, time=time.time))
    datasets_hub.add_dataset("org/d", {"train.jsonl": jsonl({"text": "x"})})
    datasets_hub.fault("/api/datasets/org/d*", fault)
    datasets_hub.fault("/datasets/org/d*", fault)
    assert reason in refused("hf:org/d")


def test_what_is_damaged(datasets_hub: LocalHub) -> None:
    whole = parquet({"text": ["a" * 5000] * 50})
    datasets_hub.add_dataset("org/cut", {"train.parquet": whole[: len(whole) // 2]})
    assert "damaged or of another kind" in refused("hf:org/cut")
    datasets_hub.add_dataset("org/json", {"train.jsonl": b'{"text": "a"}\n{"text": \n'})
    assert refused("hf:org/json")


def test_a_full_disk(wiki: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets.arrow_writer import ArrowWriter

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(ArrowWriter, "write_table", full)
    assert "the disk is full" in refused("hf:org/wiki:a")


def test_no_network(datasets_hub: LocalHub) -> None:
    datasets_hub.close()
    assert "the hub cannot be reached" in refused("hf:org/d")


def test_offline_the_library_itself_ends_in_a_sentence(tmp_path: Path) -> None:
    program = (
        "from mqf_tui.fidelity.text.corpora import read_corpus\n"
        "from mqf_tui.fidelity.errors import BadCorpusError\n"
        "try:\n    read_corpus('wikitext-2')\nexcept BadCorpusError as error:\n    print(error)"
    )
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "HF_DATASETS_CACHE": str(tmp_path / "data")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | offline, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0
    assert done.stdout.startswith(
        "wikitext-2 cannot be read: it is not on this machine, and offline mode is on"
    )
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""
