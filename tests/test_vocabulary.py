"""What tokens spell, and their classes, for the kinds of tokenizer that models carry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from mqf_tui.fidelity.text.chunking import make_chunks
from mqf_tui.fidelity.text.corpora import read_corpus
from mqf_tui.fidelity.vocabulary import TOKEN_CLASSES, Vocabulary
from tests import makers

TEXT = "Hello, world 42\nnaïve café — 東京 🙂\u200d\t x2 3.14 don't\r\n\n  end"


def byte_level(pieces: Sequence[str], special: Sequence[str] = (), plain: Sequence[str] = ()) -> Any:
    """A byte-level tokenizer that has exactly these pieces (as text) beside the 256 bytes."""
    symbols = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    vocab = {symbol: n for n, symbol in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    merges: list[tuple[str, str]] = []
    for piece in pieces:
        ((spelt, _),) = symbols.pre_tokenize_str(piece)
        for end in range(2, len(spelt) + 1):
            if spelt[:end] not in vocab:
                vocab[spelt[:end]] = len(vocab)
                merges.append((spelt[: end - 1], spelt[end - 1]))
    made = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    made.pre_tokenizer, made.decoder = symbols, decoders.ByteLevel()
    made.add_special_tokens([AddedToken(s, special=True) for s in special])
    made.add_tokens([AddedToken(s) for s in plain])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=special[0] if special else None)


def sentence_pieces(pieces: Sequence[str], special: str = "</s>") -> Any:
    """A Unigram tokenizer as SentencePiece makes them: ▁ for spaces, bytes for unknown characters."""
    byte_pieces = [f"<0x{byte:02X}>" for byte in range(256)]
    scored = [
        ("<unk>", 0.0),
        *((b, -30.0) for b in byte_pieces),
        *((p, -float(1 + 5 / len(p))) for p in pieces),
    ]
    made = Tokenizer(models.Unigram(scored, unk_id=0, byte_fallback=True))
    made.normalizer = normalizers.Replace(" ", "▁")
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    made.add_special_tokens([AddedToken(special, special=True)])
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token=special, unk_token="<unk>")


def spelt(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    texts = Vocabulary(tokenizer).texts(np.array(ids))
    return [texts[i] for i in ids]


def joined(texts: Sequence[str]) -> str:
    """Tokens put together again: the bytes that lone surrogates stand for make whole characters."""
    return "".join(texts).encode("utf-8", "surrogateescape").decode()


def classed(tokenizer: Any, *rows: Sequence[int]) -> list[list[str]]:
    found = Vocabulary(tokenizer).classes(np.array(rows, np.int32))
    assert found.dtype == np.int8
    return [[TOKEN_CLASSES[k] for k in row] for row in found.tolist()]


def ids_of(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoTokenizer

    folder: Path = tmp_path_factory.mktemp("tokenizer")
    makers.write_tokenizer(folder)
    return AutoTokenizer.from_pretrained(folder)


def test_byte_level_texts_give_the_text_back(trained: Any) -> None:
    for text in (TEXT, makers.words(50), "".join(map(chr, range(1, 0x300)))):
        assert joined(spelt(trained, ids_of(trained, text))) == text


def test_characters_cut_between_tokens_stand_as_their_bytes(trained: Any) -> None:
    texts = spelt(trained, ids_of(trained, "é東"))
    assert texts == ["\udcc3", "\udca9", "\udce6", "\udc9d", "\udcb1"]
    assert joined(texts) == "é東"


def test_a_piece_that_holds_a_character_whole_and_one_cut() -> None:
    tokenizer = byte_level([" caf"])
    assert spelt(tokenizer, ids_of(tokenizer, " café"))[0] == " caf"
    symbols = {s: i for s, i in tokenizer.get_vocab().items()}
    assert spelt(tokenizer, [symbols["Ã"], symbols["Ġ"], symbols["Ċ"]]) == ["\udcc3", " ", "\n"]


def test_classes_of_a_text_checked_by_hand() -> None:
    tokenizer = byte_level(
        ["Hel", "lo", " wor", "ld", " 4", "42", " don", "'t", "\n\n", "  ", " x", " ("], ["<|end|>"]
    )
    ids = ids_of(tokenizer, "Hello, world 42\n")
    assert list(zip(spelt(tokenizer, ids), *classed(tokenizer, ids), strict=True)) == [
        ("Hel", "word start"),
        ("lo", "word continuation"),
        (",", "punctuation"),
        (" wor", "word start"),
        ("ld", "word continuation"),
        (" 4", "digit"),
        ("2", "digit"),
        ("\n", "whitespace"),
    ]
    ids = ids_of(tokenizer, " don't x2 (é\n\n3.5<|end|>s  ")
    assert list(zip(spelt(tokenizer, ids), *classed(tokenizer, ids), strict=True)) == [
        (" don", "word start"),
        ("'t", "word start"),
        (" x", "word start"),
        ("2", "digit"),
        (" (", "punctuation"),
        ("\udcc3", "word start"),
        ("\udca9", "word continuation"),
        ("\n\n", "whitespace"),
        ("3", "digit"),
        (".", "punctuation"),
        ("5", "digit"),
        ("<|end|>", "special"),
        ("s", "word start"),
        ("  ", "whitespace"),
    ]


def test_a_word_goes_on_after_a_digit_and_begins_anew_in_each_row() -> None:
    tokenizer = byte_level(["lo"])
    ids = ids_of(tokenizer, "a1lo")
    assert classed(tokenizer, ids) == [["word start", "digit", "word continuation"]]
    row = ids_of(tokenizer, "2lo")
    assert classed(tokenizer, row) == [["digit", "word continuation"]]
    assert classed(tokenizer, row[1:], row[1:]) == [["word start"], ["word start"]]


def test_added_tokens_spell_what_they_say() -> None:
    """They are no byte symbols: é is a character of its own, and what is marked special is special even
    where the tokenizer gives it no role (as the turn markers of chat models)."""
    tokenizer = byte_level(["lo"], ["<|end|>", "<|turn|>", "END"], ["<think é>", "naïve"])
    ids = ids_of(tokenizer, "lo<|turn|><think é>naïve<|end|>")
    assert spelt(tokenizer, ids) == ["lo", "<|turn|>", "<think é>", "naïve", "<|end|>"]
    assert classed(tokenizer, ids) == [["word start", "special", "word start", "word start", "special"]]
    assert classed(tokenizer, ids_of(tokenizer, "ENDlo")) == [["special", "word start"]]


def test_sentence_pieces_and_their_byte_fallback() -> None:
    pieces = ["▁Hel", "lo", ",", "▁wor", "ld", "▁", "4", "2", "▁caf", "é", "."]
    tokenizer = sentence_pieces(pieces)
    text = " Hello, world 42\n café 東."
    ids = ids_of(tokenizer, text)
    texts = spelt(tokenizer, ids)
    assert joined(texts) == text
    assert list(zip(texts, *classed(tokenizer, ids), strict=True)) == [
        (" Hel", "word start"),
        ("lo", "word continuation"),
        (",", "punctuation"),
        (" wor", "word start"),
        ("ld", "word continuation"),
        (" ", "whitespace"),
        ("4", "digit"),
        ("2", "digit"),
        ("\n", "whitespace"),
        (" caf", "word start"),
        ("é", "word continuation"),
        (" ", "whitespace"),
        ("\udce6", "word start"),
        ("\udc9d", "word continuation"),
        ("\udcb1", "word continuation"),
        (".", "punctuation"),
    ]
    assert classed(tokenizer, [tokenizer.eos_token_id]) == [["special"]]
    assert spelt(tokenizer, [tokenizer.eos_token_id]) == ["</s>"]


def test_older_tokenizers_that_carry_their_byte_symbols_or_give_bytes() -> None:
    """Written in Python, with no decoder to ask: GPT-2's byte symbols, tiktoken's bytes."""

    class ByteSymbols:
        all_special_ids = (2,)
        byte_decoder = {"Ġ": 32}  # noqa: RUF012

        def convert_ids_to_tokens(self, token: int) -> str | None:
            return ["Ġlo", "Ã", "<|end|>", None][token]

    class Bytes:
        all_special_ids = ()

        def convert_ids_to_tokens(self, token: int) -> bytes:
            return [b" lo", b"\xc3"][token]

    assert spelt(ByteSymbols(), [0, 1, 2, 3]) == [" lo", "\udcc3", "<|end|>", ""]
    assert spelt(Bytes(), [0, 1]) == [" lo", "\udcc3"]


def test_ids_beyond_the_tokenizer_spell_nothing(trained: Any) -> None:
    beyond = len(trained) + 5
    assert spelt(trained, [beyond]) == [""]
    assert classed(trained, [beyond]) == [["whitespace"]]


def test_every_id_has_a_text_and_a_class(demo_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(demo_model)
    ids = np.arange(len(tokenizer))
    texts = Vocabulary(tokenizer).texts(ids)
    assert sorted(texts) == ids.tolist()
    assert all(texts.values())
    # The classes that do not depend on a neighbour, from the text alone.
    alone = Vocabulary(tokenizer).classes(ids.astype(np.int32)[:, None])[:, 0]
    for token, k in zip(ids.tolist(), alone.tolist(), strict=True):
        text = texts[token]
        if token == 0:
            assert TOKEN_CLASSES[k] == "special"
        elif any(c.isalpha() or "\udc80" <= c <= "\udcff" for c in text):
            assert TOKEN_CLASSES[k] == "word start"
        elif any(c.isdigit() for c in text):
            assert TOKEN_CLASSES[k] == "digit"
        else:
            assert TOKEN_CLASSES[k] == ("punctuation" if text.strip() else "whitespace")


def test_the_tokens_of_chunks_spell_the_corpus(demo_model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(demo_model)
    corpus = read_corpus("builtin")
    chunks = make_chunks(corpus, tokenizer, 256, None, tokenizer_id="demo")
    texts = chunks.vocabulary.texts(chunks.tokens)
    for part, (name, text) in enumerate((p.name, next(iter(p.documents)).text) for p in corpus.parts):
        rows = chunks.tokens[chunks.part == part]
        whole = "".join(texts[i] for i in rows.ravel().tolist())
        # The part's last, partial chunk is dropped, and may have taken the end of a character with it.
        assert len(rows) > 1
        assert text.encode().startswith(whole.encode("utf-8", "surrogateescape")), name
    counts = np.bincount(chunks.token_class.ravel(), minlength=len(TOKEN_CLASSES))
    assert (counts[:5] > 100).all()
    assert counts[5] == 0
