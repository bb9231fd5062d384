"""What the functions of the Python API take for numbers, words and limits; nothing is loaded for that."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqf_tui import measure_kv_fidelity, measure_kv_sensitivity, measure_kv_sweep, tune_kv
from mqf_tui.argument_values import above_zero, path_words, real, several, whole, words
from mqf_tui.fidelity.errors import BadSettingError

WRONG: list[tuple[Callable[..., Any], dict[str, Any], str]] = [
    (measure_kv_fidelity, {"k_bits": "8"}, r"bits of a KV cache are '8'; use a whole number"),
    (measure_kv_fidelity, {"k_bits": 8.0, "v_bits": 4}, r"are 8\.0; use a whole number"),
    (measure_kv_sweep, {"kv": None}, r"kv is None; use a word"),
    (measure_kv_sweep, {"kv": 4}, r"kv is 4; use a word"),
    (measure_kv_sweep, {"kv": ["k8v4", 4]}, r"kv is 4; use a word"),
    (measure_kv_sweep, {"kv_bits": None}, r"kv_bits is None"),
    (measure_kv_sweep, {"k_bits": [8], "v_bits": None}, r"are None; use a whole number"),
    (measure_kv_sweep, {"memory_limit": "8GB"}, r"memory limit is '8GB'; use bytes above 0"),
    (measure_kv_sweep, {"memory_limit": -1}, r"memory limit is -1; use bytes above 0"),
    (measure_kv_sweep, {"max_kv_bytes_per_token": "x"}, r"max_kv_bytes_per_token is 'x'"),
    (measure_kv_sweep, {"max_kv_bytes_per_token": float("nan")}, r"max_kv_bytes_per_token is nan"),
    (measure_kv_sweep, {"max_kv_bytes_per_token": 0}, r"max_kv_bytes_per_token is 0; use a number above 0"),
    (measure_kv_sensitivity, {"kv_bits": "4"}, r"are '4'; use a whole number"),
    (measure_kv_sensitivity, {"memory_limit": "x"}, r"memory limit is 'x'"),
    (tune_kv, {"max_kl": 0.1, "bits": None}, r"are None; use a whole number"),
    (tune_kv, {"max_kl": 0.1, "bits": "84"}, r"are '8'; use a whole number"),
    (tune_kv, {"max_kl": 0.1, "sensed_chunks": 1.5}, r"sensitivity chunks are 1\.5"),
    (tune_kv, {"max_kl": 0.1, "memory_limit": 0}, r"memory limit is 0"),
]


@pytest.mark.parametrize(
    ("function", "given", "said"), WRONG, ids=lambda value: getattr(value, "__name__", str(value)[:60])
)
def test_what_cannot_be_is_said_before_any_work(
    function: Callable[..., Any], given: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadSettingError, match=said):
        function("demo", **given)


def test_numbers_of_numpy_are_taken_as_pythons() -> None:
    for value in (np.int32(4), np.uint64(4), np.int8(4)):
        assert type(whole(value)) is int  # pyright: ignore[reportArgumentType]
    assert type(real(np.float32(0.5))) is float  # pyright: ignore[reportArgumentType]
    assert type(real(np.int64(1))) is int  # pyright: ignore[reportArgumentType]
    assert [type(n) for n in several(np.array([8, 4]))] == [int, int]  # pyright: ignore[reportArgumentType]
    assert type(above_zero("it", np.float64(3))) is float


@pytest.mark.parametrize("value", [True, False, "4", None, 4.5])
def test_what_is_no_whole_number_stays_as_it_is(value: Any) -> None:
    assert whole(value) is value


def test_one_is_as_good_as_several() -> None:
    assert several(8) == several([8]) == (8,)
    assert words("kv", "k8v4") == words("kv", ["k8v4"]) == ("k8v4",)
    assert path_words("corpus", Path("a") / "b") == str(Path("a") / "b")


def test_numbers_of_numpy_are_measured_with_and_written_down() -> None:
    few: dict[str, Any] = {"chunk_length": np.int64(32), "max_chunks": np.int64(2)}
    report = measure_kv_fidelity("demo", k_bits=np.int64(8), v_bits=np.int64(4), max_kl=np.int64(1), **few)
    assert report.setting == "8-bit keys, 4-bit values, group 64"
    found = measure_kv_sweep("demo", kv_bits=np.array([8, 4]), **few)  # pyright: ignore[reportArgumentType]
    assert str(found) == str(found.report)
    assert len(found.runs) == 2
    assert "8-bit" in str(found)
