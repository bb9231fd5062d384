"""settings.toml: every section, what is wrong in it told with its line, the rest used all the same."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from mqf_tui.cli import main
from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.library.profiles import Profile, shipped_profiles
from mqf_tui.library.settings import AppSettings, settings_file, user_policy, user_settings
from mqf_tui.library.settings_file import line_of

ALL = """\
[verdict]
policy = "mine"
kl_mean = [0.001, 0.02]

[app]
theme = "mqf-ink"
bell = false
notify = false
unicode = false
tour = false

[keys]
"runs.mark" = "x"
runs.open = ["o", "enter"]

[models]
folders = ["~/here", "/there/"]

[profiles."quick look"]
chunks = 8

[profiles.mine]
words = "of my own"
bits = [8, 2]
groups = [32]
formats = ["k8v4", "mxfp4"]
chunk_length = 100
chunks = "all"
stop = "5%"
race = true
quantize_start = 16
corpus = "~/notes.txt"
"""


@pytest.fixture
def write() -> Any:
    def written(content: str | bytes) -> Path:
        path = settings_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return written


def test_every_section(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    write(ALL)
    found = user_settings()
    assert found.problems == ()
    assert found.verdict is not None
    assert (found.verdict.policy, found.verdict.kl_mean) == ("mine", (0.001, 0.02))
    assert found.app == AppSettings("mqf-ink", bell=False, notify=False, unicode=False, tour=False)
    assert found.keys == {"runs.mark": ("x",), "runs.open": ("o", "enter")}
    assert found.model_folders == (Path("/home/me/here"), Path("/there"))
    by_name = {one.name: one for one in found.profiles}
    assert list(by_name) == ["quick look", "thorough", "publish", "mine"]
    [shipped] = [one for one in shipped_profiles() if one.name == "quick look"]
    assert (by_name["quick look"].chunks, shipped.chunks) == (8, 5)
    assert by_name["quick look"].words == shipped.words
    assert by_name["mine"] == Profile(
        name="mine",
        words="of my own",
        bits=(8, 2),
        groups=(32,),
        formats=("k8v4", "mxfp4"),
        chunk_length=100,
        chunks="all",
        stop="5%",
        race=True,
        quantize_start=16,
        corpus="~/notes.txt",
    )


def test_without_a_file_all_is_the_default() -> None:
    found = user_settings()
    assert (found.verdict, found.keys, found.model_folders, found.problems) == (None, {}, (), ())
    assert found.app == AppSettings("", bell=True, notify=True, unicode=None, tour=True)
    assert [one.name for one in found.profiles] == ["quick look", "thorough", "publish"]


WRONG = [
    ("[app]\ntheme = 5", 2, "theme is 5; use a theme's name in quotes"),
    ("[app]\n\nbell = 'no'", 3, "bell is 'no'; use true or false"),
    ("[app]\nunicode = 1", 2, 'unicode is 1; use "auto", true or false'),
    ("[app]\ncolour = 1", 2, r"\[app\] has an unknown key 'colour'; there is only theme, unicode, bell"),
    ("app = 3", 1, r"app is 3; make it a table that begins with \[app\]"),
    ("[keys]\nmark = 'x'", 2, r"\[keys\] has 'mark'; name an action as \"screen.action\""),
    ("[keys]\n# one\n'runs.mark' = 7", 3, "the key of runs.mark is 7; use a key in quotes"),
    ("[keys]\n'runs.mark' = ['a', '']", 2, r"the key of runs.mark is \['a', ''\]; use a key"),
    ("[models]\nfolders = [3]", 2, r"folders is \[3\]; use paths in quotes in a list"),
    ("[models]\nfolder = ''", 2, "unknown key 'folder'; there is only folders"),
    ("profiles = []", 1, r"profiles is \[\]; make it a table"),
    ("[profiles]\nmine = 3", 2, "the profile mine is 3; make it a table"),
    ("[profiles.mine]\nbits = [4, 7]", 2, r"bits of the profile mine is \[4, 7\]; use a list of 2, 3"),
    ("[profiles.mine]\nbits = []", 2, r"bits of the profile mine is \[\]; use a list"),
    ("[profiles.mine]\ngroups = [true]", 2, "use a list of 32, 64, 128"),
    ("[profiles.mine]\nformats = ['k16v16']", 2, "use a list of words such as"),
    ("[profiles.mine]\nchunk_length = 15", 2, "use a whole number of tokens from 16"),
    ("[profiles.mine]\nchunks = 'some'", 2, 'use a whole number from 1, or "all"'),
    ("[profiles.mine]\nstop = '3%'", 2, "use one of 'end', 'sure', '5%', '2%'"),
    ("[profiles.mine]\nrace = 1", 2, "use true or false"),
    ("[profiles.mine]\nquantize_start = -1", 2, r"use 0 \(stress\)"),
    ("[profiles.mine]\nbit = [4]", 2, "the profile mine has an unknown key 'bit'; there is only words, bits"),
    ("[profiles.'" + "n" * 21 + "']", None, "use a name of 1 to 20 characters"),
]


@pytest.mark.parametrize(("content", "line", "says"), WRONG, ids=[content for content, *_ in WRONG])
def test_what_is_wrong_is_told_and_the_rest_used(write: Any, content: str, line: int, says: str) -> None:
    path = write(f"{content}\n[verdict]\nkl_p99 = [0.2, 2]\n")
    found = user_settings()
    [problem] = found.problems
    assert problem.startswith(f"{path}, line {line}: " if line else f"{path}: ")
    assert re.search(says, problem), problem
    assert problem.endswith(".")
    # Only the verdict concerns the command line.
    assert found.verdict == user_policy() != None  # noqa: E711
    assert [one.name for one in found.profiles][:3] == ["quick look", "thorough", "publish"]
    assert found.app == AppSettings()


def test_several_problems_each_have_a_sentence(write: Any) -> None:
    write('[app]\nbell = 1\nnotify = 2\ntheme = "dusk"\n[profiles.mine]\nrace = 3\nchunks = 4\n[nothing]\n')
    found = user_settings()
    assert len(found.problems) == 4
    assert found.app.theme == "dusk"
    assert found.profiles[-1] == Profile("mine", chunks=4)
    with pytest.raises(BadSettingError, match=r"unknown key 'nothing'.*\(line 8\)"):
        user_policy()


@pytest.mark.parametrize("content", [b"[app", b"\xff\xfe", b"a = " + b"[" * 9999, b"\x00"])
def test_a_file_that_cannot_be_read_leaves_the_defaults(write: Any, content: bytes) -> None:
    write(content)
    found = user_settings()
    [problem] = found.problems
    assert "settings.toml cannot be used" in problem
    assert found.app == AppSettings()
    assert len(found.profiles) == 3


def test_hostile_words_come_out_inert(write: Any) -> None:
    write(
        '[app]\ntheme = "a\\u001b[2Jb"\n["\\u001b]0;x\\u0007"]\n[profiles."\\u202ep"]\nwords = "\\u001b[1m"\n'
    )
    found = user_settings()
    assert found.app.theme == "a[2Jb"
    assert all(char.isprintable() for problem in found.problems for char in problem)
    assert (found.profiles[-1].name, found.profiles[-1].words) == ("p", "[1m")


def test_the_command_line_goes_on_with_a_wrong_theme(write: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write("[app]\ntheme = 5\n")
    assert main(["doctor"]) == 0
    assert "settings file is broken" not in capsys.readouterr().out


def test_lines_of_keys() -> None:
    text = (
        '# [app]\n[app] # how\nbell = 1\n\n[ profiles . "a b" ]\nbell = 2\n[keys]\nruns.mark="x"\n[[odd]]\n'
    )
    assert line_of(text, ("app",), "bell") == 3
    assert line_of(text, ("profiles", "a b"), "bell") == 6
    assert line_of(text, ("keys",), "runs.mark") == 8
    assert line_of(text, (), "app") == 2
    assert line_of(text, ("app",), "missing") == 2
    assert line_of(text, ("nothing",), "bell") is None
