"""Models on the hub that fit a text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mqf_tui.fidelity.errors import HubError

AUTHOR = "mlx-community"


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
    here: bool  # its newest revision is in the cache of this machine, whole


def search_hub(
    text: str,
    author: str | None = AUTHOR,
    limit: int = 30,
    *,
    on_waiting: Callable[[str], None] | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> tuple[HubModel, ...]:
    """The models of ``author`` (None: of anybody) whose name fits ``text``, most downloaded first.

    ``on_waiting`` is told what it waits for, "" when it goes on. Raises HubError, and CancelledError soon
    after ``cancelled`` says so.
    """
    raise HubError("the hub cannot be searched yet.")
