"""Per-position results: a few numbers a position, in NumPy arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mqf_tui.fidelity.vocabulary import UNKNOWN_CLASS


@dataclass(frozen=True)
class Positions:
    """Per-position numbers, all arrays of shape (n,). docs/positions.md describes them as a file.

    ``depth`` counts from 0 within the chunk: position i predicts token i+1 from tokens 0..i.
    ``token`` is the id of the token predicted (the text's own next token), ``part`` an index into
    ``part_names``, ``token_class`` one into ``vocabulary.TOKEN_CLASSES`` (-1: not known). KL, NLLs and
    the reference's ``entropy`` are in nats. ``prob_ref`` and ``prob_quant`` are what each run gives to
    its own top-1; ``margin`` is the reference's top-1 less its second probability; ``delta_p`` is the
    variant's less the reference's probability of ``token``; ``in_top5``: fewer than five tokens are
    likelier than the reference's top-1 in the variant. ``texts`` spells the token ids that occur.

    Runs of schema version 1 have no ``entropy``, ``margin``, ``prob_*``, ``in_top5``: see ``detailed``.
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
    prob_ref: NDArray[np.float16]
    prob_quant: NDArray[np.float16]
    entropy: NDArray[np.float16]
    margin: NDArray[np.float16]
    delta_p: NDArray[np.float32]
    in_top5: NDArray[np.bool_]
    token_class: NDArray[np.int8]
    part_names: tuple[str, ...] = ()
    texts: Mapping[int, str] = field(default_factory=dict[int, str])

    def __len__(self) -> int:
        return len(self.kl)

    @property
    def flip(self) -> NDArray[np.bool_]:
        """Where the variant's top-1 is not the reference's."""
        return self.top1_ref != self.top1_quant

    @property
    def detailed(self) -> bool:
        """Whether the columns that version 1 did not keep are there."""
        return not np.isnan(self.margin).any()

    @classmethod
    def of(
        cls,
        columns: Mapping[str, NDArray[Any]],
        part_names: tuple[str, ...] = (),
        texts: Mapping[int, str] | None = None,
    ) -> Positions:
        """Positions of the columns; without any that version 1 did not keep, those become NaN or -1.

        ``delta_p`` is derived where it is missing. Raises KeyError for another missing column,
        ValueError where lengths or kinds differ.
        """
        n = len(columns["kl"])
        version_1 = columns.keys().isdisjoint(_LATER)
        whole: dict[str, NDArray[Any]] = {}
        for name, dtype in DTYPES.items():
            if name in columns:
                given = np.asarray(columns[name])
                if given.shape != (n,) or given.dtype.kind != np.dtype(dtype).kind:
                    raise ValueError(f"column {name} is no array of {n} {np.dtype(dtype).name}")
                whole[name] = given.astype(dtype, copy=False)
            elif version_1 and name in _LATER:
                whole[name] = np.full(n, _LATER[name], dtype)
            elif name != "delta_p":
                raise KeyError(name)
        if "delta_p" not in whole:
            whole["delta_p"] = _delta_p(whole["nll_ref"], whole["nll_quant"])
        arrays: dict[str, Any] = {name: whole[name] for name in ARRAYS}
        return cls(**arrays, part_names=part_names, texts=texts or {})

    @classmethod
    def empty(cls, part_names: tuple[str, ...] = ()) -> Positions:
        """No positions."""
        return cls.of({name: np.empty(0, dtype) for name, dtype in DTYPES.items()}, part_names)

    @classmethod
    def concatenate(cls, pieces: Sequence[Positions]) -> Positions:
        """All positions of the pieces, in order; part names are those of the first."""
        if not pieces:
            return cls.empty()
        columns = (np.concatenate([getattr(piece, name) for piece in pieces]) for name in ARRAYS)
        texts = pieces[0].texts
        if any(piece.texts and piece.texts is not texts for piece in pieces):
            texts = {token: text for piece in pieces for token, text in piece.texts.items()}
        return cls(*columns, part_names=pieces[0].part_names, texts=texts)

    def where(self, chosen: NDArray[Any]) -> Positions:
        """The positions that a mask or an array of indices chooses."""
        columns = (getattr(self, name)[chosen] for name in ARRAYS)
        return Positions(*columns, part_names=self.part_names, texts=self.texts)


def _delta_p(nll_ref: NDArray[np.float32], nll_quant: NDArray[np.float32]) -> NDArray[np.float32]:
    return (np.exp(-nll_quant.astype(np.float64)) - np.exp(-nll_ref.astype(np.float64))).astype(np.float32)


DTYPES: dict[str, type[np.generic]] = {
    "chunk": np.int32,
    "depth": np.int32,
    "part": np.int16,
    "token": np.int32,
    "kl": np.float32,
    "nll_ref": np.float32,
    "nll_quant": np.float32,
    "top1_ref": np.int32,
    "top1_quant": np.int32,
    "prob_ref": np.float16,
    "prob_quant": np.float16,
    "entropy": np.float16,
    "margin": np.float16,
    "delta_p": np.float32,
    "in_top5": np.bool_,
    "token_class": np.int8,
}
# Columns that files of version 1 lack, and what stands for "not known".
_LATER: dict[str, float | bool | int] = {
    "prob_ref": np.nan,
    "prob_quant": np.nan,
    "entropy": np.nan,
    "margin": np.nan,
    "in_top5": False,
    "token_class": UNKNOWN_CLASS,
}
ARRAYS = tuple(f.name for f in fields(Positions) if f.name not in ("part_names", "texts"))
