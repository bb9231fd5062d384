"""Small repositories for the tests of the hub, and what is watched while they are fetched."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mqf_tui.fidelity.errors import HubError
from mqf_tui.library.hub.download import Progress, download_model
from tests.hub_repos import Blob

NAME = "mlx-community/tiny-4bit"
WEIGHTS = random.Random(7).randbytes(600_000)
CONFIG = json.dumps({"model_type": "llama"}).encode()
FILES: dict[str, bytes | Path | Blob] = {
    "config.json": CONFIG,
    "tokenizer.json": b'{"model": {}}',
    "model.safetensors": WEIGHTS,
    "README.md": b"---\nlicense: mit\n---\n",
}
LARGE = "/cdn/*/model.safetensors"


@dataclass
class Watched:
    """The progress that was told, and a cancelling that goes by it."""

    when: Callable[[Progress], bool] = lambda _: False
    seen: list[Progress] = field(default_factory=list[Progress])
    cancelled: bool = False

    def tell(self, progress: Progress) -> None:
        self.seen.append(progress)
        self.cancelled = self.cancelled or self.when(progress)

    @property
    def waits(self) -> list[str]:
        """What was waited for, each once."""
        return list(dict.fromkeys(one.waiting for one in self.seen if one.waiting))

    def fetch(self, name: str = NAME) -> Path:
        return download_model(name, on_progress=self.tell, cancelled=lambda: self.cancelled)


def fetch(name: str = NAME) -> Path:
    """Fetch a model with nobody watching."""
    return Watched().fetch(name)


def refused(name: str = NAME) -> str:
    """The sentence with which it is not fetched."""
    with pytest.raises(HubError) as caught:
        fetch(name)
    return str(caught.value)


def contents(folder: Path) -> dict[str, bytes]:
    """What lies in a folder."""
    return {
        file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()
    }


def partials(home: Path) -> list[Path]:
    """The unfinished files anywhere below."""
    return sorted(home.rglob("*.incomplete"))
