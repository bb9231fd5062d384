"""The table of actions, ``keys.toml``: bindings of screens and widgets, and the user's own keys."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import chain
from typing import Any

from textual.binding import Binding, BindingType
from textual.keys import KEY_ALIASES, Keys

EVERYWHERE = "app"
MODIFIERS = {"ctrl", "shift", "alt"}


@dataclass(frozen=True)
class Action:
    """One line of the table. ``id`` is ``scope.name``, ``keys`` are Textual's names of keys."""

    id: str
    action: str
    keys: tuple[str, ...]
    words: str
    help: str
    show: bool = True
    display: str | None = None
    palette: bool = True
    priority: bool = False

    @property
    def scope(self) -> str:
        """The screen or widget that it belongs to."""
        return self.id.partition(".")[0]


def bindings(scope: str) -> list[BindingType]:
    """The bindings of a screen or widget, in the order of the table; raises KeyError for an unknown scope."""
    return [
        Binding(
            ",".join(one.keys),
            one.action,
            one.words,
            show=one.show,
            key_display=one.display,
            priority=one.priority,
            tooltip=one.help,
            id=one.id,
        )
        for one in table()[scope].values()
    ]


@functools.cache
def table() -> Mapping[str, Mapping[str, Action]]:
    """All actions by scope and id."""
    return {
        scope: {f"{scope}.{name}": _action(scope, name, entry) for name, entry in _entries(section)}
        for scope, section in _data().items()
    }


@functools.cache
def actions() -> Mapping[str, Action]:
    """All actions by id."""
    return {name: one for scope in table().values() for name, one in scope.items()}


@functools.cache
def within() -> Mapping[str, frozenset[str]]:
    """For each scope the others whose keys are active at the same time."""
    found = {
        scope: set[str]() if section.get("alone") else {EVERYWHERE, *section.get("within", ())}
        for scope, section in _data().items()
    }
    for scope, others in list(found.items()):
        for other in others - {EVERYWHERE}:
            found[other].add(scope)
    found[EVERYWHERE] = {scope for scope, others in found.items() if EVERYWHERE in others}
    return {scope: frozenset(others - {scope}) for scope, others in found.items()}


def keymap(
    wanted: Mapping[str, Sequence[str]], place: Callable[[str], str] = lambda _: ""
) -> tuple[dict[str, str], list[str]]:
    """The user's keys that can be used, by the action's id, and a sentence for each that cannot.

    ``wanted``: keys by id; ``place``: how the sentence on an id begins. A key that is taken where it would be
    used is refused, so that no action loses its key in silence.
    """
    problems: list[str] = []
    chosen: dict[str, tuple[str, ...]] = {}
    for name, words in wanted.items():
        keys = tuple(_normal(word) for word in words if word.strip())
        bad = next((key for key in keys if not is_key(key)), None)
        if name not in actions():
            problems.append(
                f"{place(name)}[keys] {name}: there is no such action; the file that "
                "`mqf-tui settings --init` writes has all."
            )
        elif not keys or bad is not None:
            said = f"{bad!r} is no key" if bad is not None else "no key is named"
            problems.append(
                f"{place(name)}[keys] {name}: {said}; use a character, or a name such as f5, ctrl+k, space."
            )
        else:
            chosen[name] = keys
    while clash := next(_clashes(chosen), None):
        name, key, other = clash
        stays = ", ".join(actions()[name].keys)
        problems.append(
            f"{place(name)}[keys] {name}: {key} is the key of {other} there; give that another one "
            f"({stays} stays)."
        )
        del chosen[name]
    return {name: ",".join(keys) for name, keys in chosen.items()}, problems


def clashes() -> list[tuple[str, str, str]]:
    """Of the default keys: an action, its key, and another action that has it where both are active."""
    return list(_clashes({name: one.keys for name, one in actions().items()}))


def is_key(name: str) -> bool:
    """Whether ``name`` is one of Textual's names of keys."""
    *modifiers, key = name.split("+")
    return (len(key) == 1 or key in _names()) and set(modifiers) <= MODIFIERS


@functools.cache
def _names() -> frozenset[str]:
    characters = (_normal(chr(code)) for code in range(33, 127))
    return frozenset({"space", *characters, *KEY_ALIASES, *(key.value for key in Keys)})


@functools.cache
def _normal(word: str) -> str:
    """Textual's name of a key: ``question_mark`` for ``?``. What can be no key is left as it is."""
    word = word.strip()
    if "," in word:
        return "comma" if word == "," else word
    return next(iter(Binding.make_bindings([Binding(word, "")]))).key


def _clashes(chosen: Mapping[str, tuple[str, ...]]) -> Iterator[tuple[str, str, str]]:
    def held(name: str) -> set[str]:
        return {_normal(key) for key in chosen.get(name, actions()[name].keys)}

    for name in chosen:
        scope, keys = actions()[name].scope, held(name)
        for other in chain(*(table()[near] for near in {scope, *within()[scope]})):
            if other != name and actions()[other].action != actions()[name].action:
                for key in sorted(keys & held(other)):
                    yield name, key, other


@functools.cache
def _data() -> dict[str, Any]:
    return tomllib.loads((resources.files("mqf_tui.app") / "keys.toml").read_text(encoding="utf-8"))


def _entries(section: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    return ((name, entry) for name, entry in section.items() if isinstance(entry, dict))


def _action(scope: str, name: str, entry: Mapping[str, Any]) -> Action:
    given = dict(entry)
    keys = tuple(word.strip() for word in given.pop("keys").split(","))
    return Action(f"{scope}.{name}", given.pop("action", name), keys, **given)
