"""Tags, notes, trash, verification and the list of runs: nothing is ever lost, and damage is told."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqf_tui.cli import main
from mqf_tui.fidelity.errors import SaveError
from mqf_tui.fidelity.statistics import summarise
from mqf_tui.library import models, trash
from mqf_tui.library.labels import MAX_NOTE, MAX_TAG, MAX_TAGS, add_tags, read_labels, remove_tags, set_note
from mqf_tui.library.models import LocalModel
from mqf_tui.library.runs import SavedRun, list_runs, load_run, save_run
from mqf_tui.library.trash import delete_runs, deleted_runs, restore_runs
from mqf_tui.library.verifying import verify
from mqf_tui.reports.schema import Report
from tests import makers

NOW = datetime(2026, 11, 25, 12, 0, 0, tzinfo=UTC)


def saved(**changes: Any) -> SavedRun:
    return save_run(makers.report(**changes), makers.positions())


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and what it holds."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


# Tags and notes


def test_tags_and_a_note(capsys: pytest.CaptureFixture[str]) -> None:
    run = saved()
    assert (run.tags, run.note, load_run(run.id).tags) == ((), "", ())
    assert main(["runs", "tag", run.id[:20], "phone", "baseline", "phone"]) == 0
    assert main(["runs", "tag", "last", "模型", "phone"]) == 0
    assert main(["runs", "note", "last", "  before the fix\nand after  "]) == 0
    assert load_run(run.id).tags == ("phone", "baseline", "模型")
    assert load_run(run.id).note == "before the fix\nand after"
    assert main(["runs", "tag", "last", "--remove", "baseline"]) == 0
    assert json.loads((run.folder / "labels.json").read_text()) == {
        "version": 1,
        "tags": ["phone", "模型"],
        "note": "before the fix\nand after",
    }
    assert main(["runs", "note", "last", ""]) == 0
    assert load_run(run.id).note == ""
    out = capsys.readouterr().out.splitlines()
    assert out[0] == f"{run.id}: tags: phone baseline"
    assert out[2:] == [
        f"{run.id}: note: before the fix and after",
        f"{run.id}: tags: phone 模型",
        f"{run.id}: no note",
    ]


@pytest.mark.parametrize(
    ("tag", "why"),
    [
        ("", "is empty"),
        ("two words", "holds spaces"),
        ("new\nline", "holds spaces"),
        ("\x1b[31m", "control characters"),
        ("right\u202eleft", "control characters"),
        ("\ud800", "control characters"),
        ("-remove", "begins with a hyphen"),
        ("x" * (MAX_TAG + 1), f"at most {MAX_TAG} fit"),
    ],
)
def test_what_is_no_tag(tag: str, why: str) -> None:
    run = saved()
    with pytest.raises(SaveError, match=why):
        add_tags(run.folder, ["good", tag])
    assert not (run.folder / "labels.json").exists()


def test_limits_of_tags_and_notes() -> None:
    run = saved()
    add_tags(run.folder, [f"t{i}" for i in range(MAX_TAGS)])
    with pytest.raises(SaveError, match=f"at most {MAX_TAGS} tags"):
        add_tags(run.folder, ["more"])
    with pytest.raises(SaveError, match="the run has no tag 'more'; it has t0, t1"):
        remove_tags(run.folder, ["t1", "more"])
    assert len(read_labels(run.folder).tags) == MAX_TAGS
    set_note(run.folder, "x" * MAX_NOTE)
    for text, why in (("x" * (MAX_NOTE + 1), "at most"), ("\x07", "control"), ("\udfff", "control")):
        with pytest.raises(SaveError, match=why):
            set_note(run.folder, text)
    assert read_labels(run.folder).note == "x" * MAX_NOTE


def test_keys_of_a_newer_version_of_labels_are_kept() -> None:
    run = saved()
    (run.folder / "labels.json").write_text('{"version": 2, "stars": 5, "tags": ["a"]}')
    add_tags(run.folder, ["b"])
    set_note(run.folder, "n")
    assert json.loads((run.folder / "labels.json").read_text()) == {
        "version": 2,
        "stars": 5,
        "tags": ["a", "b"],
        "note": "n",
    }


DAMAGED = [
    b"",
    b"{",
    b"[]",
    b"\xff\xfe",
    b'{"tags": "a"}',
    b'{"tags": ["a b"]}',
    b'{"tags": [3]}',
    b'{"note": 5}',
    b'{"note": "\\u0007"}',
    b'{"a":' * 5000,
]


@pytest.mark.parametrize("content", DAMAGED)
def test_damaged_labels_are_told_once_and_left_alone(
    content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved()
    file = run.folder / "labels.json"
    file.write_bytes(content)
    assert main(["runs", "list"]) == 0
    out, err = capsys.readouterr()
    assert run.id in out
    assert err.startswith(f"mqf-tui: tags and note of run {run.id} cannot be read: ")
    assert len(err.splitlines()) == 1
    for words in (["tag", "last", "x"], ["note", "last", "x"], ["tag", "last", "--remove", "x"]):
        assert main(["runs", *words]) == 2
    assert file.read_bytes() == content


@pytest.mark.parametrize("step", ["pathlib.Path.open", "pathlib.Path.replace", "os.fsync"])
def test_old_labels_stay_when_new_ones_cannot_be_written(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = saved()
    add_tags(run.folder, ["old"])
    before = tree(run.folder)
    with monkeypatch.context() as patch:
        fail(patch, step, lambda words, options: options.get("mode") != "rb")
        with pytest.raises(SaveError, match=r"labels of run .* could not be written \(No space"):
            add_tags(run.folder, ["new"])
    assert tree(run.folder) == before


def fail(
    patch: pytest.MonkeyPatch, step: str, when: Callable[[tuple[Any, ...], dict[str, Any]], bool]
) -> None:
    """Let calls of ``step`` fail where ``when`` says so."""
    module, _, name = step.rpartition(".")
    home: Any = Path if module == "pathlib.Path" else os
    real = getattr(home, name)

    def sometimes(*words: Any, **options: Any) -> Any:
        if when(words, options):
            raise OSError(28, "No space left on device")
        return real(*words, **options)

    patch.setattr(home, name, sometimes)


# Trash


def test_to_the_trash_and_back(data_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keep, gone = saved(kv_bits=8), saved(kv_bits=4)
    add_tags(gone.folder, ["dear"])
    before = tree(data_home / "runs")
    assert main(["runs", "delete", gone.id]) == 0
    assert capsys.readouterr().out.startswith(
        f"{gone.id}: deleted; `mqf-tui runs restore {gone.id}` until 20"
    )
    assert [run.id for run in list_runs()] == [keep.id]
    assert main(["runs", "list", "--trash"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["RUN", gone.id]
    assert main(["runs", "list", "--trash", "--format", "json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["id"], row["verdict"]) == (gone.id, "marginal")
    assert datetime.fromisoformat(row["gone_after"]) - datetime.fromisoformat(row["deleted"]) == timedelta(30)
    assert main(["runs", "list", "--trash", "--format", "csv"]) == 0
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == ["id", gone.id]
    assert main(["runs", "restore", gone.id[:-2]]) == 0
    assert capsys.readouterr().out == f"{gone.id}: restored\n"
    assert tree(data_home / "runs") == before
    assert main(["runs", "list", "--trash"]) == 0
    assert capsys.readouterr().out == "the trash is empty.\n"


def test_a_damaged_run_can_be_deleted_and_restored(
    data_home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved()
    (run.folder / "report.json").write_text("{")
    assert main(["runs", "delete", run.id]) == 0
    assert main(["runs", "list", "--trash"]) == 0
    assert "cannot be read" in capsys.readouterr().out
    assert restore_runs([run.id]) == [run.id]
    assert (data_home / "runs" / run.id / "report.json").read_text() == "{"


def test_several_at_once_all_or_none(data_home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ids = sorted(saved(kv_bits=bits).id for bits in (2, 4, 8))
    assert main(["runs", "delete", *ids[:2], "nope"]) == 2
    assert main(["runs", "restore", ids[0]]) == 2
    assert "no deleted run" in capsys.readouterr().err
    assert len(list_runs()) == 3
    assert [run.id for run in delete_runs([ids[0], ids[1], ids[0]])] == ids[:2]
    assert main(["runs", "restore", *ids]) == 2
    assert len(list_runs()) == 1
    assert restore_runs([ids[1], ids[0]]) == [ids[1], ids[0]]
    assert sorted(run.id for run in list_runs()) == ids


def test_the_last_one() -> None:
    old, new = saved(created="2026-01-01T00:00:00+00:00"), saved(created="2026-02-01T00:00:00+00:00")
    assert delete_runs(["last"])[0].id == new.id
    later = datetime.now(UTC) + timedelta(hours=1)
    assert delete_runs(["last"], now=later)[0].id == old.id
    assert restore_runs(["last"]) == [old.id]
    with pytest.raises(SaveError, match="no runs yet"):
        delete_runs(["last"], Path(os.devnull).parent / "no-such-folder")


def test_a_restored_run_never_replaces_another(data_home: Path) -> None:
    run = saved()
    delete_runs([run.id])
    (data_home / "runs" / run.id).mkdir()
    with pytest.raises(SaveError, match=f"run {run.id} cannot be restored, since there is a run of that id"):
        restore_runs([run.id])
    assert len(deleted_runs()) == 1


def test_the_same_id_twice_in_the_trash(data_home: Path) -> None:
    run = saved()
    copy = data_home / "copy"
    shutil.copytree(run.folder, copy)
    delete_runs([run.id], now=NOW)
    copy.rename(run.folder)
    with pytest.raises(SaveError, match="there is one of that name already"):
        delete_runs([run.id], now=NOW)
    assert run.folder.is_dir()
    delete_runs([run.id], now=NOW + timedelta(seconds=1))
    newer, older = deleted_runs(now=NOW)
    with pytest.raises(SaveError, match="2 deleted runs begin with"):
        restore_runs([run.id])
    with pytest.raises(SaveError, match="cannot be restored"):
        restore_runs([newer.folder.name, older.folder.name])
    assert restore_runs([older.folder.name]) == [run.id]


def test_what_is_older_than_thirty_days_goes(data_home: Path) -> None:
    old, young, fresh = (saved(kv_bits=bits).id for bits in (2, 4, 8))
    delete_runs([old], now=NOW - timedelta(days=30, seconds=1))
    delete_runs([young], now=NOW - timedelta(days=30))
    # Nobody deleted these, so they stay whatever their age.
    stranger = data_home / "trash" / "notes.deleted-20261340T000000Z"
    stranger.mkdir()
    (data_home / "trash" / "mine").mkdir()
    assert {run.id for run in deleted_runs(now=NOW)} == {young}
    delete_runs([fresh], now=NOW + timedelta(seconds=1))
    assert {run.id for run in deleted_runs(now=NOW)} == {fresh}
    assert sorted(p.name for p in (data_home / "trash").iterdir()) == sorted(
        [f"{fresh}.deleted-20261125T120001Z", stranger.name, "mine"]
    )


def test_a_purge_that_fails_loses_nothing_and_is_done_again(
    data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = saved()
    delete_runs([run.id], now=NOW)
    later = NOW + timedelta(days=31)
    with monkeypatch.context() as patch:
        fail(patch, "pathlib.Path.rename", lambda words, options: True)
        assert [gone.id for gone in deleted_runs(now=later)] == [run.id]
    with monkeypatch.context() as patch:
        patch.setattr(trash.shutil, "rmtree", lambda *words, **options: None)
        assert deleted_runs(now=later) == []
    # Half removed, as by a power cut: no run any more, and gone at the next look.
    assert len(list((data_home / "trash").iterdir())) == 1
    assert deleted_runs(now=later) == []
    assert list((data_home / "trash").iterdir()) == []


@pytest.mark.parametrize("fails_at", [1, 2, 3])
@pytest.mark.parametrize("action", ["delete", "restore"])
def test_no_run_is_lost_when_a_rename_fails(
    action: str, fails_at: int, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = [saved(kv_bits=bits).id for bits in (2, 4, 8)]
    if action == "restore":
        delete_runs(ids, now=datetime.now(UTC))
    before = tree(data_home)
    calls = [0]

    def now(words: tuple[Any, ...], options: dict[str, Any]) -> bool:
        calls[0] += 1
        return calls[0] == fails_at

    with monkeypatch.context() as patch:
        fail(patch, "pathlib.Path.rename", now)
        with pytest.raises(SaveError, match=rf"could not be {action}d \(No space.*nothing was {action}d"):
            (delete_runs if action == "delete" else restore_runs)(ids)
    assert tree(data_home) == before


def test_a_rename_that_cannot_be_taken_back_is_told(data_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [saved(kv_bits=bits).id for bits in (2, 4)]
    calls = [0]

    def now(words: tuple[Any, ...], options: dict[str, Any]) -> bool:
        calls[0] += 1
        return calls[0] > 1

    with monkeypatch.context() as patch:
        fail(patch, "pathlib.Path.rename", now)
        with pytest.raises(SaveError, match=f"these were deleted: {ids[0]}"):
            delete_runs(ids)
    assert [run.id for run in list_runs()] == [ids[1]]
    assert restore_runs(["last"]) == [ids[0]]


@pytest.mark.parametrize("step", ["pathlib.Path.mkdir", "pathlib.Path.iterdir", "os.fsync"])
def test_other_steps_that_fail_lose_nothing(
    step: str, data_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = saved()
    with monkeypatch.context() as patch:
        fail(patch, step, lambda words, options: True)
        if step == "os.fsync":
            delete_runs([run.id])
        else:
            with pytest.raises(SaveError, match="No space"):
                delete_runs([run.id])
    found = [*list_runs(), *(gone.run for gone in deleted_runs())]
    assert [kept.id.split(".deleted")[0] for kept in found if isinstance(kept, SavedRun)] == [run.id]


# Verification


def agreeing(positions: Any = None, **changes: Any) -> tuple[Report, Any]:
    """A report of positions as the engine would give it."""
    positions = makers.positions(n_chunks=6) if positions is None else positions
    s = summarise(positions, 128)
    low, high = s.flip_interval or (None, None)
    data = makers.report_data(
        schema_version=2,
        kl=s.kl.model_dump(),
        kl_by_depth=[part.model_dump() for part in s.by_depth],
        by_part=[part.model_dump() for part in s.by_part],
        by_entropy=[part.model_dump() for part in s.by_entropy],
        by_token_class=[part.model_dump() for part in s.by_token_class],
        flip_rate=s.flip_rate,
        flip_ci_low=low,
        flip_ci_high=high,
        flips=s.flips and s.flips.model_dump(),
        delta_p=s.delta_p.model_dump(),
        perplexity_ref=s.perplexity_ref,
        perplexity_quant=s.perplexity_quant,
        perplexity_delta=s.perplexity_delta,
        perplexity=s.perplexity.model_dump(),
        n_positions=s.n_positions,
        n_chunks=s.n_chunks,
        n_chunks_planned=s.n_chunks,
        verdict=s.verdict,
        confidence=s.confidence and s.confidence.model_dump(),
    )
    return Report.model_validate(data | changes), positions


def numbers(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where a report holds a number."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [place for key, inner in items for place in numbers(inner, (*here, key))]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return [*found, here] if is_number else found


MEASURED = (
    "kl",
    "kl_by_depth",
    "by_part",
    "by_entropy",
    "by_token_class",
    "flip_rate",
    "flip_ci_low",
    "flip_ci_high",
    "flips",
    "delta_p",
    "perplexity_ref",
    "perplexity_quant",
    "perplexity_delta",
    "perplexity",
    "n_positions",
    "n_chunks",
    "confidence",
)
DRAWN = ("seed", "replicates")  # with others, nothing can be said of the intervals


def test_every_number_of_a_report_is_checked(data_home: Path) -> None:
    run = save_run(*agreeing())
    assert verify(run.folder).differences == ()
    file = run.folder / "report.json"
    data = json.loads(file.read_text())
    places = [place for place in numbers(data) if place[0] in MEASURED and place[-1] not in DRAWN]
    assert len(places) > 150
    for place in places:
        inner = data
        for key in place[:-1]:
            inner = inner[key]
        inner[place[-1]] += 1 if isinstance(inner[place[-1]], int) else 1e-6 * (abs(inner[place[-1]]) or 1)
    file.write_text(json.dumps(data))
    told = {line.split(": ")[0] for line in verify(run.folder).differences}
    assert {"".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in p)[1:] for p in places} <= told


def test_intervals_of_other_draws_are_not_checked() -> None:
    report, positions = agreeing()
    assert report.confidence is not None
    other = report.confidence.model_copy(update={"seed": 1, "good": 0.5, "marginal": 0.5, "bad": 0.0})
    ends = report.kl.model_copy(update={"p99_ci": (0.0, 1.0)})
    found = verify(save_run(report.model_copy(update={"confidence": other, "kl": ends}), positions).folder)
    assert found.differences == ()
    assert found.unchecked == ("bootstrap intervals (drawn with another seed)",)


def test_the_hash_of_each_file(capsys: pytest.CaptureFixture[str]) -> None:
    run = save_run(*agreeing())
    add_tags(run.folder, ["mine"])
    set_note(run.folder, "and a note, which changes nothing")
    assert main(["runs", "verify", run.id]) == 0
    assert capsys.readouterr().out == f"{run.id}: ok\n"
    report = run.folder / "report.json"
    report.write_text(report.read_text() + "\n")
    assert main(["runs", "verify"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{run.id}: DIFFERS",
        "  report.json has changed since the run was saved (SHA-256)",
    ]


def rewrite(name: str, change: Callable[[bytes], bytes | None]) -> Callable[[Path], None]:
    def do(folder: Path) -> None:
        content = change((folder / name).read_bytes())
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)

    return do


def other_positions(folder: Path) -> None:
    (folder / "files.json").unlink()
    with np.load(folder / "positions.npz") as stored:
        arrays = dict(stored)
    arrays["kl"] = arrays["kl"].copy()
    arrays["kl"][7] *= 1.001
    np.savez_compressed(folder / "positions.npz", **arrays)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (rewrite("positions.npz", lambda _: None), "positions.npz is missing"),
        (rewrite("positions.npz", lambda content: content[:-9]), "positions.npz cannot be read"),
        (rewrite("positions.npz", lambda content: content[:-9]), "positions.npz has changed"),
        (rewrite("report.md", lambda _: None), "report.md is missing"),
        (rewrite("report.json", lambda _: None), "report.json is missing"),
        (rewrite("report.json", lambda _: b"{"), "report.json is damaged (it is no whole JSON)"),
        (rewrite("files.json", lambda _: b"{"), "files.json cannot be read"),
        (rewrite("files.json", lambda _: b'{"sha256": {}}'), "files.json cannot be read"),
        (rewrite("files.json", lambda _: b"[" * 9000), "files.json cannot be read"),
        (other_positions, "kl.mean: "),
        (
            rewrite("report.json", lambda c: c.replace(b'"verdict": "marginal"', b'"verdict": "good"')),
            "verdict: good",
        ),
        (
            rewrite(
                "report.json", lambda c: c.replace(b'"chunk_length": 128', b'"chunk_length": 1' + b"0" * 40)
            ),
            "report.json has changed",
        ),
        (
            rewrite("report.json", lambda c: c.replace(b'"chunk_length": 128', b'"chunk_length": -1')),
            "kl_by_depth",
        ),
    ],
)
def test_damage_is_found(spoil: Callable[[Path], None], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    run, good = save_run(*agreeing(verdict="marginal")), save_run(*agreeing())
    spoil(run.folder)
    assert main(["runs", "verify", run.id, good.id]) == 1
    out, err = capsys.readouterr()
    assert f"{run.id}: DIFFERS" in out
    assert why in out
    assert f"{good.id}: ok\n" in out
    assert err == ""


def test_one_chunk_infinity_and_no_positions() -> None:
    one = save_run(*agreeing(makers.positions(n_chunks=1)))
    assert verify(one.folder).differences == ()
    positions = makers.positions(n_chunks=4)
    positions.kl[5] = np.inf
    assert verify(save_run(*agreeing(positions)).folder).differences == ()
    none = save_run(agreeing()[0], positions.where(np.zeros(len(positions), bool)))
    assert verify(none.folder).differences == ("positions.npz holds no positions",)


def test_a_run_of_version_1_is_checked_as_far_as_it_goes(data_home: Path) -> None:
    report, positions = agreeing()
    names = ("kl_by_depth", "by_part", "flip_rate", "flip_ci_low", "flip_ci_high", "perplexity_ref")
    data = makers.report_data() | {name: report.model_dump()[name] for name in names}
    data |= {name: getattr(report, name) for name in ("perplexity_quant", "perplexity_delta", "verdict")}
    data |= {name: getattr(report, name) for name in ("n_positions", "n_chunks")}
    data["kl"] = {name: getattr(report.kl, name) for name in makers.report_data()["kl"]}
    folder = data_home / "runs" / "old"
    folder.mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps(data))
    (folder / "report.md").touch()
    kept = ("chunk", "depth", "part", "token", "kl", "nll_ref", "nll_quant", "top1_ref", "top1_quant")
    arrays: dict[str, Any] = {name: getattr(positions, name) for name in kept}
    np.savez_compressed(folder / "positions.npz", **arrays, part_names=np.array(positions.part_names))
    found = verify(folder)
    assert found.differences == ()
    assert found.unchecked == ("hashes (not recorded by the version that saved it)",)
    data["kl"]["p95"] *= 1.0001
    (folder / "report.json").write_text(json.dumps(data))
    (difference,) = verify(folder).differences
    assert difference.startswith("kl.p95: ")


def test_what_another_version_computed_otherwise_is_no_damage(capsys: pytest.CaptureFixture[str]) -> None:
    report, positions = agreeing(versions={"mqf_tui": "9.9.9"})
    assert verify(save_run(report, positions).folder).unchecked == ()
    report, positions = agreeing(versions={"mqf_tui": "9.9.9"}, perplexity_delta=3.0)
    run = save_run(report, positions)
    found = verify(run.folder)
    assert found.differences == ()
    assert [line.split(":")[0] for line in found.computed_otherwise] == ["perplexity_delta"]
    assert main(["runs", "verify", run.id]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == [
        f"{run.id}: ok",
        "  computed otherwise by version 9.9.9, from files as they were:",
    ]
    # Without hashes, or with others, nobody knows that the files are as they were.
    report_file = run.folder / "report.json"
    report_file.write_text(
        report_file.read_text().replace('"perplexity_delta": 3.0', '"perplexity_delta": 4.0')
    )
    found = verify(run.folder)
    assert [line.split(":")[0] for line in found.differences][1:] == ["perplexity_delta"]
    assert found.computed_otherwise == ()
    (run.folder / "files.json").unlink()
    assert [line.split(":")[0] for line in verify(run.folder).differences] == ["perplexity_delta"]


@pytest.mark.parametrize(
    "more",
    [
        *([], ["--until-sure"], ["--precision", "40%"], ["--until-sure", "--precision", "99%"]),
        *(["--max-kl", "5"], ["--score-last", "9"]),
    ],
)
def test_what_the_engine_measures_verifies(
    more: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = makers.model_folder(tmp_path / "tiny-llama")
    notes = makers.text_file(tmp_path / "notes.txt")
    words = ["kv", str(model), "--kv-bits", "2", "--chunk-length", "32", "--max-chunks", "8"]
    assert main([*words, "--corpus", str(notes), *more]) == 0
    (run,) = list_runs()
    assert (run.report.stopping is None) == (not {"--until-sure", "--precision"} & set(more))
    capsys.readouterr()
    assert main(["runs", "verify"]) == 0
    assert capsys.readouterr().out == f"{run.id}: ok\n"
    if run.report.stopping is not None:
        file = run.folder / "report.json"
        data = json.loads(file.read_text())
        for name in ("ci_low", "ci_high"):
            spoilt = json.loads(json.dumps(data))
            if spoilt["kl"][name] is None:
                continue
            spoilt["kl"][name] = float(spoilt["kl"][name]) + 1e-4
            file.write_text(json.dumps(spoilt))
            assert any(line.startswith(f"kl.{name}: ") for line in verify(run.folder).differences)


# Lists


@pytest.fixture
def several() -> dict[str, SavedRun]:
    runs = {
        "a": saved(created="2026-03-01T23:59:59+00:00", model="org/Quokka-1B"),
        "b": saved(created="2026-03-02T00:00:00+00:00", model="org/quokka-3B", verdict="good"),
        "c": saved(created="2026-03-02T23:30:00-01:00", model="zoo/wombat", verdict="bad"),
        "d": saved(created="some day", model="zoo/wombat"),
    }
    add_tags(runs["b"].folder, ["phone"])
    add_tags(runs["c"].folder, ["phones", "x"])
    return runs


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], "abcd"),
        (["--model", "QUOKKA"], "ab"),
        (["--model", "zoo/"], "cd"),
        (["--verdict", "bad"], "c"),
        (["--tag", "phone"], "b"),
        (["--tag", "none"], ""),
        (["--since", "2026-03-02"], "bc"),
        (["--until", "2026-03-01"], "a"),
        # 23:30 an hour west of Greenwich is the next day there.
        (["--since", "2026-03-03"], "c"),
        (["--since", "2026-03-02", "--until", "2026-03-02"], "b"),
        (["--model", "o", "--verdict", "marginal", "--since", "2026-01-01"], "a"),
    ],
)
def test_filters(
    words: list[str], expected: str, several: dict[str, SavedRun], capsys: pytest.CaptureFixture[str]
) -> None:
    ids = {several[name].id for name in expected}
    assert main(["runs", "list", *words, "--format", "json"]) == 0
    assert {row["id"] for row in json.loads(capsys.readouterr().out)} == ids
    assert main(["runs", "list", *words, "--format", "csv"]) == 0
    assert {row["run"] for row in csv.DictReader(io.StringIO(capsys.readouterr().out))} == ids
    assert main(["runs", "list", *words]) == 0
    out = capsys.readouterr().out
    if ids:
        assert {line.split()[0] for line in out.splitlines()[1:]} == ids
    else:
        assert out == "none of 4 runs fits; leave out some of the filters.\n"
    delete_runs([run.id for run in several.values()])
    assert main(["runs", "list", "--trash", *words, "--format", "json"]) == 0
    assert {row["id"] for row in json.loads(capsys.readouterr().out)} == ids


def test_tags_and_notes_are_listed(several: dict[str, SavedRun], capsys: pytest.CaptureFixture[str]) -> None:
    set_note(several["c"].folder, "=1+1\nnext line")
    assert main(["runs", "list", "--format", "json"]) == 0
    rows = {row["id"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows[several["c"].id]["tags"] == ["phones", "x"]
    assert rows[several["c"].id]["note"] == "=1+1\nnext line"
    assert (rows[several["a"].id]["tags"], rows[several["a"].id]["note"]) == ([], "")
    assert main(["runs", "list", "--format", "csv"]) == 0
    cells = {row["run"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert cells[several["c"].id]["tags"] == "phones x"
    assert cells[several["c"].id]["note"] == "'=1+1 next line"
    assert float(cells[several["c"].id]["kl_mean"]) == 0.0234
    assert main(["runs", "list"]) == 0
    (line,) = [row for row in capsys.readouterr().out.splitlines() if row.startswith(several["c"].id)]
    assert line.endswith("phones x")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--since", "yesterday"], "--since 'yesterday' is no date; write it as 2026-11-25."),
        (["--until", "2026-02-30"], "--until '2026-02-30' is no date"),
        (
            ["--since", "2026-02-03", "--until", "2026-02-01"],
            "--since 2026-02-03 is after --until 2026-02-01",
        ),
        (["--since", "2026-02-03\x1b[2J"], "is no date"),
    ],
)
def test_bad_dates(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs", "list", *words]) == 2
    err = capsys.readouterr().err
    assert why in err
    assert "\x1b" not in err


def test_figures_are_listed_with_their_error(capsys: pytest.CaptureFixture[str]) -> None:
    even = {"mean": 0.264, "p99": 2.2, "ci_low": 0.164, "ci_high": 0.364}
    saved(kl=even, flip_rate=0.2, flip_ci_low=0.18, flip_ci_high=0.22)
    saved(kl={"mean": 0.264, "p99": 2.2}, flip_rate=0.2, flip_ci_low=None, flip_ci_high=None, kv_bits=8)
    assert main(["runs", "list"]) == 0
    rows = {line.split("  ")[2].strip(): line for line in capsys.readouterr().out.splitlines()}
    assert "  0.264 ± 0.100  20.00 ± 2.00 %  marginal" in rows["4-bit g64"]
    assert "  0.264          20.00 %         marginal" in rows["8-bit g64"]


def test_long_words_do_not_wreck_a_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = saved(model="org/" + "long" * 25_000 + "-4bit")
    add_tags(run.folder, [f"{i}{'t' * 38}" for i in range(9)])
    assert main(["runs", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) < 300
    assert lines[1].startswith(f"{run.id}  org/longlong")
    assert "longlong-4bit  " in lines[1]
    delete_runs([run.id])
    assert main(["runs", "list", "--trash"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 300
    long = LocalModel("n" * 5000, "hub cache", None, "p" * 5000)
    monkeypatch.setattr(models, "local_models", lambda: (long,))
    assert main(["models"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) < 450
