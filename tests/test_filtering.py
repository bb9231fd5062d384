"""The filter language of the runs, against a plain reading of the same words, run by run."""

from __future__ import annotations

import dataclasses
import math
import random
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqf_tui.library.filtering import EXAMPLES, KEYS, BadFilterError, Filter, parse, quoted
from mqf_tui.library.index import RunRow

NOW = datetime(2026, 6, 15, 12, tzinfo=UTC)
PLAIN: dict[str, Any] = {
    "folder": Path("runs/x"), "model_hash": "", "architecture": "llama", "weights": "float16", "setting": "",
    "group": 64, "sureness": "", "kl_ci": None, "p99_ci": None, "flip_ci": None, "ppl_ci": None,
    "chunk_length": 512, "n_chunks_planned": 4, "labels_problem": "", "has_positions": True, "size": 1,
}  # fmt: skip


def row(**changes: Any) -> RunRow:
    """A run of a 4-bit cache, bad."""
    return RunRow(
        **PLAIN
        | {
            "id": "20260304-050607-SmolLM2-4bit-ab12",
            "created": "2026-03-04T23:30:00+00:00",
            "model": "org/SmolLM2-135M",
            "variant_model": "",
            "kind": "kv",
            "mode": "stress",
            "short_setting": "4-bit g64",
            "format": "4g64",
            "bits": 4,
            "verdict": "bad",
            "confidence": 0.95,
            "settled": None,
            "kl": 0.25,
            "p99": 2.5,
            "flip_rate": 0.12,
            "ppl_change": 1.5,
            "corpus": "wikitext-2",
            "n_positions": 2044,
            "n_chunks": 4,
            "kv_bytes": 6480.0,
            "partial": False,
            "origin": "",
            "sweep_id": "",
            "tags": (),
            "note": "",
        }
        | changes
    )


def rows(seed: int = 5, n: int = 60) -> list[RunRow]:
    rng = random.Random(seed)
    made: list[RunRow] = []
    for i in range(n):
        bits = rng.choice([2, 4, 8, None])
        made.append(
            row(
                id=f"2026{i:04d}-run",
                created=f"{datetime(2026, 1, 1) + timedelta(hours=rng.randint(0, 8000))}+00:00",
                model=rng.choice(["org/SmolLM2-135M", "Qwen/qwen3 4b", "demo"]),
                variant_model=rng.choice(["", "", "org/SmolLM2-4bit"]),
                bits=bits,
                format=f"{bits}g64" if bits else rng.choice(["k8v4g64", "k8v4g32", "mxfp4", ""]),
                short_setting=f"{bits}-bit g64" if bits else "k8v4g64",
                verdict=rng.choice(["good", "marginal", "bad"]),
                kl=rng.choice([10 ** rng.uniform(-4, 1), math.nan, math.inf, 0.01]),
                p99=rng.choice([None, 0.1, 3.0]),
                flip_rate=rng.choice([0.01, 0.05, rng.random(), math.nan]),
                ppl_change=rng.uniform(-1, 1),
                kv_bytes=rng.choice([None, 6480.0, 20000.0]),
                corpus=rng.choice(["wikitext-2", "notes.txt"]),
                partial=rng.random() < 0.3,
                origin=rng.choice(["", "llama.cpp"]),
                sweep_id=rng.choice(["", "20260304-050607-ab12"]),
                tags=tuple(rng.sample(["blog", "blog-old", "phone"], rng.randint(0, 2))),
                note=rng.choice(["", "before the fix"]),
                confidence=rng.choice([None, 0.6, 0.99]),
                settled=rng.choice([None, True, False]),
            )
        )
    return made


def fits(r: RunRow, key: str, value: str) -> bool:
    """What ``key`` and ``value`` mean, spelled out anew."""
    sides = "\n".join([r.model, r.variant_model]).lower()
    match key:
        case "":
            shown = [sides, r.short_setting, r.format, r.corpus, " ".join(r.tags), r.note]
            return any(value.lower() in field.lower() for field in shown)
        case "model":
            return value.lower() in sides
        case "verdict" | "corpus" | "note":
            return value in getattr(r, key)
        case "tag":
            return value in r.tags
        case "kv":
            return r.format.startswith(value) and r.format[len(value) : len(value) + 1] in ("", "g")
        case "sweep":
            return r.sweep_id[: len(value)] == value
        case "bits":
            return str(r.bits) == value
        case "partial":
            return {"yes": r.partial, "no": not r.partial}[value]
        case "is":
            states = {"imported": r.origin != "", "sweep": r.sweep_id != "", "partial": r.partial}
            return states[value]
        case "after":
            return r.created[:10] >= value
        case "before":
            return r.created[:10] < value
        case _:
            return r.created.startswith(value)


VALUES = {
    "": ["smol", "4-BIT", "wiki", "phone", "fix", "nothing-of-this"],
    "model": ["smol", "qwen3 4b", "demo"],
    "verdict": ["good", "marginal", "bad"],
    "corpus": ["wiki", "notes"],
    "note": ["fix", "zzz"],
    "tag": ["blog", "phone"],
    "kv": ["k8v4", "4", "k8v4g32", "mxfp4"],
    "sweep": ["2026", "2025"],
    "bits": ["2", "4", "8"],
    "partial": ["yes", "no"],
    "is": ["imported", "sweep", "partial"],
    "after": ["2026-03-10", "2026-11-01"],
    "before": ["2026-03-10", "2026-11-01"],
    "on": ["2026-03", "2026", "2026-04-10"],
}
FIGURES = {"kl": "kl", "p99": "p99", "flips": "flip_rate", "ppl": "ppl_change", "bytes": "kv_bytes"}
LIMITS = {"kl": "0.01", "p99": "0.1", "flips": "5%", "ppl": "-0.2", "bytes": "10k"}
NUMBERS = {"kl": 0.01, "p99": 0.1, "flips": 0.05, "ppl": -0.2, "bytes": 10000}


@given(st.randoms(use_true_random=False))
def test_a_filter_takes_what_its_words_mean(rng: random.Random) -> None:
    terms: list[str] = []
    expected = set(range(len(ROWS)))
    for _ in range(rng.randint(0, 4)):
        negated = rng.random() < 0.3
        if rng.random() < 0.3:
            key, sign = rng.choice(list(FIGURES)), rng.choice(["<", ">", "<=", ">="])
            words = f"{key}{sign}{LIMITS[key]}"
            one = set()
            for i, r in enumerate(ROWS):
                value, limit = getattr(r, FIGURES[key]), NUMBERS[key]
                if value is not None and value == value:
                    held = value < limit if "<" in sign else value > limit
                    if held or (value == limit and "=" in sign):
                        one.add(i)
        else:
            key = rng.choice(list(VALUES))
            values = rng.sample(VALUES[key], rng.randint(1, 2) if key else 1)
            said = [f'"{v}"' if " " in v or rng.random() < 0.2 else v for v in values]
            words = (f"{key.upper() if rng.random() < 0.2 else key}:" if key else "") + ",".join(said)
            one = {i for i, r in enumerate(ROWS) if any(fits(r, key, v) for v in values)}
        terms.append("-" * negated + words)
        expected &= set(range(len(ROWS))) - one if negated else one
    found = parse(rng.choice([" ", "  \t"]).join(terms), NOW)
    assert {i for i, r in enumerate(ROWS) if found.takes(r)} == expected, terms


ROWS = rows()


def takes(text: str, **changes: Any) -> bool:
    return parse(text, NOW).takes(row(**changes))


def test_quotes_hold_together_and_take_signs_as_they_are() -> None:
    assert takes('"before the"', note="see: before the fix")
    assert not takes('"the before"', note="before the fix")
    assert takes('note:"a,b"', note="x a,b")
    assert not takes('note:"a,b"', note="a b")
    assert takes('"kl<1"', note="where kl<1")
    assert takes('"-x"', note="y -x")
    assert takes('-"-x"', note="y x")
    assert takes('"foo:bar', note="foo:bar")
    for name in ('a "b" c', "back\\slash", "org/a, b:c -d", "q\\"):
        assert takes(f"model:{quoted(name)}", model=name)
        assert not takes(f"model:{quoted(name)}", model=name[1:])


def test_what_is_not_finished_holds_for_all() -> None:
    for text in ("", "  ", "-", '"', '""', "model:", "-bits:", "kl<", "flips>=", "bits:,", 'tag:"', "after:"):
        assert takes(text), text
        assert parse(text).takes_damaged("x", "y"), text


def test_dates_are_days_of_the_reader() -> None:
    # 23:30 in UTC is the next day to the east.
    east = datetime(2026, 6, 15, 12, tzinfo=timezone(timedelta(hours=9)))
    assert parse("on:2026-03-04", NOW).takes(row())
    assert parse("on:2026-03-05", east).takes(row())
    assert parse("after:2026-03-05", east).takes(row())
    assert not parse("before:2026-03-05", east).takes(row())
    assert parse("before:2026-03-5", NOW).takes(row())
    assert takes("on:today", created="2026-06-15T00:00:00+00:00")
    assert takes("on:yesterday", created="2026-06-14T23:59:59+00:00")
    assert takes("after:7d", created="2026-06-08T00:00:00+00:00")
    assert takes("before:1w", created="2026-06-07T23:00:00+00:00")
    assert takes("on:2026-12", created="2026-12-31T23:00:00+00:00")
    assert not takes("after:2020", created="no time")
    assert takes("-after:2020", created="no time")


def test_tags_are_whole_and_stars_are_anything() -> None:
    assert not takes("tag:blog", tags=("blog-old",))
    assert takes("tag:blog*", tags=("blog-old",))
    assert takes("tag:*OLD", tags=("blog-old",))
    assert takes("tag:a[b]?", tags=("a[b]?",))
    assert not takes("tag:a[b]?", tags=("abc",))
    assert takes("blog", tags=("blog-old",))
    assert takes("-tag:blog", tags=())


def test_begun_words_are_enough() -> None:
    assert takes("verdict:b")
    assert takes("is:imp", origin="llama.cpp")
    assert takes("mode:d", mode="deployment")
    assert takes("kind:w", kind="weights")
    assert takes("is:unsure", confidence=0.6)
    assert takes("is:unsure", confidence=None, settled=False)
    assert not takes("is:unsure", confidence=None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modle:x", "did you mean mode or model?"),
        ("zzzz:x", "there are model, setting, kv"),
        ("http://x", "goes in quotes"),
        ("verdict:ugly", "use good, marginal, bad"),
        ("is:p,x", "'x'; use partial, imported"),
        ("kl:0.1", "write kl<0.01 or kl>0.01"),
        ("kl<", None),
        ("kl<x", "'x' is no number for kl; write kl<0.01"),
        ("kl<1%", "no number for kl"),
        ("flips>5", "write flips>5%"),
        ("bits:four", "write bits:4"),
        ("after:soon", "write 2026-11-25"),
        ("before:2026-13", "is no day"),
        ("on:2026-02-30", "is no day"),
        ("on:9999", "is no day"),
        ("model<3", "model takes a colon: write model:smol"),
        ("after>2026", "after takes a colon"),
        ("partial:maybe", "use yes, true"),
        ("nope\x1b[31m:x", None),
        ("kl<\x1b[31m\u202e", "'[31m' is no number"),
    ],
)
def test_what_means_nothing_says_what_would(text: str, words: str | None) -> None:
    if words is None:
        parse(text)
        return
    with pytest.raises(BadFilterError) as raised:
        parse(f"smol {text} bits:4")
    said = str(raised.value)
    assert words in said
    assert len(said) < 160
    assert said.endswith((".", "quotes."))
    assert "\x1b" not in said


def test_every_key_has_an_example_that_works() -> None:
    assert set(EXAMPLES) == set(KEYS)
    for key in KEYS:
        assert any(_parses(f"{key}{sign}{EXAMPLES[key]}") for sign in ":<")


def _parses(text: str) -> Filter | None:
    try:
        return parse(text)
    except BadFilterError:
        return None


@given(st.text(max_size=40) | st.text('abkl:<>=-", 0.%*\\dis', max_size=20))
def test_any_text_is_a_filter_or_a_sentence(text: str) -> None:
    found = _parses(text)
    if found is not None:
        for one in ROWS[:5]:
            found.takes(one)
        found.takes_damaged("name", "why")


def test_damaged_runs_are_found_by_name_or_as_such() -> None:
    listed = {
        text
        for text in (
            "",
            "smol",
            "report.json",
            "bits:4",
            "is:damaged",
            "is:dam smol",
            "-is:damaged",
            "-smol",
            "-x",
            "is:partial",
        )
        if parse(text).takes_damaged("2026-SmolLM2", "report.json is missing")
    }
    assert listed == {"", "smol", "report.json", "is:damaged", "is:dam smol", "-x"}
    assert not any(parse("is:damaged").takes(r) for r in ROWS)


def test_rows_look_the_same_in_any_order_of_terms() -> None:
    terms = ["smol", "bits:4", "-verdict:good", "kl<1"]
    both = [parse(" ".join(t)) for t in (terms, terms[::-1])]
    assert [both[0].takes(r) for r in ROWS] == [both[1].takes(r) for r in ROWS]
    assert both[0].takes(dataclasses.replace(row(), kl=0.5))
