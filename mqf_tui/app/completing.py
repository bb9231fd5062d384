"""What a word that is typed may become: a path, a mixture, or a word that was used before."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence

from mqf_tui.fidelity.text.sources.hub_words import PREFIX

AND = " + "
MOST = 100  # that are offered
MOST_LOOKED = 20_000  # entries of a folder


def completions(typed: str, used: Sequence[str] = (), names: Sequence[str] = ()) -> tuple[str, ...]:
    """All that may stand in place of ``typed``, of which the last of several texts is completed.

    ``used``: words that were used before, the latest first; ``names``: those of mixtures. It lists a folder,
    which may take long: not for the app's own thread. Raises nothing.
    """
    if not typed.strip():
        return tuple(used[:MOST])
    before, joint, last = typed.rpartition(AND)
    found = [word for word in used if word.startswith(typed) and word != typed]
    found += [before + joint + name for name in names if last and name.startswith(last) and name != last]
    if last and not last.startswith(PREFIX):
        found += [before + joint + path for path in _paths(last.lstrip())]
    return tuple(dict.fromkeys(found))[:MOST]


def common(words: Sequence[str]) -> str:
    """What all of them begin with."""
    first, last = min(words), max(words)
    same = (n for n, (a, b) in enumerate(zip(first, last, strict=False)) if a != b)
    return first[: next(same, min(len(first), len(last)))]


def _paths(typed: str) -> list[str]:
    if typed == "~":
        return ["~/"]
    try:
        folder, begun = os.path.split(os.path.expanduser(typed))
        names = sorted(_entries(folder or ".", begun))
    except (OSError, ValueError):
        return []
    written = typed[: len(typed) - len(begun)] if begun else typed
    return [written + name for name in names if written + name != typed]


def _entries(folder: str, begun: str) -> Iterator[str]:
    """Names that begin so, those of folders with a stroke behind them; hidden ones where a dot is typed."""
    with os.scandir(folder) as entries:
        for n, entry in enumerate(entries):
            if n >= MOST_LOOKED:
                return
            if entry.name.startswith(begun) and (begun.startswith(".") or not entry.name.startswith(".")):
                yield entry.name + (os.sep if entry.is_dir() else "")
