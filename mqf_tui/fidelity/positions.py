"""Per-position results: a few numbers a position, in NumPy arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Positions:
    """Per-position numbers, all arrays of shape (n,).

    ``depth`` counts from 0 within the chunk: position i predicts token i+1 from tokens 0..i.
    ``token`` is the id of the token predicted (the text's own next token), ``part`` an index into
    ``part_names``. KL and NLLs are in nats.
    """

    chunk: NDArray[np.int32]
    depth: NDArray[np.int32]
    part: NDArray[np.int16]
    token: NDArray[np.int32]
    kl: NDArray[np.float32]
    nll_ref: NDArray[np.float32]
    nll_quant: NDArray[np.float32]
    top1_ref: NDArray[np.int32]
    top1_quant: NDArray[np.int32]
    part_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.kl)

    @property
    def flip(self) -> NDArray[np.bool_]:
        """Where the variant's top-1 is not the reference's."""
        return self.top1_ref != self.top1_quant

    @classmethod
    def empty(cls, part_names: tuple[str, ...] = ()) -> Positions:
        """No positions."""
        columns: Any = {name: np.empty(0, _DTYPES[name]) for name in ARRAYS}
        return cls(**columns, part_names=part_names)

    @classmethod
    def concatenate(cls, pieces: Sequence[Positions]) -> Positions:
        """All positions of the pieces, in order; part names are those of the first."""
        if not pieces:
            return cls.empty()
        columns = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ARRAYS)
        return cls(*columns, part_names=pieces[0].part_names)


_DTYPES: dict[str, type[np.generic]] = {
    "chunk": np.int32,
    "depth": np.int32,
    "part": np.int16,
    "token": np.int32,
    "kl": np.float32,
    "nll_ref": np.float32,
    "nll_quant": np.float32,
    "top1_ref": np.int32,
    "top1_quant": np.int32,
}
ARRAYS = tuple(f.name for f in fields(Positions) if f.name != "part_names")
