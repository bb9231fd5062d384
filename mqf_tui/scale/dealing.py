"""Which rank scores which chunk: each gets the next in the text's order when it has finished its last."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field

from mqf_tui.fidelity.positions import Positions


@dataclass
class ChunkResult:
    """What is there of one chunk: the steps of each variant, and, once it is whole, what scoring took.

    ``references``: passes of the reference. ``seconds`` by variant, each with its share of those.
    ``bytes_measured``: bytes a token of the reference's cache and of the variant's, by variant. ``lists``:
    the likeliest tokens that are kept of it, as ``messages.arrays_to_bytes`` packs them.
    """

    steps: dict[tuple[int, int], Positions] = field(default_factory=dict[tuple[int, int], Positions])
    whole: bool = False
    references: int = 1
    seconds: dict[int, float] = field(default_factory=dict[int, float])
    bytes_measured: dict[int, tuple[float, float]] = field(default_factory=dict[int, tuple[float, float]])
    lists: bytes = b""

    def of(self, variant: int) -> list[Positions]:
        """The steps of one variant, in order."""
        return [positions for (v, _), positions in self.steps.items() if v == variant]


class Dealer:
    """The chunks that are still to be scored, who has which, and what came back."""

    def __init__(self, chunks: Iterable[int]) -> None:
        self._waiting = list(chunks)
        heapq.heapify(self._waiting)
        self._held: dict[int, int] = {}
        self.results: dict[int, ChunkResult] = {}
        self.finished: dict[int, int] = {}  # chunks finished, by rank

    def deal(self, rank: int) -> int | None:
        """The next chunk, for this rank; None where there is none, or the rank has one already."""
        if rank in self._held or not self._waiting:
            return None
        chunk = heapq.heappop(self._waiting)
        self._held[rank] = chunk
        self.results[chunk] = ChunkResult()
        return chunk

    def held_by(self, rank: int) -> int | None:
        """The chunk that this rank is scoring."""
        return self._held.get(rank)

    def step(self, rank: int, chunk: int, variant: int, step: int, positions: Positions) -> bool:
        """Take in a step; False where this rank has no such chunk."""
        if self._held.get(rank) != chunk:
            return False
        self.results[chunk].steps[variant, step] = positions
        return True

    def scored(
        self,
        rank: int,
        chunk: int,
        seconds: dict[int, float],
        bytes_measured: dict[int, tuple[float, float]],
        references: int = 1,
        lists: bytes = b"",
    ) -> ChunkResult | None:
        """A rank has finished its chunk; None where it had no such chunk."""
        if self._held.get(rank) != chunk:
            return None
        del self._held[rank]
        self.finished[rank] = self.finished.get(rank, 0) + 1
        result = self.results[chunk]
        result.whole, result.references = True, references
        result.seconds, result.bytes_measured, result.lists = seconds, bytes_measured, lists
        return result

    def lost(self, rank: int) -> int | None:
        """A rank has gone; the chunk that it held, which goes back to be dealt anew."""
        chunk = self._held.pop(rank, None)
        if chunk is not None:
            del self.results[chunk]  # half a chunk of one machine is not continued on another
            heapq.heappush(self._waiting, chunk)
        return chunk
