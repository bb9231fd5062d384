"""The index of the saved runs says what the reports say, whatever happened to the runs or to its own file."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mqf_tui.fidelity.errors import SaveError
from mqf_tui.library import index, labels, runs
from mqf_tui.library.index import RunRow, run_rows
from mqf_tui.library.runs import SavedRun, all_runs, save_runs
from mqf_tui.reports.text import sureness
from tests import makers

N = 500


def made(n: int, seed: int = 1) -> list[tuple[Any, None]]:
    """Reports of many kinds: bits, formats, imports, partial ones, some without intervals or figures."""
    rng = random.Random(seed)
    found: list[tuple[Any, None]] = []
    for _ in range(n):
        kl = 10 ** rng.uniform(-5, 1)
        figures = {"mean": kl, "p99": rng.choice([kl * 9, None, "inf"]), "max": kl * 50}
        if rng.random() < 0.7:
            figures |= {"ci_low": kl * 0.8, "ci_high": kl * 1.2, "p99_ci": [kl * 7, kl * 12]}
        changes: dict[str, Any] = {
            "created": f"2026-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}T05:06:07+00:00",
            "model": f"org/model-{rng.randint(1, 9)}",
            "kv_bits": rng.choice([2, 4, 8]),
            "kl": figures,
            "flip_rate": rng.choice([0.01, 0.3, "nan"]),
            "verdict": rng.choice(["good", "marginal", "bad"]),
            "partial": rng.random() < 0.2,
            "sweep_id": rng.choice([None, "20260304-050607-ab12"]),
        }
        if rng.random() < 0.2:
            changes |= {"kv_bits": None, "kv_group_size": None, "kv_format": rng.choice(["k8v4g64", "mxfp4"])}
        if rng.random() < 0.2:
            changes["origin"] = {"tool": "llama.cpp", "form": "log", "file": "x.log"}
        if rng.random() < 0.2:
            changes["kv_bytes_per_token"] = rng.choice([None, {"reference": 512, "variant": 144}])
        if rng.random() < 0.5:
            changes["confidence"] = {"good": 0.2, "marginal": 0.3, "bad": 0.5}
        if rng.random() < 0.3:
            changes["stopping"] = {
                "rule": "verdict", "settled": rng.random() < 0.5, "alpha": 0.05, "n_chunks": 2, "method": "m"
            }  # fmt: skip
        found.append((makers.report(**changes), None))
    return found


def said(run: SavedRun) -> dict[str, Any]:
    """What a row must hold, from the run as it is read without the index."""
    r = run.report
    pair = (r.kl.ci_low, r.kl.ci_high)
    flips = (r.flip_ci_low, r.flip_ci_high)
    kv = r.kv_bytes_per_token
    plain = ("created", "model", "variant_model", "model_hash", "architecture", "weights", "kind", "setting")
    same = ("short_setting", "verdict", "n_positions", "n_chunks", "n_chunks_planned", "partial")
    return {name: getattr(r, name) for name in (*plain, *same, "flip_rate")} | {
        "id": run.id,
        "folder": run.folder,
        "mode": r.mode or "",
        "format": r.kv_format or f"{r.kv_bits}g{r.kv_group_size}",
        "bits": r.kv_bits,
        "group": r.kv_group_size,
        "confidence": None if r.confidence is None else getattr(r.confidence, r.verdict),
        "sureness": sureness(r),
        "settled": None if r.stopping is None else r.stopping.settled,
        "kl": r.kl.mean,
        "kl_ci": None if None in pair else pair,
        "p99": r.kl.p99,
        "p99_ci": r.kl.p99_ci,
        "flip_ci": None if None in flips else flips,
        "ppl_change": r.perplexity_delta,
        "ppl_ci": None,
        "corpus": r.corpus.name,
        "chunk_length": r.corpus.chunk_length,
        "kv_bytes": None if kv is None else kv.variant_16bit or kv.variant,
        "origin": "llama.cpp" if r.origin else "",
        "sweep_id": r.sweep_id or "",
        "tags": run.tags,
        "note": run.note,
        "labels_problem": run.labels.problem or "",
        "has_positions": run.has_positions,
        "size": sum(file.stat().st_size for file in run.folder.iterdir()),
    }


def agrees(root: Path) -> int:
    """Compare the index with all reports; give the number of rows."""
    read, broken = all_runs(root)
    found = run_rows(root)
    # As text, for NaN is not NaN.
    fields = RunRow.__dataclass_fields__
    assert [repr([getattr(row, f) for f in fields]) for row in found.rows] == [
        repr([expected[f] for f in fields]) for expected in map(said, read)
    ]
    assert sorted(found.broken) == sorted(broken)
    return len(found.rows)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs whose reports are opened."""
    seen: list[str] = []
    opened = runs.try_load

    def watched(folder: Path) -> SavedRun | str:
        seen.append(folder.name)
        return opened(folder)

    monkeypatch.setattr(runs, "try_load", watched)
    return seen


def test_the_index_is_what_the_reports_say_through_all_changes(tmp_path: Path, reads: list[str]) -> None:
    saved = save_runs(made(N), tmp_path)
    assert len(run_rows(tmp_path).rows) == N
    assert agrees(tmp_path) == N
    reads.clear()
    assert len(run_rows(tmp_path).rows) == N
    assert reads == []
    # Tags and notes, a run removed, one damaged without another length, one emptied, one that came back.
    labels.add_tags(saved[3].folder, ["blog"])
    labels.set_note(saved[4].folder, "before")
    shutil.rmtree(saved[5].folder)
    report = saved[6].folder / "report.json"
    report.write_bytes(report.read_bytes().replace(b"{", b"[", 1))
    (saved[7].folder / "report.json").unlink()
    (saved[8].folder / "labels.json").write_text("no JSON")
    shutil.move(saved[9].folder, tmp_path / "away")
    (saved[10].folder / "positions.npz").write_bytes(b"123")
    [new] = save_runs(made(1, seed=2), tmp_path)
    reads.clear()
    found = run_rows(tmp_path)
    changed = {saved[i].folder.name for i in (3, 4, 6, 7, 8)} | {new.id}
    assert set(reads) == changed
    assert {name for name, _ in found.broken} == {saved[6].id, saved[7].id}
    assert agrees(tmp_path) == N - 3
    labels.remove_tags(saved[3].folder, ["blog"])
    shutil.move(tmp_path / "away", saved[9].folder)
    assert agrees(tmp_path) == N - 2
    # The same name with another content, of the same length and time.
    text = report.read_bytes().replace(b"[", b"{", 1)
    before = os.stat(report)
    report.with_name("other").write_bytes(text)
    os.utime(report.with_name("other"), ns=(before.st_atime_ns, before.st_mtime_ns))
    report.with_name("other").replace(report)
    assert agrees(tmp_path) == N - 1


def index_file(cache: Path) -> Path:
    [file] = (cache / "runs").iterdir()
    return file


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\x00",
        b"[]",
        b'{"version": 1}\n{}',
        b"[" * 100_000,
        "cut",
        "another version",
        "another body",
    ],
    ids=lambda c: str(c)[:16],
)
def test_an_index_file_that_does_not_fit_is_as_none(content: bytes | str, tmp_path: Path) -> None:
    saved = save_runs(made(3), tmp_path)
    assert agrees(tmp_path) == 3
    file = index_file(tmp_path / "cache-home")
    whole = file.read_bytes()
    head, _, body = whole.partition(b"\n")
    model = saved[0].report.model.encode()
    other = {
        "cut": whole[:-9],
        "another version": json.dumps(json.loads(head) | {"version": 0}).encode() + b"\n" + body,
        "another body": head + b"\n" + body.replace(model, model[::-1]),
    }
    file.write_bytes(content if isinstance(content, bytes) else other[content])
    assert agrees(tmp_path) == 3
    assert file.read_bytes() == whole


def test_without_a_cache_folder_there_are_rows_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MQF_TUI_CACHE_DIR", str(tmp_path / "file"))
    save_runs(made(3), tmp_path)
    assert agrees(tmp_path) == 3
    assert agrees(tmp_path) == 3


def test_no_runs_and_a_folder_that_is_none(tmp_path: Path) -> None:
    assert run_rows(tmp_path) == index.RunIndex()
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(SaveError, match="cannot be read"):
        run_rows(tmp_path)


def test_two_data_folders_do_not_mix(tmp_path: Path) -> None:
    for name in ("one", "two"):
        [run] = save_runs([(makers.report(model=f"org/{name}"), None)], tmp_path / name)
        run.folder.rename(run.folder.with_name("same"))
    for _ in range(2):
        for name in ("one", "two"):
            [row] = run_rows(tmp_path / name).rows
            assert row.model == f"org/{name}"


def test_a_row_loads_its_run_and_says_when_it_is_gone(tmp_path: Path) -> None:
    [run] = save_runs([(makers.report(), makers.positions())], tmp_path)
    [row] = run_rows(tmp_path).rows
    assert row.load() == run
    assert (row.name, row.has_positions) == ("tiny-llama", True)
    shutil.rmtree(run.folder)
    with pytest.raises(SaveError, match=r"report\.json is missing"):
        row.load()


def test_many_processes_at_once_leave_a_whole_index(tmp_path: Path) -> None:
    save_runs(made(40), tmp_path)
    code = (
        "import sys; from pathlib import Path; from mqf_tui.library.index import run_rows\n"
        "for _ in range(5): assert len(run_rows(Path(sys.argv[1])).rows) == 40\n"
        "print('pydantic' in sys.modules)"
    )

    def started() -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, str(tmp_path)]
        return subprocess.Popen(command, env=makers.environment(), stdout=subprocess.PIPE, text=True)

    for process in [started() for _ in range(3)]:
        assert process.communicate()[0] in ("True\n", "False\n")
        assert process.returncode == 0
    # What is known needs none of what reads reports.
    assert started().communicate()[0] == "False\n"
    assert [file.suffix for file in (tmp_path / "cache-home" / "runs").iterdir()] == [".json"]
    assert agrees(tmp_path) == 40
