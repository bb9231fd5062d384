"""``mqf-tui compare`` and ``mqf-tui rank``: formats, hostile words, refusals; and on a real model."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from mqf_tui.cli import main
from mqf_tui.fidelity.events import Finished
from mqf_tui.fidelity.positions import Positions
from mqf_tui.library.importing import import_files
from mqf_tui.library.runs import SavedRun, save_run
from mqf_tui.reports.comparison_report import to_json as comparison_json
from mqf_tui.reports.comparison_report import to_markdown as comparison_markdown
from mqf_tui.reports.comparison_schema import Comparison, Ranking
from mqf_tui.reports.ranking_report import CSV_COLUMNS, to_csv, to_markdown
from mqf_tui.reports.ranking_report import to_json as ranking_json
from tests import makers
from tests.conftest import DATA, ROOT
from tests.github import Page
from tests.hostile import HOSTILE, hostile_report


def positions(factor: float = 1.0, n_chunks: int = 6) -> Positions:
    made = makers.positions(n_chunks, 30)
    return replace(made, kl=(made.kl * factor).astype(np.float32))


def save(minute: int, factor: float, **changes: Any) -> SavedRun:
    found = positions(factor)
    kl = makers.report_data()["kl"] | {
        "mean": float(found.kl.mean(dtype=float)),
        "ci_low": None,
        "ci_high": None,
    }
    fields = {
        "created": f"2026-03-04T05:{minute:02d}:00+00:00",
        "kl": kl,
        "n_positions": len(found),
        "n_chunks": 6,
    }
    return save_run(makers.report(**fields | changes), found)


def said(capsys: pytest.CaptureFixture[str], *words: str, code: int = 0) -> str:
    assert main(words) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_compare_prints_a_table_for_github(capsys: pytest.CaptureFixture[str]) -> None:
    four, eight = save(1, 3.0, kv_bits=4), save(2, 1.0, kv_bits=8)
    page = Page(said(capsys, "compare", four.id, eight.id))
    assert page.balanced
    assert page.blocks["h3"] == ["org/tiny-llama: 2 runs compared"]
    (answer,) = page.blocks["strong"]
    assert answer.startswith("8-bit g64 moves less than 4-bit g64: mean KL -")
    assert answer.endswith("beyond the error.")
    runs, figures = page.tables
    assert [row[1] for row in runs[1:]] == [four.id, eight.id]
    assert [row[0] for row in figures[1:]] == ["KL mean (nats)", "flips", "mean NLL", "accuracy", "Δp mean"]
    assert any("Paired over 180 shared positions in 6 chunks." in p for p in page.blocks["p"])


def test_compare_of_three_has_a_part_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [save(1, 1.0), save(2, 1.0), save(3, 2.0)]
    page = Page(said(capsys, "compare", *(run.id for run in runs)))
    assert page.blocks["h4"] == ["2 against 1", "3 against 1"]
    assert page.blocks["strong"][0] == "The same: not one of 180 shared positions differs."
    assert page.blocks["strong"][1].startswith("run 3 moves more than run 1: mean KL +")


def test_compare_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = save(1, 1.0), save(2, 2.0)
    data = json.loads(said(capsys, "compare", one.id, two.id, "--format", "json"))
    assert data["schema_version"] == 1
    (pair,) = data["pairs"]
    expected = one.positions().kl.astype(float).mean()
    assert pair["kl"]["value"] == pytest.approx(expected, rel=1e-6)
    assert (data["baseline"]["run"], pair["other"]["run"]) == (one.id, two.id)
    assert Comparison.model_validate(data).pairs[0].kl.beyond_error


def test_unpaired_and_unlike_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    text = makers.report_data()["corpus"] | {"name": "x.txt", "content_hash": "ff" * 8}
    one, two = save(1, 1.0), save(2, 2.0, kv_bits=8, corpus=text, device="GPU")
    out = said(capsys, "compare", one.id, two.id)
    assert "Not paired: the corpus is another" in out
    assert "More than the setting differs, so this does not compare like with like: corpus: notes.txt" in out
    assert "device: CPU (x86" in Page(out).blocks["blockquote"][0].replace("`", "")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["compare", "last"], "one run alone cannot be compared; name two or more"),
        (["compare", "last", "nothing"], "there is no run 'nothing'"),
        (
            ["rank", "--model", "nothing"],
            "no run is of a model with 'nothing' in its name; there is org/tiny-llama",
        ),
        (["rank", "--max-kl", "0"], "--max-kl is 0.0; use a number above 0"),
        (["rank", "--max-kl", "nan"], "--max-kl is nan; use a number above 0"),
        (
            ["rank", "--max-kv-bytes-per-token", "-5"],
            "--max-kv-bytes-per-token is -5.0; use a number above 0",
        ),
        (["rank", "--min-verdict", "bad"], "invalid choice: 'bad'"),
        (["rank", "nothing"], "there is no run 'nothing'"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    words: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    save(1, 1.0)
    err = said(capsys, *words, code=2)
    assert says in err
    assert err.count("\n") == 1


def test_no_runs_to_rank(capsys: pytest.CaptureFixture[str]) -> None:
    assert "there are no runs to rank yet" in said(capsys, "rank", code=2)


def test_other_models_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = save(1, 1.0), save(2, 1.0, model="org/other", model_hash="ff")
    err = said(capsys, "compare", one.id, two.id, code=2)
    assert "different reference models, 'org/tiny-llama' and 'org/other'" in err
    err = said(capsys, "rank", code=2)
    assert "2 reference models (org/other, org/tiny-llama)" in err
    assert "choose one with --model" in err
    assert "org/other: 1 setting ranked" in said(capsys, "rank", "--model", "OTHER")


def test_damaged_positions_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = save(1, 1.0), save(2, 1.0)
    (two.folder / "positions.npz").write_bytes(b"no zip")
    assert f"the positions of run {two.id} cannot be read" in said(capsys, "compare", one.id, two.id, code=2)


def ladder() -> list[SavedRun]:
    kv = {"reference": 1024.0, "variant": 1.0, "reference_16bit": 1600.0}
    found = []
    for minute, (bits, factor, verdict) in enumerate([(8, 1, "good"), (6, 2, "good"), (4, 9, "bad")]):
        costs = kv | {"variant_16bit": 100.0 * bits}
        sure = {"good": 0.99 if verdict == "good" else 0, "marginal": 0.01, "bad": 0}
        changes = {"kv_bits": bits, "verdict": verdict, "confidence": sure, "kv_bytes_per_token": costs}
        found.append(save(minute, factor, **changes))
    return found


def test_rank_answers_first(capsys: pytest.CaptureFixture[str]) -> None:
    runs = ladder()
    save(30, 1.0, kv_bits=3, partial=True)
    page = Page(said(capsys, "rank"))
    assert page.balanced
    assert page.blocks["strong"] == [
        "Cheapest setting that is still good: 6-bit KV cache, group 64 (99 % sure), "
        "2.7× smaller than the full-precision cache."
    ]
    table, left_out = page.tables
    assert [row[0] for row in table] == ["rank", "1", "2", "3"]
    assert [row[1][:5] for row in table[1:]] == ["8-bit", "6-bit", "4-bit"]
    assert [row[5] for row in table[1:]] == ["800 (2.0× smaller)", "600 (2.7× smaller)", "400 (4.0× smaller)"]
    assert [row[7] for row in table[1:]] == [run.id for run in runs]
    assert left_out[1][1:] == ["3-bit KV cache, group 64", "it is partial; name it to rank it"]


def test_rank_as_json_and_csv(capsys: pytest.CaptureFixture[str]) -> None:
    runs = ladder()
    data = Ranking.model_validate_json(
        said(capsys, "rank", "--format", "json", "--max-kv-bytes-per-token", "700")
    )
    assert data.schema_version == 1
    assert data.choice is not None
    assert data.choice.run == runs[1].id
    assert [o.run for o in data.left_out] == [runs[0].id]
    rows = list(csv.DictReader(io.StringIO(said(capsys, "rank", "--format", "csv")), strict=True))
    assert [row["run"] for row in rows] == [run.id for run in runs]
    assert [row["chosen"] for row in rows] == ["0", "1", "0"]
    assert [float(row["kv_bytes_per_token"]) for row in rows] == [800, 600, 400]
    assert tuple(rows[0]) == CSV_COLUMNS
    least = said(capsys, "rank", "--min-verdict", "good", "--format", "csv")
    assert len(least.splitlines()) == 3


def test_named_runs_are_ranked_although_unlike(capsys: pytest.CaptureFixture[str]) -> None:
    one = save(1, 1.0, kv_bits=8)
    two = save(2, 5.0, kv_bits=4, quantize_start=10, mode="deployment")
    out = said(capsys, "rank", one.id, two.id)
    assert "2 settings ranked" in out
    assert "more than the setting differs between the runs: mode" in out


def test_imports_are_compared_and_ranked_unpaired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = (DATA / "foreign" / "llama-cpp-summary.txt").read_text(encoding="utf-8")
    kl = re.search(r"Mean +KLD: +([\d.]+)", log)
    assert kl is not None
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path, mean in zip(paths, (float(kl[1]), 4 * float(kl[1])), strict=True):
        path.write_text(re.sub(r"(Mean +KLD: +)[\d.]+", rf"\g<1>{mean:.6f}", log), encoding="utf-8")
    runs = [one.run for one in import_files(paths).reports]
    out = said(capsys, "compare", *(run.id for run in runs))
    assert "was imported and has no positions" in out
    assert "taken for the same" in out
    assert f"mean KL +{3 * float(kl[1]):.4f}" in out
    assert "2 settings ranked" in said(capsys, "rank", *(run.id for run in runs))


def hostile_runs() -> list[SavedRun]:
    """Two runs whose every word is hostile, and which can be paired."""
    kl = makers.report_data()["kl"]
    first = hostile_report(HOSTILE, kl=kl, origin=None)
    second = hostile_report(HOSTILE, kl=kl | {"mean": 0.1}, origin=None, kv_bits=8, device=f"x{HOSTILE}")
    return [SavedRun(HOSTILE, Path("/nowhere"), report) for report in (first, second)]


def rendered() -> dict[str, str]:
    from mqf_tui.fidelity.comparison import compare
    from mqf_tui.fidelity.pairing import Subject
    from mqf_tui.fidelity.ranking import rank
    from mqf_tui.reports.comparison_schema import LeftOut

    made = [positions(), positions(2.0)]
    subjects = [
        Subject(f"{run.id}{number}", run.report, lambda p=p: p)
        for number, (run, p) in enumerate(zip(hostile_runs(), made, strict=True))
    ]
    text = subjects[1].report.corpus.model_copy(update={"content_hash": f"y{HOSTILE}"})
    unpaired = Subject(HOSTILE, subjects[1].report.model_copy(update={"corpus": text}), lambda: made[1])
    compared = compare([*subjects, unpaired])
    ranked = rank(subjects, left_out=[LeftOut(run=HOSTILE, setting=HOSTILE, why=HOSTILE)])
    return {
        "compare md": comparison_markdown(compared),
        "compare json": comparison_json(compared),
        "rank md": to_markdown(ranked),
        "rank json": ranking_json(ranked),
        "rank csv": to_csv(ranked),
    }


@pytest.mark.parametrize("name", ["compare md", "compare json", "rank md", "rank json", "rank csv"])
def test_hostile_words_cannot_drive_a_terminal(name: str) -> None:
    text = rendered()[name]
    assert not {c for c in text if unicodedata.category(c)[0] == "C"} - {"\n"}
    assert not {"\u2028", "\u2029"} & set(text)


def test_hostile_words_stay_words_on_github() -> None:
    found = rendered()
    for name in ("compare md", "rank md"):
        page = Page(found[name])
        assert page.balanced
        known = {*("h3", "h4", "p", "strong", "table", "thead", "tbody", "tr", "th", "td", "blockquote")}
        assert page.tags <= known | {"code", "details", "summary"}
        assert {attribute for attribute, _ in page.attributes} <= {"td.align", "th.align"}
        for table in page.tables:
            assert len({len(row) for row in table}) == 1
    assert json.loads(found["rank json"])["left_out"][0]["why"] == HOSTILE
    rows = list(csv.reader(io.StringIO(found["rank csv"]), strict=True))
    assert {len(row) for row in rows} == {len(CSV_COLUMNS)}
    assert not [cell for row in rows for cell in row if cell.startswith(("=", "+", "@"))]


def test_help_of_both_imports_nothing_heavy() -> None:
    code = "import sys\nfrom mqf_tui.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    code += "sys.exit(bool({'numpy', 'pydantic', 'scipy'} & set(sys.modules)))"
    for command in ("compare", "rank"):
        done = subprocess.run(
            [sys.executable, "-c", code, command, "--help"], capture_output=True, check=False
        )
        assert done.returncode == 0


@pytest.mark.parametrize("name", ["comparison", "ranking"])
def test_what_is_written_fits_the_published_schema(name: str) -> None:
    schema = json.loads((ROOT / "docs" / f"{name}.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    data = json.loads(rendered()[{"comparison": "compare json", "ranking": "rank json"}[name]])
    assert list(validator.iter_errors(data)) == []
    sides = [data["baseline"]] if name == "comparison" else [row["side"] for row in data["rows"]]
    sides[0]["kl_mean"] = "much"
    assert len(list(validator.iter_errors(data))) == 1


@pytest.mark.slow
@pytest.mark.smollm
def test_smollm2_groups_differ_and_a_setting_is_the_same_as_itself(
    smollm2_run: Callable[[int, int], Finished], capsys: pytest.CaptureFixture[str]
) -> None:
    again: Any = smollm2_run
    first, second, finer = smollm2_run(4, 64), again.__wrapped__(4, 64), smollm2_run(4, 32)
    assert first is not second
    wide, same, fine = (save_run(run.report, run.positions) for run in (first, second, finer))
    out = said(capsys, "compare", wide.id, same.id)
    assert "**The same: not one of 2,044 shared positions differs.**" in out
    (pair,) = json.loads(said(capsys, "compare", wide.id, same.id, "--format", "json"))["pairs"]
    assert pair["same"]
    assert {pair[name]["value"] for name in ("kl", "flips", "nll", "accuracy", "delta_p")} == {0.0}
    out = said(capsys, "compare", wide.id, fine.id)
    assert "**4-bit g32 moves less than 4-bit g64: mean KL -" in out
    (pair,) = json.loads(said(capsys, "compare", wide.id, fine.id, "--format", "json"))["pairs"]
    assert pair["paired"]
    assert pair["n_positions"] == 2044
    assert pair["kl"]["p"] < 0.05
    assert pair["kl"]["ci"][1] < 0
    assert pair["flips"]["p"] < 0.05
