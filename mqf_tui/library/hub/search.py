"""Models on the hub that fit a text, and names near to one that does not exist."""

from __future__ import annotations

import contextlib
import difflib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from mqf_tui.fidelity.errors import BadSettingError, HubError
from mqf_tui.library.hub.cache import hub_cache, repository
from mqf_tui.library.hub.calls import Patience, endpoint, get_json
from mqf_tui.library.hub.faults import NotTheHubError, told
from mqf_tui.library.hub.names import AUTHOR, RepoName, is_repo
from mqf_tui.library.incomplete import missing

MAX_COUNT = 1 << 50  # of anything; the largest models have some 10^12 parameters
MOST = 100  # models of one search: the hub sends no more at once
NEAR = 3  # names to suggest
LOOKED_AT = 20  # models to find them among
ASKED_FOR = ("downloads", "likes", "lastModified", "gated", "private", "safetensors")
BYTES = {
    **dict.fromkeys(("F64", "I64", "U64"), 8),
    **dict.fromkeys(("F32", "I32", "U32"), 4),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 2),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 1),
}


@dataclass(frozen=True)
class HubModel:
    """A model on the hub; ``updated`` is an ISO day, ``size_bytes`` that of its weights where it is known."""

    name: str
    downloads: int
    likes: int
    updated: str
    gated: bool
    private: bool
    size_bytes: int | None
    here: bool  # a revision of it is in the cache of this machine, whole


def search_hub(
    text: str,
    author: str | None = AUTHOR,
    limit: int = 30,
    *,
    on_waiting: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[HubModel, ...]:
    """The models of ``author`` (None: of anybody) whose name fits ``text``, most downloaded first.

    ``on_waiting`` is told what it waits for, "" when it goes on. Raises BadSettingError for an impossible
    ``limit``, HubError, and CancelledError soon after ``cancelled`` says so.
    """
    if not 1 <= limit <= MOST:
        raise BadSettingError(f"a search lists from 1 to {MOST} models, not {limit}; ask for some of them.")
    patience = Patience(cancelled, on_waiting or _tell_nobody)
    return tuple(_found(text, author, limit, patience))


def near_names(name: RepoName, patience: Patience) -> tuple[str, ...]:
    """Names of models on the hub that one may have meant; none where they cannot be had at once."""
    patience = replace(patience, tries=1)
    owner, _, last = name.repo.rpartition("/")
    found: dict[str, None] = {}
    with contextlib.suppress(HubError):
        for text, author in _wider(owner, last):
            found.update(dict.fromkeys(model.name for model in _found(text, author, LOOKED_AT, patience)))
            if len(found) >= NEAR:
                break
    close = difflib.get_close_matches(name.repo, found, n=NEAR, cutoff=0.5)
    return tuple(dict.fromkeys((*close, *found)))[:NEAR]


def _wider(owner: str, last: str) -> Iterator[tuple[str, str | None]]:
    """What to search for: the name of anybody, then less and less of it."""
    yield last, None
    pieces = re.split(r"[-_.]", last)
    for n in sorted({len(pieces) - 1, len(pieces) // 2, 1} - {0, len(pieces)}, reverse=True):
        yield " ".join(pieces[:n]), None
    if owner:
        yield "", owner


def _found(text: str, author: str | None, limit: int, patience: Patience) -> Iterator[HubModel]:
    params: dict[str, Any] = {"sort": "downloads", "direction": -1, "limit": limit, "expand": ASKED_FOR}
    if text.strip():
        params["search"] = text.strip()
    if author:
        params["author"] = author
    rows = get_json("/api/models", params, patience)
    if not isinstance(rows, list):
        raise told(NotTheHubError("it sent no list of models"), endpoint())
    cache = hub_cache()
    for row in cast("list[Any]", rows)[:limit]:
        if (model := _model(row, cache)) is not None:
            yield model


def _model(row: Any, cache: Path) -> HubModel | None:
    """None for what is no model that could be named here."""
    if not isinstance(row, dict):
        return None
    facts = cast("dict[str, Any]", row)
    name = facts.get("id")
    if not isinstance(name, str) or not is_repo(name):
        return None
    day = re.match(r"\d{4}-\d\d-\d\d", str(facts.get("lastModified") or ""), re.ASCII)
    return HubModel(
        name,
        _count(facts.get("downloads")),
        _count(facts.get("likes")),
        day[0] if day else "",
        bool(facts.get("gated")),
        bool(facts.get("private")),
        _size(facts.get("safetensors")),
        _here(name, cache),
    )


def _count(value: Any) -> int:
    return value if _is_count(value) else 0


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= MAX_COUNT


def _size(counted: Any) -> int | None:
    """Bytes of the weights, from how many numbers of which type they have; None where that does not tell."""
    kinds: Any = counted.get("parameters") if isinstance(counted, dict) else None
    if not isinstance(kinds, dict):
        return None
    numbers = cast("dict[str, Any]", kinds)
    if not numbers or any(kind not in BYTES or not _is_count(n) for kind, n in numbers.items()):
        return None
    return sum(BYTES[kind] * n for kind, n in numbers.items())


def _here(name: str, cache: Path) -> bool:
    found = repository(cache, name)
    return found is not None and any(missing(Path(one.folder)) is None for one in found.snapshots())


def _tell_nobody(_: str) -> None:
    """There is nobody to tell."""
