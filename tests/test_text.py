"""Numbers and names as words, at the edges where formatting breaks."""

from __future__ import annotations

import math
import re
import sys

import numpy as np
import pytest

from mqf_tui.reports import text

INFINITE = [math.inf, -math.inf, math.nan]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (-0.0, "0"),
        (0.00123456, "0.00123"),
        (1.23456e-6, "1.23e-06"),
        (9.99e-5, "9.99e-05"),
        (1e-4, "0.000100"),
        (0.5, "0.500"),
        (12.345, "12.3"),
        (123.45, "123"),
        (1234.5, "1234"),
        (-0.0123456, "-0.0123"),
        (-1e-7, "-1.00e-07"),
        (sys.float_info.min / 4, "5.56e-309"),
        (math.inf, "inf"),
        (-math.inf, "-inf"),
        (math.nan, "nan"),
    ],
)
def test_kl(value: float, shown: str) -> None:
    assert text.kl(value) == shown


def test_kl_keeps_three_digits_at_every_size() -> None:
    rng = np.random.default_rng(0)
    for value in (rng.uniform(1, 10, 400) * 10.0 ** rng.uniform(-12, 2, 400)).tolist():
        shown = text.kl(value)
        assert float(shown) == pytest.approx(value, rel=0.00501)
        # 9.996 rounds up to 10.00, which has one more.
        digits = re.sub(r"e.*|\.", "", shown).lstrip("0")
        assert len(digits) == 3 or (digits == "1000" or value > 999)


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0, "0.00 %"), (0.01234, "1.23 %"), (1, "100.00 %"), (-0.5, "-50.00 %"), (1e-9, "0.00 %")],
)
def test_percent(share: float, shown: str) -> None:
    assert text.percent(share) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1, "1.000"), (12.3456, "12.346"), (99999, "99999.000"), (1e5, "1.00e+05"), (3.2e300, "3.20e+300")],
)
def test_perplexity(value: float, shown: str) -> None:
    assert text.perplexity(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.25, "+0.250"),
        (-0.25, "-0.250"),
        (0, "0.000"),
        (2e6, "+2.00e+06"),
        (math.inf, "+inf"),
        (-math.inf, "-inf"),
    ],
)
def test_change_has_a_sign(value: float, shown: str) -> None:
    assert text.change(value) == shown


@pytest.mark.parametrize("word", [text.kl, text.percent, text.perplexity, text.size])
@pytest.mark.parametrize("value", INFINITE)
def test_infinite_values_are_said_plainly(word: object, value: float) -> None:
    assert callable(word)
    assert word(value) == str(value)


@pytest.mark.parametrize(
    ("n_bytes", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1023, "1.0 kB"),
        (123_456, "123 kB"),
        (999_400, "999 kB"),
        (999_600, "1.0 MB"),
        (1_900_000_000, "1.9 GB"),
        (2.5e12, "2.5 TB"),
        (-5, "-5 B"),
        (0.4, "0 B"),
    ],
)
def test_size(n_bytes: float, shown: str) -> None:
    assert text.size(n_bytes) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (-3, "0 s"),
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
        (math.inf, "?"),
        (math.nan, "?"),
    ],
)
def test_duration(seconds: float, shown: str) -> None:
    assert text.duration(seconds) == shown


def test_interval() -> None:
    assert text.interval(0.01, 0.02) == "0.0100 to 0.0200"
    assert text.interval(0.01, 0.02, rate=True) == "1.00 % to 2.00 %"
    assert text.interval(0.0, math.inf) == "0 to inf"
    assert text.interval(None, None) == text.interval(None, 0.5) == "no interval"


HOSTILE = [
    "a\x1b[2J\x1b]0;title\x07b",
    "a\nb\r\nc\td",
    "a\u2028b\u2029c\x85d\x0be",
    "right\u202eleft\u200bzero\ufeff",
    "null\0bell\x07del\x7fc1\x9b31m",
    "private\ue000 surrogate\udcff tag\U000e0041",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_inert_leaves_one_printable_line(name: str) -> None:
    shown = text.inert(name)
    assert shown.isprintable()
    assert len(shown.splitlines()) == 1


def test_inert_keeps_what_is_harmless() -> None:
    for name in ("org/Model-7B_v0.1", "naïve 模型 🦙 |pipe|", ""):
        assert text.inert(name) == name
    assert text.inert("a\nb\tc") == "a b c"


def test_readable_writes_as_utf8() -> None:
    assert text.readable("mod\udcff") == "mod?"
    assert text.readable("模型 🦙") == "模型 🦙"


def test_an_errors_words_cannot_drive_a_terminal() -> None:
    from mqf_tui.fidelity.errors import BrokenWeightsError

    assert (
        str(BrokenWeightsError("tensor evil\x1b]2;PWNED\x07 is \nbroken")) == "tensor evil]2;PWNED is  broken"
    )
