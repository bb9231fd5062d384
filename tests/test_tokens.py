"""Tokenised texts kept on disk: the second reading tokenises nothing and finds the same; a store that is
damaged, full, read-only or of another tokenizer costs time and nothing else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqf_tui.fidelity.text.chunking import make_chunks
from mqf_tui.fidelity.text.corpus import Corpus, Part
from mqf_tui.library import tokens as stored
from mqf_tui.library.tokens import FileTokens, cache_dir, tokenizer_key
from tests.makers import words, write_tokenizer


class Counting:
    """A real tokenizer that counts what it is asked to encode."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer

        self._tokenizer: Any = AutoTokenizer.from_pretrained(folder)
        self.encoded: list[str] = []

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        self.encoded.append(text)
        return self._tokenizer.encode(text, add_special_tokens=add_special_tokens)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tokenizer, name)


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    write_tokenizer(folder)
    return folder


@pytest.fixture
def model(tokenizer_folder: Path, tmp_path: Path) -> Path:
    """A model folder of this test's own, to change as it likes."""
    return Path(shutil.copytree(tokenizer_folder, tmp_path / "model"))


CORPUS = Corpus(
    "made", "1", (Part.of("a", words(500, seed=1)), Part.of("b", words(400, seed=2) + " ünïcödé 漢字"))
)


def chunks_of(tokenizer: Counting, store: FileTokens | None) -> Any:
    return make_chunks(CORPUS, tokenizer, 64, None, tokenizer_id="org/made", store=store)


def texts(tokenizer: Counting) -> list[str]:
    """What was encoded of the corpus (its rules are asked for with a word of their own)."""
    return [text for text in tokenizer.encoded if len(text) > 1]


def test_second_reading_tokenises_nothing_and_gives_the_same(model: Path, tmp_path: Path) -> None:
    plain = chunks_of(Counting(model), None)
    first, second = Counting(model), Counting(model)
    wrote = chunks_of(first, FileTokens(model, tmp_path / "tokens"))
    read = chunks_of(second, FileTokens(model, tmp_path / "tokens"))
    assert len(texts(first)) == 2
    assert texts(second) == []
    for found in (wrote, read):
        assert found.tokens.dtype == plain.tokens.dtype == np.int32
        assert np.array_equal(found.tokens, plain.tokens)
        assert np.array_equal(found.token_class, plain.token_class)
        assert found.provenance == plain.provenance


def test_another_text_or_tokenizer_or_version_is_another_entry(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FileTokens(model, tmp_path / "tokens")
    store.put("some text", np.array([1, 2, 3], np.int32))
    assert store.get("some texts") is None
    before = tokenizer_key(model)
    (model / "special_tokens_map.json").write_text('{"bos_token": "</s>"}')
    assert tokenizer_key(model) != before
    assert FileTokens(model, tmp_path / "tokens").get("some text") is None
    (model / "special_tokens_map.json").unlink()
    assert FileTokens(model, tmp_path / "tokens").get("some text") is not None
    monkeypatch.setattr(stored, "_version", lambda package: "0.0.1")
    assert FileTokens(model, tmp_path / "tokens").get("some text") is None


def test_weights_are_no_part_of_the_key(model: Path) -> None:
    before = tokenizer_key(model)
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "model.safetensors.index.json").write_text("{}")
    assert tokenizer_key(model) == before


@pytest.mark.parametrize(
    "harm",
    [
        lambda raw: raw[: len(raw) // 2],
        lambda raw: b"",
        lambda raw: raw[:100] + bytes([raw[100] ^ 1]) + raw[101:],
        lambda raw: raw + b"\0",
        lambda raw: b"\x93NUMPY" + b"\xff" * 60,
    ],
    ids=["half", "empty", "a bit", "longer", "noise"],
)
def test_damaged_entry_is_ignored_and_written_anew(model: Path, tmp_path: Path, harm: Any) -> None:
    home = tmp_path / "tokens"
    plain = chunks_of(Counting(model), FileTokens(model, home))
    whole = {path: path.read_bytes() for path in home.iterdir()}
    assert len(whole) == 2
    for path, raw in whole.items():
        path.write_bytes(harm(raw))
    again = Counting(model)
    found = chunks_of(again, FileTokens(model, home))
    assert len(texts(again)) == 2
    assert np.array_equal(found.tokens, plain.tokens)
    assert {path: path.read_bytes() for path in home.iterdir()} == whole


def test_no_pickle_is_ever_loaded(model: Path, tmp_path: Path) -> None:
    import hashlib
    import io

    store = FileTokens(model, tmp_path / "tokens")
    store.put("text", np.arange(3, dtype=np.int32))
    (path,) = (tmp_path / "tokens").iterdir()
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    path.write_bytes(buffer.getvalue() + hashlib.sha256(buffer.getvalue()).digest())
    assert store.get("text") is None


def test_home_that_cannot_be_is_done_without(model: Path, tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("not a folder")
    tokenizer = Counting(model)
    found = chunks_of(tokenizer, FileTokens(model, in_the_way / "tokens"))
    assert len(texts(tokenizer)) == 2
    assert np.array_equal(found.tokens, chunks_of(Counting(model), None).tokens)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_read_only_home_is_done_without(model: Path, tmp_path: Path) -> None:
    home = tmp_path / "tokens"
    home.mkdir(mode=0o500)
    assert chunks_of(Counting(model), FileTokens(model, home)).tokens.size
    assert not list(home.iterdir())


def test_model_folder_that_is_gone_is_done_without(model: Path, tmp_path: Path) -> None:
    store = FileTokens(tmp_path / "nowhere", tmp_path / "tokens")
    store.put("text", np.arange(3, dtype=np.int32))
    assert store.get("text") is None


def test_oldest_entries_go_first_and_a_read_one_stays(model: Path, tmp_path: Path) -> None:
    home = tmp_path / "tokens"
    store = FileTokens(model, home)
    rows = np.arange(250, dtype=np.int32)
    for age, text in ((300, "old"), (200, "older still in use"), (100, "young")):
        store.put(text, rows)
        newest = max(home.iterdir(), key=lambda path: path.stat().st_mtime_ns)
        then = newest.stat().st_mtime - age
        os.utime(newest, (then, then))
    each = next(home.iterdir()).stat().st_size
    assert store.get("older still in use") is not None
    small = FileTokens(model, home, max_bytes=3 * each)
    small.put("new", rows)
    assert small.get("old") is None
    for text in ("older still in use", "young", "new"):
        assert np.array_equal(small.get(text), rows)  # pyright: ignore[reportArgumentType]
    assert sum(path.stat().st_size for path in home.iterdir()) <= 3 * each
    small.put("too large", np.arange(5000, dtype=np.int32))
    assert small.get("too large") is None
    assert small.get("new") is not None


def test_folder_of_the_user_and_its_override(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("MQF_TUI_CACHE_DIR", str(tmp_path / "elsewhere"))
    assert cache_dir() == tmp_path / "elsewhere"
    monkeypatch.delenv("MQF_TUI_CACHE_DIR")
    assert cache_dir().name == "mqf-tui"


def test_a_measurement_keeps_its_tokens_for_the_next(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from mqf_tui import measure_kv_fidelity
    from mqf_tui.fidelity.text.encoding import Encoder
    from tests.makers import text_file

    asked: list[str] = []
    ids = Encoder._ids

    def counting(self: Encoder, text: str, *, special: bool) -> Any:
        asked.append(text)
        return ids(self, text, special=special)

    monkeypatch.setattr(Encoder, "_ids", counting)
    corpus = text_file(tmp_path / "text.txt", 200)
    first, second = (
        measure_kv_fidelity("demo", kv_bits=4, chunk_length=64, max_chunks=1, corpus=corpus) for _ in range(2)
    )
    assert sum(len(text) > 1 for text in asked) == 1
    assert first.corpus == second.corpus
    assert first.kl == second.kl
    assert list((cache_dir() / "tokens").iterdir())
