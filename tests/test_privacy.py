"""Of a text of the user's own no word and no token leaves the machine, unless that is asked for."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqf_tui import api
from mqf_tui.cli import main
from mqf_tui.fidelity.events import Finished, StepScored
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.library.runs import SavedRun, save_run
from mqf_tui.library.verifying import verify
from mqf_tui.reports.formats import FORMATS, render
from mqf_tui.reports.issue_text import run_issue
from tests import chat_models, makers

SECRETS = ("kalotura", "mivinoda", "perahozu")  # in no vocabulary, and nowhere else in a report


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return chat_models.chat_model(tmp_path_factory.mktemp("privacy") / "model")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    words = " ".join(f"{secret} {makers.words(12, seed)}" for seed in range(6) for secret in SECRETS)
    path = tmp_path_factory.mktemp("own") / "notes.txt"
    path.write_text(words, encoding="utf-8")
    return path


def measured(model: Path, corpus: Path | str, **more: Any) -> tuple[Finished, list[Any]]:
    settings = KVSettings(
        str(model), kv_bits=2, kv_group_size=32, chunk_length=64, corpus=str(corpus), max_chunks=4, **more
    )
    events = list(api.sweep_events(SweepSettings((settings,))))
    done = [event for event in events if isinstance(event, Finished)]
    assert done, events[-2]
    return done[0], events


@pytest.fixture(scope="module")
def private(model: Path, text: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[SavedRun, Finished]:
    done, _ = measured(model, text)
    saved = save_run(done.report, done.positions, tmp_path_factory.mktemp("runs"), tops=done.tops)
    return saved, done


def exports(run: SavedRun) -> dict[str, str]:
    """Every format of a run, as the command line makes it."""
    positions = run.positions()
    found = {name: render(name, run.report, positions) for name in FORMATS}
    found["dark"] = render("svg", run.report, positions, dark=True)
    found["positions"] = render("csv", run.report, positions, rows="positions")
    issue = run_issue(run.report, positions)
    return found | {"issue": issue.title + issue.body}


def spelled(words: str, model: Path) -> list[str]:
    """The tokens of the words, each long enough to be told from the rest of a report."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    pieces = [tokenizer.decode([i]).strip() for i in tokenizer.encode(words, add_special_tokens=False)]
    return [piece for piece in pieces if len(piece) > 3]


def test_no_format_has_words_or_tokens_of_it(
    private: tuple[SavedRun, Finished], model: Path, text: Path
) -> None:
    run, done = private
    assert run.report.text_kept is False
    words = {*SECRETS, *text.read_text(encoding="utf-8").replace(".", " ").split()}
    words = {word for word in words if len(word) > 5} | set(spelled(text.read_text(encoding="utf-8"), model))
    assert len(words) > 30
    ids = {str(i) for i in done.positions.token.tolist() if i > 100}
    for name, content in exports(run).items():
        assert not [word for word in words if re.search(rf"\b{re.escape(word)}\b", content)], name
        assert not [i for i in ids if f"#{i}" in content], name
    rows = [line.split(",") for line in exports(run)["positions"].splitlines()]
    for column in ("token", "token_text", "top1_ref", "top1_ref_text", "top1_quant", "top1_quant_text"):
        assert {row[rows[0].index(column)] for row in rows[1:]} == {""}, column
    assert all(row[rows[0].index("kl")] for row in rows[1:])
    for name in ("md", "html"):
        assert "no words of the text are kept" in exports(run)[name].lower()


def test_the_files_of_the_run_have_ids_and_no_words(private: tuple[SavedRun, Finished]) -> None:
    run, done = private
    assert not run.positions().texts
    assert np.array_equal(run.positions().token, done.positions.token)
    tops = run.tops()
    assert tops is not None
    assert not tops.texts
    for path in run.folder.iterdir():
        raw = path.read_bytes()
        contents = [raw]
        if path.suffix == ".npz":
            with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                contents = [archive.read(name) for name in archive.namelist()]
        for content in contents:
            assert not any(secret.encode() in content for secret in SECRETS), path.name
    assert verify(run.folder).differences == ()


def test_it_is_seen_while_it_runs(model: Path, text: Path) -> None:
    _, events = measured(model, text)
    steps = [event for event in events if isinstance(event, StepScored)]
    assert all(step.positions.texts for step in steps)


@pytest.mark.parametrize(
    ("corpus", "keep", "kept"),
    [
        (None, None, False),
        (None, True, True),
        (None, False, False),
        ("builtin", None, True),
        ("builtin", False, False),
    ],
)
def test_what_is_kept_is_a_choice(
    model: Path, text: Path, corpus: str | None, keep: bool | None, kept: bool
) -> None:
    done, _ = measured(model, corpus or text, text=TextOptions(keep_text=keep))
    assert done.report.text_kept is kept
    assert done.report.corpus.public is (corpus is not None)
    assert bool(done.positions.texts) is kept
    page = render("html", done.report, done.positions)
    assert ("Where the text suffers" in page) is kept
    option = {None: "", True: "--keep-text", False: "--no-keep-text"}[keep]
    assert option in done.report.command
    assert ("keep-text" in done.report.command) is bool(option)


def test_the_command_line_keeps_to_it(
    model: Path, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = "--kv-bits 2 --kv-group-size 32 --chunk-length 64 --max-chunks 3 --no-save --format html"
    options = [*said.split(), "--corpus"]
    assert main(["kv", str(model), *options, str(text)]) == 0
    page = capsys.readouterr().out
    assert not any(secret in page for secret in SECRETS)
    assert main(["kv", str(model), *options, str(text), "--keep-text"]) == 0
    assert "Where the text suffers" in capsys.readouterr().out


def test_conversations_are_ones_own(model: Path, tmp_path: Path) -> None:
    file = chat_models.chat_file(tmp_path / "chats.jsonl", chat_models.conversations(3))
    done, _ = measured(model, file, text=TextOptions(assistant_only=True))
    assert done.report.text_kept is False
    for name in FORMATS:
        page = render(name, done.report, done.positions)
        assert chat_models.conversations(3)[0][1]["content"][:12] not in page
    page = render("md", done.report)
    assert "only what the assistant says" in page
    assert "--assistant-only" in done.report.command
