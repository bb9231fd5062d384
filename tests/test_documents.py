"""Documents: their formats, the text of an issue, previews, files that are written, pages that are opened."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from mqf_tui.app.browsing import open_page, write_page
from mqf_tui.app.documents import (
    LONGEST_BODY,
    comparison_document,
    issue_document,
    run_document,
    sensitivity_document,
    sweep_document,
    tuning_document,
)
from mqf_tui.app.previews import cut, harmless, pieces, readable_markdown
from mqf_tui.app.screens.report_dialogs import remembered_tracker
from mqf_tui.fidelity.comparison import compare
from mqf_tui.fidelity.errors import BadSettingError, SaveError
from mqf_tui.library import places
from mqf_tui.library.exporting import export, export_path
from mqf_tui.library.remembered import remember, state_file
from mqf_tui.library.studies import all_studies
from mqf_tui.library.sweeps import save_sweep
from mqf_tui.library.tunings import list_tunings, load_tuning, save_tuning
from mqf_tui.reports.issue_text import parse_tracker
from mqf_tui.reports.schema import Estimate, LayerFormat
from mqf_tui.reports.tuning_schema import TunedSetting, Tuning
from tests import made_sweeps, makers
from tests.github import Page


def setting(name: str, **changes: object) -> TunedSetting:
    found = {
        "setting": name,
        "uniform": False,
        "layers": [LayerFormat(layers="0,2", format="8g64"), LayerFormat(layers="1", format="k8v4g64")],
        "kv_bytes": 400.0,
        "predicted_kl": 0.01,
        "kl": Estimate(value=0.012, ci=(0.01, 0.014)),
        "flips": Estimate(value=0.02),
        "verdict": "marginal",
        "within": True,
    }
    return TunedSetting.model_validate(found | changes)


def tuning(**changes: object) -> Tuning:
    found = {
        "created": "2026-03-04T05:06:07+00:00",
        "model": "org/tiny-llama",
        "corpus": makers.report().corpus,
        "chunk_length": 128,
        "n_positions": 1016,
        "n_chunks": 8,
        "max_kl": 0.02,
        "met": True,
        "answer": "the recipe has a mean KL of 0.012 at 400 bytes.",
        "n_layers": 3,
        "full_bytes": 1536.0,
        "recipe": setting("recipe 1"),
        "tried": [setting("recipe 2", within=False)],
        "uniform": [setting("4g64", uniform=True, verdict="bad")],
        "sensitivity": [made_sweeps.sensitivity(3)],
        "warnings": [],
        "toml": 'name = "made"\n',
        "code": "def make_cache(model):\n    return model\n",
    }
    return Tuning.model_validate(found | changes)


def test_every_format_of_every_document_is_what_its_ending_says() -> None:
    report, positions = makers.report(), makers.positions()
    runs = made_sweeps.six()
    documents = [
        run_document(report, lambda: positions, "20260304-run"),
        sweep_document(made_sweeps.summary(runs)),
        sensitivity_document(made_sweeps.summary(runs, sensitivity=made_sweeps.sensitivity())),
        comparison_document(compare(runs[:3])),
        tuning_document(tuning()),
    ]
    seen: set[str] = set()
    for document in documents:
        names = [document.file_name(name) for name in document.formats]
        assert len(set(names)) == len(names)
        assert all(name.startswith(document.stem) and "/" not in name for name in names)
        for name in document.formats:
            text, ending = document.render(name), document.file_name(name).rsplit(".", 1)[-1]
            seen.add(ending)
            match ending:
                case "json":
                    assert json.loads(text)
                case "csv":
                    head, *rest = csv.reader(io.StringIO(text))
                    assert rest
                    assert {len(row) for row in rest} == {len(head)}
                case "toml":
                    assert tomllib.loads(text) == {"name": "made"}
                case "py":
                    compile(text, "code", "exec")
                case "html":
                    assert text.startswith("<!DOCTYPE html>")
                case "svg":
                    assert text.startswith("<svg")
                case _:
                    assert Page(text).balanced or text.startswith("---")
    assert seen == {"md", "json", "csv", "toml", "py", "html", "svg"}
    card = documents[0].render("card")
    assert yaml.safe_load(card.split("---")[1])["model-index"][0]["name"] == "org/tiny-llama"
    assert len(list(csv.reader(io.StringIO(documents[0].render("positions"))))) == 1 + len(positions)
    assert documents[0].file_name("html") == "20260304-run.html"
    assert "positions" not in run_document(report).formats


def test_positions_are_read_only_for_what_shows_them() -> None:
    def broken():
        raise SaveError("the positions cannot be read.")

    document = run_document(makers.report(), broken)
    for name in ("md", "card", "json", "csv", "badge", "badge-json"):
        assert document.render(name)
    for name in ("html", "svg", "dark.svg", "positions"):
        with pytest.raises(SaveError):
            document.render(name)


def test_the_text_of_an_issue() -> None:
    report, positions = makers.report(), makers.positions()
    tracker = parse_tracker("https://github.com/ml-explore/mlx-lm/issues/12")
    document = run_document(report, positions)
    assert document.text_name == "notes.txt"
    assert not document.text_open  # a file of the user's own
    built_in = makers.report(corpus={"name": "builtin", "version": "1", "chunk_length": 128})
    assert run_document(built_in, positions).text_open
    issue = issue_document(document, tracker, quoted=False)
    body, title = Page(issue.render("body")), issue.render("title")
    assert title == "org/tiny-llama: 4-bit KV cache, group 64: marginal, mean KL 0.0234 nats\n"
    verdicts, facts = body.tables[0], dict(body.tables[1])
    assert [row[0] for row in verdicts[1:]] == ["mean KL (nats)", "p99 KL (nats)", "top-1 flips"]
    assert verdicts[1][1:] == ["0.0234", "0.0200 to 0.0270", "good ≤ 0.01, marginal ≤ 0.1"]
    assert facts["software"] == "mqf-tui 0.1.0, mlx 0.32.4, mlx-lm 0.32.2, Python 3.11.7"
    assert facts["setting"] == "4-bit KV cache, group 64, stress"
    assert "mqf-tui kv org/tiny-llama --kv-bits 4" in body.blocks["pre"]
    assert " t12 " not in issue.render("body")
    worst = Page(issue_document(document, tracker, quoted=True).render("body")).tables[2]
    i = int(positions.kl.argmax())
    assert worst[1][0] == f"{positions.chunk[i] + 1} / {positions.depth[i]}"
    assert worst[1][2] == f"␣t{positions.token[i]}"
    whole = issue.render("issue")
    assert whole.startswith("Paste into https://github.com/ml-explore/mlx-lm/issues/new\n\nTitle: org/tiny")
    assert whole.endswith(issue.render("body"))
    assert "Nothing is sent" in issue.note
    sweep = issue_document(sweep_document(made_sweeps.summary(made_sweeps.six())), tracker, quoted=False)
    assert sweep.render("title").startswith("org/tiny-llama: use 6-bit, group 64")
    assert not sweep.render("body").startswith("#")
    long = tuning(code="x = 1\n" * LONGEST_BODY)
    assert "GitHub takes 65,536" in issue_document(tuning_document(long), tracker, quoted=False).note


@pytest.mark.parametrize(
    ("words", "address"),
    [
        ("a/b", "https://github.com/a/b/issues/new"),
        (" github.com/a/b.git ", "https://github.com/a/b/issues/new"),
        ("git@github.com:a/b.git", "https://github.com/a/b/issues/new"),
        ("https://codeberg.org/a/b/", "https://codeberg.org/a/b/issues/new"),
        ("gitlab.com/a/b/-/issues", "https://gitlab.com/a/b/-/issues/new"),
        *((word, "") for word in ("", "a", "a/b/c", "../..", "https://github.com/a", "a b/c", "a/b\x1b[2J")),
    ],
)
def test_trackers(words: str, address: str) -> None:
    if address:
        assert parse_tracker(words).address == address
        return
    with pytest.raises(BadSettingError, match="names no tracker; write owner/name") as raised:
        parse_tracker(words)
    assert "\x1b" not in str(raised.value)


def test_the_tracker_is_remembered() -> None:
    assert remembered_tracker() == ""
    remember(tracker="a/b")
    assert remembered_tracker() == "a/b"
    remember(tracker="c/d\x1b[2J\n" + "x" * 10**5)
    assert remembered_tracker().startswith("c/d[2J")
    assert len(remembered_tracker()) <= 200
    state_file().write_text("[" * 10**5)
    assert remembered_tracker() == ""
    state_file().unlink()
    state_file().mkdir()
    remember(tracker="e/f")
    assert remembered_tracker() == ""


def test_places_are_not_found_in_a_damaged_file(tmp_path: Path) -> None:
    places.note("texts", "abc", tmp_path)
    assert places.find("texts", "abc") == str(tmp_path)
    [file] = (tmp_path / "cache-home").rglob("places.json")
    for content in ("[" * 10**5, "[]", '{"texts": 1}', "\xff"):
        file.write_text(content)
        assert places.find("texts", "abc") is None
        places.note("texts", "abc", tmp_path)
        assert places.find("texts", "abc") == str(tmp_path)


def test_previews() -> None:
    assert harmless("a\x1b[31m\tb\r\nc\u202ed\u2066e\x00\n") == "a[31m    b\ncde\n"
    shown, words = cut("line\n" * 100, 52)
    assert shown == "\n".join(["line"] * 10)
    assert words.startswith("the first 49 of 500 characters")
    assert cut("abc", 3) == ("abc", "")
    assert len(cut("x" * 100, 30)[0]) == 30
    code = "```python\na = 1\n\nb = 2\n```"
    text = "\n\n".join(["# One", "two " * 30, code, "three", "````\n```\n\n````", "| a |\n| --- |\n| b |"])
    found = list(pieces(text, 40))
    assert "\n".join(found) == text
    assert any(code in piece for piece in found)
    assert any("````\n```\n\n````" in piece for piece in found)
    assert len(found) > 3
    folded = "<details>\n<summary>How</summary>\n\nwords\n\n</details>\n"
    assert "#### How" in readable_markdown(folded)
    assert "details" not in readable_markdown(folded)
    assert readable_markdown("---\na: 1\n---\n\ntext").startswith("```yaml\na: 1\n```\n")


def test_where_a_text_is_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    assert export_path("r.md", "x.md") == Path("r.md")
    assert export_path(" ~/r.md ", "x.md") == tmp_path / "home" / "r.md"
    assert export_path("~", "x.md") == tmp_path / "home" / "x.md"
    (tmp_path / "home" / "x.md").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for words, why in (
        ("", "no file is named"),
        ("none/r.md", "there is no folder none"),
        ("none/", "there is no folder none/"),
        ("~", "is a folder"),
        ("pipe", "no ordinary file"),
        ("a\0b", "NUL"),
        ("n" * 300, "cannot be written"),
    ):
        with pytest.raises(SaveError, match=why):
            export_path(words, "x.md")
    rows = "a,b\r\n1,ä\r\n"
    export(Path("rows.csv"), rows)
    assert Path("rows.csv").read_bytes() == rows.encode()
    Path("link.csv").symlink_to("rows.csv")
    export(Path("link.csv"), "new")
    assert Path("link.csv").is_symlink()
    assert Path("rows.csv").read_text() == "new"
    Path("loop").symlink_to("loop")
    with pytest.raises(SaveError, match="cannot be written"):
        export(Path("loop"), "x")


def test_pages_are_opened_where_a_browser_can_be_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_page("run.html", "<p>ä</p>")
    assert path.is_relative_to(tmp_path / "cache-home")
    assert path.read_text(encoding="utf-8") == "<p>ä</p>"
    asked: list[list[str]] = []

    def start(command) -> bool:
        asked.append(list(command))
        return len(asked) == 1

    words, opened = open_page(path, {"DISPLAY": ":0"}, start)
    assert opened
    assert str(path) in words
    assert asked[0][-1] == path.as_uri()
    words, opened = open_page(path, {"DISPLAY": ":0"}, start)
    assert not opened
    assert words.startswith("No browser was found")
    monkeypatch.setattr(sys, "platform", "linux")
    for environ, why in (({}, "no desktop"), ({"DISPLAY": ":0", "SSH_TTY": "/dev/pts/0"}, "over ssh")):
        words, opened = open_page(path, environ, start)
        assert not opened
        assert why in words
        assert str(path) in words
    assert len(asked) == 2
    (tmp_path / "cache-home" / "pages" / "run.html").unlink()
    (tmp_path / "cache-home" / "pages").rmdir()
    (tmp_path / "cache-home" / "pages").write_text("a file")
    with pytest.raises(SaveError, match="cannot be written"):
        write_page("run.html", "")


def test_tunings_are_kept_whole_and_listed_with_sweeps(data_home: Path) -> None:
    assert all_studies() == []
    found = tuning()
    for _ in range(2):
        save_tuning(found)
    names = list_tunings()
    assert names == ["20260304050607-org-tiny-llama-2", "20260304050607-org-tiny-llama"]
    assert load_tuning(names[0]) == found
    save_sweep(made_sweeps.summary(made_sweeps.six(), created="2026-05-01T00:00:00+00:00"))
    layers = made_sweeps.summary(made_sweeps.six(), sensitivity=made_sweeps.sensitivity())
    save_sweep(layers.model_copy(update={"sweep_id": "layers", "created": "2026-06-01", "partial": True}))
    (data_home / "sweeps" / "broken.json").write_text("{")
    (data_home / "tunings" / "odd.json").write_text('{"created": 5}')
    studies = all_studies()
    assert [study.kind for study in studies[:4]] == ["sensitivity", "sweep", "tuning", "tuning"]
    assert [study.partial for study in studies[:2]] == [True, False]
    assert {study.id: study.problem for study in studies[4:]} == {
        "odd": "it is damaged",
        "broken": "it is damaged",
    }
    with pytest.raises(SaveError, match="cannot be read"):
        load_tuning("odd")
    with pytest.raises(SaveError, match="there is no tuning"):
        load_tuning("../sweeps/broken")
