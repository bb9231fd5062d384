"""Thresholds as data: the default, a user's own, the command line's; and what is made of the verdict."""

from __future__ import annotations

import json
import math
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqf_tui import api
from mqf_tui.cli import main
from mqf_tui.console.arguments import parser
from mqf_tui.console.measuring import settings_from
from mqf_tui.fidelity import verdict as verdicts
from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.events import ChunkFinished, Failed, Finished
from mqf_tui.fidelity.settings import KVSettings, share_word
from mqf_tui.fidelity.summary_report import command
from mqf_tui.library.runs import list_runs
from mqf_tui.library.settings import config_dir, settings_file, user_policy
from mqf_tui.reports.schema import Report, Thresholds
from tests import makers

MINE = """
[verdict]
policy = "mine"
kl_mean = [0.005, 0.05]
flip_rate = [0.5, 1]
"""


@pytest.fixture
def own_settings() -> Path:
    path = settings_file()
    path.parent.mkdir(parents=True)
    path.write_text(MINE, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.model_folder(tmp_path_factory.mktemp("policies") / "tiny-llama")


@pytest.fixture(scope="module")
def notes(tiny: Path) -> Path:
    return makers.text_file(tiny.parent / "notes.txt", 3000)


def test_the_default_is_the_designs() -> None:
    assert verdicts.KV_POLICY.model_dump() == {
        "policy": "kv-1",
        "kl_mean": (0.01, 0.1),
        "kl_p99": (0.1, 1.0),
        "flip_rate": (0.01, 0.05),
    }


def test_where_the_settings_lie(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import platformdirs

    assert settings_file() == tmp_path / "config-home" / "settings.toml"
    monkeypatch.setenv("MQF_TUI_CONFIG_DIR", "~/of-mine")
    assert config_dir() == Path.home() / "of-mine"
    monkeypatch.delenv("MQF_TUI_CONFIG_DIR")
    assert config_dir() == Path(platformdirs.user_config_dir("mqf-tui", appauthor=False))


@pytest.mark.parametrize("content", [None, "", "\ufeff# nothing\n", "[verdict]\n"])
def test_without_settings_there_is_no_policy_of_ones_own(content: str | None) -> None:
    if content is not None:
        settings_file().parent.mkdir(parents=True)
        settings_file().write_text(content, encoding="utf-8")
    assert user_policy() is None


def test_a_policy_of_ones_own(own_settings: Path) -> None:
    assert user_policy() == Thresholds(
        policy="mine", kl_mean=(0.005, 0.05), kl_p99=(0.1, 1.0), flip_rate=(0.5, 1.0)
    )


def test_a_policy_without_a_name_does_not_pass_for_the_default(own_settings: Path) -> None:
    own_settings.write_text("[verdict]\nkl_p99 = [0.2, 2]\n")
    found = user_policy()
    assert found is not None
    assert found.kl_p99 == (0.2, 2.0)
    assert found.policy == "kv-1 as changed in settings.toml"


def test_a_hostile_name_comes_out_inert(own_settings: Path) -> None:
    own_settings.write_text(
        '[verdict]\npolicy = "a\\u001b[2J\\n\\u202eb"\nkl_p99 = [1, 2]\n', encoding="utf-8"
    )
    found = user_policy()
    assert found is not None
    assert found.policy == "a[2J b"


@pytest.mark.parametrize(
    ("settings", "kl_mean", "flip_rate", "name"),
    [
        ({}, (0.01, 0.1), (0.01, 0.05), "kv-1"),
        ({"max_kl": 0.02}, (0.02, 0.1), (0.01, 0.05), "kv-1 with --max-kl 0.02"),
        ({"max_kl": 0.5}, (0.5, 0.5), (0.01, 0.05), "kv-1 with --max-kl 0.5"),
        ({"max_flips": 0.003}, (0.01, 0.1), (0.003, 0.05), "kv-1 with --max-flips 0.3%"),
        ({"max_flips": 0}, (0.01, 0.1), (0.0, 0.05), "kv-1 with --max-flips 0%"),
        ({"max_kl": 1, "max_flips": 1}, (1.0, 1.0), (1.0, 1.0), "kv-1 with --max-kl 1 --max-flips 100%"),
    ],
)
def test_limits_of_the_command_line(
    settings: dict[str, Any], kl_mean: tuple[float, float], flip_rate: tuple[float, float], name: str
) -> None:
    policy = KVSettings("m", **settings).policy
    assert (policy.kl_mean, policy.kl_p99, policy.flip_rate) == (kl_mean, (0.1, 1.0), flip_rate)
    assert policy.policy == name


def test_the_command_line_goes_before_the_settings_file(own_settings: Path) -> None:
    policy = KVSettings("m", thresholds=user_policy(), max_kl=0.02).policy
    assert (policy.kl_mean, policy.flip_rate) == ((0.02, 0.05), (0.5, 1.0))
    assert policy.policy == "mine with --max-kl 0.02"


@given(st.floats(0, 1, allow_subnormal=False))
def test_a_share_as_an_option_reads_back_exactly(share: float) -> None:
    words = parser().parse_args(["kv", "m", f"--max-flips={share_word(share)}"])
    assert words.max_flips == share


def test_shares_as_people_write_them() -> None:
    assert [share_word(s) for s in (0.05, 0.01, 0.003, 0.0, 1.0)] == ["5%", "1%", "0.3%", "0%", "100%"]


@pytest.mark.parametrize(
    "settings",
    [
        {"until_sure": True},
        {"precision": 0.05},
        {"precision": 1 / 14, "until_sure": True},
        {"max_kl": 0.1 + 0.2, "max_flips": 0.015},
        {"max_kl": 1e-7, "trust_remote_code": True},
    ],
    ids=str,
)
def test_the_printed_command_judges_the_same(settings: dict[str, Any]) -> None:
    asked = KVSettings("org/model", max_chunks=7, **settings)
    program, *words = shlex.split(command(asked, 7, "org/model"))
    assert program == "mqf-tui"
    assert settings_from(parser().parse_args(words)) == asked


def measured(tiny: Path, notes: Path, **options: Any) -> Report:
    usual = {"kv_bits": 8, "chunk_length": 64, "max_chunks": 6, "corpus": notes}
    return api.measure_kv_fidelity(tiny, **(usual | options))


def test_the_report_says_what_it_was_judged_by(tiny: Path, notes: Path, own_settings: Path) -> None:
    usual = measured(tiny, notes)
    assert (usual.thresholds.policy, usual.thresholds.kl_mean) == ("mine", (0.005, 0.05))
    strict = measured(tiny, notes, max_kl=usual.kl.mean / 2)
    lax = measured(tiny, notes, max_kl=usual.kl.mean * 2)
    # The same numbers by other thresholds; flips never count here, and p99 is far below its limit.
    assert lax.kl.mean == pytest.approx(usual.kl.mean, rel=1e-3)
    assert usual.kl.p99 is not None
    assert usual.kl.p99 < 0.1
    assert (strict.verdict, lax.verdict) == ("marginal", "good")
    assert lax.thresholds.policy.startswith("mine with --max-kl ")
    assert f"--max-kl {usual.kl.mean * 2!r}" in lax.command
    assert "--max-kl" not in usual.command


def test_thresholds_that_are_given_go_before_the_settings_file(
    tiny: Path, notes: Path, own_settings: Path
) -> None:
    own_settings.write_text("broken = [")
    given = KVSettings(
        str(tiny), chunk_length=64, max_chunks=2, corpus=str(notes), thresholds=verdicts.KV_POLICY
    )
    *_, last = api.events(given)
    assert isinstance(last, Finished)
    assert last.report.thresholds == verdicts.KV_POLICY
    (failed,) = api.events(KVSettings(str(tiny)))
    assert isinstance(failed, Failed)
    assert "it is not valid TOML" in str(failed.error)


@pytest.mark.parametrize(
    "wrong",
    [
        {"precision": "5%"},
        {"precision": True},
        {"precision": 0},
        {"precision": 1.5},
        {"precision": math.nan},
        {"max_kl": -1},
        {"max_kl": "0.1"},
        {"max_kl": math.inf},
        {"max_kl": 10**400},
        {"max_flips": 2},
        {"max_flips": -0.01},
        {"max_flips": [0.1]},
        {"until_sure": 1},
        {"until_sure": None},
    ],
    ids=lambda wrong: str(wrong)[:30],
)
def test_values_that_cannot_be_are_refused(tiny: Path, wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(
        BadSettingError, match=rf"{name.replace('max_kl', 'max KL').replace('max_f', 'max f')} is .*; use"
    ):
        api.measure_kv_fidelity(tiny, **wrong)


def test_it_stops_when_sure(tiny: Path, notes: Path) -> None:
    seen: list[ChunkFinished] = []

    def look(event: object) -> None:
        if isinstance(event, ChunkFinished):
            seen.append(event)

    # 2-bit keys wreck this model: bad beyond doubt after a few chunks.
    report = measured(tiny, notes, kv_bits=2, max_chunks=40, until_sure=True, on_event=look)
    assert report.stopping is not None
    assert report.stopping.settled
    assert not report.partial
    assert report.verdict == "bad"
    assert report.n_chunks == report.stopping.n_chunks == len(seen) < report.n_chunks_planned == 40
    assert [e.stopping.n_chunks for e in seen if e.stopping] == list(range(1, len(seen) + 1))
    assert [e.stopping.settled for e in seen if e.stopping][-1]
    assert not any("settle" in doubt for doubt in report.warnings)
    assert "--max-chunks 40" in report.command
    assert "--until-sure" in report.command


def test_without_a_rule_there_is_nothing_to_stop(tiny: Path, notes: Path) -> None:
    seen: list[object] = []
    report = measured(tiny, notes, kv_bits=2, on_event=seen.append)
    assert report.stopping is None
    assert all(e.stopping is None for e in seen if isinstance(e, ChunkFinished))


def test_the_precision_is_reached(tiny: Path, notes: Path) -> None:
    report = measured(tiny, notes, kv_bits=2, max_chunks=None, precision=0.3)
    assert report.stopping is not None
    assert (report.stopping.rule, report.stopping.precision) == ("precision", 0.3)
    assert report.stopping.settled
    assert report.kl.ci_low is not None
    assert report.kl.ci_high is not None
    assert (report.kl.ci_high - report.kl.ci_low) / 2 <= 0.3 * report.kl.mean


@pytest.fixture
def kv(tiny: Path, notes: Path) -> list[str]:
    words = [
        "kv",
        str(tiny),
        "--kv-bits",
        "2",
        "--chunk-length",
        "64",
        "--max-chunks",
        "40",
        "--corpus",
        str(notes),
    ]
    return words


def test_the_last_words_of_a_measurement_that_was_sure(
    kv: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert main([*kv, "--until-sure", "--format", "json"]) == 0
    out, err = capfd.readouterr()
    n = json.loads(out)["n_chunks"]
    assert err.splitlines()[1:] == [f"stopped after {n} of 40 chunks, when the verdict was settled"]
    assert n < 40
    assert main([*kv, "--precision", "0.1%", "--max-chunks", "3", "--no-save", "--format", "json"]) == 0
    out, err = capfd.readouterr()
    assert err == "mean KL was not known to within 0.1 % after 3 chunks\n"
    assert "3 chunks did not settle mean KL to the precision asked for" in json.loads(out)["warnings"][0]
    both = ["--precision", "40%", "--until-sure", "--no-save", "--format", "json"]
    assert main([*kv, *both]) == 0
    out, err = capfd.readouterr()
    report = json.loads(out)
    assert report["stopping"]["rule"] == "both"
    assert "--until-sure --precision 40%" in report["command"]
    n = report["n_chunks"]
    settled = "the verdict was settled and mean KL was known to within 40 %"
    assert err == f"stopped after {n} of 40 chunks, when {settled}\n"
    assert main([*kv, *both, "--max-chunks", "2", "--fail-on", "bad"]) == 4
    first, second = capfd.readouterr().err.splitlines()
    assert first == "the verdict was not settled and mean KL was not known to within 40 % after 2 chunks"
    assert second.startswith("mqf-tui: the verdict is bad (not settled) by kv-1: ")


@pytest.mark.parametrize("fail_on", ["bad", "marginal"])
def test_a_verdict_that_fails(kv: list[str], fail_on: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main([*kv, "--max-chunks", "2", "--fail-on", fail_on]) == 4
    out, err = capfd.readouterr()
    assert "**on the edge between marginal and bad (bad, 50 %)**" in out
    (saved,) = list_runs()
    assert saved.report.verdict == "bad"
    said = err.splitlines()
    assert said[0].startswith("saved as run ")
    limit = {"bad": "0.100 is marginal", "marginal": "0.0100 is good"}[fail_on]
    assert re.fullmatch(
        r"mqf-tui: the verdict is bad \(50 % sure, on the edge between marginal and bad\) by kv-1: "
        rf"mean KL \S+ \(at most {limit}\), .*\.",
        said[1],
    )
    assert len(said) == 2


def test_only_the_numbers_that_fail_are_blamed(
    kv: list[str], own_settings: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    own_settings.write_text(
        '[verdict]\npolicy = "lax"\nkl_mean = [90, 91]\nkl_p99 = [90, 91]\nflip_rate = [0.0, 1.0]\n'
    )
    words = [*kv, "--max-chunks", "2", "--no-save", "--format", "json"]
    assert main([*words, "--fail-on", "marginal"]) == 4
    out, err = capfd.readouterr()
    rate = json.loads(out)["flip_rate"]
    assert json.loads(out)["verdict"] == "marginal"
    assert (
        err == "mqf-tui: the verdict is marginal (50 % sure, anything from good to bad) by lax: "
        f"flips {100 * rate:.2f} % (at most 0.00 % is good).\n"
    )
    assert main([*words, "--fail-on", "bad"]) == 0
    assert capfd.readouterr().err == ""
    assert main([*words, "--fail-on", "marginal", "--max-flips", "100%"]) == 0


def test_a_run_that_cannot_be_saved_is_told_before_its_verdict(
    kv: list[str], data_home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data_home.write_text("a file, not a folder")
    assert main([*kv, "--max-chunks", "2", "--fail-on", "bad"]) == 2
    assert "no run can be saved" in capfd.readouterr().err


def test_doctor_shows_the_policy_in_force(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    def told() -> tuple[dict[str, str], list[str]]:
        assert main(["doctor"]) == 0
        lines = capsys.readouterr().out.splitlines()
        return dict(line.split(maxsplit=1) for line in lines), [
            line for line in lines if line.startswith("!")
        ]

    path = settings_file()
    rows, problems = told()
    assert rows["settings"] == f"{path} (not there: defaults)"
    assert rows["verdict"].startswith(
        "kv-1: good up to mean KL 0.01, p99 0.1, flips 1%; marginal up to mean KL 0.1"
    )
    path.parent.mkdir(parents=True)
    path.write_text(MINE)
    rows, again = told()
    assert rows["settings"] == str(path)
    assert rows["verdict"].startswith("mine: good up to mean KL 0.005, p99 0.1, flips 50%; marginal")
    assert again == problems
    path.write_text("[verdict")
    rows, more = told()
    assert rows["verdict"] == "the settings file is broken, see below"
    assert len(more) == len(problems) + 1
    assert "it is not valid TOML" in more[-1]
