"""Profiles: named values for the set-up, those that come with the package and the user's own."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from importlib import resources
from typing import Any

from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.quantizers import parsed
from mqf_tui.fidelity.settings import KV_BITS, KV_GROUP_SIZES, MIN_CHUNK_LENGTH
from mqf_tui.fidelity.text.options import BOS, DOCUMENTS, REST
from mqf_tui.library.settings_app import table_or_none
from mqf_tui.library.settings_file import SettingsFile, quoted
from mqf_tui.reports.text import inert

ALIKE = "alike"  # keys and values in the bits and groups that are chosen
ALL = "all"
STOPS = ("end", "sure", "5%", "2%")
MAX_NAME, MAX_WORDS = 20, 120
SECTION = "profiles"


@dataclass(frozen=True)
class Profile:
    """Values of the set-up's lines; None: the line stays as it is. ``words`` say what it is for.

    ``formats`` are words such as ``alike``, ``k8v4``, ``mxfp4``; ``chunks`` a number or ``all``; ``stop`` one
    of ``STOPS``; ``corpus`` any word of one. Lengths are in tokens. The last lines are those of
    ``fidelity.text.options.TextOptions``.
    """

    name: str
    words: str = ""
    bits: tuple[int, ...] | None = None
    groups: tuple[int, ...] | None = None
    formats: tuple[str, ...] | None = None
    chunk_length: int | None = None
    chunks: int | str | None = None
    stop: str | None = None
    race: bool | None = None
    quantize_start: int | None = None
    corpus: str | None = None
    field: str | None = None
    glob: str | None = None
    documents: str | None = None
    bos: str | None = None
    stride: int | None = None
    rest: str | None = None
    assistant_only: bool | None = None
    keep_text: bool | None = None
    seed: int | None = None


def shipped_profiles() -> tuple[Profile, ...]:
    """Those that come with the package."""
    source = resources.files("mqf_tui.library") / "profiles.toml"
    data = tomllib.loads(source.read_text(encoding="utf-8"))
    return tuple(Profile(name, **_values(table)) for name, table in data.items())


def user_profiles(file: SettingsFile, problems: list[str]) -> tuple[Profile, ...]:
    """The package's, as changed by the user's, and then the user's others.

    A sentence for each wrong key or value is added to ``problems``; the rest of its profile stands.
    """
    found = {profile.name: profile for profile in shipped_profiles()}
    for written, table in table_or_none(file, SECTION, problems).items():
        name = " ".join(inert(written).split())
        if not 0 < len(name) <= MAX_NAME:
            how = f"use a name of 1 to {MAX_NAME} characters"
            problems.append(file.told(f"the profile {quoted(written)} has no usable name", how, SECTION))
        elif not isinstance(table, dict):
            wrong = f"the profile {name} is {quoted(table)}"
            how = f'make it a table that begins with [profiles."{name}"]'
            problems.append(file.told(wrong, how, SECTION, key=written))
        else:
            usable = _checked(file, written, table, problems)
            if usable or not table:
                found[name] = replace(found.get(name, Profile(name)), **_values(usable))
    return tuple(found.values())


def _values(table: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}


def _checked(file: SettingsFile, name: str, table: dict[str, Any], problems: list[str]) -> dict[str, Any]:
    """The keys whose values can be used; inert words."""
    usable: dict[str, Any] = {}
    for key, value in table.items():
        if key not in _RULES:
            problems.append(file.told_unknown(f"the profile {inert(name)}", key, _RULES, SECTION, name))
            continue
        fits, words = _RULES[key]
        if fits(value):
            usable[key] = " ".join(inert(value).split()) if key == "words" else value
        else:
            wrong = f"{key} of the profile {inert(name)} is {quoted(value)}"
            problems.append(file.told(wrong, f"use {words}", SECTION, name, key=key))
    return usable


def _list_of(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list) and bool(value) and all(fits(one) for one in value)


def _whole(value: Any, least: int) -> bool:
    return type(value) is int and value >= least


def _is_format(word: Any) -> bool:
    try:
        return isinstance(word, str) and (word == ALIKE or not parsed(word).full)
    except FidelityError:
        return False


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip()) and "\0" not in value


def _each(values: tuple[object, ...]) -> str:
    return ", ".join(str(value) for value in values)


# For each key: whether a value can be used, and words for what would be.
_RULES: dict[str, tuple[Callable[[Any], bool], str]] = {
    "words": (
        lambda v: isinstance(v, str) and len(v) <= MAX_WORDS,
        f"a text of at most {MAX_WORDS} characters in quotes",
    ),
    "bits": (_list_of(lambda v: type(v) is int and v in KV_BITS), f"a list of {_each(KV_BITS)}"),
    "groups": (
        _list_of(lambda v: type(v) is int and v in KV_GROUP_SIZES),
        f"a list of {_each(KV_GROUP_SIZES)}",
    ),
    "formats": (_list_of(_is_format), 'a list of words such as "alike", "k8v4", "mxfp8", "mxfp4", "nvfp4"'),
    "chunk_length": (
        lambda v: _whole(v, MIN_CHUNK_LENGTH),
        f"a whole number of tokens from {MIN_CHUNK_LENGTH}",
    ),
    "chunks": (lambda v: v == ALL or _whole(v, 1), 'a whole number from 1, or "all"'),
    "stop": (lambda v: v in STOPS, f"one of {_each(tuple(quoted(stop) for stop in STOPS))}"),
    "race": (lambda v: isinstance(v, bool), "true or false"),
    "quantize_start": (lambda v: _whole(v, 0), "0 (stress) or a whole number of tokens (deployment)"),
    "corpus": (
        lambda v: isinstance(v, str) and bool(v.strip()) and "\0" not in v,
        '"builtin", "wikitext-2", "hf:owner/name" or a path in quotes',
    ),
    "field": (_is_word, "the name of a field in quotes"),
    "glob": (_is_word, 'a pattern of files such as "**/*.md"'),
    "documents": (lambda v: v in DOCUMENTS, f"one of {_each(tuple(map(quoted, DOCUMENTS)))}"),
    "bos": (lambda v: v in BOS, f"one of {_each(tuple(map(quoted, BOS)))}"),
    "stride": (lambda v: _whole(v, 1), "a whole number of tokens from 1 to the chunk length"),
    "rest": (lambda v: v in REST, f"one of {_each(tuple(map(quoted, REST)))}"),
    "assistant_only": (lambda v: isinstance(v, bool), "true or false"),
    "keep_text": (lambda v: isinstance(v, bool), "true or false"),
    "seed": (lambda v: _whole(v, 0), "a whole number from 0"),
}
assert set(_RULES) == {field.name for field in fields(Profile)} - {"name"}
