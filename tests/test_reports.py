"""The report as JSON and as Markdown."""

from __future__ import annotations

import getpass
import json
import math
import re
import shlex
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mqf_tui.cli import parser
from mqf_tui.console.measuring import settings_from
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.fidelity.summary_report import command
from mqf_tui.reports.json_report import from_json, to_json
from mqf_tui.reports.markdown import to_markdown
from mqf_tui.reports.schema import Report
from tests import makers

HOSTILE = (
    "evil\x1b[31m\x1b]0;owned\x07|cell|\n# heading\r\n| a | b |\u202e<script>![x](http://x/y)`code`\\|end"
)


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
        ("", "the file"),
        ("[]", "the file"),
        ('{"model": 5', "the file"),
        ("\x00\xff", "the file"),
        ("[" * 100_000, "the file"),
        (json.dumps({k: v for k, v in makers.report_data().items() if k != "flip_rate"}), "flip_rate"),
        (json.dumps(makers.report_data(verdict="splendid")), "verdict"),
        (json.dumps(makers.report_data(kind="poem")), "kind"),
        (json.dumps(makers.report_data(perplexity_ref="many")), "perplexity_ref"),
        (json.dumps(makers.report_data(kl={"median": 1})), "kl.mean"),
    ],
)
def test_a_damaged_report_says_where(text: str, where: str) -> None:
    with pytest.raises(ValueError, match=rf"^{re.escape(where)}: ") as caught:
        from_json(text)
    assert len(str(caught.value).splitlines()) == 1


def cells(line: str) -> list[str]:
    """The cells of a table's row as GitHub's grammar splits them: a backslash makes the next sign plain."""
    found, cell, signs = [], "", iter(line.strip())
    for sign in signs:
        if sign == "\\":
            cell += next(signs, "")
        elif sign == "|":
            found.append(cell.strip())
            cell = ""
        else:
            cell += sign
    assert cell == ""
    return found[1:]


def tables(text: str) -> Iterator[list[list[str]]]:
    for block in text.split("\n\n"):
        lines = block.split("\n")
        if lines[0].startswith("|"):
            yield [cells(line) for line in lines]


def well_formed(table: list[list[str]]) -> bool:
    rule = all(re.fullmatch(r":?-+:?", cell) for cell in table[1])
    return rule and len({len(row) for row in table}) == 1


def test_markdown_says_the_verdict_first() -> None:
    lines = to_markdown(makers.report()).split("\n")
    assert lines[0] == "### org/tiny-llama: 4-bit KV cache, group 64, stress"
    assert lines[1] == ""
    assert lines[2] == "**marginal**: mean KL 0.0234 nats, p99 0.210, flips 2.50 %."


def test_markdown_of_part_of_a_measurement_says_so() -> None:
    text = to_markdown(makers.report(partial=True, n_chunks=1, n_chunks_planned=9))
    assert "(partial: 1 of 9 chunks begun)" in text.split("\n")[2]


def test_markdown_tables_hold_the_numbers() -> None:
    main, depth, parts = tables(to_markdown(makers.report()))
    assert all(map(well_formed, (main, depth, parts)))
    values = {row[0]: row[1:] for row in main}
    assert values["KL mean (nats)"] == ["0.0234", "0.0200 to 0.0270"]
    assert values["KL p99, max"] == ["0.210, 1.50", ""]
    assert values["top-1 flips"] == ["2.50 %", "1.00 % to 4.00 %"]
    assert values["perplexity"] == ["12.500 → 12.750 (+0.250)", ""]
    assert values["KV cache per token (16-bit)"] == ["512 B → 144 B (28%)", ""]
    assert values["KV cache per token, as run (32-bit)"] == ["1.0 kB → 160 B (16%)", ""]
    assert depth[0][1:] == ["0–63", "64–126"]
    assert depth[2][1:] == ["0.0100", "0.0370"]
    assert parts[3] == ["code", "1", "0.0300", "—", "4.00 %"]


@pytest.mark.parametrize("value", [math.inf, math.nan, 0.0])
def test_markdown_of_extreme_numbers_is_well_formed(value: float) -> None:
    data = makers.report_data(flip_ci_low=None, flip_ci_high=None, perplexity_delta=value, kl_by_depth=[])
    data["kl"] = {key: value for key in ("mean", "median", "p90", "p95", "p99", "max")}
    data["kv_bytes_per_token"] = {"reference": value, "variant": value}
    text = to_markdown(Report.model_validate(data))
    assert all(map(well_formed, tables(text)))
    assert "no interval" in text


def test_a_hostile_name_is_inert() -> None:
    plain = makers.report()
    data = makers.report_data(
        model=HOSTILE, device=HOSTILE, warnings=[HOSTILE], command=f"mqf-tui kv {HOSTILE}"
    )
    data["by_part"][0]["name"] = HOSTILE
    data["corpus"]["name"] = HOSTILE
    text = to_markdown(Report.model_validate(data))
    assert text.replace("\n", "").isprintable()
    shapes = [[len(row) for row in table] for table in tables(text)]
    assert shapes == [[len(row) for row in table] for table in tables(to_markdown(plain))]
    lines = text.split("\n")
    assert [line for line in lines if line.startswith("#")] == lines[:1]
    fences = [number for number, line in enumerate(lines) if line.startswith("```")]
    outside = "\n".join(lines[: fences[0]] + lines[fences[1] + 1 :])
    assert len(fences) == 2
    assert "<script" not in outside
    assert not re.search(r"(?<!\\)(\[|`|!\[)", outside)


COMMANDS = [
    KVSettings("demo"),
    KVSettings("org/model", 2, 32, 17, 333, 5, "wikitext-2"),
    KVSettings("a name with 'quotes' $(x) `y` \"z\"", 6, 128, 0, 64, 1, "my notes; rm.txt"),
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
