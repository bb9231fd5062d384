"""docs/report.schema.json is what the program writes; all that it or an older one wrote fits it."""

from __future__ import annotations

import copy
import importlib.util
import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from mqf_tui import api
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.events import ChunkFinished, Finished, Started, Stopped
from mqf_tui.fidelity.model.facts import read_facts
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.fidelity.statistics import summarise
from mqf_tui.fidelity.summary_report import build_report
from mqf_tui.fidelity.tops import Tops
from mqf_tui.fidelity.vocabulary import TOKEN_CLASSES
from mqf_tui.library.importing import import_files
from mqf_tui.library.runs import load_run, save_run
from mqf_tui.reports.json_report import from_json, to_json
from mqf_tui.reports.markdown import to_markdown
from mqf_tui.reports.schema import SCHEMA_VERSION, Report
from tests import makers
from tests.conftest import DATA, ROOT

FILE = ROOT / "docs" / "report.schema.json"
SCHEMA = json.loads(FILE.read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)
OLDER = sorted((DATA / "reports").glob("*.json"))


def errors(data: Any) -> list[str]:
    return [f"{'/'.join(map(str, e.absolute_path))}: {e.message[:200]}" for e in VALIDATOR.iter_errors(data)]


def fits(report: Report) -> None:
    """What is written fits the schema, is strict JSON, and reads back as the same report."""
    text = to_json(report)
    data = json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert errors(data) == []
    assert to_json(from_json(text)) == text


def measured(**changes: Any) -> Iterator[Any]:
    settings = KVSettings(**{"model": "demo", "kv_bits": 2, "chunk_length": 64, "max_chunks": 6} | changes)
    control = Control()
    for event in api.events(settings, control):
        yield control, event


def last(**changes: Any) -> Any:
    return [event for _, event in measured(**changes)][-1]


@pytest.mark.parametrize("name", ["report", "comparison", "ranking", "sweep"])
def test_the_published_schema_is_up_to_date(name: str) -> None:
    spec = importlib.util.spec_from_file_location("make_schema", ROOT / "tools" / "make_schema.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.file(name).read_text(encoding="utf-8") == tool.text(name), (
        f"docs/{name}.schema.json is not what mqf_tui/reports says; run python tools/make_schema.py "
        "and look at the difference: what older versions wrote must stay valid."
    )


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["$id"] == f"urn:mqf-tui:report:{SCHEMA_VERSION}"
    assert SCHEMA["title"]
    assert SCHEMA["description"]
    assert FILE.read_text(encoding="utf-8").count("://") == 1


def test_only_what_every_version_has_is_required() -> None:
    assert set(SCHEMA["required"]) <= set.intersection(*(set(json.loads(p.read_bytes())) for p in OLDER))


@pytest.mark.parametrize("path", OLDER, ids=lambda p: p.stem)
def test_older_reports_still_load(path: Path) -> None:
    """They load, fit the schema, render, and lose no key or digit by being saved again."""
    text = path.read_text(encoding="utf-8")
    assert errors(json.loads(text)) == []
    report = from_json(text)
    assert json.loads(to_json(report)) == json.loads(text)
    shown = to_markdown(report)
    assert report.verdict in shown
    assert report.model.rsplit("/", 1)[-1] in shown


@pytest.mark.parametrize("path", OLDER, ids=lambda p: p.stem)
def test_keys_of_a_newer_version_are_valid_and_kept(path: Path) -> None:
    data = json.loads(path.read_bytes())
    data |= {"schema_version": 9, "energy_joules": 12.5}
    data["kl"]["skewness"] = "inf"
    data["by_part"][0]["tokens"] = [1, {"deep": None}]
    assert errors(data) == []
    assert json.loads(to_json(from_json(json.dumps(data)))) == data


def test_the_older_reports_are_of_all_kinds() -> None:
    reports = [from_json(path.read_bytes()) for path in OLDER]
    assert {r.schema_version for r in reports} >= {1, 2}
    first = [r for r in reports if r.schema_version == 1]
    assert {r.mode for r in first} == {"stress", "deployment"}
    assert any(r.partial for r in first)
    assert any(r.n_chunks == 1 and r.kl.ci_low is None for r in first)
    assert any(r.kl.mean == np.inf and r.perplexity_quant == np.inf for r in first)


def test_a_run_of_version_1_is_read_with_its_positions(tmp_path: Path) -> None:
    """What follows from the columns that it kept is there, the rest is said to be unknown."""
    shutil.copytree(DATA / "reports" / "v1-run", tmp_path / "runs" / "old")
    run = load_run("old", tmp_path)
    p, r = run.positions(), run.report
    with np.load(run.folder / "positions.npz") as stored:
        for name in set(stored) - {"part_names"}:
            np.testing.assert_array_equal(getattr(p, name), stored[name])
        expected = np.exp(-stored["nll_quant"].astype(float)) - np.exp(-stored["nll_ref"].astype(float))
    np.testing.assert_allclose(p.delta_p, expected, atol=1e-7)
    assert (p.detailed, p.texts) == (False, {})
    assert (p.token_class == -1).all()
    # The same numbers come out of its positions today as were written then.
    s = summarise(p, r.corpus.chunk_length, r.quantize_start, r.thresholds)
    for name, value in r.kl.model_dump(exclude_unset=True).items():
        assert getattr(s.kl, name) == pytest.approx(value, rel=1e-9), name
    assert (s.flip_rate, s.verdict, s.n_positions) == (r.flip_rate, r.verdict, r.n_positions)
    assert s.flip_interval == pytest.approx((r.flip_ci_low, r.flip_ci_high))
    assert s.perplexity_delta == pytest.approx(r.perplexity_delta)
    assert [b.kl_mean for b in s.by_depth] == pytest.approx([b.kl_mean for b in r.kl_by_depth])
    assert [b.ci_low for b in s.by_part] == pytest.approx([b.ci_low for b in r.by_part])


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"max_chunks": 1},
        {"quantize_start": 20, "kv_bits": 8},
        {"until_sure": True, "max_chunks": 20},
        {"precision": 0.5, "max_chunks": 20},
        {"max_kl": 3.0, "max_flips": 0.9},
    ],
    ids=str,
)
def test_measured_reports_fit(changes: dict[str, Any]) -> None:
    event = last(**changes)
    assert isinstance(event, Finished), event
    assert event.report.schema_version == SCHEMA_VERSION
    fits(event.report)


def test_the_report_of_a_stopped_measurement_fits() -> None:
    for control, event in measured():
        if isinstance(event, ChunkFinished):
            control.stop()
        if isinstance(event, Stopped):
            assert event.report is not None
            assert event.report.partial
            fits(event.report)
            return
    pytest.fail("never stopped")


@pytest.mark.parametrize("n_chunks", [1, 3])
def test_infinities_and_nan_fit(n_chunks: int, demo_model: Path) -> None:
    """As of a variant that rules tokens out, the text's own among them."""
    events = [event for _, event in measured(max_chunks=n_chunks)]
    plan = next(event.plan for event in events if isinstance(event, Started))
    p = events[-1].positions
    kl, nll_ref, nll_quant = p.kl.copy(), p.nll_ref.copy(), p.nll_quant.copy()
    kl[[0, 5]] = nll_quant[[0, 5]] = nll_ref[5] = np.inf
    p = replace(p, kl=kl, nll_ref=nll_ref, nll_quant=nll_quant)
    report = build_report(plan, read_facts(demo_model, "demo"), p, 1.0, None)
    assert report.kl.mean == report.kl.max == np.inf
    fits(report)
    data = json.loads(to_json(report))
    assert data["kl"]["mean"] == "inf"
    assert data["perplexity"]["ln_ratio"]["value"] == "nan"  # both rule out one and the same token


def test_a_saved_run_fits(tmp_path: Path) -> None:
    event = last(max_chunks=2)
    saved = save_run(event.report, event.positions, tmp_path)
    assert errors(json.loads((saved.folder / "report.json").read_bytes())) == []


@pytest.mark.parametrize("path", sorted((DATA / "foreign").iterdir()), ids=lambda p: p.name)
def test_imported_reports_fit(path: Path, tmp_path: Path) -> None:
    found = import_files([path], tmp_path).reports
    assert found
    for one in found:
        fits(one.run.report)
        assert errors(json.loads((one.run.folder / "report.json").read_bytes())) == []


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("kl", "mean"), "much"),
        (("kl", "mean"), None),
        (("kl", "mean"), "Infinity"),
        (("kl", "p99_ci"), [0.1]),
        (("kl", "p99_ci"), [0.1, 0.2, 0.3]),
        (("verdict",), "fine"),
        (("kind",), "cache"),
        (("n_positions",), "many"),
        (("thresholds", "kl_mean"), [0.01]),
        (("warnings",), "none"),
        (("by_part",), [{"n_positions": 1, "kl_mean": 1, "flip_rate": 0}]),
        (("kl",), None),
    ],
    ids=str,
)
def test_the_schema_refuses_what_is_no_report(where: tuple[str, ...], value: Any) -> None:
    """Or its assent would mean nothing."""
    data = copy.deepcopy(makers.report_data())
    assert errors(data) == []
    inner = data
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    assert errors(data) != []


@pytest.mark.parametrize("key", ["kl", "model", "verdict", "thresholds", "corpus", "versions", "created"])
def test_the_schema_refuses_a_report_without(key: str) -> None:
    data = makers.report_data()
    del data[key]
    assert errors(data) != []


POSITIONS = (ROOT / "docs" / "positions.md").read_text(encoding="utf-8")


def test_the_described_columns_are_those_of_the_file(tmp_path: Path) -> None:
    ids, probs = np.ones((2, 3), np.int32), np.full((2, 3), 0.1, np.float32)
    tops = Tops(np.array([4, 9], np.int32), ids, probs, ids, probs)
    saved = save_run(makers.report(), makers.positions(), tmp_path, tops=tops)
    rows, of_tops = (
        re.findall(r"^\| `(\w+)` \| (\w+) \|", text, re.MULTILINE)
        for text in POSITIONS.split("## The likeliest tokens")
    )
    with np.load(saved.folder / "tops.npz") as stored:
        assert dict(of_tops) == {name: stored[name].dtype.name for name in stored}
    with np.load(saved.folder / "positions.npz") as stored:
        kinds = {
            name: "str" if stored[name].dtype.kind == "U" else stored[name].dtype.name for name in stored
        }
        size = sum(stored[name].nbytes for name in kinds if name not in ("part_names", "texts"))
    assert dict(rows) == kinds
    assert f"{size / len(makers.positions()):g} bytes in memory" in POSITIONS
    classes = ", ".join(f"{n} {name}" for n, name in enumerate(TOKEN_CLASSES))
    assert f"Token classes: {classes}." in POSITIONS
    with np.load(DATA / "reports" / "v1-run" / "positions.npz") as stored:
        assert [name for name, _ in rows][:9] == [name for name in stored if name != "part_names"]


def test_the_way_to_read_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    p = makers.positions()
    saved = save_run(makers.report(), p, tmp_path)
    monkeypatch.chdir(saved.folder)
    (code,) = re.findall(r"```python\n(.*?)```", POSITIONS, re.DOTALL)
    exec(code, {})
    shown = capsys.readouterr().out
    assert repr(p.texts[int(p.token[p.kl.argmax()])]) in shown
    assert repr(p.kl.max()) in shown
