"""``mqf-tui models search`` and ``mqf-tui models download``, against a hub on loopback."""

from __future__ import annotations

import json
import logging
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mqf_tui.cli import main
from mqf_tui.console import hub as console
from mqf_tui.library.hub import calls as hub_calls
from mqf_tui.library.hub.meter import Progress
from tests.conftest import ROOT
from tests.hub_models import FILES, LARGE, NAME, contents, partials
from tests.hub_server import WEB_LOGIN, Fault, LocalHub
from tests.makers import environment
from tests.test_borders import HEAVY
from tests.test_cli import Terminal

TOKEN = "hf_neverToBeSeen"


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_calls, "FIRST_PAUSE", 0.001)


def test_search_as_a_table(hub: LocalHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.add_model(NAME, FILES, downloads=12_345, safetensors={"F16": 2_000_000})
    hub.add_model("mlx-community/tiny-8bit", FILES, downloads=7, gated="manual")
    hub.add_model("someone/tiny", FILES, downloads=3, private=True)
    assert main(["models", "download", NAME]) == 0
    capsys.readouterr()
    assert main(["models", "search", "tiny"]) == 0
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["MODEL", "SIZE", "DOWNLOADS", "UPDATED"]
    assert first.split() == [NAME, "4.0", "MB", "12,345", "2026-11-20", "here"]
    assert second.split() == ["mlx-community/tiny-8bit", "—", "7", "2026-11-20", "gated"]


def test_search_as_json_and_its_options(hub: LocalHub, capsys: pytest.CaptureFixture[str]) -> None:
    hub.add_model(NAME, FILES)
    hub.add_model("someone/tiny", FILES, downloads=3)
    for words in (
        ["search", "tiny", "--format", "json", "--any-author"],
        ["--format", "json", "search", "tiny", "--any-author"],
    ):
        assert main(["models", *words]) == 0
        rows = json.loads(capsys.readouterr().out)
        assert [row["name"] for row in rows] == ["someone/tiny", NAME]
        assert set(rows[0]) == {
            *("name", "downloads", "likes", "updated", "gated", "private", "size_bytes", "here"),
        }
    assert main(["models", "search", "tiny", "--author", "someone", "--limit", "1"]) == 0
    assert "someone/tiny" in capsys.readouterr().out
    assert hub.asked("/api/models")[-1].query["limit"] == ["1"]
    assert main(["models", "search", "tiny", "4bit", "--any-author"]) == 0
    assert hub.asked("/api/models")[-1].query["search"] == ["tiny 4bit"]


def test_search_without_a_find(hub: LocalHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "search", "no\x1bthing"]) == 0
    assert capsys.readouterr().out == (
        "no model of mlx-community on the hub fits 'nothing'; use fewer words, or look among everybody's "
        "with --any-author.\n"
    )
    assert main(["models", "search", "nothing", "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out) == []


@pytest.mark.parametrize(
    "words",
    [
        ["search"],
        ["search", "x", "--limit", "0"],
        ["search", "x", "--limit", "many"],
        ["search", "x", "--author", "a", "--any-author"],
        ["search", "x", "--format", "csv"],
        ["download"],
        ["download", "a/b/c"],
        ["download", "a/b@../x"],
        ["fetch", "a/b"],
    ],
)
def test_bad_words(hub: LocalHub, capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert main(["models", *words]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mqf-tui: ")
    assert len(said.splitlines()) == 1
    assert not hub.requests


def test_the_list_of_models_is_what_it_was(hub: LocalHub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    assert capsys.readouterr().out.startswith("MODEL")
    assert main(["models", "--format", "json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == ["demo"]
    assert not hub.requests


def test_a_downloaded_model_is_measured_by_its_name(
    hub: LocalHub, demo_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hub.add_model(NAME, {file.name: file for file in demo_model.iterdir()})
    assert main(["models", "download", NAME]) == 0
    out, err = capsys.readouterr()
    assert contents(Path(out.rstrip("\n"))) == {f.name: f.read_bytes() for f in demo_model.iterdir()}
    assert f"{NAME}: 4.8 MB fetched; measure it with `mqf-tui kv {NAME}`" in err
    assert main(["models"]) == 0
    assert NAME in capsys.readouterr().out
    words = ["--kv-bits", "4", "--chunk-length", "64", "--max-chunks", "1", "--format", "json", "--no-save"]
    reports = [main(["kv", name, *words]) or json.loads(capsys.readouterr().out) for name in (NAME, "demo")]
    assert reports[0]["model"] == NAME
    assert reports[0]["kl"] == reports[1]["kl"]
    before = len(hub.requests)
    assert main(["models", "download", NAME]) == 0
    assert "all of it was here already" in capsys.readouterr().err
    assert len(hub.requests) == before + 1


def _faults(hub: LocalHub) -> Iterator[None]:
    """One after the other, with a token on the way each time."""
    for path, fault in (
        ("/api/models*", Fault(401, {"X-Error-Message": "Invalid credentials in Authorization header"})),
        ("/api/models*", Fault(403, {"X-Error-Message": f"Bearer {TOKEN} may not"})),
        ("/api/models*", Fault(404, {"X-Error-Code": "RepoNotFound"})),
        ("/api/models*", Fault(500, body=TOKEN.encode())),
        ("/api/models*", WEB_LOGIN),
        ("/*/resolve/*", Fault(403, {"X-Error-Code": "GatedRepo"})),
        ("/*/resolve/*", Fault(302, {"Location": "http://cdn.invalid/"})),
        (LARGE, Fault(cut_after=10)),
        (LARGE, Fault(corrupt=True)),
    ):
        hub.mend()
        hub.fault(path, fault)
        yield
    hub.mend()
    yield


def test_the_token_is_never_seen(
    hub: LocalHub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    hub.add_token(TOKEN)
    hub.add_model(NAME, FILES, private=True)
    codes: list[int] = []
    for _ in _faults(hub):
        codes.append(main(["--debug", "models", "download", NAME]))
        main(["models", "search", "tiny"])
        out, err = capsys.readouterr()
        assert TOKEN not in out + err
        assert codes[-1] == 0 or re.fullmatch(r"mqf-tui: [^\n]+\n", err.splitlines(keepends=True)[-1])
    assert set(codes[:-1]) == {2}
    assert codes[-1] == 0
    assert sum(one.token == TOKEN for one in hub.requests) > 10
    assert TOKEN not in caplog.text
    for name, content in contents(tmp_path).items():
        assert TOKEN.encode() not in content, name


def test_in_a_pipe_it_says_now_and_then_how_far_it_is(
    hub: LocalHub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "LINE_SECONDS", 1e9)
    hub.add_model(NAME, FILES)
    hub.fault(LARGE, Fault(cut_after=300_000), times=1)
    hub.fault(LARGE, Fault(429, {"Retry-After": "1"}), times=1)
    assert main(["models", "download", NAME]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3, lines
    assert re.fullmatch(
        r" \d\d%  \d+ kB of 600 kB  the connection was cut; trying again \(2 of 5\)", lines[0]
    )
    assert "the hub asks to wait 1 s; trying again" in lines[1]
    assert lines[2].startswith(f"{NAME}: 600 kB fetched")
    monkeypatch.setattr(console, "LINE_SECONDS", 0.0)
    assert main(["models", "download", NAME]) == 0
    assert "100%  600 kB of 600 kB" in capsys.readouterr().err


def test_ctrl_c_keeps_what_was_fetched(hub: LocalHub, tmp_path: Path) -> None:
    hub.add_model(NAME, FILES)
    hub.fault(LARGE, Fault(hold_after=400_000), times=1)
    terminal = Terminal(["models", "download", NAME], environment(), tmp_path / "out")
    try:
        terminal.until(lambda seen: re.search(r"6[67]%  400 kB of 600 kB", seen))
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.finish() == 130
    finally:
        terminal.close()
    assert (
        f"cancelled; what has been fetched is kept, and `mqf-tui models download {NAME}` goes on from there."
    ) in terminal.seen
    assert "Traceback" not in terminal.seen
    assert (tmp_path / "out").read_text() == ""
    (partial,) = partials(tmp_path)
    kept = partial.stat().st_size
    assert main(["models", "download", NAME]) == 0
    assert hub.asked(LARGE)[-1].part == f"bytes={kept}-"


@pytest.mark.parametrize(
    ("progress", "words"),
    [
        (Progress("", 0, 0, 0, 0, 0.0), "asking the hub …"),
        (Progress("", 0, 0, 0, 0, 0.0, "the hub asks to wait 2 s"), "the hub asks to wait 2 s"),
        (Progress("a.json", 3, 0, 0, 0, 0.0), "  0%  0 B of 0 B  a.json (1 of 3)"),
        (
            Progress("m.safetensors", 3, 2, 500_000_000, 2_000_000_000, 1e8),
            " 25%  500 MB of 2.0 GB  100 MB/s  15 s left  m.safetensors (3 of 3)",
        ),
        (
            Progress("m.safetensors", 3, 2, 1, 2, 1e8, "the connection was cut"),
            " 50%  1 B of 2 B  the connection was cut",
        ),
        (Progress("b.json", 3, 3, 2, 2, 0.0), "100%  2 B of 2 B  b.json (3 of 3)"),
    ],
)
def test_progress_in_words(progress: Progress, words: str) -> None:
    assert console.progress_words(progress) == words


@pytest.mark.parametrize("words", [["models", "search", "--help"], ["models", "download", "--help"]])
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom mqf_tui.cli import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\n"
        f"print(sorted(set({HEAVY!r}) & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_names_what_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["models", "download", "--help"])
    said = " ".join(capsys.readouterr().out.split())
    assert "the same command goes on where it was" in said
