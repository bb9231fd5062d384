"""The likeliest tokens of both runs where they differ most: a few lists, kept while scoring (no mlx).

Kept are the ``WORST`` positions by KL and all confident flips (see ``flips``), of those at most the
``MOST_FLIPS`` with the highest KL.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.flips import CONFIDENT
from mqf_tui.fidelity.pairing import keys
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.vocabulary import Vocabulary

WORST = 200
MOST_FLIPS = 2000
SENT = ("depth", "ids_ref", "probs_ref", "ids_quant", "probs_quant")


class Likeliest(NamedTuple):
    """The likeliest tokens of one run at one position or more, the likeliest first: ids and probabilities,
    both (…, K); of equally likely ones the lowest id first."""

    ids: NDArray[np.int32]
    probs: NDArray[np.float32]


@dataclass(frozen=True)
class Tops:
    """The K likeliest tokens of reference and variant at m positions. docs/positions.md has them as a file.

    ``index`` (m,) ascending, into the run's positions; ``ids_*`` and ``probs_*`` (m, K), the likeliest first.
    ``texts`` spells the ids that occur. ``left_out``: of the worst positions and confident flips so many have
    no list, because there are too many or they were scored before the sweep was taken up again.
    """

    index: NDArray[np.int32]
    ids_ref: NDArray[np.int32]
    probs_ref: NDArray[np.float32]
    ids_quant: NDArray[np.int32]
    probs_quant: NDArray[np.float32]
    texts: Mapping[int, str] = field(default_factory=dict[int, str])
    left_out: int = 0

    def __len__(self) -> int:
        return len(self.index)

    @property
    def k(self) -> int:
        """How long each list is."""
        return self.ids_ref.shape[1]

    def at(self, position: int) -> tuple[Likeliest, Likeliest] | None:
        """The lists (K,) of reference and variant at a position, given by its index; None where none are."""
        i = int(np.searchsorted(self.index, position))
        if i == len(self.index) or self.index[i] != position:
            return None
        return Likeliest(self.ids_ref[i], self.probs_ref[i]), Likeliest(
            self.ids_quant[i], self.probs_quant[i]
        )

    @classmethod
    def of(
        cls,
        index: NDArray[np.integer],
        reference: Likeliest,
        variant: Likeliest,
        texts: Mapping[int, str],
        left_out: int = 0,
    ) -> Tops:
        """Lists (m, K) in any order of positions."""
        order = np.argsort(index, kind="stable")
        return cls(
            index[order].astype(np.int32),
            *(reference.ids[order], reference.probs[order]),
            *(variant.ids[order], variant.probs[order]),
            texts=texts,
            left_out=left_out,
        )


class Keeper:
    """Takes the lists of one variant in as its steps come, and keeps those of the positions that matter.

    ``wanted`` says which rows of a step may be among them, ``add`` brings their lists. Memory is bounded.
    """

    def __init__(self, k: int, worst: int = WORST, most_flips: int = MOST_FLIPS) -> None:
        self.k = k
        self._worst, self._flips = _Best(worst), _Best(most_flips)
        self._lists: dict[tuple[int, int], tuple[Likeliest, Likeliest]] = {}

    def wanted(self, positions: Positions) -> NDArray[np.intp]:
        """The rows of a step whose lists are worth the looking."""
        flips = confident_flips(positions)
        return np.flatnonzero(
            (positions.kl > self._worst.floor) | (flips & (positions.kl > self._flips.floor))
        )

    def add(
        self, positions: Positions, rows: NDArray[np.intp], reference: Likeliest, variant: Likeliest
    ) -> None:
        """Take in the lists (n, K) of the ``rows`` (n,) of a step."""
        flips = confident_flips(positions)
        for place, row in enumerate(rows.tolist()):
            key = int(positions.chunk[row]), int(positions.depth[row])
            one = Likeliest(reference.ids[place], reference.probs[place])
            other = Likeliest(variant.ids[place], variant.probs[place])
            self._keep(key, float(positions.kl[row]), bool(flips[row]), (one, other))

    def repeat(self, positions: Positions, chunk: int) -> None:
        """The same numbers came at the same depths of ``chunk`` too: so did their lists."""
        flips = confident_flips(positions)
        for row, place in enumerate(zip(positions.chunk.tolist(), positions.depth.tolist(), strict=True)):
            lists = self._lists.get(place)
            if lists is not None:
                self._keep((chunk, place[1]), float(positions.kl[row]), bool(flips[row]), lists)

    def of_chunk(self, chunk: int) -> dict[str, NDArray[Any]]:
        """What is kept of one chunk, for ``take`` of another keeper; nothing where nothing is."""
        places = [place for place in self._lists if place[0] == chunk]
        if not places:
            return {}
        sides = zip(*(self._lists[place] for place in places), strict=True)
        ids_ref, probs_ref, ids_quant, probs_quant = (
            np.stack(column) for side in sides for column in zip(*side, strict=True)
        )
        depths = np.array([depth for _, depth in places], np.int32)
        return dict(zip(SENT, (depths, ids_ref, probs_ref, ids_quant, probs_quant), strict=True))

    def take(self, positions: Positions, sent: Mapping[str, NDArray[Any]]) -> None:
        """Take in what another keeper has of a chunk with these ``positions``."""
        if sent:
            depths, ids_ref, probs_ref, ids_quant, probs_quant = (sent[name] for name in SENT)
            order = np.argsort(positions.depth)
            rows = order[np.searchsorted(positions.depth[order], depths)]
            self.add(positions, rows, Likeliest(ids_ref, probs_ref), Likeliest(ids_quant, probs_quant))

    def tops(self, positions: Positions, vocabulary: Vocabulary) -> Tops | None:
        """The lists of those that are among all ``positions`` of the variant; None where there are none."""
        places = keys(positions)
        order = np.argsort(places, kind="stable")
        kept = np.array([chunk << 32 | depth for chunk, depth in self._lists], np.int64)
        found = np.searchsorted(places[order], kept)
        there = found < len(places)
        there[there] = places[order][found[there]] == kept[there]
        if not there.any():
            return None
        index = order[found[there]]
        lists = [
            pair for pair, is_there in zip(self._lists.values(), there.tolist(), strict=True) if is_there
        ]
        reference, variant = (
            Likeliest(
                np.stack([pair[side].ids for pair in lists]), np.stack([pair[side].probs for pair in lists])
            )
            for side in (0, 1)
        )
        texts = vocabulary.texts(np.concatenate([reference.ids, variant.ids]))
        left_out = len(np.setdiff1d(notable(positions), index))
        return Tops.of(index, reference, variant, texts, left_out)

    def _keep(
        self, key: tuple[int, int], kl: float, is_flip: bool, lists: tuple[Likeliest, Likeliest]
    ) -> None:
        self._lists[key] = lists
        gone = [self._worst.push(kl, key), self._flips.push(kl, key) if is_flip else key]
        for other in gone:
            if other is not None and other not in self._worst and other not in self._flips:
                self._lists.pop(other, None)


class _Best:
    """The ``n`` places of highest KL so far; of equal ones the first by chunk and depth."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._heap: list[tuple[float, int, int]] = []
        self._keys = set[tuple[int, int]]()

    def __contains__(self, key: tuple[int, int]) -> bool:
        return key in self._keys

    @property
    def floor(self) -> float:
        """Nothing with this KL or less comes in any more."""
        return self._heap[0][0] if len(self._heap) >= self._n else -np.inf

    def push(self, kl: float, key: tuple[int, int]) -> tuple[int, int] | None:
        """Take one in; returns the one that is out for it, which may be itself."""
        if key in self._keys:
            return None
        self._keys.add(key)
        heapq.heappush(self._heap, (kl, -key[0], -key[1]))
        if len(self._heap) <= self._n:
            return None
        _, chunk, depth = heapq.heappop(self._heap)
        self._keys.discard((-chunk, -depth))
        return -chunk, -depth


def confident_flips(positions: Positions) -> NDArray[np.bool_]:
    """Where the reference gave another top-1 than the variant at least 0.5 (n,)."""
    return positions.flip & (positions.prob_ref >= CONFIDENT)


def notable(positions: Positions, worst: int = WORST) -> NDArray[np.intp]:
    """The positions whose lists are worth keeping, ascending: the ``worst`` by KL and all confident flips."""
    hardest = np.argsort(-positions.kl, kind="stable")[:worst]
    return np.union1d(hardest, np.flatnonzero(confident_flips(positions)))
