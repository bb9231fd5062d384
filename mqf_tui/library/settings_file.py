"""The user's settings file as it lies on disk: where it is, what TOML is in it, on which line a key is."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mqf_tui.fidelity.errors import BadSettingError, brief
from mqf_tui.library.folders import user_dir
from mqf_tui.reports.text import inert

SECTIONS = ("verdict", "keys", "app", "models", "profiles")
MOST_QUOTED = 60  # characters of a wrong value that a message shows
_HEADER = re.compile(r"\s*\[+\s*(.*?)\s*\]+\s*(?:#.*)?$")


def config_dir() -> Path:
    """Where this user's settings live; ``MQF_TUI_CONFIG_DIR`` overrides."""
    return user_dir("config")


def settings_file() -> Path:
    """The settings file, whether there is one or not."""
    return config_dir() / "settings.toml"


@dataclass(frozen=True)
class SettingsFile:
    """A file that was read; ``text`` only tells on which line a key stands."""

    path: Path
    data: dict[str, Any] = field(default_factory=dict[str, Any])
    text: str = ""

    def table(self, section: str) -> dict[str, Any]:
        """A section's keys, none where it is missing; raises BadSettingError where it is no table."""
        found = self.data.get(section, {})
        if not isinstance(found, dict):
            raise self.bad(
                f"{section} is {quoted(found)}", f"make it a table that begins with [{section}]", key=section
            )
        return found

    def check_keys(self, where: str, table: dict[str, Any], known: Iterable[str], *path: str) -> None:
        """Raise BadSettingError on the first key that is not ``known``; ``path``: the names of the table."""
        for key in table:
            if key not in known:
                raise self.unknown(where, key, known, *path)

    def unknown(self, where: str, key: str, known: Iterable[str], *path: str) -> BadSettingError:
        """The error for a key that does not exist."""
        words = f"{where} has an unknown key {quoted(key)}"
        return self.bad(words, f"there is only {', '.join(known)}", *path, key=key)

    def bad(self, what: str, how: str, *path: str, key: str = "") -> BadSettingError:
        """The error for what is wrong at ``key`` of the table of this ``path``."""
        where = self._line(path, key, " (line {})")
        return BadSettingError(f"the settings file {self.path} cannot be used: {what}; {how}{where}.")

    def told(self, what: str, how: str, *path: str, key: str = "") -> str:
        """A sentence on what is wrong there, where the rest of the file is used all the same."""
        return inert(f"{self.path}{self._line(path, key, ', line {}')}: {what}; {how}.")

    def told_unknown(self, where: str, key: str, known: Iterable[str], *path: str) -> str:
        """A sentence on a key that does not exist."""
        words = f"{where} has an unknown key {quoted(key)}"
        return self.told(words, f"there is only {', '.join(known)}", *path, key=key)

    def _line(self, path: tuple[str, ...], key: str, form: str) -> str:
        line = line_of(self.text, path, key) if key else None
        return form.format(line) if line else ""


def read_settings() -> SettingsFile:
    """The file, empty where there is none; raises BadSettingError where it cannot be read at all."""
    path = settings_file()
    empty = SettingsFile(path)
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return SettingsFile(path, tomllib.loads(text), text)
    except FileNotFoundError:
        return empty
    except OSError as error:
        raise BadSettingError(
            f"the settings file {path} cannot be read ({error.strerror}); make it readable or remove it."
        ) from error
    except UnicodeDecodeError as error:
        raise empty.bad(f"it is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise empty.bad(f"it is not valid TOML ({brief(error)})", "mend it or remove it") from error


def line_of(text: str, path: tuple[str, ...], key: str) -> int | None:
    """The line, from 1, on which ``key`` of a table stands, or else that table's; None: not found.

    It reads lines, not TOML: tomllib says nothing of places. Where values hold lines like these it may be
    wrong, which only makes a message less good.
    """
    inside, table_at = not path, None
    for number, line in enumerate(text.splitlines(), 1):
        header = _HEADER.match(line)
        if header:
            names = _names(header[1])
            if key and names[: len(path) + 1] == (*path, key):
                return number
            inside = names == path
            table_at = number if inside else table_at
        elif inside and "=" in line and key in (_names(line.split("=")[0].strip())[0], _bare(line)):
            return number
    return table_at


def place_of(section: str, key: str) -> str:
    """Where ``key`` of a section stands, to begin a sentence with: ``/…/settings.toml, line 3: ``."""
    try:
        file = read_settings()
    except BadSettingError:
        return ""
    line = line_of(file.text, (section,), key)
    return inert(f"{file.path}, line {line}: " if line else f"{file.path}: ")


def _names(dotted: str) -> tuple[str, ...]:
    found = re.findall(r'"[^"]*"|\'[^\']*\'|[^.\s]+', dotted)
    return tuple(name.strip("\"'") for name in found) or ("",)


def _bare(line: str) -> str:
    """``a.b`` of ``a.b = 1`` and of ``"a.b" = 1``."""
    return line.split("=")[0].strip().strip("\"'")


def quoted(value: Any) -> str:
    """A wrong value in a message, not too long."""
    word = repr(value)
    return word if len(word) <= MOST_QUOTED else word[: MOST_QUOTED - 3] + "…"
