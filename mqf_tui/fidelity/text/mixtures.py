"""Texts put together by weight: what a mixture is, and in which order its parts take turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, gcd, lcm

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.reports.text import counted

WINDOW = 1024  # chunks; of a part that is not read whole they are drawn from so many, then from the next
LONGEST_PERIOD = 20  # chunks; where the weights repeat later, a round is what gives each part its turn


@dataclass(frozen=True)
class MixturePart:
    """One text of a mixture: ``corpus`` as ``--corpus`` takes it; ``weight``: its share of the chunks,
    against those of the others."""

    name: str
    corpus: str
    weight: float
    options: TextOptions = field(default_factory=TextOptions)


@dataclass(frozen=True)
class Mixture:
    """A text of parts with weights; ``seed``: of what is taken from each."""

    name: str
    parts: tuple[MixturePart, ...]
    seed: int = 0

    @property
    def words(self) -> str:
        """Its parts with their shares: ``prose 40 %, chat 60 %, seed 1``."""
        total = sum(part.weight for part in self.parts)
        shares = (f"{part.name} {100 * part.weight / total:.3g} %" for part in self.parts)
        return ", ".join((*shares, f"seed {self.seed}"))


def whole_weights(weights: Sequence[float]) -> tuple[int, ...]:
    """The smallest whole numbers in the same proportion; each weight as it is written in decimals."""
    exact = [Fraction(repr(float(weight))) for weight in weights]
    shared = lcm(*(one.denominator for one in exact))
    counts = [int(one * shared) for one in exact]
    divisor = gcd(*counts)
    return tuple(count // divisor for count in counts)


def round_length(weights: Sequence[float]) -> int:
    """Chunks after which each part had its share, or very nearly where the weights repeat late."""
    counts = whole_weights(weights)
    period = sum(counts)
    return period if period <= LONGEST_PERIOD else ceil(period / min(counts))


def weighted_turns(weights: Sequence[float]) -> Iterator[int]:
    """Parts in turn without end: after any number of turns each part had its share to within one turn.

    Of the parts that are behind their share the one goes next that must soonest (earliest deadline first
    over Pfair windows, Baruah et al. 1996, which always meets them on one resource).
    """
    counts = whole_weights(weights)
    period = sum(counts)
    had = [0] * len(counts)
    turn = 0
    while True:
        turn += 1
        behind = [part for part, count in enumerate(counts) if had[part] * period < turn * count]
        chosen = min(behind, key=lambda part: -(-(had[part] + 1) * period // counts[part]))
        had[chosen] += 1
        yield chosen


@dataclass(frozen=True)
class Order:
    """Chunks in the order they are scored: of each its row within its part, and the part.

    ``round_length``: after so many each part had its turn (None: the parts take turns one by one).
    """

    chunks: tuple[tuple[int, int], ...]
    round_length: int | None = None
    warnings: tuple[str, ...] = ()


def mixed_order(
    counts: Sequence[int],
    weights: Sequence[float],
    seeds: Sequence[int],
    most: int | None,
    names: Sequence[str],
    whole: Sequence[bool] | None = None,
) -> Order:
    """At most ``most`` chunks of parts that have ``counts`` of them, dealt by weight.

    Of each part they are drawn at random, by ``seeds``, without repetition: from all of it where it is
    ``whole``, else WINDOW after WINDOW; so a longer order begins as a shorter one does. It ends where the
    part whose turn it is has no more, so that the shares hold. Raises BadCorpusError where a part has none.
    """
    if 0 in counts:
        raise BadCorpusError(
            f"the part {names[counts.index(0)]} of the mixture has not one whole chunk, so its share cannot "
            "be held; use shorter chunks, a longer text, or leave the part out."
        )
    drawn = [
        _drawn(count, count if whole is None or whole[part] else WINDOW, (*seeds, part))
        for part, count in enumerate(counts)
    ]
    had = [0] * len(counts)
    found: list[tuple[int, int]] = []
    warnings: tuple[str, ...] = ()
    for part in weighted_turns(weights):
        if most is not None and len(found) >= most:
            break
        if had[part] == counts[part]:
            has = counted(counts[part], "chunk")
            warnings = (
                f"the mixture ends after {counted(len(found), 'chunk')}, where {names[part]}, which has only "
                f"{has}, would be next",
            )
            break
        found.append((drawn[part][had[part]], part))
        had[part] += 1
    return Order(tuple(found), round_length(weights), warnings)


def pool(most: int | None, *, whole: bool) -> int | None:
    """How many chunks of a part must be there to draw ``most`` of them; None: all."""
    return None if whole or most is None else ceil(most / WINDOW) * WINDOW


def _drawn(count: int, window: int, seeds: Sequence[int]) -> list[int]:
    import numpy as np

    found: list[int] = []
    for number, start in enumerate(range(0, count, window)):
        drawn = np.random.default_rng((*seeds, number)).permutation(min(window, count - start))
        found += (start + drawn).tolist()
    return found
