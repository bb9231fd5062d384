"""The tour: which steps there are, and when one is done. Knows no widgets."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from typing import Any

_KEY = re.compile(r"\{([^{}]+)\}")


@dataclass(frozen=True)
class Step:
    """``text`` holds ids of actions in braces in place of keys; without ``action`` coming there does it."""

    title: str
    text: str
    on: tuple[str, ...] = ()
    action: str = ""

    def words(self, key: Callable[[str], str]) -> str:
        """The text with keys; ``key`` gives the key of an action's id."""
        return _KEY.sub(lambda found: key(found[1]), self.text)


@dataclass(frozen=True)
class Place:
    """Where somebody is in the tour: ``at`` counts the steps that are done."""

    at: int = 0

    @property
    def step(self) -> Step:
        """The step to do, or the words of the end."""
        return (*steps(), end())[self.at]

    @property
    def ended(self) -> bool:
        """Whether all is done."""
        return self.at >= len(steps())

    def after(self, screen: str, action: str = "") -> Place:
        """The place after an action (none: a look) on a screen of this class."""
        if self.ended or screen not in self.step.on or self.step.action not in ("", action):
            return self
        following = Place(self.at + 1)
        # To be on a screen may do the next step too, which an action done once may not.
        return following if self.step.action else following.after(screen)


@functools.cache
def steps() -> tuple[Step, ...]:
    """All steps in order."""
    return tuple(_step(entry) for entry in _data()["step"])


@functools.cache
def end() -> Step:
    """What is said after the last one."""
    return _step(_data()["end"])


def ids() -> set[str]:
    """The actions that the texts name."""
    return {name for step in (*steps(), end()) for name in _KEY.findall(step.text)}


def _step(entry: dict[str, Any]) -> Step:
    return Step(entry["title"], entry["text"], tuple(entry.get("on", ())), entry.get("action", ""))


def _data() -> dict[str, Any]:
    return tomllib.loads((resources.files("mqf_tui.app") / "tour.toml").read_text(encoding="utf-8"))
