"""The greedy choice of formats against all choices there are, on small tables."""

from __future__ import annotations

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.greedy import Choice, Option, frontier, walk, within_bytes, within_kl

numbers = st.integers(1, 40)
parts = st.lists(
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=4).map(
        lambda pairs: [Option("16", 0.0, 64.0), *(Option(f"{k}/{b}", k, b) for k, b in pairs)]
    ),
    min_size=1,
    max_size=4,
)


def _all(table: list[list[Option]]) -> list[Choice]:
    return [Choice(options) for options in product(*table)]


@given(parts)
def test_every_choice_on_the_way_is_the_best_of_its_bytes(table: list[list[Option]]) -> None:
    choices, every = walk(table), _all(table)
    assert choices[0].kl == 0
    assert choices[-1].bytes == min(choice.bytes for choice in every)
    for choice in choices:
        assert choice.kl == min(other.kl for other in every if other.bytes <= choice.bytes)


@given(parts, st.integers(1, 260))
def test_within_bytes(table: list[list[Option]], limit: int) -> None:
    fitting = [choice for choice in _all(table) if choice.bytes <= limit]
    if not fitting:
        with pytest.raises(BadSettingError, match="smallest formats need"):
            within_bytes(table, limit)
        return
    found, best = within_bytes(table, limit), min(choice.kl for choice in fitting)
    assert found.bytes <= limit
    way = walk(table)
    largest = max((b.kl - a.kl for a, b in pairwise(way)), default=0)
    assert best <= found.kl <= best + largest
    if len(table) == 1:
        assert found.kl == best


@given(parts, st.integers(0, 120))
def test_within_kl(table: list[list[Option]], limit: int) -> None:
    found = within_kl(table, limit)
    assert found.kl <= limit
    least = min(choice.bytes for choice in _all(table) if choice.kl <= limit)
    way = walk(table)
    largest = max((a.bytes - b.bytes for a, b in pairwise(way)), default=0)
    assert least <= found.bytes <= least + largest


def test_a_sensitive_part_keeps_more_bits() -> None:
    def part(scale: float) -> list[Option]:
        kls = {"16": 0, "8": 0.01, "4": 1, "2": 20}
        return [Option(f, kl * scale, int(f)) for f, kl in kls.items()]

    table = [part(1), part(100), part(0.01)]
    words = [[o.format for o in choice.options] for choice in walk(table)]
    assert words == [
        ["16", "16", "16"],
        ["16", "16", "8"],
        ["8", "16", "8"],
        ["8", "16", "4"],
        ["8", "16", "2"],
        ["8", "8", "2"],
        ["4", "8", "2"],
        ["2", "8", "2"],
        ["2", "4", "2"],
        ["2", "2", "2"],
    ]
    # 14 bytes lie between two of these; the best use of them is known by trying all.
    assert [o.format for o in within_bytes(table, 14).options] == ["4", "8", "2"]
    assert [o.format for o in within_bytes(table, 17).options] == ["4", "8", "4"]
    assert [o.format for o in within_kl(table, 2.3).options] == ["4", "8", "2"]


def test_options_that_nobody_should_take() -> None:
    given_options = [
        Option("16", 0, 16),
        Option("worse than 8 and larger", 5, 12),
        Option("8", 1, 8),
        Option("above the line from 8 to 2", 3, 5),
        Option("2", 4, 2),
        Option("2, worse", 6, 2),
    ]
    assert [option.format for option in frontier(given_options)] == ["16", "8", "2"]
    # Measured to cost less than a larger format: that one is no choice any more.
    assert [o.format for o in frontier([Option("16", 0, 16), Option("8", 2, 8), Option("4", 1, 4)])] == [
        "16",
        "4",
    ]
