"""From a place to the next that is worth a look. ``chosen`` (n,): the places that may be jumped to."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def following(chosen: NDArray[np.bool_], place: int) -> int | None:
    """The next chosen place after ``place``, None where there is none."""
    found = int(np.argmax(chosen[place + 1 :])) if place + 1 < len(chosen) else 0
    there = place + 1 + found
    return there if there < len(chosen) and chosen[there] else None


def preceding(chosen: NDArray[np.bool_], place: int) -> int | None:
    """The last chosen place before ``place``, None where there is none."""
    if place <= 0:
        return None
    there = place - 1 - int(np.argmax(chosen[:place][::-1]))
    return there if chosen[there] else None


def ranked(values: NDArray[Any], chosen: NDArray[np.bool_]) -> NDArray[np.intp]:
    """The chosen places whose value is a number, the largest value first; of equal ones the first."""
    places = np.flatnonzero(chosen & ~np.isnan(values))
    return places[np.argsort(-values[places].astype(np.float64), kind="stable")]
