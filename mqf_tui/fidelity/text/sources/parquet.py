"""Local parquet files as rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mqf_tui.fidelity.errors import BadCorpusError
from mqf_tui.fidelity.text.sources.bytes_of import unreadable

BATCH = 256  # rows that are read at once


@dataclass(frozen=True)
class ParquetRows:
    """The rows of one file, a batch in memory at a time."""

    path: Path
    shown: str

    def __iter__(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Where each row stands, and the row; raises BadCorpusError."""
        import pyarrow
        import pyarrow.parquet

        number = 0
        try:
            with pyarrow.parquet.ParquetFile(self.path) as file:
                for batch in file.iter_batches(batch_size=BATCH):
                    for row in batch.to_pylist():
                        number += 1
                        yield f"row {number:,}", row
        # Damage shows as any of them; ArrowInvalid is a ValueError.
        except (pyarrow.ArrowException, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:  # Arrow's own have no number
                raise unreadable(self.shown, error) from error
            raise BadCorpusError(
                f"{self.shown} is damaged or no parquet file; copy or download it again."
            ) from error
