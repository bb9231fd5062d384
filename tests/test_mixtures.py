"""Mixtures: corpora.toml and what is wrong with it, shares that hold at every point, chunks by seed."""

from __future__ import annotations

import json
import math
from collections import Counter
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqf_tui.api import events, rescore
from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.events import Failed, Finished
from mqf_tui.fidelity.measured import round_ends
from mqf_tui.fidelity.rescoring import Rescored
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.fidelity.text import mixtures
from mqf_tui.fidelity.text.chunking import Chunks, make_chunks
from mqf_tui.fidelity.text.corpora import read_corpus
from mqf_tui.fidelity.text.mixtures import (
    Mixture,
    MixturePart,
    mixed_order,
    pool,
    round_length,
    weighted_turns,
)
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.library.corpora_file import corpora_file, corpora_names, mixture_named, with_mixture
from mqf_tui.library.runs import save_run
from tests.makers import text_file

weights = st.lists(st.integers(1, 60), min_size=1, max_size=8)


class Letters:
    """A tokenizer whose tokens are the code points."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(letter) for letter in text]

    def convert_ids_to_tokens(self, token: int) -> str:
        return chr(token)


def written(text: str) -> Path:
    path = corpora_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def chunks_of(mixture: Mixture, most: int | None, length: int = 16) -> Chunks:
    corpus = read_corpus(mixture.name, TextOptions(), mixture)
    return make_chunks(corpus, Letters(), length, most, tokenizer_id="letters")


@pytest.fixture
def three(tmp_path: Path) -> tuple[MixturePart, ...]:
    """Parts of 40, 30 and 20 chunks of 16 letters; each chunk is one letter, so that it is known again."""
    made: list[MixturePart] = []
    for n, (name, count, weight) in enumerate((("prose", 40, 2), ("code", 30, 2), ("chat", 20, 1))):
        path = tmp_path / f"{name}.txt"
        path.write_text("".join(chr(0x400 + 0x100 * n + i) * 16 for i in range(count)), encoding="utf-8")
        made.append(MixturePart(name, str(path), weight))
    return tuple(made)


# The order of the parts


@given(weights)
def test_every_share_holds_to_within_one_chunk_at_every_point(given_weights: list[int]) -> None:
    total = sum(given_weights)
    had: Counter[int] = Counter()
    for n, part in enumerate(islice(weighted_turns(given_weights), 2 * total), 1):
        had[part] += 1
        for i, weight in enumerate(given_weights):
            assert abs(had[i] - Fraction(n * weight, total)) < 1
    assert all(had[i] == 2 * weight for i, weight in enumerate(given_weights))


def test_fractions_are_taken_as_they_are_written() -> None:
    assert list(islice(weighted_turns([0.1, 0.2]), 30)) == list(islice(weighted_turns([1, 2]), 30))
    assert round_length([0.1, 0.2]) == 3
    assert round_length([40, 40, 20]) == 5
    assert round_length([1]) == 1
    # These repeat after 100 chunks; each part has its turn in 5.
    assert round_length([40, 37, 23]) == 5


@given(weights, st.integers(1, 200))
def test_a_round_gives_each_part_its_turn(given_weights: list[int], start: int) -> None:
    length = round_length(given_weights)
    order = np.array(list(islice(weighted_turns(given_weights), 3 * length)), np.int16)
    ends = [i for i in range(len(order)) if round_ends(order, i, length)]
    assert ends == [length - 1, 2 * length - 1, 3 * length - 1]
    total = sum(given_weights)
    for end in ends:
        counts = np.bincount(order[: end + 1], minlength=len(given_weights))
        assert all(counts[i] >= math.floor((end + 1) * w / total) for i, w in enumerate(given_weights))
        assert counts.min() >= 1


def test_the_mixture_ends_where_a_share_cannot_be_held() -> None:
    order = mixed_order([10, 3, 50], [40, 40, 20], (1, 0), None, ["a", "b", "c"])
    had = Counter(part for _, part in order.chunks)
    assert had[1] == 3
    n = len(order.chunks)
    assert all(abs(had[i] - n * share) < 1 for i, share in enumerate((0.4, 0.4, 0.2)))
    assert order.warnings == (
        f"the mixture ends after {n} chunks, where b, which has only 3 chunks, would be next",
    )
    assert not mixed_order([10, 3, 50], [40, 40, 20], (1, 0), 5, ["a", "b", "c"]).warnings
    with pytest.raises(BadCorpusError, match="the part b of the mixture has not one whole chunk"):
        mixed_order([10, 0, 50], [40, 40, 20], (1, 0), 5, ["a", "b", "c"])


def test_a_part_that_is_not_read_whole_is_drawn_from_what_must_be_read_anyway(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(mixtures, "WINDOW", 10)
    few = mixed_order([pool(4, whole=False) or 0], [1], (1, 0), 4, ["a"], [False])
    many = mixed_order([pool(25, whole=False) or 0], [1], (1, 0), 25, ["a"], [False])
    assert many.chunks[:4] == few.chunks
    assert {row for row, _ in many.chunks[:10]} == set(range(10))
    assert {row for row, _ in many.chunks[10:20]} == set(range(10, 20))
    assert (pool(4, whole=False), pool(25, whole=False), pool(25, whole=True)) == (10, 30, None)


# What is taken from them


def test_chunks_are_drawn_by_the_seed(three: tuple[MixturePart, ...]) -> None:
    made = chunks_of(Mixture("mine", three, seed=1), 25)
    assert np.bincount(made.part).tolist() == [10, 10, 5]
    assert made.part_names == ("prose", "code", "chat")
    for row, part in zip(made.tokens, made.part, strict=True):
        assert len(set(row.tolist())) == 1  # a whole chunk of its part …
        assert row[0] // 0x100 - 4 == part
    assert len({row[0] for row in made.tokens}) == 25  # … and none twice
    taken = [row[0] % 0x100 for row in made.tokens if row[0] // 0x100 == 4]
    assert taken != sorted(taken)  # drawn, not the first ones

    again = chunks_of(Mixture("mine", three, seed=1), 25)
    assert made.provenance == again.provenance
    other = chunks_of(Mixture("mine", three, seed=2), 25)
    assert other.provenance.content_hash == made.provenance.content_hash
    assert other.provenance.token_hash != made.provenance.token_hash
    fewer = chunks_of(Mixture("mine", three, seed=1), 10)
    assert fewer.tokens.tolist() == made.tokens[:10].tolist()
    assert made.provenance.version == "prose 40 %, code 40 %, chat 20 %, seed 1"
    assert (made.provenance.public, made.round_length) == (False, 5)
    assert round_ends(made.part, 4, made.round_length)
    assert not round_ends(made.part, 5, made.round_length)


def test_other_contents_are_another_text(three: tuple[MixturePart, ...]) -> None:
    before = chunks_of(Mixture("mine", three), 10).provenance
    path = Path(three[2].corpus)
    path.write_text(path.read_text(encoding="utf-8") + "z", encoding="utf-8")
    assert chunks_of(Mixture("mine", three), 10).provenance.content_hash != before.content_hash


def test_a_part_is_cut_as_it_says_itself(tmp_path: Path) -> None:
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(json.dumps({"text": letter * 20}) + "\n" for letter in "abcdef"))
    plain = tmp_path / "plain.txt"
    plain.write_text("x" * 200)
    parts = (
        MixturePart("lines", str(lines), 1, TextOptions(documents="apart", rest="drop")),
        MixturePart("plain", str(plain), 1),
    )
    made = chunks_of(Mixture("mine", parts), None)
    rows = {"".join(map(chr, row)) for row in made.tokens}
    assert rows == {letter * 16 for letter in "abcdefx"}  # four of each twenty letters are dropped


def test_several_texts_are_one_part_of_a_mixture(three: tuple[MixturePart, ...]) -> None:
    parts = (MixturePart("all", "builtin", 2), three[0])
    made = chunks_of(Mixture("mine", parts), 10)
    assert made.part_names == ("all", "prose")
    assert np.bincount(made.part).tolist() == [5, 5]
    assert not made.provenance.public
    assert read_corpus("b", None, Mixture("b", parts[:1])).public


def test_what_is_wrong_with_a_part_names_it(three: tuple[MixturePart, ...], tmp_path: Path) -> None:
    gone = MixturePart("gone", str(tmp_path / "nowhere.txt"), 1)
    with pytest.raises(BadCorpusError, match=r"the part gone of mine cannot be used: there is no corpus"):
        chunks_of(Mixture("mine", (*three, gone)), 5)


# corpora.toml


def test_a_mixture_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    path = written(
        '[mine]\nseed = 7\n[mine.parts.prose]\ncorpus = "wikitext-2"\nweight = 40\n'
        '[mine.parts.chat]\ncorpus = "~/chats.jsonl"\nweight = 20.5\nassistant_only = true\n'
        '[mine.parts.code]\ncorpus = "src"\nweight = 1\nglob = "*.py"\n[other.parts.a]\ncorpus="builtin"\n'
        "weight=1\n"
    )
    assert corpora_names() == ("mine", "other")
    common = TextOptions(documents="apart", seed=3)
    found = mixture_named("mine", common)
    assert found == Mixture(
        "mine",
        (
            MixturePart("prose", "wikitext-2", 40.0, common),
            MixturePart(
                "chat",
                "/home/someone/chats.jsonl",
                20.5,
                TextOptions(documents="apart", seed=3, assistant_only=True),
            ),
            MixturePart(
                "code", str(path.parent / "src"), 1.0, TextOptions(documents="apart", seed=3, glob="*.py")
            ),
        ),
        7,
    )
    assert mixture_named("builtin") is None
    assert mixture_named("wikitext-2") is None
    assert mixture_named("nothing") is None
    settings = with_mixture(KVSettings("demo", corpus="other"))
    assert settings.mixture == Mixture("other", (MixturePart("a", "builtin", 1.0),))
    assert with_mixture(settings) is settings
    assert with_mixture(KVSettings("demo")).mixture is None


def test_a_mixture_by_the_path_of_its_file(tmp_path: Path) -> None:
    path = tmp_path / "two.toml"
    one = '[{0}.parts.a]\ncorpus = "texts/a.txt"\nweight = 1\n'
    path.write_text(one.format("first"))
    found = mixture_named(str(path))
    assert found is not None
    assert (found.name, found.parts[0].corpus) == ("two.toml#first", str(tmp_path / "texts" / "a.txt"))
    path.write_text(one.format("first") + one.format("second"))
    with pytest.raises(
        BadCorpusError, match=r"several mixtures \(first, second\); name one as two.toml#first"
    ):
        mixture_named(str(path))
    found = mixture_named(f"{path}#second")
    assert found is not None
    assert found.name == "two.toml#second"
    with pytest.raises(BadCorpusError, match="it has no mixture 'third'; there is first, second"):
        mixture_named(f"{path}#third")
    assert mixture_named(str(tmp_path / "none.toml")) is None


PART = '[m.parts.a]\ncorpus = "builtin"\nweight = 1\n'


def test_a_file_whose_name_reads_like_several(tmp_path: Path) -> None:
    (tmp_path / "a + b.txt").write_text("x" * 64)
    path = tmp_path / "mix.toml"
    path.write_text('[m.parts.one]\ncorpus = "a + b.txt"\nweight = 1\n')
    found = mixture_named(str(path))
    assert found is not None
    assert len(chunks_of(found, None).tokens) == 4


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("m = 3", "m is 3; make it a table that begins with [m]"),
        ("[m]\nseed = 1", "m has 0 parts; use 1 to 64"),
        ("[m]\nseed = -1\n" + PART, "line 2 cannot be used: seed of m is -1; use a whole number"),
        ("[m]\nseed = true\n" + PART, "seed of m is True; use a whole number"),
        ("[m]\nsede = 1\n" + PART, "line 2 cannot be used: m has an unknown key 'sede'"),
        ("[m]\nparts = 4", "m.parts is 4; make it a table"),
        ('[m.parts]\na = "builtin"', "m.parts.a is 'builtin'; make it a table that begins with [m.parts.a]"),
        ("[m.parts.a]\nweight = 1", "corpus of m.parts.a is None; use builtin"),
        ('[m.parts.a]\ncorpus = "-"\nweight = 1', "corpus of m.parts.a is '-'"),
        ('[m.parts.a]\ncorpus = "m"\nweight = 1', "corpus of m.parts.a is 'm', a mixture itself"),
        ('[m.parts.a]\ncorpus = "x.toml"\nweight = 1', "corpus of m.parts.a is 'x.toml', a mixture itself"),
        ('[m.parts.a]\ncorpus = "builtin"', "weight of m.parts.a is None; use a number from 0.001"),
        ('[m.parts.a]\ncorpus = "builtin"\nweight = 0', "line 3 cannot be used: weight of m.parts.a is 0"),
        ('[m.parts.a]\ncorpus = "builtin"\nweight = nan', "weight of m.parts.a is nan"),
        ('[m.parts.a]\ncorpus = "builtin"\nweight = true', "weight of m.parts.a is True"),
        (PART + 'documents = "both"', "documents of m.parts.a is 'both'"),
        (PART + "assistant_only = 1", "assistant_only of m.parts.a is 1"),
        (PART + "chunk_length = 512", "m.parts.a has an unknown key 'chunk_length'"),
        ("[m", "it is not valid TOML"),
    ],
)
def test_what_is_wrong_with_a_file_names_file_and_key(text: str, reason: str) -> None:
    path = written(text)
    with pytest.raises(BadCorpusError) as caught:
        mixture_named("m")
    sentence = str(caught.value)
    assert reason in sentence
    assert sentence.startswith(f"the file of mixtures {path}")
    assert sentence.endswith(".")
    assert "\n" not in sentence


@pytest.mark.parametrize("name", ["builtin", "wikitext-2", "hf:a/b", "a + b"])
def test_names_that_mean_something_else(name: str, tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text(PART.replace("[m.", f'["{name}".'))
    with pytest.raises(BadCorpusError, match="cannot be called"):
        mixture_named(str(path))


def test_a_broken_file_hinders_no_other_text() -> None:
    written("[m")
    for word in ("builtin", "wikitext-2", "hf:a/b", "builtin + wikitext-2", "-", "/some/file.txt"):
        assert mixture_named(word) is None
    with pytest.raises(BadCorpusError, match="it is not valid TOML"):
        mixture_named("m")


def test_a_file_that_is_no_text() -> None:
    written("").write_bytes(b"[m]\n\xff")
    with pytest.raises(BadCorpusError, match=r"it is not UTF-8 text \(byte 4\)"):
        mixture_named("m")


# Measured


def test_the_parts_of_a_mixture_stand_in_the_report_and_the_run_can_be_looked_into(tmp_path: Path) -> None:
    text_file(tmp_path / "own.txt", 3000)
    mixture = tmp_path / "mix.toml"
    mixture.write_text(
        '[m]\nseed = 5\n[m.parts.own]\ncorpus = "own.txt"\nweight = 2\n'
        '[m.parts.all]\ncorpus = "builtin"\nweight = 1\n'
    )
    settings = KVSettings("demo", kv_bits=4, chunk_length=64, max_chunks=6, corpus=str(mixture))
    *_, last = events(settings)
    assert isinstance(last, Finished)
    report = last.report
    assert [(part.name, part.n_positions) for part in report.by_part] == [("own", 4 * 63), ("all", 2 * 63)]
    assert (report.corpus.name, report.corpus.public) == ("mix.toml#m", False)
    assert report.corpus.version == "own 66.7 %, all 33.3 %, seed 5"

    run = save_run(report, last.positions)
    *_, again = rescore(run, 3, [10])
    assert isinstance(again, Rescored), again
    text_file(tmp_path / "own.txt", 3000, seed=1)
    *_, again = rescore(run, 3, [10])
    assert isinstance(again, Failed)
    assert "is not the text that this run was measured on" in str(again.error)
