"""What a download would take, asked before it begins."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mqf_tui.library.hub.cache import hub_cache
from mqf_tui.library.hub.calls import Patience
from mqf_tui.library.hub.files import listing, wanted
from mqf_tui.library.hub.names import parse_repo
from mqf_tui.library.hub.store import Store, free_bytes, nearest_folder

WEIGHTS = ".safetensors"


@dataclass(frozen=True)
class Room:
    """Sizes in bytes: of all files that are wanted, of those of them that hold weights, and of what is still
    to be fetched."""

    n_files: int
    total: int
    weights: int
    missing: int


def room_for(
    name: str,
    *,
    on_waiting: Callable[[str], None] = lambda _: None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Room:
    """What ``owner/name`` or ``owner/name@revision`` takes. ``on_waiting`` is told what it waits for, "" when
    it goes on; raises what ``download_model`` raises."""
    repo = parse_repo(name)
    found = listing(repo, Patience(cancelled, on_waiting))
    files, store = wanted(repo, found.files), Store(repo.repo, found.commit)
    total = sum(file.size for file in files)
    return Room(
        n_files=len(files),
        total=total,
        weights=sum(file.size for file in files if file.path.endswith(WEIGHTS)),
        missing=total - sum(store.begun(file) for file in files),
    )


def free_disk() -> int | None:
    """Bytes that are free where models are put; None where that cannot be told."""
    return free_bytes(nearest_folder(hub_cache()))
