"""The filter language of the saved runs: ``smol bits:4,8 verdict:bad -tag:old kl<0.01 after:2026-01-01``.

Every term must hold; a hyphen before one turns it round. A word must be in the model, the setting, the
corpus, the tags or the note. Commas separate alternatives, double quotes hold together what has spaces or
signs in it. A term without a value yet (``bits:``) holds for every run, so that one can filter as one types.
A figure that is not known fulfils no comparison.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial

from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.library.index import RunRow
from mqf_tui.reports.text import inert

Test = Callable[[RunRow], bool]
Letter = tuple[str, bool]  # a character, and whether it was quoted

VERDICTS = ("good", "marginal", "bad")
OPERATORS: dict[str, Callable[[float, float], bool]] = {
    ":": operator.eq,
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
}
NUMBERS: dict[str, Callable[[RunRow], float | None]] = {
    "kl": lambda row: row.kl,
    "p99": lambda row: row.p99,
    "flips": lambda row: row.flip_rate,
    "ppl": lambda row: row.ppl_change,
    "bits": lambda row: row.bits,
    "group": lambda row: row.group,
    "bytes": lambda row: row.kv_bytes,
    "positions": lambda row: row.n_positions,
    "chunks": lambda row: row.n_chunks,
}
SHARES = ("flips",)
STATES: dict[str, Test] = {
    "partial": lambda row: row.partial,
    "imported": lambda row: bool(row.origin),
    "sweep": lambda row: bool(row.sweep_id),
    "tagged": lambda row: bool(row.tags),
    "noted": lambda row: bool(row.note),
    "unsure": lambda row: (row.confidence is not None and row.confidence < 0.9) or row.settled is False,
    "damaged": lambda _: False,
}
DAMAGED = "damaged"
YES, NO = ("yes", "true", "1"), ("no", "false", "0")
_HEAD = re.compile(r"([A-Za-z][A-Za-z0-9_]*)(:|<=|>=|<|>|=)")
_NUMBER = re.compile(r"(-?\d+\.?\d*(?:e[+-]?\d+)?|-?\.\d+(?:e[+-]?\d+)?)([kM%]?)")
_SCALES = {"": 1.0, "k": 1e3, "M": 1e6, "%": 0.01}
_AGO = re.compile(r"(\d{1,4})([dw])")


class BadFilterError(FidelityError):
    """A term that means nothing; the sentence says which, and what would work."""


@dataclass(frozen=True)
class Term:
    """One condition. ``test`` None: it has no value yet, and holds for all."""

    test: Test | None
    word: str = ""
    negated: bool = False
    damaged: bool | None = None

    def takes(self, row: RunRow) -> bool:
        """Whether it holds for a run."""
        return self.test is None or self.test(row) != self.negated

    def takes_damaged(self, words: str) -> bool:
        """Whether it may hold for a run that cannot be read; ``words``: its name and the reason."""
        if self.test is None:
            return True
        if self.damaged is not None:
            return self.damaged != self.negated
        # Nothing is known of it but its name.
        return bool(self.word) and (self.word in words) != self.negated


@dataclass(frozen=True)
class Filter:
    """What was typed, understood."""

    terms: tuple[Term, ...] = ()

    def takes(self, row: RunRow) -> bool:
        """Whether all terms hold for a run."""
        return all(term.takes(row) for term in self.terms)

    def takes_damaged(self, name: str, why: str) -> bool:
        """Whether to list a run that cannot be read: by words of its name or reason, or ``is:damaged``."""
        words = f"{name} {why}".casefold()
        return all(term.takes_damaged(words) for term in self.terms)


def parse(text: str, now: datetime | None = None) -> Filter:
    """Understand a filter; ``now`` (with its time zone) is what days are counted from.

    Raises BadFilterError with one sentence about the first term that means nothing.
    """
    here = (now or datetime.now()).astimezone() if now is None or now.tzinfo is None else now
    return Filter(tuple(_term(letters, here) for letters in _split(text)))


def quoted(value: str) -> str:
    """A value so that it is taken as it stands, whatever is in it."""
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def _split(text: str) -> Iterator[list[Letter]]:
    """The terms as letters; a quote that is not closed yet goes on to the end."""
    term: list[Letter] = []
    inside = begun = escaped = False
    for c in text:
        if escaped:
            term.append((c, True))
            escaped = False
        elif inside and c == "\\":
            escaped = True
        elif c == '"':
            inside, begun = not inside, True
        elif c.isspace() and not inside:
            if term or begun:
                yield term
            term, begun = [], False
        else:
            term.append((c, inside))
    if term or begun:
        yield term


def _term(letters: list[Letter], now: datetime) -> Term:
    negated = bool(letters) and letters[0] == ("-", False)
    letters = letters[1:] if negated else letters
    # A key and its sign were not quoted; what was, cannot be taken for one.
    plain = "".join(c if not was else "\0" for c, was in letters)
    head = _HEAD.match(plain)
    if head is None:
        word = _text(letters).casefold()
        test: Test | None = (lambda row: word in row.words) if word else None
        return Term(test, word, negated)
    key, sign = head[1].casefold(), head[2]
    values = [value for value in _values(letters[head.end() :]) if value]
    check = _checked(key, sign, now)
    if not values:
        return Term(None)
    tests = [check(value) for value in values]
    damaged = None
    if key == "is":
        damaged = any(DAMAGED.startswith(value.casefold()) for value in values)
    return Term(lambda row: any(test(row) for test in tests), negated=negated, damaged=damaged)


def _values(letters: list[Letter]) -> Iterator[str]:
    """What stands between the commas."""
    value: list[Letter] = []
    for letter in letters:
        if letter == (",", False):
            yield _text(value)
            value = []
        else:
            value.append(letter)
    yield _text(value)


def _text(letters: list[Letter]) -> str:
    return "".join(c for c, _ in letters)


def _checked(key: str, sign: str, now: datetime) -> Callable[[str], Test]:
    """What makes a test of a value of this key; raises BadFilterError where key or sign means nothing."""
    if key in TEXTS and sign in (":", "="):
        return lambda value: TEXTS[key](value.casefold())
    if key in ("after", "before", "on") and sign in (":", "="):
        return partial(_dated, key, now=now)
    if key in NUMBERS and (sign != ":" or key in ("bits", "group")):
        return partial(_compared, key, sign)
    if key in WORDS and sign in (":", "="):
        return partial(WORDS[key], key)
    if key in NUMBERS:
        raise BadFilterError(f"{key} is compared: write {key}<{EXAMPLES[key]} or {key}>{EXAMPLES[key]}.")
    if key in KEYS:
        raise BadFilterError(f"{key} takes a colon: write {key}:{EXAMPLES[key]}.")
    close = get_close_matches(key, KEYS, 2)
    known = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(COMMON)} and others."
    raise BadFilterError(f"there is no key {inert(key)!r}; {known} A word with such a sign goes in quotes.")


def _one_of(key: str, value: str, choices: tuple[str, ...]) -> str:
    """The choice that the value begins; raises BadFilterError where it begins none, or several."""
    found = [choice for choice in choices if choice.startswith(value.casefold())]
    if len(found) != 1 and value.casefold() not in found:
        raise BadFilterError(f"{key} is none of these: {inert(value)!r}; use {', '.join(choices)}.")
    return value.casefold() if value.casefold() in found else found[0]


def _verdict(key: str, value: str) -> Test:
    wanted = _one_of(key, value, VERDICTS)
    return lambda row: row.verdict == wanted


def _state(key: str, value: str) -> Test:
    return STATES[_one_of(key, value, tuple(STATES))]


def _kind(key: str, value: str) -> Test:
    wanted = _one_of(key, value, ("kv", "weights"))
    return lambda row: row.kind == wanted


def _mode(key: str, value: str) -> Test:
    wanted = _one_of(key, value, ("stress", "deployment"))
    return lambda row: row.mode == wanted


def _partial(key: str, value: str) -> Test:
    wanted = _one_of(key, value, (*YES, *NO)) in YES
    return lambda row: row.partial == wanted


WORDS: dict[str, Callable[[str, str], Test]] = {
    "verdict": _verdict,
    "is": _state,
    "kind": _kind,
    "mode": _mode,
    "partial": _partial,
}


def _format(wanted: str) -> Test:
    """``k8v4`` is ``k8v4g64`` and ``k8v4g32``; ``k8v4g64`` is that alone."""
    return lambda row: wanted in (row.format.casefold(), re.sub(r"g\d+", "", row.format.casefold()))


def _tagged(wanted: str) -> Test:
    """A whole tag; ``*`` stands for anything in it."""
    pattern = re.sub(r"([\[?])", r"[\1]", wanted)
    return lambda row: any(fnmatchcase(tag.casefold(), pattern) for tag in row.tags)


TEXTS: dict[str, Callable[[str], Test]] = {
    "model": lambda v: lambda row: v in row.model.casefold() or v in row.variant_model.casefold(),
    "setting": lambda v: lambda row: v in f"{row.short_setting}\n{row.setting}\n{row.format}".casefold(),
    "kv": _format,
    "corpus": lambda v: lambda row: v in row.corpus.casefold(),
    "tag": _tagged,
    "note": lambda v: lambda row: v in row.note.casefold(),
    "sweep": lambda v: lambda row: row.sweep_id.casefold().startswith(v),
    "from": lambda v: lambda row: v in row.origin.casefold(),
    "id": lambda v: lambda row: row.id.casefold().startswith(v),
}


def _compared(key: str, sign: str, value: str) -> Test:
    match = _NUMBER.fullmatch(value)
    unit = match[2] if match else ""
    if match is None or (unit == "%" and key not in SHARES):
        raise BadFilterError(f"{inert(value)!r} is no number for {key}; write {key}{sign}{EXAMPLES[key]}.")
    # In one rounding: 1 % is the share that was written 0.01.
    wanted = float(match[1]) / 100 if unit == "%" else float(match[1]) * _SCALES[unit]
    if key in SHARES and unit != "%" and wanted > 1:
        raise BadFilterError(f"{key} of {inert(value)} are more than all; write {key}{sign}{inert(value)}%.")
    compare, figure = OPERATORS[sign], NUMBERS[key]

    def test(row: RunRow) -> bool:
        found = figure(row)
        return found is not None and not math.isnan(found) and compare(found, wanted)

    return test


def _dated(key: str, value: str, now: datetime) -> Test:
    """By the days of the time zone of ``now``."""
    first, end = _days(value.casefold(), now.date())

    def test(row: RunRow) -> bool:
        day = _day(row.created, now)
        if day is None:
            return False
        return day >= first if key == "after" else day < first if key == "before" else first <= day < end

    return test


def _days(value: str, today: date) -> tuple[date, date]:
    """The first day that is meant, and the first one past it; raises BadFilterError."""
    whole = re.fullmatch(r"(\d{4})(?:-(\d{1,2}))?(?:-(\d{1,2}))?", value)
    ago = _AGO.fullmatch(value)
    try:
        if value in ("today", "yesterday"):
            first = today - timedelta(days=value == "yesterday")
            return first, first + timedelta(days=1)
        if ago:
            first = today - timedelta(days=int(ago[1]) * (7 if ago[2] == "w" else 1))
            return first, first + timedelta(days=1)
        if whole and whole[3]:
            first = date(int(whole[1]), int(whole[2]), int(whole[3]))
            return first, first + timedelta(days=1)
        if whole:
            first = date(int(whole[1]), int(whole[2] or 1), 1)
            months = first.year * 12 + first.month - 1 + (1 if whole[2] else 12)
            return first, date(months // 12, months % 12 + 1, 1)
    except (ValueError, OverflowError):
        pass
    raise BadFilterError(
        f"{inert(value)!r} is no day; write 2026-11-25, 2026-11, 2026, today or 7d (days ago)."
    )


def _day(created: str, now: datetime) -> date | None:
    try:
        when = datetime.fromisoformat(created)
        return (when.astimezone(now.tzinfo) if when.tzinfo else when).date()
    except (ValueError, OverflowError):
        return None


COMMON = ("model", "setting", "kv", "bits", "verdict", "tag", "corpus", "kl", "flips", "after")
KEYS = (*TEXTS, *WORDS, *NUMBERS, "after", "before", "on")
EXAMPLES = {
    "model": "smol",
    "setting": "4-bit",
    "kv": "k8v4",
    "corpus": "wiki",
    "tag": "blog",
    "note": "fix",
    "sweep": "2026",
    "from": "llama.cpp",
    "id": "2026",
    "verdict": "bad",
    "is": "imported",
    "kind": "kv",
    "mode": "stress",
    "partial": "yes",
    "kl": "0.01",
    "p99": "0.1",
    "flips": "1%",
    "ppl": "0.5",
    "bits": "4",
    "group": "64",
    "bytes": "10k",
    "positions": "10k",
    "chunks": "20",
    "after": "2026-01-31",
    "before": "7d",
    "on": "today",
}
