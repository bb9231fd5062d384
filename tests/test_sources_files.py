"""Files as text: encodings, lines, conversations, parquet, gzip, streams, giants, and what is no text."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.corpora import read_corpus
from mqf_tui.fidelity.text.corpus import Corpus
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.fidelity.text.sources.decoding import decoded
from mqf_tui.fidelity.text.sources.jsonl import lines

whole_text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=200)


def texts(corpus: Corpus) -> list[str]:
    return [document.text for part in corpus.parts for document in part.documents]


def read(path: Path, **options: Any) -> list[str]:
    return texts(read_corpus(str(path), TextOptions(**options)))


def refused(word: str | Path, **options: Any) -> str:
    with pytest.raises(BadCorpusError) as caught:
        texts(read_corpus(str(word), TextOptions(**options)))
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    return sentence


def cut(raw: bytes, sizes: list[int]) -> list[bytes]:
    found: list[bytes] = []
    for size in sizes:
        found.append(raw[:size])
        raw = raw[size:]
    return [*found, raw]


# Encodings


@given(whole_text, st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32"]), st.lists(st.integers(0, 7)))
@example("漢字🦜é", "utf-8", [1] * 12)
@example("\ufeffx", "utf-8-sig", [])
def test_blocks_decode_as_the_whole_does(text: str, encoding: str, sizes: list[int]) -> None:
    if encoding == "utf-8" and text.startswith("\ufeff"):
        return  # that is a byte order mark
    head = "plain " * 1000  # past what the encoding is recognised by
    raw = (head + text).encode(encoding)
    start = len(head.encode(encoding)) - 3
    assert "".join(decoded([raw[:start], *cut(raw[start:], sizes)], "x")) == head + text


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize(
    "text", ["Plain words, and more.\r\n", "Ein Satz — mit Σ und 🦜.\n", "Слово за слово, и.\n"]
)
def test_utf_16_without_a_mark_is_recognised(encoding: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes((text * 9).encode(encoding))
    assert read(path) == [text * 9]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_no_text(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes("Grüße\r\n".encode(encoding))
    assert read(path) == ["Grüße\r\n"]


@given(st.integers(0, 40), st.integers(0, 3), st.lists(st.integers(1, 9), max_size=12))
def test_what_is_wrong_is_found_where_it_is(before: int, line: int, sizes: list[int]) -> None:
    good = "a\n" * line + "é" * before
    raw = good.encode() + b"\xff" + "more é".encode()
    with pytest.raises(BadCorpusError) as caught:
        list(decoded(cut(raw, sizes), "x"))
    place = f"(byte {len(good.encode()):,}, line {line + 1:,})"
    assert f"x is not UTF-8 text {place}; save it as UTF-8" in str(caught.value)


def test_places_far_into_a_file_are_readable(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"abcdefgh\n" * 137 + b"\xe9" + b"x" * 3_000_000)
    assert "(byte 1,233, line 138)" in refused(path)
    path.write_bytes(b"abcdefgh\n" * 300_000 + b"x\xe9")
    assert "(byte 2,700,001, line 300,001)" in refused(path)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"text, then \xed\xa0\xbd half a pair", "is not UTF-8 text (byte 11, line 1)"),
        ("fine".encode("utf-16") + b"\x3d\xd8", "is not UTF-16 text (byte 10, line 1)"),
        (b"\xff\xfe\0\0abc", "is not UTF-32 text (byte 4, line 1)"),
        (b"words \0 words", "is a binary file, not text (byte 6 is zero)"),
        (b"w" * 9000 + b"\0", "is a binary file, not text (byte 9,000 is zero)"),
        (b"\x01\0\x02\0\x03\0\x04\0", "is a binary file"),
        (bytes(4096), "is a binary file, not text (byte 0 is zero)"),
        (b"\x7fELF\x02\x01\x01\0\0\0", "is a binary file"),
    ],
)
def test_bytes_that_are_no_text(raw: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(raw)
    assert f"x.txt {reason}" in refused(path)


# JSON lines


@given(st.lists(st.text(max_size=12)), st.lists(st.integers(1, 9)))
def test_lines_end_at_line_feeds_alone(given_lines: list[str], sizes: list[int]) -> None:
    texts_given = [line.replace("\n", "") for line in given_lines]
    whole = "\n".join(texts_given)
    pieces: list[str] = []
    rest = whole
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    expected = [(n, line) for n, line in enumerate(texts_given, 1) if line.strip()]
    assert list(lines([*pieces, rest], "x")) == expected


def test_json_lines_give_their_texts(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    rows = [
        {"text": "one\u2028 line\x85", "id": 1},
        {"text": "two"},
        {"text": " "},
        {"text": None},
        {"text": "é"},
    ]
    raw = "\r\n\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    for name, content in {
        "x.jsonl": raw.encode(),
        "x.NDJSON": raw.encode("utf-16"),
        "x.json": raw.encode(),
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        corpus = read_corpus(str(path))
        assert texts(corpus) == ["one\u2028 line\x85", "two", "é"]
        notices = corpus.parts[0].notices
        assert notices is not None
        assert "2 " in notices()[0]
        assert texts(corpus) == ["one\u2028 line\x85", "two", "é"]  # and once more
        assert "2 " in notices()[0]


def test_a_json_file_may_be_a_list_or_one_object(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"text": "a"}, {"text": "b"}], indent=1))
    assert read(path) == ["a", "b"]
    path.write_text(json.dumps({"text": "one"}, indent=4))
    assert read(path) == ["one"]
    path.write_text(json.dumps([{"text": "a"}, "b"]))
    assert "entry 2 of x.json is a string, not an object" in refused(path)
    path.write_text('{\n "text": "a",\n oops}')
    assert "x.json is not valid JSON" in refused(path)
    assert "line 3" in refused(path)


def test_rows_that_begin_with_empty_ones(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"id": 1, "text": null}\n{"id": 2, "messages": []}\n{"id": 3, "text": "words"}\n')
    part = read_corpus(str(path)).parts[0]
    assert [document.text for document in part.documents] == ["words"]
    assert part.notices is not None
    assert part.notices() == ("2 lines of x.jsonl without text are left out",)
    path.write_text('{"messages": []}\n{"messages": null}\n')
    assert "x.jsonl has no text in it" in refused(path)
    path.write_text('{"text": 5}\n')
    assert "x.jsonl has nothing that is a text in text; name one with --field: text." in refused(path)


def test_the_field_that_holds_the_text(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps({"id": 3, "story": "Once."}) + "\n")
    assert read(path) == ["Once."]
    path.write_text(json.dumps({"a": {"b": {"c": "deep"}}, "a.b": "flat", "x": "y"}) + "\n")
    assert read(path, field="a.b.c") == ["deep"]
    assert read(path, field="a.b") == ["flat"]
    assert "x.jsonl has no field text or messages; name one with --field: a, a.b, x." in refused(path)
    assert "line 1 of x.jsonl has no field 'nope'; there is a, a.b, x." in refused(path, field="nope")
    assert "the field 'a' of line 1 of x.jsonl is neither text nor a list of messages" in refused(
        path, field="a"
    )
    plain = tmp_path / "plain.txt"
    plain.write_text("words")
    assert "plain.txt is plain text and has no fields" in refused(plain, field="text")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{broken", "line 3 of x.jsonl is not valid JSON"),
        ('{"text": "cut', "line 3 of x.jsonl is not valid JSON"),
        ("[1, 2]", "line 3 of x.jsonl is a list, not an object"),
        ('"words"', "line 3 of x.jsonl is a string, not an object"),
        ("null", "line 3 of x.jsonl is null, not an object"),
        ('{"other": "x"}', "line 3 of x.jsonl has no field 'text'; there is other"),
        ('{"text": 4}', "neither text nor a list of messages"),
        ('{"text": "\\ud83d"}', "line 3 of x.jsonl holds half of a character pair"),
        ("[" * 100_000, "line 3 of x.jsonl is no JSON that can be read (too deeply nested)"),
        ('{"n": ' + "9" * 5000 + "}", "line 3 of x.jsonl is no JSON that can be read (a number too long)"),
    ],
)
def test_a_broken_line_is_named(line: str, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "fine"}\n\n' + line + "\n")
    assert reason in refused(path)


# Conversations

CHAT = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]


def messages_of(tmp_path: Path, row: dict[str, Any], **options: Any) -> tuple[list[Any], tuple[Any, ...]]:
    path = tmp_path / "chat.jsonl"
    path.write_text(json.dumps(row) + "\n")
    (document,) = read_corpus(str(path), TextOptions(**options)).parts[0].documents
    return [dict(message) for message in document.messages], document.tools


def test_conversations_of_both_kinds(tmp_path: Path) -> None:
    assert messages_of(tmp_path, {"messages": CHAT}) == (CHAT, ())
    sharegpt = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello."}]
    assert messages_of(tmp_path, {"conversations": sharegpt})[0] == CHAT
    system = {"role": "system", "content": "Be brief."}
    assert messages_of(tmp_path, {"conversations": sharegpt, "system": "Be brief."})[0] == [system, *CHAT]
    assert messages_of(tmp_path, {"messages": [system, *CHAT], "system": "Other"})[0] == [system, *CHAT]
    assert messages_of(tmp_path, {"dialog": {"turns": CHAT}}, field="dialog.turns")[0] == CHAT
    both = {"text": "flat", "messages": CHAT}
    assert messages_of(tmp_path, both, assistant_only=True)[0] == CHAT
    assert messages_of(tmp_path, both)[0] == []


def test_contents_in_parts_and_calls_of_tools(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}'}}
    tools = [{"type": "function", "function": {"name": "f"}}]
    row = {
        "messages": [
            {"role": "user", "content": parts, "name": None},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "2", "tool_call_id": "1"},
        ],
        "tools": tools,
    }
    parsed = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": 1}}}
    expected = [
        {"role": "user", "content": "ab"},
        {"role": "assistant", "content": "", "tool_calls": [parsed]},
        {"role": "tool", "content": "2", "tool_call_id": "1"},
    ]
    assert messages_of(tmp_path, row) == (expected, tuple(tools))
    assert messages_of(tmp_path, row | {"tools": json.dumps(tools)}) == (expected, tuple(tools))


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (["Hi"], "message 1 of line 1 of c.jsonl is no object"),
        ([{"role": "user"}], "message 1 of line 1 of c.jsonl has no content"),
        ([CHAT[0], {"content": "x"}], "message 2 of line 1 of c.jsonl has no role"),
        ([{"role": 3, "content": "x"}], "has no role"),
        ([{"role": "user", "content": 4}], "the content of message 1 of line 1 of c.jsonl is no text"),
        ([{"role": "user", "content": [{"type": "image_url"}]}], "a part of the kind 'image_url'"),
        ([{"from": "martian", "value": "x"}], "is from 'martian', who is not known"),
        ([{"from": "human"}], "has no value"),
        ([{"role": "assistant", "tool_calls": "f()"}], "tool_calls that are no list"),
        ([{"role": "user", "content": "\ud83d"}], "half of a character pair"),
    ],
)
def test_what_is_wrong_in_a_conversation(messages: Any, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    path.write_text(json.dumps({"messages": messages}) + "\n")
    assert reason in refused(path, field="messages")


# Other files


def test_parquet_files(tmp_path: Path) -> None:
    import datasets

    path = tmp_path / "x.parquet"
    made = datasets.Dataset.from_dict(
        {"id": list(range(700)), "text": [f"row {n}" for n in range(699)] + [None]}
    )
    made.to_parquet(str(path))
    corpus = read_corpus(str(path))
    assert texts(corpus) == [f"row {n}" for n in range(699)]
    assert corpus.parts[0].notices is not None
    assert corpus.parts[0].notices() == ("1 row of x.parquet without text is left out",)
    assert read(path, field="text")[0] == "row 0"
    assert "row 1 of x.parquet has no field 'words'; there is id, text" in refused(path, field="words")
    datasets.Dataset.from_dict({"messages": [CHAT]}).to_parquet(str(path))
    (document,) = read_corpus(str(path)).parts[0].documents
    assert [dict(message) for message in document.messages] == CHAT
    path.write_bytes(path.read_bytes()[:-40])
    assert "x.parquet is damaged or no parquet file" in refused(path)
    path.write_bytes(b"")
    assert "x.parquet is damaged or no parquet file" in refused(path)


def test_compressed_files(tmp_path: Path) -> None:
    path = tmp_path / "x.txt.gz"
    path.write_bytes(gzip.compress("Wörter\n".encode() * 3000))
    assert read(path) == ["Wörter\n" * 3000]
    path.write_bytes(path.read_bytes()[:-9])
    assert "x.txt.gz cannot be unpacked (it is cut)" in refused(path)
    path.write_bytes(b"plain words")
    assert "x.txt.gz cannot be unpacked (it is damaged or no gzip file)" in refused(path)
    rows = tmp_path / "x.jsonl.gz"
    rows.write_bytes(gzip.compress(b'{"text": "a"}\n{"text": "b"}\n'))
    assert read(rows) == ["a", "b"]


def test_what_is_no_regular_file_is_refused_at_once(tmp_path: Path) -> None:
    fifo = tmp_path / "pipe.txt"
    os.mkfifo(fifo)  # nobody will ever write to it
    assert "pipe.txt is a named pipe, not a file" in refused(fifo)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        assert "s is a socket, not a file" in refused(tmp_path / "s")
    assert "zero is a device, not a file" in refused("/dev/zero")
    assert "there is no corpus, file or folder" in refused(tmp_path / "none" / "x.txt")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert refused(tmp_path / "loop")
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    assert "there is no corpus, file or folder" in refused(tmp_path / "dangling")


def test_a_file_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from mqf_tui.fidelity.text.sources import bytes_of

    path = tmp_path / "log.txt"
    path.write_bytes(b"line\n" * 1000)
    monkeypatch.setattr(bytes_of, "BLOCK", 1000)
    (part,) = read_corpus(str(path)).parts
    assert part.complete
    source = bytes_of.FileBytes(path, "log.txt")
    blocks = source.blocks()
    next(blocks)
    with path.open("ab") as file:
        file.write(b"more\n")
    with pytest.raises(BadCorpusError, match=r"log\.txt changed while it was read"):
        list(blocks)


def test_several_texts(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "x.txt").write_text(folder)
    corpus = read_corpus(f"{tmp_path}/a/x.txt + {tmp_path}/b/x.txt + builtin")
    assert [part.name for part in corpus.parts][:3] == ["x.txt", "x.txt (2)", "prose"]
    assert texts(corpus)[:2] == ["a", "b"]
    assert (corpus.name, corpus.version, corpus.public) == (
        "x.txt + x.txt + builtin",
        "file + file + 1",
        False,
    )
    both = tmp_path / "a + b"
    both.write_text("one file")
    assert read(both) == ["one file"]
    assert "no corpus is named" in refused("builtin + ")


# Streams


def piped(word: str, content: bytes, tmp_path: Path) -> str:
    program = (
        "import json, sys\n"
        "from mqf_tui.fidelity.text.corpora import read_corpus\n"
        "from mqf_tui.fidelity.errors import FidelityError\n"
        "try:\n"
        "    for _ in range(2):\n"
        "        corpus = read_corpus(sys.argv[1])\n"
        "        found = [d.text for p in corpus.parts for d in p.documents]\n"
        "        n = sum(map(len, found))\n"
        "        print(json.dumps([corpus.name, n, found[0][:20], corpus.parts[0].complete]))\n"
        "except FidelityError as error:\n    print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, word], input=content, capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    first, *second = done.stdout.decode().splitlines()
    assert not second or second == [first]  # the second reading gives the same
    return first


def test_standard_input_is_read_once_and_kept(tmp_path: Path) -> None:
    expected = '["standard input", 6000, "w\\u00f6rter'
    assert piped("-", "wörter".encode() * 1000, tmp_path).startswith(expected)
    assert piped("/dev/stdin", b"abc", tmp_path) == '["the pipe", 3, "abc", true]'
    assert piped("-", b'{"text": "a"}\n{"text": "b"}\n', tmp_path) == '["standard input", 2, "a", true]'
    assert piped("-", b"", tmp_path).startswith("standard input has no text in it")
    assert "is not UTF-8 text (byte 1, line 1)" in piped("-", b"a\xff", tmp_path)


def test_of_an_endless_stream_only_the_beginning_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from mqf_tui.fidelity.text.sources import bytes_of

    monkeypatch.setattr(bytes_of, "LARGE", 5000)
    end, start = os.pipe()

    def write() -> None:
        with os.fdopen(start, "wb", buffering=0) as pipe:
            try:
                while True:
                    pipe.write(b"words " * 100)
            except BrokenPipeError:
                pass

    writer = threading.Thread(target=write)
    writer.start()
    try:
        corpus = read_corpus(f"/dev/fd/{end}")
        assert texts(corpus) == [("words " * 1000)[:5000]]
        assert not corpus.parts[0].complete
        assert corpus.warnings
        assert texts(read_corpus(f"/dev/fd/{end}")) == texts(corpus)
    finally:
        os.close(end)
        writer.join()


def test_a_terminal_is_no_text() -> None:
    import pty

    ours, theirs = pty.openpty()
    try:
        assert "is a terminal; pipe a text into it" in refused(f"/dev/fd/{theirs}")
    finally:
        os.close(ours)
        os.close(theirs)


# Giants

GIANT = 20 * 2**30


def test_a_giant_is_read_no_further_than_needed(tmp_path: Path) -> None:
    path = tmp_path / "giant.txt"
    with path.open("wb") as file:
        file.write("Ein langer Text — Zeile für Zeile.\n".encode() * 150_000)
        file.seek(10 * 2**30)
        file.write(b"\xff\xff")  # never reached
        file.truncate(GIANT)
    program = (
        "import resource, sys\n"
        "from mqf_tui.fidelity.text.corpora import read_corpus\n"
        "from mqf_tui.fidelity.text.chunking import make_chunks\n"
        "from mqf_tui.library.corpus_preview import corpus_preview\n"
        "class Letters:\n"
        "    def encode(self, text, add_special_tokens=True): return [ord(c) for c in text]\n"
        "    def convert_ids_to_tokens(self, token): return chr(token)\n"
        "made = make_chunks(read_corpus(sys.argv[1]), Letters(), 512, 4, tokenizer_id='x')\n"
        "print(len(made.tokens), ''.join(map(chr, made.tokens[0][:15])))\n"
        "print(*corpus_preview(sys.argv[1], 2).lines, sep='|')\n"
        # Linux counts into a child's figure what the process had that started it, but for this one.
        "from pathlib import Path\n"
        "status = Path('/proc/self/status')\n"
        "lines = status.read_text().splitlines() if status.exists() else ()\n"
        "own = [int(line.split()[1]) for line in lines if line.startswith('VmHWM')]\n"
        "print(*own or [resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    made, preview, peak = done.stdout.splitlines()
    assert made == "4 Ein langer Text"
    assert preview.count("Ein langer Text — Zeile für Zeile.") == 2
    assert int(peak) < 700_000  # kB
