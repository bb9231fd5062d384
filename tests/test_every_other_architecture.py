"""The other half of the architectures; see test_every_architecture.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.test_every_architecture import held
from tests.tiny_models import TINY


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.mark.parametrize("name", list(TINY)[1::2])
def test_measured_or_refused(name: str, home: Path) -> None:
    held(name, home)
