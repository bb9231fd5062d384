"""How a text is cut, against chunks cut by brute force: joining, BOS, stride, what is left at an end."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqf_tui.fidelity.errors import BadCorpusError, BadSettingError
from mqf_tui.fidelity.text import cutting
from mqf_tui.fidelity.text.chunking import Chunks, make_chunks
from mqf_tui.fidelity.text.corpus import Corpus, Document, Part
from mqf_tui.fidelity.text.options import TextOptions, options_of
from tests import chat_models
from tests.chat_models import chat_tokenizer, turn

BOS = 1


class Letters:
    """A tokenizer whose tokens are the code points, which begins a text with BOS where it is told to."""

    bos_token_id = BOS

    def __init__(self, adds: bool = False) -> None:
        self.adds = adds

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [BOS] * (self.adds and add_special_tokens) + [ord(letter) for letter in text]

    def convert_ids_to_tokens(self, token: int) -> str:
        return chr(token)


def cut(
    *parts: tuple[str, ...], length: int = 16, most: int | None = None, adds: bool = False, **options: Any
) -> Chunks:
    made = tuple(Part(f"part{n}", tuple(map(Document, texts))) for n, texts in enumerate(parts))
    corpus = Corpus("made", "1", made)
    return make_chunks(
        corpus, Letters(adds), length, most, tokenizer_id="letters", options=TextOptions(**options)
    )


def rows(made: Chunks) -> list[tuple[int, str, list[int]]]:
    """Part, text and scored places of each chunk, padding left out."""
    assert made.lengths is not None
    found: list[tuple[int, str, list[int]]] = []
    for i, length in enumerate(made.lengths.tolist()):
        scored = made.scored[i] if made.scored is not None else np.arange(made.tokens.shape[1]) > 0
        assert not scored[length:].any()
        assert not made.tokens[i, length:].any()
        text = "".join(map(chr, made.tokens[i, :length]))
        found.append((int(made.part[i]), text, np.flatnonzero(scored).tolist()))
    return found


def streams(parts: tuple[tuple[str, ...], ...], apart: bool) -> Iterator[tuple[int, str]]:
    for n, texts in enumerate(parts):
        for text in texts if apart else ("\n\n".join(texts),):
            yield n, text


@settings(max_examples=60)
@given(
    parts=st.lists(
        st.lists(st.text("abcdefghij", max_size=40), min_size=1, max_size=3).map(tuple), min_size=1
    ),
    length=st.integers(3, 12),
    stride=st.none() | st.integers(1, 12),
    apart=st.booleans(),
    pads=st.booleans(),
    bos=st.sampled_from(("none", "chunk", "part")),
)
def test_each_token_is_scored_once_with_as_much_before_it_as_there_is(
    parts: list[tuple[str, ...]], length: int, stride: int | None, apart: bool, pads: bool, bos: str
) -> None:
    head = chr(BOS) if bos == "chunk" else ""
    room = length - len(head)
    step = min(stride or room, room)
    expected: dict[int, list[tuple[int, str, list[int]]]] = {n: [] for n in range(len(parts))}
    begun = set[int]()
    for n, text in streams(tuple(parts), apart):
        if bos == "part" and n not in begun:
            text = chr(BOS) + text
        begun.add(n)
        seen = 0  # of this stream's tokens so many were scored, or were there to be
        for start in range(0, len(text), step):
            if seen == len(text):
                break
            piece = text[start : start + room]
            row = head + piece
            if len(row) < 2 or (len(row) < length and not pads):
                break
            scored = [len(head) + i for i in range(len(piece)) if start + i >= seen and len(head) + i > 0]
            seen = start + len(piece)
            if scored:
                expected[n].append((n, row, scored))
    in_turn = [
        expected[n][i]
        for i in range(max(map(len, expected.values())))
        for n in expected
        if i < len(expected[n])
    ]
    options = {
        "documents": "apart" if apart else "join",
        "stride": stride if stride is None else min(stride, length),
        "rest": "pad" if pads else "drop",
        "bos": bos,
    }
    if not in_turn:
        with pytest.raises(BadCorpusError):
            cut(*parts, length=length, **options)
        return
    made = cut(*parts, length=length, **options)
    assert rows(made) == in_turn
    # A mask is kept only where it says anything, and the hash is of tokens and mask.
    plain = all(len(text) == length and scored == [*range(1, length)] for _, text, scored in in_turn)
    assert (made.scored is None) == plain
    assert made.provenance.n_chunks == len(in_turn)
    assert made.provenance.n_tokens == sum(len(text) for _, text, _ in in_turn)
    assert made.positions().tolist() == [len(scored) for _, _, scored in in_turn]
    assert made.positions(3).tolist() == [sum(s > 3 for s in scored) for _, _, scored in in_turn]


def test_with_stride_every_token_but_the_first_is_scored_exactly_once() -> None:
    text = "".join(map(chr, np.random.default_rng(1).integers(40, 400, 173)))
    made = cut((text,), length=16, stride=5, rest="pad")
    assert made.scored is not None
    scored = "".join(map(chr, made.tokens[made.scored]))
    assert scored == text[1:]
    assert made.provenance.stride == 5
    # ... and all but those of the first chunk with at least 11 tokens before it.
    assert np.argwhere(made.scored[1:])[:, 1].min() == 11


def test_bos_is_never_there_twice() -> None:
    text = chr(BOS) + "abcdefghijklmno" + "pqrstuvwxyzabcdefg"
    made = cut((text,), length=16, adds=True)
    assert [row[1] for row in rows(made)] == [text[:16], chr(BOS) + text[16:31]]
    assert made.provenance.bos_policy == "at the start of each chunk"
    assert [row[1] for row in rows(cut((text,), length=16, bos="part"))] == [text[:16], text[16:32]]


def test_what_a_tokenizer_does_by_itself_is_the_default() -> None:
    text = "abcdefghij" * 5
    assert (cut((text,), adds=True).tokens[:, 0] == BOS).all()
    assert not (cut((text,), adds=False).tokens == BOS).any()
    assert not (cut((text,), adds=True, bos="none").tokens == BOS).any()


def test_a_tokenizer_without_bos_cannot_be_asked_for_it() -> None:
    class Without(Letters):
        bos_token_id = None  # pyright: ignore[reportAssignmentType]

    corpus = Corpus("made", "1", (Part.of("a", "abc" * 20),))
    for bos in ("chunk", "part"):
        with pytest.raises(BadCorpusError, match=r"has no token that begins a text; .*--bos none\.$"):
            make_chunks(corpus, Without(), 16, None, tokenizer_id="x", options=TextOptions(bos=bos))


def test_the_hash_covers_the_mask_and_how_it_was_read_is_told() -> None:
    text = "abcdefghij" * 10
    plain, strided = cut((text,), length=20), cut((text,), length=20, stride=10)
    assert plain.provenance.reading is not None
    assert strided.provenance.reading is not None
    assert (plain.provenance.reading.stride, strided.provenance.reading.stride) == (None, 10)
    assert options_of(strided.provenance) == TextOptions(stride=10)
    assert plain.provenance.content_hash == strided.provenance.content_hash
    one, other = cut(("ab" * 8,), length=16, rest="pad"), cut(("ab" * 8,), length=16, stride=15, rest="pad")
    assert np.array_equal(one.tokens, other.tokens)
    assert one.provenance.token_hash == other.provenance.token_hash
    wide = cut(("ab" * 9,), length=16, rest="pad")  # the same first chunk, and a second one
    assert wide.provenance.token_hash != one.provenance.token_hash


def test_no_more_is_read_than_is_needed() -> None:
    read: list[int] = []

    class Endless:
        def __iter__(self) -> Iterator[Document]:
            for n in range(10**9):
                read.append(n)
                yield Document("abcdefghi")

    part = Part("endless", Endless(), complete=False)
    for documents in ("join", "apart"):
        read.clear()
        made = make_chunks(
            Corpus("made", "1", (part,)),
            Letters(),
            16,
            5,
            tokenizer_id="x",
            options=TextOptions(documents=documents, rest="pad"),  # pyright: ignore[reportArgumentType]
        )
        assert len(made.tokens) == 5
        assert len(read) < 10**6  # a block that is encoded at once, not all of it


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"documents": "both"}, "documents is 'both'; choose one of auto, join, apart."),
        ({"bos": True}, "bos is True; choose one of"),
        ({"rest": "keep"}, "rest is 'keep'; choose one of auto, drop, pad."),
        ({"stride": 0}, "stride is 0; use 1 to 64 tokens"),
        ({"stride": 65}, "stride is 65; use 1 to 64 tokens"),
        ({"stride": True}, "stride is True"),
        ({"seed": -1}, "seed is -1"),
        ({"assistant_only": 1}, "assistant_only is 1; use True or False."),
        ({"keep_text": "yes"}, "keep_text is 'yes'"),
        ({"field": ""}, "field is ''"),
    ],
)
def test_choices_that_do_not_exist(options: dict[str, Any], said: str) -> None:
    with pytest.raises(BadSettingError) as caught:
        TextOptions(**options).check(64)
    assert str(caught.value).startswith(said)


# Conversations


def chats(tmp_path: Path, *conversations: list[dict[str, str]], length: int = 64, **more: Any) -> Chunks:
    options = TextOptions(**more)
    documents = tuple(Document(messages=tuple(messages)) for messages in conversations)
    corpus = Corpus("made", "1", (Part("chats", documents),))
    tokenizer = chat_tokenizer(tmp_path / "tokenizer")
    return make_chunks(corpus, tokenizer, length, None, tokenizer_id="x", options=options)


def test_conversations_are_apart_and_padded(tmp_path: Path) -> None:
    made = chats(
        tmp_path,
        [turn("user", "ka"), turn("assistant", "lo mi")],
        [turn("user", "tu"), turn("assistant", "ra")],
    )
    tokenizer = chat_tokenizer(tmp_path / "tokenizer")
    assert made.lengths is not None
    for row, length, word in zip(made.tokens, made.lengths.tolist(), ("ka", "tu"), strict=True):
        text = tokenizer.decode(row[:length])
        assert text.startswith(f"<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n{word}")
        assert text.count("<|begin_of_text|>") == 1
    assert made.provenance.join == "each document in chunks of its own"
    assert made.provenance.final_chunk_policy == "padded"


def test_a_long_conversation_goes_on_in_the_next_chunk(tmp_path: Path) -> None:
    (messages,) = chat_models.conversations(1, 30)
    made = chats(tmp_path, messages, assistant_only=True)
    tokenizer = chat_tokenizer(tmp_path / "tokenizer")
    whole = tokenizer.apply_chat_template(messages, return_dict=False)
    assert made.scored is not None
    assert made.lengths is not None
    assert len(made.tokens) > 2
    assert (made.tokens[:, 0] == tokenizer.bos_token_id).all()
    said = [i for i, scored in enumerate(_said(tokenizer, messages)) if scored]
    # Chunks that the assistant says nothing in are left out; the first tokens of the others' are context.
    found = [tokenizer.convert_ids_to_tokens(int(t)) for t in made.tokens[made.scored]]
    assert found == [tokenizer.convert_ids_to_tokens(whole[i]) for i in said]


def _said(tokenizer: Any, messages: list[dict[str, str]]) -> list[bool]:
    """By hand: what stands between a header of the assistant's and the end of its turn."""
    found: list[bool] = []
    for message in [None, *messages]:
        if message is None:
            found += [False]
            continue
        head = tokenizer.encode(
            f"<|start_header_id|>{message['role']}<|end_header_id|>\n\n", add_special_tokens=False
        )
        words = tokenizer.encode(message["content"] + "<|eot_id|>", add_special_tokens=False)
        found += [False] * len(head) + [message["role"] == "assistant"] * len(words)
    return found


def test_conversations_without_an_answer_are_counted(tmp_path: Path) -> None:
    made = chats(
        tmp_path,
        [turn("user", "ka")],
        [turn("user", "tu"), turn("assistant", "ra")],
        [turn("user", "mi")],
        assistant_only=True,
    )
    assert len(made.tokens) == 1
    assert "of chats 2 documents gave nothing to score" in made.warnings


def test_the_hash_tells_a_mask_from_another(tmp_path: Path) -> None:
    messages = [turn("user", "ka"), turn("assistant", "lo mi")]
    some, whole = chats(tmp_path, messages, assistant_only=True), chats(tmp_path, messages)
    assert np.array_equal(some.tokens, whole.tokens)
    assert some.provenance.token_hash != whole.provenance.token_hash
    assert some.provenance.content_hash == whole.provenance.content_hash


def test_plain_text_has_no_assistant() -> None:
    with pytest.raises(BadCorpusError, match=r"only conversations have an assistant's tokens, .*\.$"):
        cut(("abc" * 20,), assistant_only=True)


def test_the_python_api_takes_text_options_and_nothing_else() -> None:
    import mqf_tui

    assert mqf_tui.TextOptions is TextOptions
    with pytest.raises(BadSettingError, match=r"^text is 'apart'; use TextOptions"):
        mqf_tui.measure_kv_fidelity("demo", text="apart")  # pyright: ignore[reportArgumentType]


def test_the_command_line_makes_the_same_options() -> None:
    from mqf_tui.console.arguments import parser
    from mqf_tui.console.text_arguments import corpus_of, text_of
    from mqf_tui.fidelity.text.words import text_words

    given = TextOptions("body", "**/*.md", "apart", "part", 100, "drop", True, False, 7)
    words = text_words("/home/me/a.jsonl + hf:owner/name/test#text", given)
    assert words[:4] == ["--corpus", "a.jsonl", "--corpus", "hf:owner/name/test#text"]
    for command in ("kv", "sweep", "sensitivity", "tune"):
        options = parser().parse_args([command, "demo", *words])
        assert text_of(options) == given
        assert corpus_of(options) == "a.jsonl + hf:owner/name/test#text"
        plain = parser().parse_args([command, "demo"])
        assert text_of(plain) == TextOptions()
        assert corpus_of(plain) == "builtin"
    assert text_words("builtin", TextOptions()) == ["--corpus", "builtin"]
    assert text_words("./builtin", TextOptions()) == ["--corpus", "./builtin"]


def test_joined_conversations_are_read_until_there_are_as_many_chunks_as_asked_for(tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(tmp_path)
    messages = (turn("user", "many words of the user " * 12), turn("assistant", "yes"))
    corpus = Corpus("chats", "1", (Part("chats", tuple(Document(messages=messages) for _ in range(30))),))
    options = TextOptions(documents="join", assistant_only=True)

    def made(most: int | None) -> Chunks:
        return make_chunks(corpus, tokenizer, 16, most, tokenizer_id="t", options=options)

    every = made(None)
    assert len(every.tokens) >= 30  # answers lie in one chunk or two each, and questions fill many between
    for most in (1, 7, 29):
        assert made(most).tokens.tolist() == every.tokens[:most].tolist()
    assert every.provenance.join == "conversations one behind the other"


@pytest.mark.parametrize("role", ["user", "system"])
def test_no_word_of_an_assistant_is_told_as_that(tmp_path: Path, role: str) -> None:
    corpus = Corpus("chats", "1", (Part("chats", (Document(messages=(turn(role, "words " * 40),)),) * 3),))
    with pytest.raises(
        BadCorpusError, match="no word of an assistant's to score; leave out --assistant-only"
    ):
        make_chunks(
            corpus,
            chat_tokenizer(tmp_path),
            16,
            None,
            tokenizer_id="t",
            options=TextOptions(assistant_only=True),
        )


def test_documents_that_are_each_too_short_are_not_counted_together() -> None:
    with pytest.raises(
        BadCorpusError, match=r"the longest document of made has 20 tokens, .* --chunk-length 16"
    ):
        cut(("a" * 20, "b" * 18, "c" * 19), length=32, documents="apart", rest="drop")


def test_more_chunks_than_memory_holds_are_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutting, "MOST_TOKENS", 16 * 40)
    assert len(cut(("a" * 55,), stride=1).tokens) == 40
    for text in ("a" * 56, "a" * 5000):
        with pytest.raises(BadCorpusError, match=r"more than 40 chunks of 16 tokens, .* longer --stride"):
            cut((text,), stride=1)
        assert len(cut((text,), most=30, stride=1).tokens) == 30
    with pytest.raises(BadCorpusError, match="more than 40 chunks"):
        cut(("ab",) * 41, documents="apart")
