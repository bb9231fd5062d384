"""``mqf-tui settings``: the file it writes is true, and what is wrong in one is listed with its place."""

from __future__ import annotations

import re
import tomllib

import pytest

from mqf_tui.app.actions import table
from mqf_tui.cli import main
from mqf_tui.fidelity.verdict import KV_POLICY
from mqf_tui.library.profiles import shipped_profiles
from mqf_tui.library.settings import AppSettings, settings_file, user_settings
from mqf_tui.library.settings_file import SECTIONS

KEY = re.compile(r"^# (?=\[|\"?[a-z_.]+\"? = )", re.MULTILINE)


def test_the_first_file_changes_nothing_and_holds_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    assert "--init" in capsys.readouterr().out
    assert main(["settings", "--init"]) == 0
    assert str(settings_file()) in capsys.readouterr().out
    found = user_settings()
    assert (found.problems, found.app, found.verdict, dict(found.keys)) == ((), AppSettings(), None, {})
    assert found.profiles == shipped_profiles()
    assert main(["settings"]) == 0

    whole = KEY.sub("", settings_file().read_text(encoding="utf-8"))
    data = tomllib.loads(whole)
    assert set(data) == set(SECTIONS)
    assert set(data["app"]) == set(AppSettings.__dataclass_fields__)
    assert set(data["keys"]) == {name for scope in table().values() for name in scope}
    settings_file().write_text(whole, encoding="utf-8")
    assert main(["settings"]) == 0, capsys.readouterr().out
    found = user_settings()
    assert found.app == AppSettings(theme="mqf-dusk")
    assert found.verdict is not None
    assert (found.verdict.kl_mean, found.verdict.kl_p99, found.verdict.flip_rate) == (
        KV_POLICY.kl_mean,
        KV_POLICY.kl_p99,
        KV_POLICY.flip_rate,
    )
    assert [one.name for one in found.profiles] == [*(one.name for one in shipped_profiles()), "my notes"]


def test_a_file_that_is_there_is_not_overwritten(capsys: pytest.CaptureFixture[str]) -> None:
    settings_file().parent.mkdir(parents=True, exist_ok=True)
    settings_file().write_text("[app]\nbell = false\n", encoding="utf-8")
    assert main(["settings", "--init"]) == 2
    assert "already" in capsys.readouterr().err
    assert settings_file().read_text(encoding="utf-8") == "[app]\nbell = false\n"


def test_what_cannot_be_used_is_listed_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    settings_file().parent.mkdir(parents=True, exist_ok=True)
    settings_file().write_text('[app]\ntheme = "none such"\n\n[keys]\n"runs.mark" = "c"\n', encoding="utf-8")
    assert main(["settings"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith(f"{settings_file()}, line 2: there is no theme none such")
    assert lines[1].startswith(f"{settings_file()}, line 5: [keys] runs.mark: c is the key of runs.compare")
