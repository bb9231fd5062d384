"""Texts put together by weight: what a mixture is, and in which order its parts take turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil, gcd, lcm

from mqf_tui.fidelity.text_options import TextOptions

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
