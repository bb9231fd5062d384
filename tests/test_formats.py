"""Every format of a report, and how the command line reaches it.

The golden files show one real run in each text format. After a change that is meant, look at the new ones:
``MQF_TUI_RENEW_GOLDEN=1 pytest tests/test_formats.py -k golden``, then ``git diff tests/golden``.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import os
import re
import unicodedata
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from huggingface_hub import EvalResult, ModelCard, metadata_load
from huggingface_hub.repocard_data import model_index_to_eval_results

from mqf_tui.cli import main
from mqf_tui.console.arguments import FORMATS as OFFERED
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.vocabulary import TOKEN_CLASSES
from mqf_tui.library.runs import SavedRun, load_run, save_run
from mqf_tui.reports.badge import to_badge, to_badge_json
from mqf_tui.reports.card import to_card
from mqf_tui.reports.csv_report import POSITION_COLUMNS, positions_csv, to_csv
from mqf_tui.reports.formats import FORMATS, ending, render
from mqf_tui.reports.json_report import from_json, to_json
from mqf_tui.reports.markdown import to_markdown
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import inert
from tests import makers
from tests.conftest import DATA, HERE, ROOT
from tests.github import Page
from tests.hostile import HOSTILE, hostile_report

GOLDEN = HERE / "golden"
REAL = DATA / "reports/v2-smollm2-4bit-g64.json"
TEXT_FORMATS = ("md", "card", "json", "csv", "badge", "badge-json")
DOCUMENTED = ROOT / "docs/formats.md"


@pytest.fixture(scope="module")
def real() -> SavedRun:
    """The report of a real run, and the first positions of its chunks."""
    return SavedRun("smollm2-4bit-g64", REAL.with_suffix(""), from_json(REAL.read_bytes()))


def hostile_positions() -> Positions:
    made = makers.positions()
    texts = {i: HOSTILE[i % 40 :] for i in range(makers.VOCAB)} | {0: "=1+1", 1: " @x", 2: "\udcff", 3: "\n-"}
    return dataclasses.replace(made, part_names=(HOSTILE, "=2"), texts=texts)


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


def test_every_format_that_is_offered_exists() -> None:
    assert tuple(FORMATS) == OFFERED
    names = [ending(name) for name in OFFERED] + [ending("csv", "positions"), ending("svg", dark=True)]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", OFFERED)
def test_every_format_is_rendered_with_and_without_positions(name: str, real: SavedRun) -> None:
    for positions in (None, real.positions()):
        text = render(name, real.report, positions)
        assert text.endswith("\n")
        assert "None" not in text


@pytest.mark.parametrize("path", sorted(REAL.parent.glob("*.json")), ids=lambda path: path.stem)
@pytest.mark.parametrize("name", OFFERED)
def test_reports_of_every_age_are_rendered(name: str, path: Path) -> None:
    assert "None" not in render(name, from_json(path.read_bytes()))


@pytest.mark.parametrize("name", [*TEXT_FORMATS, "positions.csv"])
def test_golden(name: str, real: SavedRun) -> None:
    if name == "positions.csv":
        text, path = positions_csv(real.positions()), GOLDEN / "smollm2-4bit-g64.positions.csv"
    else:
        text, path = render(name, real.report), GOLDEN / f"smollm2-4bit-g64.{ending(name)}"
    if os.environ.get("MQF_TUI_RENEW_GOLDEN"):
        path.write_text(text, encoding="utf-8", newline="")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [*OFFERED, "positions"])
def test_hostile_text_cannot_drive_a_terminal(name: str) -> None:
    report, positions = hostile_report(HOSTILE), hostile_positions()
    text = positions_csv(positions) if name == "positions" else render(name, report, positions)
    driving = {c for c in text if unicodedata.category(c)[0] == "C"} - {"\n", "\u200c", "\u200d"}
    assert not driving
    assert not {"\u2028", "\u2029"} & set(text)


# Comma-separated values


def test_csv_holds_the_numbers_as_they_are(real: SavedRun) -> None:
    (row,) = read_csv(to_csv([real.report], [real.id]))
    data = json.loads(REAL.read_bytes())
    assert row["run"] == "smollm2-4bit-g64"
    assert row["model"] == data["model"]
    assert row["verdict"] == "bad"
    for column, value in {
        "kl_mean": data["kl"]["mean"],
        "kl_ci_high": data["kl"]["ci_high"],
        "kl_p999": data["kl"]["p999"],
        "kl_p999_ci_low": data["kl"]["p999_ci"][0],
        "flip_rate": data["flip_rate"],
        "flips_confident": data["flips"]["confident"]["value"],
        "flips_confident_ci_high": data["flips"]["confident"]["ci"][1],
        "flips_lost": data["flips"]["lost"],
        "flips_mcnemar_p": data["flips"]["mcnemar_p"],
        "delta_p_rms_ci_low": data["delta_p"]["rms"]["ci"][0],
        "delta_p_p01": data["delta_p"]["percentiles"]["0.1"],
        "delta_p_p999": data["delta_p"]["percentiles"]["99.9"],
        "delta_p_min": data["delta_p"]["percentiles"]["min"],
        "perplexity_ref_ci_low": data["perplexity"]["ref_ci"][0],
        "perplexity_ratio": data["perplexity"]["ratio"]["value"],
        "perplexity_nll_correlation": data["perplexity"]["nll_correlation"],
        "kv_bytes_per_token_variant_16bit": data["kv_bytes_per_token"]["variant_16bit"],
        "confidence_bad": 1.0,
        "n_positions": 2044,
    }.items():
        assert float(row[column]) == value, column
    assert row["partial"] == "0"
    assert row["warnings"] == data["warnings"][0]
    assert row["origin_tool"] == row["weights_bytes"] == row["stopping_rule"] == ""


def test_csv_makes_one_table_of_runs_of_every_age() -> None:
    reports = [from_json(path.read_bytes()) for path in sorted(REAL.parent.glob("*.json"))]
    found = read_csv(to_csv(reports))
    assert [row["schema_version"] for row in found] == [str(r.schema_version) for r in reports]
    assert all(None not in row and None not in row.values() for row in found)


def test_csv_of_extreme_numbers() -> None:
    data = makers.report_data(perplexity_delta=math.nan)
    data["kl"] |= {"max": math.inf, "mean": 1e-9}
    (row,) = read_csv(to_csv([Report.model_validate(data)]))
    assert (row["kl_max"], row["kl_mean"], row["perplexity_delta"]) == ("inf", "1e-09", "")


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", " =1", "\t=1", "\r\n=1", "＝1", "\u202e=1"])
def test_csv_starts_no_formula(name: str) -> None:
    (row,) = read_csv(to_csv([hostile_report(name, warnings=[name, name])], [name]))
    shown = inert(name)
    assert row["run"] == row["model"] == row["corpus_name"] == row["origin_file"] == f"'{shown}"
    assert row["warnings"] == f"'{shown}; {shown}"


def test_csv_keeps_hostile_text_in_its_cell() -> None:
    (row,) = read_csv(to_csv([hostile_report(HOSTILE)]))
    assert row["model"] == row["device"] == row["warnings"] == f"'{inert(HOSTILE)}"
    assert float(row["flip_rate"]) == 0.025


def test_csv_of_positions_gives_back_what_is_stored(real: SavedRun) -> None:
    positions = real.positions()
    found = read_csv(positions_csv(positions))
    assert len(found) == len(positions) == 60
    for name in ("kl", "nll_ref", "nll_quant", "delta_p", "prob_ref", "prob_quant", "entropy", "margin"):
        stored = getattr(positions, name)
        assert np.array_equal(np.array([row[name] for row in found], stored.dtype), stored)
    for name in ("chunk", "depth", "token", "top1_ref", "top1_quant", "flip", "in_top5"):
        assert [int(row[name]) for row in found] == getattr(positions, name).astype(int).tolist()
    assert {row["part"] for row in found} == {"reference-text.txt"}
    assert [row["token_class"] for row in found] == [TOKEN_CLASSES[i] for i in positions.token_class]
    assert [row["token_text"] for row in found[:2]] == ["␣Apache", "␣License"]


def test_csv_of_hostile_positions_keeps_its_shape() -> None:
    positions = hostile_positions()
    found = read_csv(positions_csv(positions))
    assert len(found) == len(positions)
    assert all(None not in row and None not in row.values() for row in found)
    words = [
        v for row in found for k, v in row.items() if k.endswith("_text") or k in ("part", "token_class")
    ]
    assert not [word for word in words if word.lstrip().startswith(tuple("=+-@"))]
    assert {row["part"] for row in found} == {f"'{inert(HOSTILE)}", "'=2"}


def test_csv_of_positions_of_version_1_leaves_open_what_they_lack() -> None:
    made = makers.positions()
    older = ("chunk", "depth", "part", "token", "kl", "nll_ref", "nll_quant", "top1_ref", "top1_quant")
    found = read_csv(positions_csv(Positions.of({name: getattr(made, name) for name in older})))
    lacking = ("prob_ref", "prob_quant", "entropy", "margin", "in_top5", "token_class")
    assert all(row[name] == "" for row in found for name in lacking)
    assert found[0]["token_text"] == f"#{found[0]['token']}"


def test_the_columns_are_documented_and_stay() -> None:
    text = DOCUMENTED.read_text(encoding="utf-8")
    runs, positions = re.findall(r"```text\n(.*?)```", text, re.DOTALL)
    header = to_csv([]).strip().split(",")
    assert runs.split() == header
    assert positions.split() == list(POSITION_COLUMNS)
    assert len(set(header)) == len(header)


# Hugging Face model cards


def metrics(card: str) -> dict[str, EvalResult]:
    results = ModelCard(card).data.eval_results
    assert results is not None
    return {result.metric_type: result for result in results}


def test_a_card_is_what_the_hub_reads(real: SavedRun, tmp_path: Path) -> None:
    text = to_card(real.report)
    path = tmp_path / "README.md"
    path.write_text(text, encoding="utf-8")
    loaded = metadata_load(path)
    assert loaded is not None
    name, results = model_index_to_eval_results(loaded["model-index"])
    assert name == "SmolLM2-135M-Instruct-fp16"
    assert {(r.task_type, r.dataset_name, r.source_url) for r in results} == {
        ("text-generation", "reference-text.txt", None)
    }
    assert {r.dataset_args["measured_with"] for r in results} == {"mqf-tui 0.1.0"}
    found = {r.metric_type: r for r in results}
    assert found["kl_divergence"].metric_value == 0.26388
    assert found["kl_divergence"].metric_args == {"ci_95": [0.163572, 0.364187]}
    assert found["top1_flip_rate"].metric_value == 0.26272
    assert found["perplexity"].metric_value == 21.9281
    assert found["perplexity_reference"].metric_value == 17.8624
    # Through the hub's own class and back, nothing changes.
    card = ModelCard(text)
    assert ModelCard(str(card)).data.to_dict() == card.data.to_dict() == loaded
    assert Page(card.text).blocks["h2"] == [f"{name}: 4-bit KV cache, group 64, stress"]


def test_a_card_names_a_data_set_of_the_hub() -> None:
    corpus = makers.report_data()["corpus"] | {"name": "wikitext-2", "split": "test"}
    found = metrics(to_card(makers.report(corpus=corpus)))["kl_divergence"]
    assert (found.dataset_type, found.dataset_config) == ("Salesforce/wikitext", "wikitext-2-raw-v1")
    assert found.dataset_split == "test"


HARD = [
    "a: b",
    "- item",
    "# no comment",
    "'",
    '"',
    "{a}",
    "[b]",
    "*x",
    "&x",
    "!!python/object:x",
    "%",
    "null",
]


@pytest.mark.parametrize("name", [HOSTILE, *HARD, "---", "yes", "1.0", "~", "é 中", "a\n---\nb: c"])
def test_hostile_names_stay_words_in_a_card(name: str) -> None:
    text = to_card(hostile_report(name))
    block = text.split("\n---\n")[0].removeprefix("---\n")
    loaded = yaml.safe_load(block)
    (entry,) = loaded["model-index"]
    assert set(loaded) == {"model-index"}
    assert entry["name"] == inert(name)
    (result,) = entry["results"]
    assert result["dataset"]["name"] == inert(name)
    assert re.fullmatch(r"[A-Za-z0-9_.-]+", result["dataset"]["type"])
    card = ModelCard(text)
    assert card.data.to_dict() == loaded
    page = Page(card.text)
    assert page.balanced
    assert not page.tags & {"a", "img", "script", "em", "h1", "hr", "ul", "ol"}


def test_a_card_bears_infinities() -> None:
    data = makers.report_data(perplexity_quant=math.inf)
    data["kl"] |= {"p99": math.nan}
    found = metrics(to_card(Report.model_validate(data)))
    assert found["perplexity"].metric_value == "inf"
    assert "kl_divergence_p99" not in found


# Badges


def test_a_badge_is_a_picture_of_its_words(real: SavedRun) -> None:
    root = ElementTree.fromstring(to_badge(real.report))
    space = "{http://www.w3.org/2000/svg}"
    assert root.tag == f"{space}svg"
    assert [t.text for t in root.iter(f"{space}text")] == [
        "4-bit KV cache, group 64",
        "bad, over 99 % · KL 0.264",
    ]
    width = float(root.attrib["width"])
    for text in root.iter(f"{space}text"):
        middle, length = float(text.attrib["x"]), float(text.attrib["textLength"])
        assert 0 < middle - length / 2 < middle + length / 2 < width
    assert not {e.tag for e in root.iter()} - {
        f"{space}{tag}" for tag in ("svg", "title", "clipPath", "rect", "g", "text")
    }


def test_a_badge_carries_hostile_names_as_words() -> None:
    root = ElementTree.fromstring(to_badge(hostile_report(HOSTILE)))
    assert root.findtext("{http://www.w3.org/2000/svg}title", "").startswith(inert(HOSTILE))
    assert not [e for e in root.iter() if e.tag.endswith("script")]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "marginal · KL 0.0234"),
        ({"partial": True}, "marginal · KL 0.0234 · partial"),
        ({"confidence": {"good": 0.0, "marginal": 0.97, "bad": 0.03}}, "marginal, 97 % · KL 0.0234"),
        ({"confidence": {"good": 0.0, "marginal": 0.7, "bad": 0.3}}, "marginal or bad · KL 0.0234"),
    ],
)
def test_a_badge_for_shields(changes: dict[str, Any], message: str) -> None:
    found = json.loads(to_badge_json(makers.report(**changes)))
    assert found["schemaVersion"] == 1
    assert (found["label"], found["message"]) == ("4-bit KV cache, group 64", message)
    assert re.fullmatch(r"[0-9a-f]{6}", found["color"])
    assert set(found) == {"schemaVersion", "label", "message", "color"}


# JSON


def test_json_escapes_what_it_keeps() -> None:
    text = to_json(hostile_report(HOSTILE))
    assert json.loads(text)["model"] == HOSTILE
    assert from_json(text).device == HOSTILE
    emoji = makers.report(model="a\U000e0041b 中 é")  # a tag character, beyond the first plane
    assert json.loads(to_json(emoji))["model"] == emoji.model
    assert "中 é" in to_json(emoji)


# The command line


@pytest.fixture
def saved(data_home: Path) -> list[SavedRun]:
    """Two runs, the later one first."""
    later = makers.report(created="2026-03-05T05:06:07+00:00", kv_bits=8)
    return [save_run(later, makers.positions()), save_run(makers.report(), makers.positions())]


def imported(data_home: Path) -> str:
    run = save_run(makers.report(origin={"tool": "t", "form": "f", "file": "x"}), makers.positions())
    (run.folder / "positions.npz").unlink()
    return run.id


@pytest.mark.parametrize("name", OFFERED)
def test_show_prints_every_format(
    name: str, saved: list[SavedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["runs", "show", saved[1].id, "--format", name]) == 0
    printed = capsys.readouterr().out
    if name == "csv":
        assert printed == to_csv([saved[1].report], [saved[1].id])
    else:
        assert printed == render(name, saved[1].report, load_run(saved[1].id).positions())


def test_show_prints_positions(saved: list[SavedRun], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", "last", "--format", "csv", "--positions"]) == 0
    assert len(read_csv(capsys.readouterr().out)) == 254


def test_show_draws_on_dark(saved: list[SavedRun], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "show", "last", "--format", "svg", "--dark"]) == 0
    dark = capsys.readouterr().out
    assert main(["runs", "show", "last", "--format", "svg"]) == 0
    assert ElementTree.fromstring(dark) is not None
    assert dark != capsys.readouterr().out


def test_export_prints_one_run_or_a_table_of_several(
    saved: list[SavedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    ids = [run.id for run in saved]
    assert main(["runs", "export", *ids, "last", "--format", "csv", "--output", "-"]) == 0
    assert [row["run"] for row in read_csv(capsys.readouterr().out)] == ids
    assert main(["runs", "export", ids[1]]) == 0
    assert capsys.readouterr().out == to_markdown(saved[1].report)


def test_export_writes_one_file_or_a_folder_of_them(saved: list[SavedRun], tmp_path: Path) -> None:
    ids = [run.id for run in saved]
    table, single, folder = tmp_path / "table.csv", tmp_path / "one.svg", tmp_path / "new" / "folder"
    assert main(["runs", "export", *ids, "--format", "csv", "--output", str(table)]) == 0
    assert [row["run"] for row in read_csv(table.read_text(encoding="utf-8"))] == ids
    single.write_text("older")
    assert main(["runs", "export", ids[0], "--format", "badge", "--output", str(single)]) == 0
    assert single.read_text(encoding="utf-8") == to_badge(saved[0].report)
    for form in (["md"], ["card"], ["csv", "--positions"]):
        assert main(["runs", "export", *ids, "--format", *form, "--output", str(folder)]) == 0
    expected = {f"{run}.{end}" for run in ids for end in ("md", "card.md", "positions.csv")}
    assert {path.name for path in folder.iterdir()} == expected
    assert (folder / f"{ids[1]}.card.md").read_text(encoding="utf-8") == to_card(saved[1].report)
    # One run into a folder that is there, or that is named as one.
    assert main(["runs", "export", ids[0], "--format", "json", "--output", str(folder)]) == 0
    assert main(["runs", "export", ids[0], "--format", "csv", "--output", f"{tmp_path / 'other'}/"]) == 0
    assert from_json((folder / f"{ids[0]}.json").read_bytes()) == saved[0].report
    assert [row["run"] for row in read_csv((tmp_path / f"other/{ids[0]}.csv").read_text())] == [ids[0]]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["export", "{0}", "{1}"], "2 runs are no single md text; name a folder with --output"),
        (["export", "{0}", "{1}", "--format", "csv", "--positions"], "2 runs are no single csv text"),
        (["export", "{0}", "{1}", "--output", "{file}"], "cannot be a folder for 2 files (File exists)"),
        (["export", "{0}", "--output", "{file}/x"], "cannot be written (Not a directory)"),
        (["export", "{0}", "--output", "{dir}/none/x.md"], "cannot be written (No such file or directory)"),
        (["export", "nothing"], "there is no run 'nothing'"),
        (["show", "{0}", "--positions"], "--positions goes with --format csv, not with md"),
        (["show", "{0}", "--dark"], "--dark goes with --format svg, not with md"),
        (["show", "{imported}", "--positions", "--format", "csv"], "was imported and has no positions"),
        (["show", "{0}", "--format", "pdf"], "invalid choice: 'pdf'"),
    ],
)
def test_what_cannot_be_exported_is_said_in_a_sentence(
    words: list[str],
    complaint: str,
    saved: list[SavedRun],
    data_home: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "file"
    file.write_text("kept")
    names = {"file": str(file), "dir": str(tmp_path), "imported": imported(data_home)}
    filled = [word.format(*(run.id for run in saved), **names) for word in words]
    assert main(["runs", *filled]) == 2
    captured = capsys.readouterr()
    assert complaint in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert file.read_text() == "kept"


def test_a_damaged_run_leaves_no_half_of_an_export(
    saved: list[SavedRun], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (saved[1].folder / "positions.npz").write_bytes(b"damaged")
    folder = tmp_path / "folder"
    words = ["runs", "export", *(run.id for run in saved), "--format", "svg", "--output", str(folder)]
    assert main(words) == 2
    assert f"the positions of run {saved[1].id} cannot be read" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize("name", ["svg", "html"])
def test_an_imported_run_is_drawn_without_positions(
    name: str, data_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = load_run(imported(data_home))
    assert main(["runs", "show", run.id, "--format", name]) == 0
    assert capsys.readouterr().out == render(name, run.report)


@pytest.mark.parametrize("name", ["card", "badge-json", "html", "csv"])
def test_a_measurement_is_delivered_in_any_format(name: str, data_home: Path, tmp_path: Path) -> None:
    path = tmp_path / "report"
    words = ["demo", "--no-app", "--max-chunks", "2", "--chunk-length", "64", "--format", name]
    assert main([*words, "--output", str(path)]) == 0
    run = load_run("last")
    assert path.read_text(encoding="utf-8") == render(name, run.report, run.positions())
