"""The report as JSON and as Markdown."""

from __future__ import annotations

import getpass
import json
import math
import re
import shlex
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mqf_tui.console.arguments import parser
from mqf_tui.console.measuring import settings_from
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.fidelity.summary_report import command
from mqf_tui.reports.badge import words as badge_words
from mqf_tui.reports.escaping import fenced, said
from mqf_tui.reports.json_report import from_json, to_json
from mqf_tui.reports.markdown import to_markdown
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import inert, on_edge, stopping_words, unsettled, verdict_words
from tests import makers
from tests.conftest import ROOT
from tests.github import Page
from tests.hostile import HOSTILE, hostile_report

REAL = ROOT / "tests/data/reports/v2-smollm2-4bit-g64.json"


def strict(text: str) -> Any:
    """Parse JSON as other languages do: no NaN, no Infinity."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_keeps_every_value() -> None:
    data = makers.report_data()
    assert strict(to_json(Report.model_validate(data))) == data


def test_the_keys_that_scripts_rely_on() -> None:
    data = strict(to_json(makers.report()))
    assert data["model"] == "org/tiny-llama"
    assert (data["kv_bits"], data["kv_group_size"]) == (4, 64)
    assert (data["mode"], data["quantize_start"]) == ("stress", 0)
    assert {"mean": 0.0234, "median": 0.0112, "p99": 0.21, "max": 1.5}.items() <= data["kl"].items()
    assert [bucket["kl_mean"] for bucket in data["kl_by_depth"]] == [0.01, 0.037]
    assert data["flip_rate"] == 0.025
    assert (data["perplexity_ref"], data["perplexity_quant"], data["perplexity_delta"]) == (12.5, 12.75, 0.25)
    assert (data["n_positions"], data["n_chunks"], data["verdict"]) == (254, 2, "marginal")
    corpus = (
        "name split n_tokens chunk_length stride tokenizer_id bos_policy final_chunk_policy normalization"
    )
    assert set(corpus.split()) <= set(data["corpus"])
    assert data["device"] == "CPU (x86_64, 2 cores)"
    assert {"mqf_tui", "mlx", "mlx_lm", "python"} <= set(data["versions"])
    assert data["schema_version"] == 1


def test_json_bears_infinities_and_nan() -> None:
    kl = makers.report_data()["kl"] | {"mean": math.inf, "max": math.inf, "ci_low": None, "ci_high": None}
    whole = makers.report(kl=kl, perplexity_quant=math.inf, perplexity_delta=math.nan, flip_rate=-math.inf)
    data = strict(to_json(whole))
    assert (data["kl"]["mean"], data["perplexity_delta"], data["flip_rate"]) == ("inf", "nan", "-inf")
    again = from_json(to_json(whole))
    assert again.kl.mean == again.kl.max == again.perplexity_quant == math.inf
    assert math.isnan(again.perplexity_delta)
    assert again.flip_rate == -math.inf


def test_keys_of_a_newer_version_survive() -> None:
    data = makers.report_data(schema_version=7, energy_joules=12.5, notes={"by": ["a", {"deep": None}]})
    data["kl"]["p999"] = 3.5
    data["corpus"]["licence"] = "CC0"
    data["kl_by_depth"][1]["kl_p99"] = 0.5
    data["by_part"][0]["language"] = "en"
    data["versions"]["numpy"] = "9.9"
    data["thresholds"]["kl_max"] = [1, 2]
    assert strict(to_json(from_json(json.dumps(data)))) == data


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("", "it is empty"),
        ("[]", "it is JSON, but no report"),
        ('{"model": 5', "it is no whole JSON"),
        ("\x00\xff", "it is no whole JSON"),
        ("[" * 100_000, "it is no whole JSON"),
        (
            json.dumps({k: v for k, v in makers.report_data().items() if k != "flip_rate"}),
            "it lacks flip_rate",
        ),
        (json.dumps(makers.report_data(verdict="splendid")), "its verdict is not what a report holds: input"),
        (json.dumps(makers.report_data(kind="poem")), "its kind is not what a report holds: input"),
        (
            json.dumps(makers.report_data(perplexity_ref="many")),
            "its perplexity_ref is not what a report holds: a number",
        ),
        (json.dumps(makers.report_data(kl={"median": 1})), "it lacks kl.mean"),
    ],
)
def test_a_damaged_report_says_where(text: str, where: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(where)}") as caught:
        from_json(text)
    assert len(str(caught.value).splitlines()) == 1


def shapes(page: Page) -> list[list[int]]:
    return [[len(row) for row in table] for table in page.tables]


def rows(table: list[list[str]]) -> dict[str, list[str]]:
    return {row[0]: row[1:] for row in table}


GIVEN = {"p", "strong", "table", "thead", "tbody", "tr", "th", "td", "code", "pre"} | {
    *("h2", "h3", "blockquote", "details", "summary")
}


def test_markdown_says_the_verdict_first() -> None:
    page = Page(to_markdown(makers.report()))
    assert page.blocks["h3"] == ["org/tiny-llama: 4-bit KV cache, group 64, stress"]
    first, second = page.blocks["p"][:2]
    assert first == "marginal: mean KL 0.0234 (0.0200 to 0.0270) nats, p99 0.210, flips 2.50 ± 1.50 %."
    assert second == (
        "254 positions in 2 chunks of 128 tokens of notes.txt. Thresholds kv-1: good up to mean KL 0.01, "
        "p99 0.1, flips 1 %; marginal up to 0.1, 1, 5 %."
    )


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((0.0, 0.984, 0.016), "marginal, 98 %"),
        ((0.0, 1.0, 0.0), "marginal, over 99 %"),
        ((0.0, 0.9, 0.1), "on the edge between marginal and bad (marginal, 90 %)"),
        ((0.0, 0.901, 0.099), "marginal, 90 %"),
        ((0.62, 0.38, 0.0), "on the edge between good and marginal (marginal, 38 %)"),
        ((0.55, 0.05, 0.4), "on the edge between good and bad (marginal, 5 %)"),
        ((0.25, 0.5, 0.25), "anything from good to bad (marginal, 50 %)"),
    ],
)
def test_the_verdict_comes_with_its_confidence(shares: tuple[float, ...], said: str) -> None:
    confidence = dict(zip(("good", "marginal", "bad"), shares, strict=True))
    report = makers.report(confidence=confidence)
    assert verdict_words(report) == said
    assert Page(to_markdown(report)).blocks["strong"][0] == said


@pytest.mark.parametrize(
    ("stopping", "said"),
    [
        ({"rule": "verdict", "settled": True}, "Stopped after 2 of 9 chunks, when the verdict was settled;"),
        ({"rule": "verdict", "settled": False}, "The verdict was not settled after 2 chunks;"),
        (
            {"rule": "precision", "precision": 0.05, "settled": True},
            "Stopped after 2 of 9 chunks, when mean KL was known to within 5 %;",
        ),
        (
            {"rule": "precision", "precision": 0.125, "settled": False},
            "Mean KL was not known to within 12.5 % after 2 chunks;",
        ),
    ],
)
def test_markdown_says_how_a_measurement_until_sure_ended(stopping: dict[str, Any], said: str) -> None:
    whole = {"alpha": 0.05, "n_chunks": 2, "method": "a method"} | stopping
    sure = {"good": 0.0, "marginal": 0.95, "bad": 0.0, "method": "anytime"}
    page = Page(to_markdown(makers.report(stopping=whole, n_chunks_planned=9, confidence=sure)))
    assert page.blocks["p"][0].startswith("marginal, at least 95 %: ")
    assert said in page.blocks["p"][0]
    assert ("a method" in " ".join(page.blocks["td"])) == stopping["settled"]


@pytest.mark.parametrize("confidence", [None, {"good": 0.0, "marginal": 1.0, "bad": 0.0, "replicates": 9}])
def test_what_was_not_settled_is_not_said_to_be_sure(confidence: dict[str, Any] | None) -> None:
    rule = {"rule": "verdict", "settled": False, "alpha": 0.05, "n_chunks": 2, "method": "a method"}
    report = makers.report(stopping=rule, confidence=confidence)
    assert unsettled(report)
    assert verdict_words(report) == "marginal, not settled"
    assert on_edge(report) == ()
    assert Page(to_markdown(report)).blocks["strong"][0] == "marginal, not settled"
    assert badge_words(report)[1].startswith("marginal, not settled")


@pytest.mark.parametrize(
    ("sure", "half", "said"),
    [
        (True, 0.0, "stopped after 2 of 9 chunks, when the verdict was settled and mean KL was known to"),
        (False, 0.0001, "the verdict was not settled after 2 chunks"),
        (True, 0.01, "mean KL was not known to within 5 % after 2 chunks"),
        (False, 0.01, "the verdict was not settled and mean KL was not known to within 5 % after 2 chunks"),
        (False, None, "the verdict was not settled and mean KL was not known to within 5 % after 2 chunks"),
    ],
)
def test_which_of_two_rules_was_missed_is_said(sure: bool, half: float | None, said: str) -> None:
    rule = {"rule": "both", "precision": 0.05, "alpha": 0.05, "n_chunks": 2, "method": "a method"}
    ends = {} if half is None else {"ci_low": 0.02 - half, "ci_high": 0.02 + half}
    report = makers.report(
        stopping=rule | {"settled": half == 0.0},
        kl={"mean": 0.02, **ends},
        confidence={"good": 0.0, "marginal": 0.95, "bad": 0.0, "method": "anytime"} if sure else None,
        n_chunks_planned=9,
    )
    assert stopping_words(report).startswith(said)


def test_the_badge_names_all_that_it_may_be() -> None:
    for shares, words in (
        ((0.62, 0.38, 0.0), "good or marginal"),
        ((0.25, 0.5, 0.25), "good, marginal or bad"),
    ):
        sure = dict(zip(("good", "marginal", "bad"), shares, strict=True))
        assert badge_words(makers.report(confidence=sure))[1].startswith(f"{words} · KL ")


def test_the_headline_gives_the_error_of_each_figure() -> None:
    k = makers.report_data()["kl"] | {"p99": 0.21, "p99_ci": [0.15, 0.4]}
    first = Page(to_markdown(makers.report(kl=k))).blocks["p"][0]
    assert "p99 0.210 (0.150 to 0.400), flips" in first


def test_a_lone_less_than_stands_bare() -> None:
    assert said("p < 0.0001, so") == "p < 0.0001, so"
    assert said("a <") == "a `<`"  # one does not know what follows
    assert said("<b") == "`<b`"


def test_markdown_of_part_of_a_measurement_says_so() -> None:
    page = Page(to_markdown(makers.report(partial=True, n_chunks=1, n_chunks_planned=9)))
    assert "Partial: 1 of 9 chunks begun." in page.blocks["p"][0]


def test_markdown_tables_hold_the_numbers() -> None:
    page = Page(to_markdown(makers.report()))
    main, parts, depth, _ = page.tables
    values = rows(main)
    assert values["KL mean (nats)"] == ["0.0234", "0.0200 to 0.0270"]
    assert values["KL median"] == ["0.0112", ""]
    assert values["KL p99"] == ["0.210", ""]
    assert values["KL max"] == ["1.50", ""]
    assert values["flips"] == ["2.50 %", "1.00 to 4.00 %"]
    assert values["perplexity, reference"] == ["12.500", ""]
    assert values["perplexity, variant"] == ["12.750", ""]
    assert values["perplexity difference"] == ["+0.250", ""]
    assert values["KV cache per token (16-bit)"] == ["512 B → 144 B (28 %)", ""]
    assert values["KV cache per token, as run (32-bit)"] == ["1.0 kB → 160 B (16 %)", ""]
    assert parts == [
        ["part", "positions", "KL mean", "flips (%)"],
        ["prose", "127", "0.0200", "1.00"],
        ["code", "127", "0.0300", "4.00"],
    ]
    assert [row[0] for row in depth] == ["depth", "0 to 63", "64 to 126"]
    assert [row[2] for row in depth] == ["KL mean", "0.0100", "0.0370"]


def test_markdown_of_a_real_run_shows_every_figure_with_its_interval() -> None:
    report = from_json(REAL.read_bytes())
    page = Page(to_markdown(report))
    values = rows(page.tables[0])
    assert values["KL p99.9"] == ["4.16", "3.26 to 5.61"]
    assert values["share of KL in the worst 1 %"] == ["12.76 %", ""]
    assert values["confident flips (reference gave ≥ 0.5)"] == ["3.57 %", "2.51 to 4.63 %"]
    assert values["near-tie flips (margin < 0.05)"] == ["11.50 %", "9.28 to 13.72 %"]
    assert values["text's own token lost, gained, neither"] == ["129, 73, 335", ""]
    assert values["accuracy change"] == ["-2.74 pp (p < 0.0001)", "-4.33 to -1.15 pp"]
    assert values["top-5 agreement"] == ["96.62 %", "94.48 to 98.77 %"]
    assert values["Δp mean"] == ["-3.11 pp", "-3.53 to -2.68 pp"]
    assert values["Δp RMS"] == ["13.49 pp", "12.07 to 14.77 pp"]
    assert values["perplexity ratio"] == ["1.2276", "1.1686 to 1.2896"]
    assert values["mean ln ratio"] == ["0.2051", "0.1558 to 0.2543"]
    assert values["correlation of the NLLs"] == ["0.94761", ""]
    assert page.blocks["blockquote"] == ["⚠ only 4 chunks: the intervals are wide and rough"]
    # One table in sight, the rest folded: depth, entropy, token class, Δp, provenance.
    assert (page.visible_tables, len(page.tables)) == (1, 6)
    assert [len(table) for table in page.tables[1:5]] == [9, 5, 6, 2]
    assert "p99.9" in page.tables[4][0]
    assert page.balanced
    assert page.tags <= GIVEN


def test_a_comment_holds_the_report() -> None:
    # GitHub's limit is 65,536 characters.
    assert len(to_markdown(from_json(REAL.read_bytes()))) < 8_000


def bare(**changes: Any) -> Report:
    """An import that knows next to nothing."""
    keys = ("created", "kl", "flip_rate", "verdict", "thresholds")
    data = {key: value for key, value in makers.report_data().items() if key in keys or "perplex" in key}
    data["kl"] = {"mean": 0.0234}
    data |= {"model": "some model", "corpus": {"name": ""}, "versions": {}}
    data["origin"] = {"tool": "llama.cpp", "form": "printed summary", "file": "log.txt"}
    return Report.model_validate(data | changes)


def test_markdown_of_an_import_has_no_holes() -> None:
    text = to_markdown(bare(perplexity_ref=math.nan, perplexity_quant=math.nan, perplexity_delta=math.nan))
    page = Page(text)
    assert "Imported from llama.cpp (printed summary, log.txt)." in page.blocks["p"][0]
    assert page.blocks["h3"] == ["some model: quantized KV cache"]
    assert page.tables[0] == [["", "value"], ["KL mean (nats)", "0.0234"], ["flips", "2.50 %"]]
    assert len(page.tables) == 2
    for hole in ("None", "nan", "()", " ,", "of .", "0 positions", "0 chunks", "0 tokens", "``"):
        assert hole not in text.replace("```", "")
    assert all(cell for table in page.tables[1:] for row in table[1:] for cell in row)


@pytest.mark.parametrize("path", sorted(REAL.parent.glob("*.json")), ids=lambda path: path.stem)
def test_markdown_of_every_kept_report_is_well_formed(path: Path) -> None:
    page = Page(to_markdown(from_json(path.read_bytes())))
    assert page.balanced
    assert page.tags <= GIVEN
    assert all(len(set(shape)) == 1 for shape in shapes(page))
    assert "None" not in page.markdown


def test_markdown_of_quantized_weights_names_both_models() -> None:
    page = Page(
        to_markdown(
            makers.report(
                kind="weights",
                mode=None,
                variant_model="org/tiny-llama-4bit",
                weights_bytes=2_000_000,
                variant_weights_bytes=500_000,
                kv_bytes_per_token=None,
            )
        )
    )
    assert page.blocks["h3"] == ["org/tiny-llama: 4-bit weights, group 64, in org/tiny-llama-4bit"]
    assert rows(page.tables[0])["weights"][0] == "2.0 MB → 500 kB (25 %)"


@pytest.mark.parametrize("value", [math.inf, math.nan, 0.0])
def test_markdown_of_extreme_numbers_is_well_formed(value: float) -> None:
    data = makers.report_data(flip_ci_low=None, flip_ci_high=None, perplexity_delta=value, kl_by_depth=[])
    data["kl"] = {key: value for key in ("mean", "median", "p90", "p95", "p99", "max")}
    data["kv_bytes_per_token"] = {"reference": value, "variant": value}
    data["confidence"] = {"good": value, "marginal": value, "bad": value}
    page = Page(to_markdown(Report.model_validate(data)))
    assert page.balanced
    assert all(len(set(shape)) == 1 for shape in shapes(page))
    assert rows(page.tables[0])["flips"] == ["2.50 %", "none"]


def test_hostile_names_are_inert() -> None:
    page, plain = Page(to_markdown(hostile_report(HOSTILE))), Page(to_markdown(hostile_report("name")))
    assert page.markdown.replace("\n", "").isprintable()
    assert shapes(page) == shapes(plain)
    assert page.tags <= GIVEN
    assert {name for name, _ in page.attributes} <= {"th.align", "td.align", "code.class", "pre.lang"}
    assert page.balanced
    for kind in ("h3", "details", "blockquote", "pre"):
        assert len(page.blocks[kind]) == len(plain.blocks[kind])
    # Nothing is lost either.
    shown = " ".join(inert(HOSTILE).split())
    assert page.blocks["h3"][0].startswith(shown)
    assert page.blocks["blockquote"][0] == f"⚠ {shown}"
    assert page.tables[1][1][0] == shown
    assert inert(HOSTILE) in page.blocks["pre"][0]


@given(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)
    | st.text("`|\\*_<>&@#[]!: \n-~w.a1", max_size=30)
)
def test_any_text_is_shown_as_it_is_and_does_nothing(text: str) -> None:
    words = f"x {said(text)} y".replace("x  y", "x y")
    page = Page(f"### {words}\n\n| a | b |\n| --- | --- |\n| {words} | 2 |\n\n> z {said(text)}\n")
    shown = " ".join(["x", *inert(text).split(), "y"])
    assert page.blocks["h3"] == [shown]
    assert page.tables == [[["a", "b"], [shown, "2"]]]
    assert page.tags <= GIVEN
    assert page.balanced


@given(st.text("`~ \nab", max_size=20))
@example("```")
@example("a ````` b")
@example("`````")
def test_a_command_cannot_leave_its_block(command: str) -> None:
    page = Page(fenced(command, "sh") + "\n\nafter")
    assert page.blocks["pre"] == [inert(command).strip()]
    assert page.blocks["p"] == ["after"]


COMMANDS = [
    KVSettings("demo"),
    KVSettings("org/model", 2, 32, quantize_start=17, chunk_length=333, max_chunks=5, corpus="wikitext-2"),
    KVSettings(
        "a name with 'quotes' $(x) `y` \"z\"",
        6,
        128,
        chunk_length=64,
        max_chunks=1,
        corpus="my notes; rm.txt",
    ),
    KVSettings("org/model", trust_remote_code=True, max_chunks=3),
]


@pytest.mark.parametrize("settings", COMMANDS, ids=lambda s: s.model[:8])
def test_the_printed_command_reproduces_the_settings(settings: KVSettings) -> None:
    n_chunks = settings.max_chunks or 40
    text = to_markdown(makers.report(command=command(settings, n_chunks, settings.model)))
    (printed,) = re.findall(r"```sh\n(.*)\n```", text)
    program, *words = shlex.split(printed)
    read = settings_from(parser().parse_args(words))
    assert program == "mqf-tui"
    assert read.max_chunks == n_chunks
    for name in KVSettings.__dataclass_fields__.keys() - {"max_chunks"}:
        assert getattr(read, name) == getattr(settings, name)


def test_a_measured_report_names_nothing_of_this_machine(tmp_path: Path) -> None:
    from mqf_tui import measure_kv_fidelity

    secret = tmp_path / "secret-user" / "deep"
    folder = makers.model_folder(secret / "tiny-llama")
    corpus = makers.text_file(secret / "notes.txt")
    report = measure_kv_fidelity(folder, kv_bits=4, chunk_length=64, max_chunks=2, corpus=corpus)
    for text in (to_markdown(report), to_json(report)):
        assert "tiny-llama" in text
        assert "notes.txt" in text
        for private in ("secret-user", "deep", str(tmp_path), str(Path.home()), socket.gethostname()):
            # A machine may have a short name such as "vm", which is part of other words.
            assert not re.search(rf"(?<!\w){re.escape(private)}(?!\w)", text)
        # "root" stands in no report either; other users' names may be common words.
        assert f"/{getpass.getuser()}/" not in text
