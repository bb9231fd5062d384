"""The beginning of a data set that is kept on this machine, without asking the hub for anything."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mqf_tui.fidelity.text.corpus import Part
from mqf_tui.fidelity.text.options import TextOptions
from mqf_tui.fidelity.text.sources.datasets_hub import SPLITS
from mqf_tui.fidelity.text.sources.hub_words import HubWord
from mqf_tui.fidelity.text.sources.rows import Rows


def kept_part(word: HubWord, options: TextOptions) -> Part | None:
    """The newest of what is kept of a data set; None where that is nothing. Raises BadCorpusError."""
    files = _files(word)
    if not files:
        return None
    rows = Rows(_ArrowRows(files), str(word), options, word.column or options.field, keeps_empty=True)
    return Part(str(word), rows, complete=False)


@dataclass(frozen=True)
class _ArrowRows:
    files: tuple[Path, ...]

    def __iter__(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        import pyarrow

        number = 0
        for path in self.files:
            with pyarrow.memory_map(str(path)) as file, pyarrow.ipc.open_stream(file) as batches:
                for batch in batches:
                    for start in range(0, batch.num_rows, 64):
                        for row in batch.slice(start, 64).to_pylist():
                            number += 1
                            yield f"row {number:,}", row


def _files(word: HubWord) -> tuple[Path, ...]:
    """The files of a split, in order: ``owner___name/config/version/hash/name-split….arrow``."""
    owner, _, name = word.repo.partition("/")
    name = _snake(name)
    home = os.environ.get("HF_HOME") or os.path.join(
        os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "huggingface"
    )
    cache = Path(os.path.expanduser(os.environ.get("HF_DATASETS_CACHE") or os.path.join(home, "datasets")))
    try:
        found = sorted(
            (cache / f"{owner}___{name}" / (word.config or "")).glob("*/*" if word.config else "*/*/*"),
            key=lambda folder: folder.stat().st_mtime,
        )
        for split in (word.split,) if word.split else SPLITS:
            for folder in filter(os.path.isdir, reversed(found)):
                file = re.compile(re.escape(f"{name}-{split}") + r"(-\d+-of-\d+)?\.arrow")
                files = sorted(path for path in folder.iterdir() if file.fullmatch(path.name))
                if files:
                    return tuple(files)
    except OSError:
        return ()
    return ()


def _snake(name: str) -> str:
    """A data set's name as its folder in the cache is called."""
    name = re.sub(r"([A-Z]+)([A-Z][a-z])", r"\1_\2", name)
    return re.sub(r"([a-z\d])([A-Z])", r"\1_\2", name).lower()
