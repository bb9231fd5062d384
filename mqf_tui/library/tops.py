"""tops.npz: the likeliest tokens that were kept with a run. docs/positions.md describes it."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqf_tui.fidelity.tops import Tops

COLUMNS = {"ids_ref": "i", "probs_ref": "f", "ids_quant": "i", "probs_quant": "f"}


def packed(tops: Tops) -> bytes:
    """The lists as the bytes of a tops.npz."""
    import numpy as np

    buffer = io.BytesIO()
    arrays: dict[str, Any] = {name: getattr(tops, name) for name in ("index", *COLUMNS)}
    # JSON bears the lone surrogates of texts that are no whole character; UTF-8 would not.
    texts = np.frombuffer(json.dumps(dict(tops.texts)).encode("ascii"), np.uint8)
    np.savez_compressed(buffer, **arrays, texts=texts, left_out=np.int64(tops.left_out))
    return buffer.getvalue()


def unpacked(content: bytes) -> Tops:
    """The lists in the bytes of a tops.npz; raises errors of many kinds where they are damaged."""
    import numpy as np

    from mqf_tui.fidelity.tops import Tops

    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        index = stored["index"]
        columns = {name: stored[name] for name in COLUMNS}
        texts = json.loads(stored["texts"].tobytes())
        left_out = int(stored["left_out"])
    if index.ndim != 1 or index.dtype.kind != "i" or (np.diff(index) <= 0).any() or (index < 0).any():
        raise ValueError("positions that are not in order")
    shape = (len(index), *columns["ids_ref"].shape[1:])
    for name, column in columns.items():
        if len(shape) != 2 or column.shape != shape or column.dtype.kind != COLUMNS[name]:
            raise ValueError(f"{name} is no list of tokens for each position")
    if any((columns[name] < 0).any() for name in COLUMNS if name.startswith("ids")):
        raise ValueError("a token below 0")
    if any(not ((c >= 0) & (c <= 1.001)).all() for name, c in columns.items() if name.startswith("probs")):
        raise ValueError("a probability that is none")
    kinds = {name: np.int32 if kind == "i" else np.float32 for name, kind in COLUMNS.items()}
    arrays: dict[str, Any] = {name: columns[name].astype(kinds[name], copy=False) for name in COLUMNS}
    spelled = {int(token): str(text) for token, text in texts.items()}
    return Tops(index.astype(np.int32, copy=False), **arrays, texts=spelled, left_out=left_out)
