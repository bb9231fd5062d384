"""Chunks that begin alike: what they share goes through the model once.

A corpus of chats repeats its system prompt in every chunk. The caches after the tokens that two chunks have
in common are the same, and so are the numbers of the positions that lie before.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.positions import Positions


@dataclass(frozen=True)
class Prefix:
    """What is left of the first ``end`` positions of a chunk: caches, and what was scored there.

    ``caches`` and ``positions`` are by variant (``scoring.Variant``); a variant has no cache of its own
    before the reference's is quantized.
    """

    end: int
    reference: list[Any]
    caches: Mapping[Any, list[Any]]
    positions: Mapping[Any, Positions]


@dataclass(frozen=True)
class Sharing:
    """Which chunk begins like which earlier one. ``keep``: by chunk, the position up to which its prefix is
    to be kept; ``source``: by chunk, the one whose prefix it can use; ``last``: by such a source, the last
    chunk that does."""

    keep: Mapping[int, int] = field(default_factory=dict[int, int])
    source: Mapping[int, int] = field(default_factory=dict[int, int])
    last: Mapping[int, int] = field(default_factory=dict[int, int])


def sharing(tokens: NDArray[np.int32], order: Sequence[int], boundaries: Sequence[int]) -> Sharing:
    """Find chunks of ``tokens`` (n, L), scored in this order, that have whole steps in common.

    ``boundaries`` are the positions, ascending, at which a step begins. The number at position i depends on
    tokens 0 to i + 1. At most one prefix of each chunk is kept, the shortest that all who use it share.
    """
    first: dict[bytes, int] = {}
    keep: dict[int, int] = {}
    source: dict[int, int] = {}
    last: dict[int, int] = {}
    least = next((b for b in boundaries if b > 0), None)
    if least is None:
        return Sharing()
    for index in order:
        head = tokens[index, : least + 1].tobytes()
        earlier = first.setdefault(head, index)
        if earlier == index:
            continue
        differs = np.flatnonzero(tokens[index] != tokens[earlier])
        common = int(differs[0]) if len(differs) else tokens.shape[1]
        end = boundaries[bisect_right(boundaries, common - 1) - 1]
        keep[earlier] = min(keep.get(earlier, end), end)
        source[index] = last_source = earlier
        last[last_source] = index
    return Sharing(keep, source, last)
