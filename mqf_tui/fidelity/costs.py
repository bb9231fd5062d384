"""What a run costs: bytes of KV cache per token, bytes of weights."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from mqf_tui.reports.schema import Report

KVBasis = Literal["16-bit", "as run"]
KVBytesOf = Callable[[Report], tuple[float, float | None] | None]


def kv_basis(reports: Iterable[Report]) -> KVBasis | None:
    """What the KV bytes of these runs are counted for, so that they can be compared.

    "16-bit": the formula for a 16-bit cache, which all that know their KV bytes have; "as run": with the
    floating-point numbers that each run had (32-bit on a CPU device); None: no run knows its KV bytes.
    """
    known = [r.kv_bytes_per_token for r in reports if r.kv_bytes_per_token is not None]
    if not known:
        return None
    return "16-bit" if all(b.variant_16bit is not None for b in known) else "as run"


def kv_bytes(basis: KVBasis | None) -> KVBytesOf:
    """KV bytes per token of a run and of its reference, on one basis for all runs (``kv_basis``)."""

    def found(report: Report) -> tuple[float, float | None] | None:
        b = report.kv_bytes_per_token
        if b is None or basis is None:
            return None
        if basis == "as run":
            return b.variant, b.reference
        return None if b.variant_16bit is None else (b.variant_16bit, b.reference_16bit)

    return found


def weight_bytes(report: Report) -> tuple[float, float | None] | None:
    """Bytes of the weights that a run used, and of its reference's."""
    used = report.variant_weights_bytes or (report.weights_bytes if report.kind == "kv" else None)
    return None if not used else (float(used), report.weights_bytes)
