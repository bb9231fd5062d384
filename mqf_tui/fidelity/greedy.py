"""Which format each part of a cache gets, greedily by KL per byte saved (no mlx).

Parts are quantized apart and their KLs added: small disturbances of a model add up about so. The sum is a
prediction; what a choice really costs is measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mqf_tui.fidelity.errors import BadSettingError


@dataclass(frozen=True)
class Option:
    """One format of a part: its mean KL alone (nats) and its bytes per token."""

    format: str
    kl: float
    bytes: float


@dataclass(frozen=True)
class Choice:
    """An option for each part, by index."""

    options: tuple[Option, ...]

    @property
    def kl(self) -> float:
        """Predicted mean KL: the sum over the parts."""
        return sum(option.kl for option in self.options)

    @property
    def bytes(self) -> float:
        """Bytes per token over the parts."""
        return sum(option.bytes for option in self.options)

    def having(self, part: int, option: Option) -> Choice:
        """The same, but for one part."""
        return Choice((*self.options[:part], option, *self.options[part + 1 :]))


@dataclass(frozen=True)
class _Step:
    part: int
    option: Option
    slope: float


def frontier(options: Sequence[Option]) -> list[Option]:
    """The options on the lower convex hull of KL over bytes, from most bytes to fewest.

    Any other is beaten by one that costs no more of either, or by a mix of two neighbours over many parts.
    """
    best: dict[float, Option] = {}
    for option in options:
        if option.bytes not in best or option.kl < best[option.bytes].kl:
            best[option.bytes] = option
    hull: list[Option] = []
    for option in sorted(best.values(), key=lambda o: -o.bytes):
        # Fewer bytes at no more KL: nothing above is worth its bytes.
        while hull and hull[-1].kl >= option.kl:
            hull.pop()
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) >= _slope(hull[-1], option):
            hull.pop()
        hull.append(option)
    return hull


def walk(parts: Sequence[Sequence[Option]]) -> list[Choice]:
    """All choices on the greedy way from the most bytes to the fewest.

    Each is, of all choices with no more bytes, the one of least predicted KL.
    """
    choice = _start(parts)
    found = [choice]
    for step in _steps(parts):
        choice = choice.having(step.part, step.option)
        found.append(choice)
    return found


def within_bytes(parts: Sequence[Sequence[Option]], limit: float) -> Choice:
    """A choice of at most ``limit`` bytes: greedy, and what its last step saved too much is spent again.

    Its predicted KL is above the least possible by less than the largest single step's. Raises
    BadSettingError where even the smallest formats need more.
    """
    choices = walk(parts)
    end = next((i for i, choice in enumerate(choices) if choice.bytes <= limit), None)
    if end is None:
        raise BadSettingError(
            f"the smallest formats need {choices[-1].bytes:,.0f} KV bytes per token and {limit:,.0f} are "
            "allowed; allow more, or fewer bits (--bits)."
        )
    candidates = [choices[end]]
    if end:
        before = choices[end - 1]
        others = [before.having(i, option) for i, part in enumerate(parts) for option in part]
        candidates += [choice for choice in others if choice.bytes <= limit]
    spent = [_spent(choice, parts, limit) for choice in candidates]
    return min(spent, key=lambda choice: (choice.kl, choice.bytes))


def within_kl(parts: Sequence[Sequence[Option]], limit: float) -> Choice:
    """A choice of few bytes with at most ``limit`` nats of predicted KL: greedy, past what does not fit."""
    choice, closed = _start(parts), set[int]()
    for step in _steps(parts):
        tried = choice.having(step.part, step.option)
        if step.part in closed or tried.kl > limit:
            closed.add(step.part)
        else:
            choice = tried
    return choice


def _start(parts: Sequence[Sequence[Option]]) -> Choice:
    return Choice(tuple(frontier(part)[0] for part in parts))


def _steps(parts: Sequence[Sequence[Option]]) -> list[_Step]:
    """All steps along the parts' frontiers, the least KL per byte first; within a part slopes only grow."""
    steps: list[_Step] = []
    for i, part in enumerate(parts):
        hull = frontier(part)
        steps += [_Step(i, b, _slope(a, b)) for a, b in pairwise(hull)]
    return sorted(steps, key=lambda step: step.slope)


def _slope(more: Option, fewer: Option) -> float:
    """KL that a saved byte costs."""
    return (fewer.kl - more.kl) / (more.bytes - fewer.bytes)


def _spent(choice: Choice, parts: Sequence[Sequence[Option]], limit: float) -> Choice:
    """Spend bytes that are left on the single changes that take most KL away."""
    while True:
        tried = [choice.having(i, option) for i, part in enumerate(parts) for option in part]
        better = [c for c in tried if c.bytes <= limit and c.kl < choice.kl]
        if not better:
            return choice
        choice = min(better, key=lambda c: (c.kl, c.bytes))
