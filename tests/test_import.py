"""What other tools wrote: read whole and right, or refused with a sentence and nothing kept."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mqf_tui.cli import main
from mqf_tui.fidelity.errors import FidelityError, SaveError
from mqf_tui.fidelity.verdict import KV_POLICY, WEIGHTS_POLICY
from mqf_tui.library.importing import BadImportError, import_files
from mqf_tui.library.runs import SavedRun, list_runs, load_run, save_run
from mqf_tui.library.verifying import verify
from mqf_tui.reports import foreign
from mqf_tui.reports.csv_report import to_csv
from mqf_tui.reports.markdown import to_markdown
from mqf_tui.reports.schema import Report
from tests import makers
from tests.conftest import DATA

FOREIGN = DATA / "foreign"
KV = FOREIGN / "mlx-quant-fidelity-kv.json"
WEIGHTS = FOREIGN / "mlx-quant-fidelity-weights.json"
COMPARE = FOREIGN / "mlx-quant-fidelity-compare-kv.json"
LOG = FOREIGN / "llama-cpp-log.txt"
SUMMARY = FOREIGN / "llama-cpp-summary.txt"


def taken(*paths: Path) -> list[SavedRun]:
    """The new runs, read back from the disk."""
    return [load_run(found.run.id) for found in import_files(paths).reports if found.is_new]


def one(path: Path) -> Report:
    (run,) = taken(path)
    return run.report


def changed(tmp_path: Path, path: Path, **changes: Any) -> Path:
    target = tmp_path / f"changed-{path.name}"
    target.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return target


def test_a_kv_report_of_mlx_quant_fidelity() -> None:
    (run,) = taken(KV)
    r = run.report
    assert (r.kind, r.model, r.variant_model) == ("kv", "zoo/Quokka-1B-4bit", "")
    assert (r.kv_bits, r.kv_group_size, r.mode, r.quantize_start) == (8, 64, "stress", 0)
    assert (r.kl.mean, r.kl.median, r.kl.p90, r.kl.p99, r.kl.max) == (0.002, 0.0011, None, 0.02, 0.5)
    assert (r.flip_rate, r.perplexity_ref, r.perplexity_quant, r.perplexity_delta) == (
        0.0125,
        12.5,
        12.515,
        0.015,
    )
    assert (r.n_positions, r.n_chunks, r.peak_memory_bytes) == (2550, 10, 123456789)
    assert (r.corpus.name, r.corpus.split, r.corpus.chunk_length) == ("made-up-text", "test", 256)
    assert (r.versions.mlx, r.versions.mlx_lm) == ("0.31.2", "0.31.3")
    assert r.model_revision.startswith("0011")
    assert r.kv_bytes_per_token is None
    # 1.25 % of flips are more than the 1 % of a good run; the tool judged the same.
    assert (r.verdict, r.thresholds, r.warnings) == ("marginal", KV_POLICY, [])
    assert r.origin is not None
    assert (r.origin.tool, r.origin.form, r.origin.file) == ("mlx-quant-fidelity", "kv report", KV.name)
    assert r.model_dump()["extra"] == {"cache_supported": True}
    assert not run.has_positions
    with pytest.raises(SaveError, match="was imported from mlx-quant-fidelity without its positions"):
        run.positions()


def test_a_later_kv_report_with_layers_left_alone() -> None:
    r = one(FOREIGN / "mlx-quant-fidelity-kv-partial.json")
    assert (r.mode, r.quantize_start, r.device) == ("deployment", 64, "Apple M9, 24 GB")
    assert r.warnings == [
        "only 6 of 24 layers have a quantized KV cache",
        "mlx-quant-fidelity itself judged this 'good'; by policy kv-1 it is marginal",
    ]
    # Bytes over both kinds of layers say nothing of a whole cache in 16 bits.
    assert r.kv_bytes_per_token is None
    extra = r.model_dump()["extra"]
    assert extra["measured_kv_bytes_per_token"] == 17408
    assert [bucket["kl_p99"] for bucket in extra["kl_by_depth"]] == [0.01, 0.03]
    assert extra["control_kl"]["mean"] == 0.001
    assert not r.partial


def test_a_weights_report_is_judged_by_the_policy_of_weights() -> None:
    r = one(WEIGHTS)
    assert (r.kind, r.model, r.variant_model) == ("weights", "zoo/Quokka-1B-bf16", "zoo/Quokka-1B-4bit")
    assert (r.kv_bits, r.kv_group_size, r.mode) == (4, 64, None)
    assert (r.weights_bytes, r.variant_weights_bytes) == (2_100_000_000, 600_000_000)
    assert (r.thresholds, r.verdict) == (WEIGHTS_POLICY, "marginal")
    assert r.warnings == ["Assumes one tokenizer."]
    assert r.model_dump()["extra"]["quant_revision"] == "ffee"


def test_a_compare_file_holds_several_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "import", str(COMPARE)]) == 0
    out, err = capsys.readouterr()
    assert len(out.splitlines()) == 3
    assert err.splitlines() == [
        f"mqf-tui: {COMPARE.name}: left out 2:16 (failed: ValueError: group size 16 is not supported)",
        f"mqf-tui: {COMPARE.name}: left out 6:64 (skipped)",
    ]
    by_bits = {run.report.kv_bits or 0: run.report for run in list_runs()}
    assert sorted(by_bits) == [3, 4, 8]
    # One number takes 8 bits and its share of 16-bit scale and bias: 8.5 bits of 16, and 4.5 of 16.
    for bits, packed in ((8, 17408), (4, 9216), (3, 7168)):
        kv = by_bits[bits].kv_bytes_per_token
        assert kv is not None
        assert (kv.reference, kv.variant, kv.variant_16bit) == (32768, packed, packed)
    assert "the KV cache was quantized by turboquant, not by mlx-lm itself" in by_bits[3].warnings
    assert by_bits[3].cache == "turboquant (mlx-quant-fidelity)"


def test_a_compare_file_of_weights() -> None:
    reports = [run.report for run in taken(FOREIGN / "mlx-quant-fidelity-compare-weights.json")]
    assert [(r.variant_model, r.kv_bits, r.variant_weights_bytes) for r in reports] == [
        ("zoo/Quokka-1B-4bit", 4, 600_000_000),
        ("zoo/Quokka-1B-mixed", None, None),
    ]
    assert reports[1].verdict == "marginal"
    assert "itself judged this 'good'" in reports[1].warnings[-1]
    assert reports[1].setting == "quantized weights"


def test_a_whole_log_of_llama_cpp() -> None:
    r = one(LOG)
    assert (r.kind, r.model, r.variant_model) == ("weights", "Quokka 3B", "Quokka-3B-Q4_K_M")
    assert (r.architecture, r.kv_bits, r.variant_weights_bytes) == ("quokka", 4, round(1.75 * 2**30))
    # Of 512 tokens the last 255 have a next token and lie in the second half.
    assert (r.n_chunks, r.n_positions, r.corpus.chunk_length) == (12, 12 * 255, 512)
    assert (r.kl.mean, r.kl.median, r.kl.p90, r.kl.p95, r.kl.p99, r.kl.p999, r.kl.max) == (
        0.031,
        0.014,
        0.07,
        0.11,
        0.31,
        1.2,
        4.1,
    )
    assert (r.kl.ci_low, r.kl.ci_high) == pytest.approx((0.031 - 1.96 * 0.0005, 0.031 + 1.96 * 0.0005))
    assert r.flip_rate == pytest.approx(0.0825)
    assert (r.flip_ci_low, r.flip_ci_high) == pytest.approx((0.0825 - 0.00784, 0.0825 + 0.00784))
    assert (r.perplexity_ref, r.perplexity_quant, r.perplexity_delta) == (8.0, 8.25, 0.25)
    assert r.perplexity is not None
    assert r.perplexity.delta_ci == pytest.approx((0.25 - 1.96 * 0.0083, 0.25 + 1.96 * 0.0083))
    assert r.perplexity.ratio.value == 1.03125
    assert r.perplexity.nll_correlation == pytest.approx(0.9912)
    assert r.delta_p is not None
    assert r.delta_p.mean.value == pytest.approx(-0.005)
    assert r.delta_p.rms.ci == pytest.approx((0.056 - 0.00196, 0.056 + 0.00196))
    assert list(r.delta_p.percentiles) == (
        ["min", "0.1", "1", "5", "10", "25", "50", "75", "90", "95", "99", "99.9", "max"]
    )
    assert r.delta_p.percentiles["0.1"] == pytest.approx(-0.5)
    assert r.delta_p.percentiles["50"] == pytest.approx(-0.0001)
    assert (r.verdict, r.thresholds) == ("marginal", WEIGHTS_POLICY)
    assert r.origin is not None
    assert (r.origin.tool, r.origin.version) == ("llama.cpp", "6501 (0a1b2c3d)")
    assert any("1.96 of llama.cpp's standard errors" in warning for warning in r.warnings)
    assert any("KV cache was quantized too (q8_0)" in warning for warning in r.warnings)


def test_the_summary_alone_says_the_same() -> None:
    whole, alone = one(LOG), one(SUMMARY)
    same = ("kl", "flip_rate", "flip_ci_low", "perplexity", "delta_p", "verdict")
    assert [getattr(whole, name) for name in same] == [getattr(alone, name) for name in same]
    assert (alone.model, alone.n_positions, alone.n_chunks) == ("unknown model", 0, 0)


def rewritten(change: Callable[[str], str | bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        content = change(SUMMARY.read_text())
        path = folder / "rewritten.txt"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


@pytest.mark.parametrize(
    "write",
    [
        rewritten(lambda text: b"\xff\xfe" + text.encode("utf-16-le")),
        rewritten(lambda text: b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()),
        rewritten(lambda text: " ".join(text.split())),
        rewritten(
            lambda text: "".join(f"0.13.291.{i:03} I {line}\n" for i, line in enumerate(text.splitlines()))
        ),
        rewritten(lambda text: text.replace("±", "+/-")),
        rewritten(lambda text: text.replace("±", "�").replace("Δp", "�p")),
        rewritten(lambda text: text.encode().decode("cp1252", errors="replace")),
        rewritten(lambda text: "\x1b[0m" + text.replace("Mean", "\x1b[32mMean")),
        rewritten(lambda text: text + text),
        rewritten(lambda text: "[1]9.1000,[2]8.7000,\nFinal estimate: PPL = 8.0000 +/- 0.38000\n" + text),
    ],
    ids=["utf-16", "crlf", "one-line", "logged", "ascii", "replaced", "cp1252", "colours", "twice", "base"],
)
def test_a_summary_that_went_through_a_console(write: Callable[[Path], Path], tmp_path: Path) -> None:
    assert one(write(tmp_path)).model_copy(update={"origin": None, "created": ""}) == one(
        changed_nothing(tmp_path)
    ).model_copy(update={"origin": None, "created": ""})


def changed_nothing(folder: Path) -> Path:
    """The summary as it is, in another measurement's clothes so that it is no double."""
    path = folder / "plain.txt"
    path.write_text(SUMMARY.read_text())
    for run in list_runs():
        (run.folder / "report.json").unlink()
    return path


def test_the_forms_of_2024() -> None:
    april = one(FOREIGN / "llama-cpp-2024-04-console.txt")
    assert (april.kl.mean, april.kl.p95, april.kl.p99) == (0.031, None, 0.31)
    assert april.delta_p is not None
    assert april.delta_p.mean.value == pytest.approx(-0.005)
    january = one(FOREIGN / "llama-cpp-2024-01.txt")
    assert (january.kl.mean, january.kl.median, january.kl.p90, january.kl.p99, january.kl.max) == (
        0.105,
        0.05,
        0.25,
        0.9,
        6.0,
    )
    assert january.kl.ci_high == pytest.approx(0.105 + 1.96 * 0.0016)
    assert january.flip_rate == pytest.approx(0.1)
    assert january.flip_ci_low == pytest.approx(0.1 - 1.96 * 0.01)
    # ln(5/4) = 0.22314
    assert january.perplexity_ref == pytest.approx(4.0, abs=1e-4)
    assert (january.model, january.variant_model, january.kv_bits) == ("wombat-7b", "wombat-7b.Q2_K", 2)
    assert (january.n_chunks, january.n_positions) == (2, 0)


def test_a_model_against_itself() -> None:
    r = one(FOREIGN / "llama-cpp-same-model.txt")
    assert (r.kl.mean, r.flip_rate, r.verdict) == (-0.000019, 0.0, "good")
    assert (r.flip_ci_low, r.flip_ci_high) == (0.0, 0.0)
    assert r.perplexity is not None
    assert r.perplexity.ratio.ci is None
    assert any("below 0 by rounding" in warning for warning in r.warnings)


@pytest.mark.parametrize("name", ["v1-stress", "v1-infinities", "v1-one-chunk", "v2-smollm2-4bit-g64"])
def test_our_own_reports(name: str) -> None:
    path = DATA / "reports" / f"{name}.json"
    data = json.loads(path.read_text())
    r = one(path)
    assert r.origin is not None
    assert (r.origin.tool, r.origin.file) == ("mqf-tui", path.name)
    kept = json.loads(r.model_dump_json(exclude_unset=True))
    assert {key: kept[key] for key in data if key != "warnings"} == {
        key: value for key, value in data.items() if key != "warnings"
    }


def test_a_report_of_the_future(tmp_path: Path) -> None:
    path = tmp_path / "future.json"
    path.write_text(
        json.dumps(makers.report_data(schema_version=4, energy={"joules": 5}, verdict="marginal"))
    )
    r = one(path)
    assert r.schema_version == 4
    assert r.model_dump()["energy"] == {"joules": 5}


def test_a_run_that_is_here_is_not_imported_again(capsys: pytest.CaptureFixture[str]) -> None:
    measured = save_run(makers.report(), makers.positions())
    report = measured.folder / "report.json"
    assert main(["runs", "import", str(report)]) == 0
    assert capsys.readouterr().out == f"report.json: is here already as run {measured.id}; skipped\n"
    assert main(["runs", "import", str(KV), str(KV)]) == 0
    assert [line.split(" ")[1] for line in capsys.readouterr().out.splitlines()] == ["imported", "is"]
    assert main(["runs", "import", str(KV), str(COMPARE)]) == 0
    # The 8-bit entry of the compare file knows the bytes of the cache, so it is another report.
    assert [line.split(" ")[1] for line in capsys.readouterr().out.splitlines()] == ["is", *["imported"] * 3]
    assert len(list_runs()) == 5


def test_an_import_that_is_exported_and_imported_keeps_its_origin(tmp_path: Path) -> None:
    (run,) = taken(LOG)
    path = tmp_path / "exported.json"
    path.write_bytes((run.folder / "report.json").read_bytes())
    assert not import_files([path]).reports[0].is_new
    report = import_files([path], tmp_path / "another").reports[0].run.report
    assert report.origin == run.report.origin


def test_the_verdict_of_our_own_report_must_fit_its_thresholds(tmp_path: Path) -> None:
    path = tmp_path / "good.json"
    path.write_text(json.dumps(makers.report_data(verdict="good")))
    r = one(path)
    assert (r.verdict, r.warnings) == (
        "marginal",
        ["mqf-tui itself judged this 'good'; by policy kv-1 it is marginal"],
    )


def test_what_is_imported_is_listed_shown_and_verified(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "import", str(LOG), str(WEIGHTS)]) == 0
    capsys.readouterr()
    assert main(["runs", "list"]) == 0
    assert {line.split("imported from ")[1] for line in capsys.readouterr().out.splitlines()[1:]} == {
        "llama.cpp",
        "mlx-quant-fidelity",
    }
    for run in list_runs():
        assert main(["runs", "show", run.id]) == 0
        assert run.report.origin is not None
        assert run.report.origin.tool in capsys.readouterr().out
    assert main(["runs", "verify"]) == 0
    assert capsys.readouterr().out.count("without positions") == 2


BAD = {
    "empty": (b"", "neither a JSON object nor"),
    "text": (b"Mean time between failures: 5", "neither a JSON object nor"),
    "binary": (bytes(range(256)), "neither a JSON object nor"),
    "truncated": (KV.read_bytes()[:300], "JSON is broken"),
    "array": (b"[1, 2]", "neither a JSON object nor"),
    "another": (b'{"a": 1}', "of no kind known here"),
    "deep": (b'{"a":' * 5000 + b"1" + b"}" * 5000, "nested too deeply"),
    "rather deep": (b'{"a":' * 50 + b"1" + b"}" * 50, "nested too deeply"),
    "huge number": (b'{"a": ' + b"9" * 400 + b"}", "too large"),
    "huger number": (b'{"a": ' + b"9" * 9000 + b"}", "JSON is broken"),
    "cut log": (SUMMARY.read_bytes().split(b"====== Token")[0], "lacks 'Same top p'"),
    "no KL": (SUMMARY.read_bytes().split(b"====== KL")[0], "lacks 'Mean KLD' and '99.0% KLD'"),
    "two logs": (
        SUMMARY.read_bytes() + SUMMARY.read_bytes().replace(b"0.031000", b"0.032000"),
        "more than one",
    ),
    "nan": (SUMMARY.read_bytes().replace(b"KLD:   0.031000", b"KLD:        nan"), "its kl.mean is nan"),
    "no verdict": (json.dumps(makers.report_data(verdict="great")).encode(), "its verdict is not what"),
    "no result": (b'{"mode": "kv", "results": []}', "none of its results was measured"),
    "no entry": (b'{"mode": "kv", "results": [3]}', "entry 1 of its results is no object"),
    "no report": (
        b'{"mode": "kv", "results": [{"status": "ok"}]}',
        "entry 1 of its results is said to be ok",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_and_nothing_is_imported(
    name: str, tmp_path: Path, data_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, why = BAD[name]
    path = tmp_path / "bad"
    path.write_bytes(content)
    assert main(["runs", "import", str(KV), str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"mqf-tui: {path} cannot be imported (")
    assert len(err.splitlines()) == 1
    assert why in err
    assert not data_home.exists()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"kl": None}, "it lacks kl"),
        ({"kl": {"mean": 0.1}}, "its kl.p99 is missing"),
        ({"kl": {"mean": -1.0, "p99": 0.1}}, "its kl.mean is -1.0"),
        ({"kl": {"mean": math.nan, "p99": 0.1}}, "its kl.mean is nan"),
        ({"kl": {"mean": "many", "p99": 0.1}}, "its kl.mean"),
        ({"kl": [1, 2]}, "its kl"),
        ({"flip_rate": 1.5}, "its flip_rate is 1.5"),
        ({"flip_rate": None}, "it lacks flip_rate"),
        ({"perplexity_ref": 0}, "its perplexity_ref is 0"),
        ({"n_chunks": -3}, "n_chunks is -3"),
        ({"n_chunks": {}}, "its n_chunks"),
        ({"corpus": "wikitext"}, "its corpus"),
        ({"corpus": {"chunk_length": "x"}}, "it lacks corpus.name"),
        ({"warnings": "none"}, "warnings are no list"),
        ({"quantize_mode": "calm"}, "its mode"),
        ({"model_id": 7}, "its model"),
        ({"kv_bits": [4]}, "its kv_bits"),
    ],
)
def test_wrong_values_are_named(changes: dict[str, Any], why: str, tmp_path: Path, data_home: Path) -> None:
    with pytest.raises(BadImportError) as caught:
        import_files([changed(tmp_path, KV, **changes)])
    assert why in str(caught.value)
    assert not data_home.exists()


def set_at(data: dict[str, Any], place: str, value: Any) -> dict[str, Any]:
    inner: Any = data
    *before, last = place.split(".")
    for key in before:
        inner = inner[int(key)] if isinstance(inner, list) else inner.setdefault(key, {})
    inner[last] = value
    return data


IMPOSSIBLE = [
    ({"kl.ci_low": 0.03}, "kl.mean has an interval from 0.03 to 0.027"),
    ({"kl.ci_high": 0.022}, "kl.mean is 0.0234, outside its own interval from 0.02 to 0.022"),
    ({"kl.median": 0.22, "kl.p90": None, "kl.p95": None}, "kl.median is 0.22 and kl.p99 0.21"),
    ({"kl.p99": 1.6}, "kl.p99 is 1.6 and kl.max 1.5"),
    ({"kl.mean": 2.0, "kl.ci_high": 3.0}, "kl.mean is 2.0 and kl.max 1.5"),
    ({"kl.mean": "inf", "kl.ci_low": None, "kl.ci_high": None}, "kl.mean is inf and kl.max 1.5"),
    ({"kl.median": -0.001}, "kl.median is -0.001, and KL is 0 or more"),
    ({"kl.p99_ci": [0.3, 0.2]}, "kl.p99 has an interval from 0.3"),
    ({"flip_rate": 1.5}, "flip_rate is 1.5, and it is between 0 and 1"),
    ({"flip_ci_low": 0.035}, "flip_rate is 0.025, outside its own interval from 0.035"),
    ({"flip_ci_high": 1.4}, "flip_ci_high is 1.4"),
    ({"kl_by_depth.1.flip_rate": -0.1}, "kl_by_depth[1].flip_rate is -0.1"),
    ({"by_part.0.kl_mean": -1}, "by_part[0].kl_mean is -1"),
    ({"by_part.0.n_positions": -1}, "by_part[0].n_positions is -1"),
    ({"n_positions": -5}, "n_positions is -5"),
    ({"n_chunks": -5}, "n_chunks is -5"),
    ({"perplexity_quant": 0.5}, "perplexity_quant is 0.5, and perplexities are 1 or more"),
    ({"model": ""}, "model is empty"),
    ({"model": " \u202e\n"}, "model is empty"),
    ({"model": "x" * 100_000}, "model has 100,000 signs, and at most 300 fit"),
    ({"by_part.0.name": "x" * 301}, "by_part[0].name has 301 signs"),
    ({"warnings": ["x" * 5001]}, "warnings[0] has 5,001 signs"),
    ({"confidence": {"good": 0.9, "marginal": 0.9, "bad": 0.0}}, "confidence has shares that make more"),
    ({"thresholds.kl_mean": [0.2, 0.1]}, "thresholds.kl_mean is 0.2 and 0.1"),
]
NO_NUMBERS = [
    ({"flip_rate": "0.5"}, "its flip_rate is not what a report holds: a number is no text"),
    ({"flip_rate": "Infinity"}, "its flip_rate is not what a report holds: a number is no text"),
    ({"flip_rate": True}, "its flip_rate is not"),
    ({"n_chunks": "2"}, "its n_chunks is not"),
    ({"thresholds.kl_mean": ["0.01", 0.1]}, "its thresholds.kl_mean.0 is not"),
]


def with_changes(changes: dict[str, Any]) -> dict[str, Any]:
    data = json.loads(json.dumps(makers.report_data()))
    for place, value in changes.items():
        set_at(data, place, value)
    return data


@pytest.mark.parametrize(("changes", "why"), [*((c, f"its {w}") for c, w in IMPOSSIBLE), *NO_NUMBERS])
def test_impossible_figures_are_refused_by_the_fields_name(
    changes: dict[str, Any], why: str, tmp_path: Path, data_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(with_changes(changes)))
    assert main(["runs", "import", str(path)]) == 2
    out, err = capsys.readouterr()
    assert (out, len(err.splitlines())) == ("", 1)
    assert why in err
    assert not data_home.exists()


@pytest.mark.parametrize(("changes", "why"), IMPOSSIBLE)
def test_impossible_figures_of_a_saved_run_are_reported(changes: dict[str, Any], why: str) -> None:
    run = save_run(Report.model_validate(with_changes(changes)), makers.positions())
    assert any(why in line for line in verify(run.folder).differences)


def test_figures_at_the_end_of_their_range_are_possible(tmp_path: Path) -> None:
    path = tmp_path / "same.json"
    kl = dict.fromkeys(("mean", "median", "p99", "max", "ci_low", "ci_high"), 0.0)
    path.write_text(json.dumps(with_changes({"kl": kl, "flip_rate": 0, "flip_ci_low": 0})))
    assert one(path).kl.mean == 0
    endless = {"mean": "inf", "median": 0.1, "p99": "inf", "max": "inf", "ci_low": None, "ci_high": None}
    path.write_text(json.dumps(with_changes({"kl": endless, "flip_rate": 1, "flip_ci_high": 1})))
    assert one(path).kl.max == math.inf


def test_a_sequences_mean_may_lie_outside_its_interval(tmp_path: Path) -> None:
    stopping = {"rule": "verdict", "settled": True, "alpha": 0.05, "n_chunks": 2, "method": "m"}
    path = tmp_path / "sequence.json"
    path.write_text(json.dumps(with_changes({"kl.ci_high": 0.022, "stopping": stopping})))
    assert one(path).kl.ci_high == 0.022


SURE = {"good": 0.98, "marginal": 0.02, "bad": 0.0, "replicates": 10, "seed": 1}
SETTLED = {"rule": "verdict", "settled": True, "alpha": 0.05, "n_chunks": 2, "method": "m"}


@pytest.mark.parametrize(
    ("changes", "left_out"),
    [
        # The file says good, by its figures it is marginal: how sure "good" is means nothing.
        ({"verdict": "good", "confidence": SURE, "stopping": SETTLED}, ["confidence", "stopping"]),
        # The verdict was changed along with the figures, the confidence was not.
        ({"confidence": SURE}, ["confidence"]),
        ({"confidence": SURE | {"method": "anytime"}, "stopping": SETTLED}, ["confidence", "stopping"]),
        ({"confidence": {"good": 0, "marginal": 0.95, "bad": 0, "method": "anytime"}}, ["confidence"]),
        ({"stopping": SETTLED | {"n_chunks": 9}}, ["stopping"]),
        ({"stopping": SETTLED}, []),
        ({"confidence": SURE | {"good": 0.9, "marginal": 0.1}}, []),
    ],
)
def test_confidence_of_another_verdict_is_left_out(
    changes: dict[str, Any], left_out: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "report.json"
    path.write_text(json.dumps(with_changes(changes)))
    r = one(path)
    assert r.verdict == "marginal"
    gone = [name for name in ("confidence", "stopping") if name in changes and getattr(r, name) is None]
    assert gone == left_out
    told = [text for text in r.warnings if "was left out" in text]
    assert len(told) == bool(left_out)
    assert all(name in told[0] for name in left_out)


def test_a_newer_schema_is_told_of_once(tmp_path: Path) -> None:
    path = tmp_path / "newer.json"
    data = with_changes({"schema_version": 99, "verdict": "good", "confidence": SURE})
    path.write_text(json.dumps(data))
    (run,) = taken(path)
    assert run.report.warnings == [
        "a newer version wrote this (schema 99, here 3): what is new in it was kept and not checked",
        "mqf-tui itself judged this 'good'; by policy kv-1 it is marginal",
        "its confidence did not fit its figures and verdict and was left out",
    ]
    assert (run.report.verdict, run.report.confidence) == ("marginal", None)
    # What was exported and comes back says nothing new.
    path.write_bytes((run.folder / "report.json").read_bytes())
    assert not import_files([path]).reports[0].is_new


@pytest.mark.parametrize(
    "changes",
    [
        {"created": "2026-03-04T05:06:08+00:00"},
        {"schema_version": 2},
        {"thresholds.kl_mean": [0.02, 0.1]},
        {"warnings": ["busy"]},
    ],
)
def test_what_differs_in_anything_is_another_report(changes: dict[str, Any], tmp_path: Path) -> None:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, change in zip(paths, ({}, changes), strict=True):
        path.write_text(json.dumps(with_changes(change)))
    assert [found.is_new for found in import_files(paths).reports] == [True, True]
    assert [found.is_new for found in import_files(paths).reports] == [False, False]


def test_a_bad_double_of_a_run_that_is_here_is_refused(tmp_path: Path) -> None:
    taken(KV)
    with pytest.raises(BadImportError, match=r"its flip_rate is 1\.5"):
        import_files([KV, changed(tmp_path, KV, flip_rate=1.5)])


@pytest.mark.parametrize(
    ("name", "why"), [("nowhere.json", "No such file"), ("", "is a folder"), ("a\0b", "null")]
)
def test_a_file_that_cannot_be_read(name: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(BadImportError, match=why):
        import_files([tmp_path / name])


def test_hostile_words_come_out_inert(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    nasty = "\x1b[2J\u202e|<b>\n\ud800"
    path = changed(
        tmp_path, KV, model_id=nasty, verdict=nasty, warnings=[nasty], kv_method=nasty, device=nasty
    )
    assert main(["runs", "import", str(path)]) == 0
    assert main(["runs", "list"]) == 0
    assert main(["runs", "list", "--format", "csv"]) == 0
    assert main(["runs", "show", "last"]) == 0
    out, err = capsys.readouterr()
    assert not any(sign in out + err for sign in "\x1b\u202e\ud800")


STEPS = ["pathlib.Path.mkdir", "pathlib.Path.open", "pathlib.Path.rename", "os.fsync"]


@pytest.mark.parametrize("step", STEPS)
def test_all_reports_or_none_when_a_step_fails(
    step: str, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = save_run(makers.report(), makers.positions())
    (data_home / "runs").mkdir(exist_ok=True)
    there = sorted(path for path in data_home.rglob("*"))
    module, _, name = step.rpartition(".")
    home: Any = Path if module == "pathlib.Path" else os
    real = getattr(home, name)
    fails_at = 0
    for fails_at in range(1, 100):
        calls, failed = [0], list[bool]()

        def sometimes(
            *words: Any,
            fails_at: int = fails_at,
            calls: list[int] = calls,
            failed: list[bool] = failed,
            **options: Any,
        ) -> Any:
            # Reading is none of the steps of saving.
            calls[0] += not (name == "open" and str(options.get("mode", words[1:])).count("r"))
            if calls[0] == fails_at and not failed:
                failed.append(True)
                raise OSError(28, "No space left on device")
            return real(*words, **options)

        with monkeypatch.context() as patch:
            patch.setattr(home, name, sometimes)
            try:
                import_files([COMPARE, LOG])
            except SaveError:
                pass
            else:
                break
        assert sorted(data_home.rglob("*")) == there
        assert [run.id for run in list_runs()] == [before.id]
    assert fails_at > 3  # it did come to failures, in each of the four reports
    assert len(list_runs()) == 5


def values() -> st.SearchStrategy[Any]:
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    return st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    )


def paths_of(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [here, *(path for key, inner in items for path in paths_of(inner, (*here, key)))]


SAMPLES = sorted(FOREIGN.glob("*.json")) + sorted((DATA / "reports").glob("v1-*.json"))
PLACES = [
    (sample, place) for sample in SAMPLES for place in paths_of(json.loads(sample.read_text())) if place
]


def attempt(content: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Import, render and verify: only a FidelityError may come out, and then nothing is kept."""
    root = tmp_path_factory.mktemp("fuzz")
    path = root / "file"
    path.write_bytes(content)
    try:
        done = import_files([path], root)
    except FidelityError:
        assert not (root / "runs").exists()
        return
    for found in done.reports:
        run = load_run(found.run.id, root)
        assert run.report.origin is not None
        assert verify(run.folder).differences == ()
        assert to_csv([run.report])
        assert to_markdown(run.report)


@settings(max_examples=300)
@given(st.sampled_from(PLACES), values())
def test_any_value_in_any_place(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[Path, tuple[Any, ...]], value: Any
) -> None:
    sample, keys = place
    data = json.loads(sample.read_text())
    inner = data
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    attempt(json.dumps(data).encode(), tmp_path_factory)


@settings(max_examples=200)
@given(st.sampled_from([*SAMPLES, *FOREIGN.glob("*.txt")]), st.data())
def test_cut_and_spoilt_files(
    tmp_path_factory: pytest.TempPathFactory, sample: Path, data: st.DataObject
) -> None:
    content = bytearray(sample.read_bytes())
    cut = data.draw(st.integers(0, len(content)))
    del content[cut : cut + data.draw(st.integers(0, 200))]
    for place in data.draw(st.lists(st.integers(0, max(0, len(content) - 1)), max_size=5)):
        content[place : place + 1] = data.draw(st.binary(max_size=4))
    attempt(bytes(content), tmp_path_factory)


@settings(max_examples=200)
@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode(errors="replace")))
def test_any_bytes_are_refused_with_a_reason(content: bytes) -> None:
    with pytest.raises(foreign.NotAReportError, match=r"\w"):
        foreign.read(content)


NUMBERS = st.sampled_from(
    ["nan", "-nan(ind)", "inf", "-inf", "9" * 400, "1e999", "0", "-5", "1e-320", "--", ""]
)


@settings(max_examples=200)
@given(st.data())
def test_any_number_in_a_summary(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    lines = LOG.read_text().splitlines()
    for _ in range(data.draw(st.integers(1, 4))):
        row = data.draw(st.integers(0, len(lines) - 1))
        words = lines[row].split(" ")
        words[data.draw(st.integers(0, len(words) - 1))] = data.draw(NUMBERS)
        lines[row] = " ".join(words)
    attempt("\n".join(lines).encode(), tmp_path_factory)
