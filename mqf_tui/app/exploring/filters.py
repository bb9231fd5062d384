"""The filter line: which positions are looked at.

Terms with spaces between them must all hold: ``part:code depth:100-2000 class:digit kl>0.1 text:word``. A
value with spaces stands in quotes. ``:`` and ``=`` are the same.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.app.exploring.answer import Answer
from mqf_tui.fidelity.vocabulary import TOKEN_CLASSES
from mqf_tui.reports.text import inert

Mask = NDArray[np.bool_]

NUMBERS = ("kl", "dp", "entropy", "margin", "nll", "p", "depth", "chunk")
WORDS = ("part", "class", "flip", "text")
EXAMPLE = "such as part:code depth:100-2000 class:digit kl>0.1 flip:yes text:word"
_TERM = re.compile(r'\s*([^\s:=<>"]+)\s*(<=|>=|[:=<>])\s*("[^"]*"|[^\s"]+)(?=\s|$)')
_RANGE = re.compile(r"(.*?\d\.?)(?:-|–|\.\.)(.*)")
_FLIPS = {"yes": 1, "no": 0, "confident": 2}


class FilterError(ValueError):
    """The filter cannot be understood; ``str(error)`` is a sentence for the user."""


def chosen(words: str, answer: Answer) -> Mask:
    """The places (n,) that a filter line keeps, all of them for an empty one; raises FilterError."""
    mask = np.ones(len(answer), bool)
    for name, sign, value in _terms(words):
        mask &= _held(name, sign, value, answer)
    return mask


def _terms(words: str) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    at = 0
    while words[at:].strip():
        match = _TERM.match(words, at)
        if match is None:
            rest = inert(words[at:].strip())
            if rest.count('"') % 2:
                raise FilterError(f"The quote in {rest} is not closed.")
            word = rest.split()[0]
            raise FilterError(f"{word!r} is no filter; write {EXAMPLE}.")
        found.append((match[1].lower(), match[2], match[3].strip('"')))
        at = match.end()
    return found


def _held(name: str, sign: str, value: str, answer: Answer) -> Mask:
    if name in NUMBERS:
        return _number(name, sign, value, answer)
    if name not in WORDS:
        known = ", ".join((*WORDS, *NUMBERS))
        raise FilterError(f"There is no filter {inert(name)!r}; there are {known}.")
    if sign not in (":", "="):
        raise FilterError(f"{name} takes no {sign}; write {name}:{inert(value)}.")
    held: dict[str, Callable[[str, Answer], Mask]] = {
        "part": _part,
        "class": _class,
        "flip": _flip,
        "text": _text,
    }
    return held[name](value, answer)


def _number(name: str, sign: str, value: str, answer: Answer) -> Mask:
    values = _values(name, answer)
    if sign in (":", "="):
        low, high = _ends(name, value)
        return (values >= low) & (values <= high)
    limit = _float(name, value)
    return {
        ">": np.greater,
        "<": np.less,
        ">=": np.greater_equal,
        "<=": np.less_equal,
    }[sign](values, limit)


def _values(name: str, answer: Answer) -> NDArray[Any]:
    p = answer.positions
    if name == "chunk":  # shown counted from 1
        return p.chunk.astype(np.int64) + 1
    if name == "p":
        return np.exp(-p.nll_ref.astype(np.float64))
    column = {"kl": p.kl, "dp": p.delta_p, "entropy": p.entropy, "margin": p.margin, "nll": p.nll_ref}.get(
        name
    )
    found = p.depth if column is None else column
    if name in ("entropy", "margin") and np.isnan(found).all():
        raise FilterError(
            f"This run is of an older version, which did not keep the {name}; measure it again."
        )
    return found.astype(np.float64)


def _ends(name: str, value: str) -> tuple[float, float]:
    match = _RANGE.fullmatch(value)
    if match is None:
        number = _float(name, value)
        return number, number
    low = _float(name, match[1])
    high = _float(name, match[2]) if match[2] else math.inf
    if low > high:
        raise FilterError(
            f"{name}:{inert(value)} has its ends the wrong way round; write the lower one first."
        )
    return low, high


def _float(name: str, value: str) -> float:
    try:
        number = float(value.replace(",", "").replace("−", "-"))
    except ValueError:
        number = math.nan
    if math.isnan(number):
        raise FilterError(f"{inert(value)!r} is no number; write {name}>{_example(name)}.")
    return number


def _example(name: str) -> str:
    return {"depth": "1000", "chunk": "3", "dp": "-0.1"}.get(name, "0.1")


def _part(value: str, answer: Answer) -> Mask:
    names = answer.positions.part_names
    wanted = [i for i, name in enumerate(names) if value.casefold() in inert(name).casefold()]
    if not names:
        raise FilterError("The text of this run has no parts.")
    if not wanted:
        raise FilterError(
            f"No part is called {inert(value)!r}; there are {_listed(list(map(inert, names)))}."
        )
    return np.isin(answer.positions.part, wanted)


def _class(value: str, answer: Answer) -> Mask:
    classes = answer.positions.token_class
    wanted = [i for i, name in enumerate(TOKEN_CLASSES) if value.casefold() in name]
    if not wanted:
        raise FilterError(f"No class is called {inert(value)!r}; there are {_listed(TOKEN_CLASSES)}.")
    if (classes < 0).all():
        raise FilterError(
            "This run is of an older version, which did not keep the classes; measure it again."
        )
    return np.isin(classes, wanted)


def _flip(value: str, answer: Answer) -> Mask:
    kind = _FLIPS.get(value.lower())
    if kind is None:
        raise FilterError(
            f"flip:{inert(value)} is not understood; write flip:yes, flip:no or flip:confident."
        )
    if kind == 2 and not answer.positions.detailed:
        raise FilterError("This run is of an older version, which did not keep how sure a flip was.")
    return answer.flips == 0 if kind == 0 else answer.flips >= kind


def _text(value: str, answer: Answer) -> Mask:
    """The positions whose tokens have a share in an occurrence of ``value``, in small or capital letters."""
    text, begins = answer.spelling.folded
    small = value.lower()
    wanted = small if len(small) == len(value) else value
    mask = np.zeros(len(answer), bool)
    if not wanted:
        raise FilterError("text: wants a word, such as text:house.")
    at = text.find(wanted)
    starts: list[int] = []
    while at >= 0:
        starts.append(at)
        at = text.find(wanted, at + 1)
    found = np.array(starts, np.int64)
    first = np.searchsorted(begins, found, "right") - 1
    last = np.searchsorted(begins, found + len(wanted), "left") - 1
    # What begins in one chunk and ends in the next stands in neither.
    chunks = answer.positions.chunk
    whole = chunks[first] == chunks[last]
    marks = np.zeros(len(answer) + 1, np.int64)
    np.add.at(marks, first[whole], 1)
    np.add.at(marks, last[whole] + 1, -1)
    mask |= np.cumsum(marks[:-1]) > 0
    return mask


def _listed(names: Sequence[str], most: int = 8) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
