"""``mqf-tui settings``: where the settings file is, what is wrong in it, and a first one to begin with."""

from __future__ import annotations

import argparse
import json
from importlib import resources

from mqf_tui.console.output import say
from mqf_tui.fidelity.errors import BadSettingError, SaveError
from mqf_tui.library.settings_file import settings_file


def run(options: argparse.Namespace) -> int:
    """Do what ``options`` ask; return the exit code: 2 where something in the file cannot be used."""
    return _init() if options.init else _check()


def _init() -> int:
    path = settings_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(default_text())
    except FileExistsError as error:
        raise BadSettingError(f"there is {path} already; move it away to get a new one.") from error
    except OSError as error:
        raise SaveError(
            f"{path} cannot be written ({error.strerror}); MQF_TUI_CONFIG_DIR names another folder."
        ) from error
    say(f"{path}: every setting with its default; take the # away to change one.\n")
    return 0


def _check() -> int:
    path = settings_file()
    if not path.exists():
        say(f"There is no {path}; `mqf-tui settings --init` writes one, with every setting explained.\n")
        return 0
    found = problems()
    say("".join(f"{one}\n" for one in found) or f"{path}: everything in it can be used.\n")
    return 2 if found else 0


def problems() -> list[str]:
    """A sentence for each thing in the settings file that cannot be used, as at the app's start."""
    from mqf_tui.app.actions import keymap
    from mqf_tui.app.themes import known_themes, themes, unknown_theme
    from mqf_tui.library.settings import user_settings
    from mqf_tui.library.settings_file import place_of

    settings = user_settings()
    looks = [*themes()[1], unknown_theme(settings.app.theme, known_themes())]
    keys = keymap(settings.keys, lambda name: place_of("keys", name))[1]
    return [*settings.problems, *filter(None, looks), *keys]


def default_text() -> str:
    """The file that ``--init`` writes: everything in it is a comment, but for the sections."""
    from mqf_tui.app.actions import actions

    told = resources.files("mqf_tui.library").joinpath("settings_default.toml").read_text(encoding="utf-8")
    keys = {name: one.keys if len(one.keys) > 1 else "".join(one.keys) for name, one in actions().items()}
    return told + "".join(
        f"# {json.dumps(name)} = {json.dumps(keys[name])}  # {one.help}\n" for name, one in actions().items()
    )
