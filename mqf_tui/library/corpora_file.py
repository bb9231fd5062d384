"""corpora.toml: texts that are mixed of parts by weight, each under a name of its own.

::

    [mine]
    seed = 1
    [mine.parts.prose]
    corpus = "wikitext-2"
    weight = 40
    [mine.parts.chat]
    corpus = "~/chats.jsonl"
    weight = 20
    assistant_only = true

The user's lies beside the settings file; the path of another is a word as well, with ``#name`` behind it
where it has several. Paths in it count from its folder.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mqf_tui.fidelity.errors import BadCorpusError, BadSettingError, brief
from mqf_tui.fidelity.text.mixtures import Mixture, MixturePart
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.library.settings_file import config_dir, line_of, quoted
from mqf_tui.reports.text import inert, readable

if TYPE_CHECKING:
    from mqf_tui.fidelity.settings import KVSettings

FILE = "corpora.toml"
OF_MIXTURE = ("seed", "parts")
# What a part may say for itself; the rest is recorded once for the whole text.
OF_PART = ("corpus", "weight", "field", "glob", "documents", "rest", "assistant_only")
MOST_PARTS = 64
WEIGHTS = 1e-3, 1e6


def corpora_file() -> Path:
    """The user's file, whether there is one or not."""
    return config_dir() / FILE


def corpora_names() -> tuple[str, ...]:
    """The names of the user's mixtures; raises BadCorpusError where the file cannot be read."""
    return tuple(_read(corpora_file()).data)


def mixture_named(word: str, common: TextOptions | None = None) -> Mixture | None:
    """The mixture that a word names; None where it names none.

    ``common``: what holds of each part that does not say otherwise. Raises BadCorpusError, naming file and
    key, where a mixture is wrong.
    """
    path, _, name = word.partition("#")
    if path.lower().endswith(".toml"):
        whole = Path(os.path.expanduser(path))
        if not os.path.isfile(whole):
            return None
        file = _read(whole)
        return file.mixture(name or file.only(), readable(whole.name), common or TextOptions())
    from mqf_tui.fidelity.text.corpora import STANDARD_INPUT, is_public

    if not word or os.sep in word or word == STANDARD_INPUT or is_public(word):
        return None  # no fault of the file's stands in their way
    file = _read(corpora_file())
    return file.mixture(word, "", common or TextOptions()) if word in file.data else None


def with_mixture(settings: KVSettings) -> KVSettings:
    """The settings, with the mixture that their corpus names; as they are where it names none or has one."""
    if settings.mixture is not None:
        return settings
    found = mixture_named(settings.corpus, settings.text)
    return settings if found is None else replace(settings, mixture=found)


@dataclass(frozen=True)
class _File:
    """A file that was read; ``text`` only tells on which line a key stands."""

    path: Path
    data: dict[str, Any]
    text: str

    def only(self) -> str:
        """The name of the one mixture; raises BadCorpusError where there is not just one."""
        if len(self.data) == 1:
            return next(iter(self.data))
        if not self.data:
            raise self.bad("it names no mixture", "begin one with [name.parts.first]")
        raise self.bad(
            f"it has several mixtures ({_listed(self.data)})",
            f"name one as {self.path.name}#{next(iter(self.data))}",
        )

    def mixture(self, name: str, file_name: str, common: TextOptions) -> Mixture:
        """One mixture; raises BadCorpusError."""
        if name not in self.data:
            raise self.bad(f"it has no mixture {quoted(name)}", f"there is {_listed(self.data) or 'none'}")
        table = self._table(self.data[name], name)
        self._check_keys(table, OF_MIXTURE, name)
        if name == "builtin" or name.startswith(("hf:", "wikitext-", "-")) or " + " in name or "/" in name:
            raise self.bad(f"a mixture cannot be called {quoted(name)}", "choose another name", name)
        seed = table.get("seed", 0)
        if type(seed) is not int or not 0 <= seed < 2**63:
            raise self.bad(f"seed is {quoted(seed)}", "use a whole number from 0", name, key="seed")
        parts = self._table(table.get("parts", {}), name, "parts")
        if not 1 <= len(parts) <= MOST_PARTS:
            raise self.bad(
                f"{name} has {len(parts)} parts",
                f"use 1 to {MOST_PARTS}, each in [{name}.parts.…]",
                name,
                key="parts",
            )
        made = tuple(self._part(name, key, value, common) for key, value in parts.items())
        shown = " ".join(inert(f"{file_name}#{name}" if file_name else name).split())
        return Mixture(shown, made, seed)

    def _part(self, mixture: str, name: str, given: Any, common: TextOptions) -> MixturePart:
        where = (mixture, "parts", name)
        table = self._table(given, *where)
        self._check_keys(table, OF_PART, *where)
        if not inert(name).strip():
            raise self.bad("a part has no name that can be shown", "name it", *where)
        corpus: Any = table.get("corpus")
        weight: Any = table.get("weight")
        if not isinstance(corpus, str) or not corpus.strip() or corpus == "-":
            raise self.bad(
                f"corpus is {quoted(corpus)}",
                "use builtin, wikitext-2, hf:… or a path in quotes",
                *where,
                key="corpus",
            )
        if corpus in self.data or corpus.lower().partition("#")[0].endswith(".toml"):
            raise self.bad(
                f"corpus is {quoted(corpus)}, a mixture itself",
                "name its parts instead",
                *where,
                key="corpus",
            )
        if type(weight) not in (int, float) or not _fits(weight):
            raise self.bad(
                f"weight is {quoted(weight)}",
                f"use a number from {WEIGHTS[0]:g} to {WEIGHTS[1]:g}",
                *where,
                key="weight",
            )
        own = {key: value for key, value in table.items() if key not in ("corpus", "weight")}
        options = replace(common, **own)
        try:
            options.check(2**31)
        except BadSettingError as error:
            what, _, how = str(error).rstrip(".").partition("; ")
            key = next((key for key in own if what.startswith(f"{key} ")), "")
            raise self.bad(what, how or "use another value", *where, key=key) from error
        return MixturePart(" ".join(inert(name).split()), self._word(corpus), float(weight), options)

    def _word(self, corpus: str) -> str:
        """A corpus as a word that holds from any folder."""
        from mqf_tui.fidelity.text.corpora import AND, is_public

        def placed(one: str) -> str:
            return (
                one if is_public(one) else os.path.join(self.path.parent.resolve(), os.path.expanduser(one))
            )

        if os.path.lexists(whole := placed(corpus)):
            return whole
        return AND.join(placed(one.strip()) for one in corpus.split(AND))

    def _table(self, value: Any, *path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            words = ".".join(path)
            raise self.bad(
                f"{words} is {quoted(value)}", f"make it a table that begins with [{words}]", *path
            )
        return value

    def _check_keys(self, table: Mapping[str, Any], known: Iterable[str], *path: str) -> None:
        for key in table:
            if key not in known:
                where = f"{'.'.join(path)} has an unknown key {quoted(key)}"
                raise self.bad(where, f"there is only {', '.join(known)}", *path, key=key)

    def bad(self, what: str, how: str, *path: str, key: str = "") -> BadCorpusError:
        """The error for what is wrong at ``key`` of the table of this ``path``."""
        line = line_of(self.text, path, key) if path or key else None
        place = f", line {line}" if line else ""
        what = what.replace(f"{key} is ", f"{key} of {'.'.join(path)} is ", 1) if key else what
        return BadCorpusError(f"the file of mixtures {self.path}{place} cannot be used: {what}; {how}.")


def _read(path: Path) -> _File:
    """A file, empty where there is none; raises BadCorpusError where it cannot be read at all."""
    empty = _File(path, {}, "")
    try:
        text = path.read_bytes().decode("utf-8-sig")
        return _File(path, tomllib.loads(text), text)
    except FileNotFoundError:
        return empty
    except OSError as error:
        raise empty.bad(f"it cannot be read ({error.strerror})", "check its permissions") from error
    except UnicodeDecodeError as error:
        raise empty.bad(f"it is not UTF-8 text (byte {error.start})", "save it as UTF-8") from error
    except (ValueError, RecursionError) as error:
        raise empty.bad(f"it is not valid TOML ({brief(error)})", "mend it") from error


def _fits(weight: Any) -> bool:
    return math.isfinite(weight) and WEIGHTS[0] <= weight <= WEIGHTS[1]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(inert(name) for name in list(names)[:20])
