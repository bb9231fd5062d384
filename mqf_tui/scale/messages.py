"""What goes over the wire as JSON and bytes: settings, plans, positions, arrays. All of it exact."""

from __future__ import annotations

import io
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from mqf_tui.fidelity.events import Plan
from mqf_tui.fidelity.positions import DTYPES, Positions
from mqf_tui.fidelity.provenance import versions
from mqf_tui.fidelity.quantizers import Kernel
from mqf_tui.fidelity.recipes import LayerKind, Recipe
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.text.mixtures import Mixture
from mqf_tui.reports.schema import CorpusProvenance, KVBytes, Thresholds

# The software that must be the same on all ranks for their numbers to be.
SAME = ("mqf_tui", "mlx", "mlx_lm", "numpy")


def settings_to_json(settings: SweepSettings) -> str:
    """The settings of a sweep as JSON."""
    return _adapter(SweepSettings).dump_json(settings).decode()


def settings_from_json(text: str) -> SweepSettings:
    """The settings again; raises ValueError where they are none."""
    return _adapter(SweepSettings).validate_json(text)


def plan_to_json(plan: Plan) -> str:
    """A plan as JSON."""
    return _adapter(Plan).dump_json(plan).decode()


def plan_from_json(text: str) -> Plan:
    """The plan again; raises ValueError where it is none."""
    return _adapter(Plan).validate_json(text)


def software() -> dict[str, str]:
    """The versions that must be the same on all ranks."""
    found = versions().model_dump()
    return {name: str(found[name]) for name in SAME}


def packed(positions: Positions) -> bytes:
    """The columns of positions, one after another, little-endian; part names and texts are left out."""
    return b"".join(
        np.ascontiguousarray(getattr(positions, name), np.dtype(dtype).newbyteorder("<")).tobytes()
        for name, dtype in DTYPES.items()
    )


def unpacked(content: bytes, part_names: tuple[str, ...] = ()) -> Positions:
    """The positions again, bit for bit; raises ValueError where the bytes are none."""
    row = sum(np.dtype(dtype).itemsize for dtype in DTYPES.values())
    n, rest = divmod(len(content), row)
    if rest:
        raise ValueError(f"{len(content)} bytes are no positions")
    columns: dict[str, NDArray[Any]] = {}
    start = 0
    for name, dtype in DTYPES.items():
        kind = np.dtype(dtype).newbyteorder("<")
        columns[name] = np.frombuffer(content, kind, n, start).astype(dtype)
        start += n * kind.itemsize
    return Positions.of(columns, part_names)


def arrays_to_bytes(**arrays: NDArray[Any]) -> bytes:
    """Arrays by name."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # pyright: ignore[reportArgumentType] (its own flag is a keyword too)
    return buffer.getvalue()


def bytes_to_arrays(content: bytes) -> dict[str, NDArray[Any]]:
    """The arrays again."""
    with np.load(io.BytesIO(content), allow_pickle=False) as stored:
        return {name: stored[name] for name in stored.files}


@cache
def _adapter(kind: type[Any]) -> TypeAdapter[Any]:
    adapter = TypeAdapter[Any](kind)
    # Their modules import these names for type checkers only.
    names = (Recipe, Thresholds, KVSettings, Mixture, CorpusProvenance, KVBytes)
    known: dict[str, Any] = {name.__name__: name for name in names}
    adapter.rebuild(_types_namespace=known | {"Kernel": Kernel, "LayerKind": LayerKind})
    return adapter
