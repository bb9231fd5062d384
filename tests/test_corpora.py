"""Text to chunks: the built-in corpus, files of every kind, order, hashes, and the tokenizer's own stream."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, processors
from transformers import PreTrainedTokenizerFast

from mqf_tui.fidelity.errors import BadCorpusError, BrokenWeightsError
from mqf_tui.fidelity.text.chunking import Chunks, make_chunks
from mqf_tui.fidelity.text.corpora import BUILTIN_PARTS, corpus_names, corpus_words, read_corpus
from mqf_tui.fidelity.text.corpus import Corpus, Part
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.fidelity.text.words import text_words
from tests.makers import words, write_tokenizer


class Letters:
    """A tokenizer whose tokens are the code points."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(letter) for letter in text]

    def convert_ids_to_tokens(self, token: int) -> str:
        return chr(token)


def corpus_of(*texts: str) -> Corpus:
    return Corpus("made", "1", tuple(Part.of(f"part{n}", text) for n, text in enumerate(texts)))


def texts_of(corpus: Corpus) -> list[tuple[str, str]]:
    """Name and text of each part."""
    return [(p.name, p.separator.join(d.text for d in p.documents)) for p in corpus.parts]


def chunks_of(
    corpus: Corpus, length: int, most: int | None = None, tokenizer: Any = None, **more: Any
) -> Chunks:
    return make_chunks(corpus, tokenizer or Letters(), length, most, tokenizer_id="org/letters", **more)


def message(error: pytest.ExceptionInfo[Exception]) -> str:
    text = str(error.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


@pytest.fixture(scope="module")
def bpe(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_tokenizer(folder)
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


@pytest.fixture(scope="module")
def smollm2_tokens(smollm2: Path) -> Tokenizer:
    return Tokenizer.from_file(str(smollm2 / "tokenizer.json"))


# The built-in corpus


def test_the_builtin_corpus_is_large_enough_in_every_part(smollm2_tokens: Tokenizer) -> None:
    corpus = read_corpus("builtin")
    assert [name for name, _ in texts_of(corpus)] == ["prose", "dialogue", "code", "tables", "languages"]
    sizes = [len(smollm2_tokens.encode(text).ids) for _, text in texts_of(corpus)]
    assert sum(sizes) >= 12_000
    assert min(sizes) >= 1024  # two chunks of the default length from each


def test_no_paragraph_of_it_is_repeated() -> None:
    text = "\n\n".join(text for _, text in texts_of(read_corpus("builtin")))
    paragraphs = [" ".join(p.split()) for p in re.split(r"\n\s*\n", text)]
    paragraphs = [p for p in paragraphs if len(p) >= 30]
    assert len(paragraphs) > 100
    assert sorted(paragraphs) == sorted(set(paragraphs))


def test_it_is_clean_text() -> None:
    for name, text in texts_of(read_corpus("builtin")):
        assert "\r" not in text, name
        assert "�" not in text, name
        assert text.endswith("\n"), name


def test_the_named_corpora() -> None:
    assert corpus_names() == ("builtin", "wikitext-2", "wikitext-103")
    assert read_corpus("builtin").name == "builtin"


# Chunks


def test_chunks_come_from_the_parts_in_turn() -> None:
    rng = np.random.default_rng(2)
    for _ in range(40):
        sizes = rng.integers(0, 60, rng.integers(1, 6)).tolist()
        length, most = int(rng.integers(2, 9)), int(rng.integers(1, 30))
        texts = ["".join(map(chr, rng.integers(1, 500, size))) for size in sizes]

        queues = [[t[i : i + length] for i in range(0, len(t) - length + 1, length)] for t in texts]
        expected: list[tuple[int, str]] = []
        while any(queues):
            for number, queue in enumerate(queues):
                if queue:
                    expected.append((number, queue.pop(0)))
        if not expected:
            continue
        for limit in (None, most):
            made = chunks_of(corpus_of(*texts), length, limit)
            found = [(int(p), "".join(map(chr, row))) for p, row in zip(made.part, made.tokens, strict=True)]
            assert found == expected[:limit]
            assert made.part_names == tuple(f"part{n}" for n in range(len(texts)))
            assert made.tokens.dtype == np.int32


def test_the_stream_is_the_tokenizers_own(smollm2: Path, smollm2_tokens: Tokenizer) -> None:
    from mqf_tui.fidelity.model.facts import read_facts
    from mqf_tui.fidelity.model.loading import load_tokenizer

    corpus = read_corpus("builtin")
    made = chunks_of(corpus, 96, tokenizer=load_tokenizer(read_facts(smollm2)))
    for number, (_, text) in enumerate(texts_of(corpus)):
        ids = smollm2_tokens.encode(text).ids
        assert made.tokens[made.part == number].ravel().tolist() == ids[: len(ids) // 96 * 96]
    assert made.part_names == BUILTIN_PARTS
    assert made.provenance.bos_policy == "none"


def test_the_provenance_says_how_to_make_the_stream_again() -> None:
    corpus = corpus_of("abcdefghij" * 5, "ABCDEFG" * 4)
    made = chunks_of(corpus, 16, 4)
    first, second = "abcdefghij" * 5, "ABCDEFG" * 4
    stream = first[:16] + second[:16] + first[16:32] + first[32:48]
    packed = b"".join(struct.pack("<i", ord(letter)) for letter in stream)
    text = f"part0\0{first}\0part1\0{second}\0".encode()
    assert made.provenance.model_dump() == {
        "name": "made",
        "version": "1",
        "split": None,
        "n_tokens": 64,
        "chunk_length": 16,
        "stride": 16,
        "tokenizer_id": "org/letters",
        "bos_policy": "none",
        "final_chunk_policy": "dropped",
        "normalization": "none",
        "join": "parts encoded apart, chunks taken in turn",
        "content_hash": hashlib.sha256(text).hexdigest()[:16],
        "token_hash": hashlib.sha256(packed).hexdigest()[:16],
        "n_chunks": 4,
        "public": False,
        "reading": {
            "field": None,
            "glob": None,
            "documents": "auto",
            "bos": "auto",
            "stride": None,
            "rest": "auto",
            "assistant_only": False,
            "seed": 0,
        },
    }


def with_bos(bpe: Tokenizer, **more: Any) -> PreTrainedTokenizerFast:
    adds = Tokenizer.from_str(bpe.to_str())
    adds.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=adds, bos_token="<s>", eos_token="</s>", **more)


def test_a_tokenizer_that_adds_bos_does_so_in_each_chunk(bpe: Tokenizer) -> None:
    corpus = corpus_of(words(300, 1), words(300, 2))
    made = chunks_of(corpus, 64, tokenizer=with_bos(bpe))
    assert made.provenance.bos_policy == "at the start of each chunk"
    assert (made.tokens[:, 0] == bpe.token_to_id("<s>")).all()
    for number, (_, text) in enumerate(texts_of(corpus)):
        ids = bpe.encode(text).ids
        assert made.tokens[made.part == number, 1:].ravel().tolist() == ids[: len(ids) // 63 * 63]


def test_text_that_begins_with_bos_is_no_policy(bpe: Tokenizer) -> None:
    plain = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token="<s>", eos_token="</s>")
    made = chunks_of(corpus_of("<s>" + words(300, 1)), 64, tokenizer=plain)
    assert made.tokens[0, 0] == bpe.token_to_id("<s>")
    assert made.provenance.bos_policy == "none"


def test_long_text_is_no_reason_to_warn(bpe: Tokenizer, caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("transformers")
    caplog.set_level(logging.WARNING, "transformers")
    logger.addHandler(caplog.handler)
    try:
        with_bos(bpe, model_max_length=20).encode(words(300))
        assert "longer than" in caplog.text
        caplog.clear()
        chunks_of(corpus_of(words(300)), 64, tokenizer=with_bos(bpe, model_max_length=20))
        assert caplog.text == ""
    finally:
        logger.removeHandler(caplog.handler)


def test_a_token_outside_the_vocabulary_is_refused() -> None:
    corpus = corpus_of("a" * 32 + "z" * 32)
    with pytest.raises(BrokenWeightsError) as caught:
        chunks_of(corpus, 16, vocab_size=ord("z"))
    assert f"token {ord('z')}" in message(caught)
    assert f"only {ord('z')}" in message(caught)
    assert len(chunks_of(corpus, 16, vocab_size=ord("z") + 1).tokens) == 4
    assert len(chunks_of(corpus, 16, 2, vocab_size=ord("z")).tokens) == 2


@pytest.mark.parametrize("n_tokens", [16, 17, 31, 32, 100, 511])
def test_too_short_a_text_names_a_length_that_works(n_tokens: int) -> None:
    corpus = corpus_of("x" * n_tokens, "y" * 3)
    with pytest.raises(BadCorpusError) as caught:
        chunks_of(corpus, 512)
    text = message(caught)
    assert f"made has {n_tokens} tokens, fewer than one chunk of 512" in text
    found = re.search(r"--chunk-length (\d+)", text)
    assert found is not None
    assert 2 * int(found[1]) > n_tokens
    assert len(chunks_of(corpus, int(found[1])).tokens) == 1


@pytest.mark.parametrize("text", ["", "only this"])
def test_far_too_short_a_text(text: str) -> None:
    with pytest.raises(BadCorpusError) as caught:
        chunks_of(corpus_of(text), 16)
    assert message(caught).endswith("use a longer text.")


# Files


def test_a_file_is_taken_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "Ein Satz.\r\n\tNoch einer — mit Σ, 漢字 und 🦜.\n\n  "
    path = tmp_path / "notes.txt"
    path.write_bytes(text.encode())
    corpus = read_corpus(str(path))
    assert (corpus.name, corpus.version, tuple(texts_of(corpus))) == (
        "notes.txt",
        "file",
        (("notes.txt", text),),
    )

    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert read_corpus(str(path)) == corpus

    monkeypatch.setenv("HOME", str(tmp_path))
    assert read_corpus("~/notes.txt") == corpus


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "has no text in it"),
        (b"\xef\xbb\xbf", "has no text in it"),
        (b" \n\t\r\n \xe2\x80\x83", "has no text in it"),
        ("Grüße".encode("latin-1"), "is not UTF-8 text (byte 2, line 1)"),
        (b"\xfe\xff\x00G\x00", "is not UTF-16 text (byte 4, line 1)"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "is a binary file"),
        (b"text, then a cut \xe2\x82", "is not UTF-8 text (byte 17, line 1)"),
    ],
)
def test_files_that_are_no_text(tmp_path: Path, raw: bytes, reason: str) -> None:
    path = tmp_path / "thing.txt"
    path.write_bytes(raw)
    with pytest.raises(BadCorpusError) as caught:
        read_corpus(str(path))
    assert message(caught).startswith(f"thing.txt {reason}")


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    cases = {
        str(tmp_path / "absent.txt"): "there is no corpus, file or folder",
        "wikitext-3": "there is no corpus, file or folder 'wikitext-3'",
        "~no-such-user-here/x.txt": "there is no corpus, file or folder",
        str(tmp_path): "has no text file in it",
        "a whole sentence given as the corpus " * 40: "cannot be read",
        "nul\0byte": "there is no corpus, file or folder",
    }
    for name, reason in cases.items():
        with pytest.raises(BadCorpusError) as caught:
            read_corpus(name)
        assert reason in message(caught)
        assert "--corpus builtin" in message(caught) or name == str(tmp_path)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "locked.txt"
    path.write_text("text")
    path.chmod(0)
    if os.access(path, os.R_OK):  # root may read everything

        def denied(*_: object) -> int:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(os, "open", denied)
    with pytest.raises(BadCorpusError) as caught:
        read_corpus(str(path))
    assert "locked.txt cannot be read (Permission denied)" in message(caught)


def test_a_file_whose_name_reads_like_several_is_one_among_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a + b.txt", "c.txt"):
        Path(name).write_text(f"of {name}")
    for word, expected in (
        ("a + b.txt + c.txt", ("a + b.txt", "c.txt")),
        ("c.txt + a + b.txt", ("c.txt", "a + b.txt")),
        ("builtin + c.txt", ("builtin", "c.txt")),
        ("a + b.txt", ("a + b.txt",)),
    ):
        assert corpus_words(word) == expected
    assert texts_of(read_corpus("a + b.txt + c.txt")) == [
        ("a + b.txt", "of a + b.txt"),
        ("c.txt", "of c.txt"),
    ]


@pytest.mark.parametrize(
    ("options", "choice"), [(TextOptions(field="text"), "field"), (TextOptions(glob="*.md"), "glob")]
)
def test_the_built_in_texts_have_neither_fields_nor_files(options: TextOptions, choice: str) -> None:
    for word in ("builtin", "builtin + builtin"):
        with pytest.raises(BadCorpusError) as error:
            read_corpus(word, options)
        assert f"leave the {choice} out" in message(error)


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("/home/me/notes.txt", "notes.txt"),
        ("docs/**/*.md", "docs/**/*.md"),
        ("/home/me/project/docs/*.md", "docs/*.md"),
        ("/*.md", "/*.md"),
        ("/", "/"),
        ("/home/me/builtin", "./builtin"),
        ("/home/me/builtin/*.md", "./builtin/*.md"),
        ("/home/me/hf:owner", "./hf:owner"),
        ("/home/me/-v", "./-v"),
        ("/dev/fd/63", "-"),
        ("hf:owner/name/train#body", "hf:owner/name/train#body"),
    ],
)
def test_a_report_names_a_text_by_the_end_of_its_path(word: str, said: str) -> None:
    assert text_words(word, TextOptions()) == ["--corpus", said]
