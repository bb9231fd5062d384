"""A model from the hub into the cache of this machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mqf_tui.fidelity.errors import HubError


@dataclass(frozen=True)
class Progress:
    """How far a download is; bytes count all its files together, with those that were here before.

    ``waiting`` is "" while data flows, else what it waits for, as a clause: "the hub asks to wait 12 s".
    """

    file: str
    n_files: int
    files_done: int
    bytes_done: int
    bytes_total: int
    bytes_per_second: float
    waiting: str = ""


def download_model(
    name: str,
    *,
    on_progress: Callable[[Progress], None],
    cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Fetch what is missing of ``owner/name`` or ``owner/name@revision``; returns its folder in the cache.

    ``on_progress`` is called in the calling thread, some times a second. What a cancelled or broken download
    has fetched is kept, and the next one goes on from there. Raises HubError, and CancelledError soon after
    ``cancelled`` says so.
    """
    raise HubError("nothing can be fetched from the hub yet.")
