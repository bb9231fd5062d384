"""The user's settings file, ``settings.toml``, as a whole. docs/settings.md describes every key.

    [verdict]
    policy = "mine"             # a name, for the reports
    kl_mean = [0.005, 0.05]     # the most that is still good, the most that is still marginal (nats)
    kl_p99 = [0.05, 0.5]
    flip_rate = [0.005, 0.02]   # shares

What is left out is the default's. The app takes the default for what is wrong, and says so; the command line
refuses a verdict that it cannot read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.library.profiles import Profile, shipped_profiles, user_profiles
from mqf_tui.library.settings_app import AppSettings, app_settings, key_settings, model_folders
from mqf_tui.library.settings_file import SECTIONS, SettingsFile, config_dir, read_settings, settings_file

if TYPE_CHECKING:
    from mqf_tui.reports.schema import Thresholds

__all__ = ["AppSettings", "UserSettings", "config_dir", "settings_file", "user_policy", "user_settings"]


@dataclass(frozen=True)
class UserSettings:
    """Everything in the settings file, defaults for what is missing or wrong.

    ``verdict`` None: the default thresholds; ``keys``: for ``scope.name`` of an action its keys;
    ``problems``: a sentence for each thing that is wrong in the file.
    """

    verdict: Thresholds | None = None
    keys: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    app: AppSettings = field(default_factory=AppSettings)
    model_folders: tuple[Path, ...] = ()
    profiles: tuple[Profile, ...] = ()
    problems: tuple[str, ...] = ()


def user_settings() -> UserSettings:
    """Read the settings file; never raises for what is in it."""
    try:
        file = read_settings()
    except BadSettingError as error:
        return UserSettings(profiles=shipped_profiles(), problems=(str(error),))
    problems: list[str] = [str(file.unknown("it", key, SECTIONS)) for key in file.data if key not in SECTIONS]
    verdict = None
    try:
        verdict = _policy(file)
    except BadSettingError as error:
        problems.append(str(error))
    return UserSettings(
        verdict,
        key_settings(file, problems),
        app_settings(file, problems),
        model_folders(file, problems),
        user_profiles(file, problems),
        tuple(problems),
    )


def user_policy() -> Thresholds | None:
    """The user's own thresholds, None where they have none; raises BadSettingError."""
    file = read_settings()
    file.check_keys("it", file.data, SECTIONS)
    return _policy(file)


def _policy(file: SettingsFile) -> Thresholds | None:
    if not file.table("verdict"):
        return None
    # Late: NumPy comes with it, and the app reads its settings before it draws anything.
    from mqf_tui.library.settings_verdict import policy_of

    return policy_of(file)
