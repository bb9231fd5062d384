"""Modules stay small: one subject each, and none that everything ends up in."""

from __future__ import annotations

from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mqf_tui"
MODULES = sorted(PACKAGE.rglob("*.py"))


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def test_the_app_itself_is_under_200_lines() -> None:
    assert _lines(PACKAGE / "app" / "app.py") < 200


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_passes_400_lines(path: Path) -> None:
    assert _lines(path) <= 400
