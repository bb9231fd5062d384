"""Values of the Python API as people write them: one or several, Python's or NumPy's, a name or a path.

What is of another kind altogether is refused here, or left for the settings to refuse.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from numbers import Integral, Real
from os import PathLike, fspath

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.settings import is_number


def whole(value: int) -> int:
    """NumPy's integers as Python's; anything else is left for the settings to refuse."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def whole_or_none(value: int | None) -> int | None:
    """As ``whole``, where a value may be left out."""
    return None if value is None else whole(value)


def real(value: float | None) -> float | None:
    """NumPy's numbers as Python's; anything else is left for the settings to refuse."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def above_zero(name: str, value: float | None) -> float | None:
    """A finite number above 0, or None; ``name`` is what the argument is called. Raises BadSettingError."""
    found = real(value)
    if found is not None and not (is_number(found) and found > 0):
        raise BadSettingError(f"{name} is {value!r}; use a number above 0, or leave it out.")
    return found


def several(values: Sequence[int] | int) -> tuple[int, ...]:
    """One whole number or several, as Python's."""
    return tuple(map(whole, values)) if isinstance(values, Iterable) else (whole(values),)


def words(name: str, values: Sequence[str] | str) -> tuple[str, ...]:
    """One word or several; ``name`` is what the argument is called. Raises BadSettingError."""
    found = (values,) if isinstance(values, str) or not isinstance(values, Iterable) else tuple(values)
    for word in found:
        if not isinstance(word, str):
            raise BadSettingError(f"{name} is {word!r}; use a word such as 'k8v4', '4g32' or 'mxfp4'.")
    return found


def path_words(name: str, value: str | PathLike[str]) -> str:
    """A name or path as text; ``name`` is what the argument is called. Raises BadSettingError."""
    if not isinstance(value, str | PathLike) or not isinstance(found := fspath(value), str):
        raise BadSettingError(f"{name} is {value!r}; use a name or a path.")
    return found
