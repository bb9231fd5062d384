"""Looking at a text beforehand: its first lines, its chunks, and whether the tokenizer can handle it."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from mqf_tui.api import facts_of
from mqf_tui.cli import main
from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.fidelity.text import cutting
from mqf_tui.fidelity.text.chunk_preview import ChunkPreview, chunk_preview
from mqf_tui.fidelity.text.chunking import make_chunks
from mqf_tui.fidelity.text.corpora import read_corpus
from mqf_tui.fidelity.text.mixtures import Mixture, MixturePart
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.fidelity.text.sources import bytes_of
from mqf_tui.library.corpora_file import corpora_file
from mqf_tui.library.corpus_preview import FETCH_NOTE, corpus_preview
from tests.hub_server import LocalHub
from tests.makers import words


class Small:
    """A tokenizer of Latin letters and spaces: what else there is, is unknown."""

    unk_token_id, bos_token_id, eos_token_id, pad_token_id = 0, 1, 2, None
    all_special_ids = (1, 2)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(c) if c.isascii() else 0 for c in text]

    def convert_ids_to_tokens(self, token: int) -> str:
        return {0: "<unk>", 1: "<s>", 2: "</s>"}.get(token, chr(token))


class Fallback(Small):
    """The same with a byte in place of what is unknown."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [n for c in text for n in ([ord(c)] if c.isascii() else [1000 + b for b in c.encode()])]

    def convert_ids_to_tokens(self, token: int) -> str:
        return f"<0x{token - 1000:02X}>" if token >= 1000 else super().convert_ids_to_tokens(token)


def warned(text: str, tokenizer: Any, tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "x.txt"
    path.write_text(text, encoding="utf-8")
    return make_chunks(read_corpus(str(path)), tokenizer, 100, None, tokenizer_id="x").warnings


# What the tokenizer handles badly


def test_unknown_tokens_are_told(tmp_path: Path) -> None:
    plain = "Some plain words, nothing else. " * 100
    assert warned(plain, Small(), tmp_path) == ()
    assert warned(plain[:1999] + "é", Small(), tmp_path) == ()  # one in 2000
    (words_told,) = warned(plain[:1990] + "é" * 10, Small(), tmp_path)
    assert words_told.startswith("0.50 % of the tokens are unknown to this model's tokenizer")

    class EndsWithIt(Small):
        eos_token_id = 0  # as GPT-2's does: the same token has another role

    assert warned(plain[:1990] + "é" * 10, EndsWithIt(), tmp_path) == ()


def test_pieces_of_characters_are_told(tmp_path: Path) -> None:
    # 70 letters and 5 characters of 2 bytes give 80 tokens, of which 10 are pieces.
    assert warned(("a" * 70 + "é" * 5) * 20, Fallback(), tmp_path) == ()
    (told,) = warned("Слово за слово. " * 50, Fallback(), tmp_path)
    # 16 characters: 12 letters of 2 bytes, 3 spaces, and the point.
    assert told.startswith(f"{100 * 24 / 28:.2f} % of the tokens are no whole character (1.8")


def test_a_script_that_a_real_tokenizer_does_not_know(smollm2: Path, tmp_path: Path) -> None:
    from mqf_tui.fidelity.model.loading import load_tokenizer

    facts = facts_of(KVSettings(str(smollm2)))
    tokenizer = load_tokenizer(facts)
    (told,) = warned("ภาษาไทยเป็นภาษาที่มีความงดงาม " * 60, tokenizer, tmp_path)
    assert "hardly knows the script" in told
    assert warned(words(2000), tokenizer, tmp_path) == ()
    builtin = make_chunks(read_corpus("builtin"), tokenizer, 512, 20, tokenizer_id="x")
    assert builtin.warnings == ()


# Chunks


def previewed(model: Path | str, corpus: str, **more: Any) -> ChunkPreview:
    most = more.pop("most", 2000)
    settings = KVSettings(str(model), corpus=corpus, **more)
    return chunk_preview(settings, facts_of(settings), most=most)


def test_of_long_chunks_no_more_are_cut_than_memory_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cutting, "MOST_TOKENS", 16 * 10)
    path = tmp_path / "x.txt"
    path.write_text(words(300))
    found = previewed("demo", str(path), chunk_length=16, text=TextOptions(stride=1))
    assert (found.n_chunks, found.whole) == (9, False)


def test_chunks_are_counted_as_they_would_be_scored(smollm2: Path, tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    text = "Ein Satz — mit Σ und 🦜.\n" * 200
    path.write_text(text, encoding="utf-8")
    ids = Tokenizer.from_file(str(smollm2 / "tokenizer.json")).encode(text).ids
    found = previewed(smollm2, str(path), chunk_length=64)
    assert (found.n_chunks, found.n_tokens) == (len(ids) // 64, len(ids) // 64 * 64)
    assert found.n_scored == found.n_chunks * 63
    assert found.whole
    assert text.startswith(found.first_text[:-1])  # its last character may be cut
    assert found.parts == (("x.txt", found.n_chunks),)

    fewer = previewed(smollm2, str(path), chunk_length=64, most=3)
    assert (fewer.n_chunks, fewer.n_tokens, fewer.whole) == (3, 192, False)
    last = previewed(smollm2, str(path), chunk_length=64, score_last=10)
    assert last.n_scored == 10 * found.n_chunks


def test_no_weights_are_needed(smollm2: Path, tmp_path: Path) -> None:
    """The preview of a model whose weights are gone, but for their headers, works all the same."""
    import mqf_tui.fidelity.model.loading as loading

    facts = facts_of(KVSettings(str(smollm2)))
    assert "load_model" in dir(loading)
    text = tmp_path / "x.txt"
    text.write_text(words(500))
    found = chunk_preview(KVSettings(str(tmp_path), corpus=str(text), chunk_length=64), facts)
    assert found.n_chunks > 1


def test_the_command_says_it(smollm2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps({"body": words(60, n), "id": n}) + "\n" for n in range(40)))
    command = ["text", str(smollm2), "--corpus", str(path), "--field", "body", "--chunk-length", "64"]
    assert main(command) == 0
    out = capsys.readouterr().out
    first = words(60, 0)
    assert first[:60] in out
    found = previewed(smollm2, str(path), chunk_length=64, text=TextOptions(field="body"))
    assert f"chunks   {found.n_chunks:,} of 64 tokens" in out
    assert f"tokens   {found.n_tokens:,}" in out
    assert main([*command[:4], "--field", "nope"]) == 2
    assert "has no field 'nope'; there is body, id" in capsys.readouterr().err


def test_the_command_reads_a_mixture(
    smollm2: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.txt").write_text(words(3000, 1))
    mixture = tmp_path / "mix.toml"
    mixture.write_text(
        '[m.parts.own]\ncorpus = "a.txt"\nweight = 3\n[m.parts.all]\ncorpus = "builtin"\nweight = 1\n'
    )
    assert main(["text", str(smollm2), "--corpus", str(mixture), "--chunk-length", "64"]) == 0
    out = capsys.readouterr().out
    assert "mix.toml#m (own 75 %, all 25 %, seed 0)" in out
    line = next(line for line in out.splitlines() if line.startswith("parts"))
    own, others = (int(word) for word in line.replace(",", "").split() if word.isdigit())
    assert abs(own - 3 * others) < 4


# First lines


def test_the_first_lines_of_parts_are_named(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(f"\n  {name} says\x1b[2J this\nmore\n")
    found = corpus_preview(f"{tmp_path}/a.txt + {tmp_path}/b.txt", 9)
    assert found.lines == ("a.txt: a.txt says[2J this", "b.txt: b.txt says[2J this")
    mixture = Mixture("m", (MixturePart("one", f"{tmp_path}/a.txt", 1), MixturePart("two", "builtin", 1)))
    lines = corpus_preview("m", 9, None, mixture).lines
    assert lines[0] == "one: a.txt says[2J this"
    assert len(lines) == 6
    assert all(line.startswith("two: ") for line in lines[1:])


def test_a_mixture_is_found_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    corpora_file().parent.mkdir(parents=True, exist_ok=True)
    corpora_file().write_text(f'[mine.parts.own]\ncorpus = "{tmp_path}/a.txt"\nweight = 1\n')
    assert corpus_preview("mine", 3).lines == ("words",)


def test_conversations_say_who_speaks(tmp_path: Path) -> None:
    path = tmp_path / "c.jsonl"
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    path.write_text(json.dumps({"messages": chat}))
    assert corpus_preview(str(path), 5).lines == ("user: Hi", "assistant: Hello.")
    with pytest.raises(BadCorpusError, match="has no field 'x'"):
        corpus_preview(str(path), 5, TextOptions(field="x"))


def test_of_what_is_large_only_the_beginning_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"first\nsecond\n" + b"words\n" * 2_000_000 + b"\xff")
    monkeypatch.setattr(bytes_of, "LARGE", 1_000_000)
    found = corpus_preview(str(path), 2)
    assert (found.lines, found.n_characters) == (("first", "second"), None)
    packed = tmp_path / "y.txt.gz"
    packed.write_bytes(gzip.compress(b"packed\n" * 400_000))
    assert corpus_preview(str(packed), 1).lines == ("packed",)


def test_standard_input_is_not_for_the_app() -> None:
    for word in ("-", "/dev/stdin", "/dev/fd/0", "builtin + -"):
        with pytest.raises(BadCorpusError, match="standard input cannot be looked at beforehand"):
            corpus_preview(word, 3)


def test_nothing_is_fetched_for_a_preview(datasets_hub: LocalHub) -> None:
    rows = "".join(json.dumps({"text": f"row {n}"}) + "\n" for n in range(3)).encode()
    datasets_hub.add_dataset("org/SomeData", {"train.jsonl": rows})
    found = corpus_preview("hf:org/SomeData", 2)
    assert (found.lines, found.n_characters, found.note) == ((), None, FETCH_NOTE)
    assert datasets_hub.requests == []
    assert [d.text for d in read_corpus("hf:org/SomeData").parts[0].documents] == ["row 0", "row 1", "row 2"]
    asked = len(datasets_hub.requests)
    found = corpus_preview("hf:org/SomeData", 2)
    assert (found.lines, found.note) == (("row 0", "row 1"), "")
    assert corpus_preview("hf:org/SomeData/test", 2).note == FETCH_NOTE
    assert corpus_preview("wikitext-2", 2).note == FETCH_NOTE
    assert len(datasets_hub.requests) == asked


def test_the_preview_imports_nothing_of_mlx(tmp_path: Path) -> None:
    import subprocess

    (tmp_path / "a.txt").write_text("words")
    program = (
        "import sys\nfrom mqf_tui.library.corpus_preview import corpus_preview\n"
        "assert 'numpy' not in sys.modules\n"
        "print(corpus_preview(sys.argv[1], 1).lines[0], 'mlx' in sys.modules, 'datasets' in sys.modules)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.txt")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "words False False\n"


def test_tokens_of_the_first_chunk_are_not_changed_by_looking(smollm2: Path) -> None:
    found = previewed(smollm2, "builtin", chunk_length=64, most=20)
    facts = facts_of(KVSettings(str(smollm2)))
    from mqf_tui.fidelity.model.loading import load_tokenizer

    made = make_chunks(read_corpus("builtin"), load_tokenizer(facts), 64, 21, tokenizer_id=facts.name)
    assert found.provenance == made.provenance
    assert np.bincount(made.part[:20], minlength=5).tolist() == [n for _, n in found.parts]
