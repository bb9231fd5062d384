"""The JSON of mlx-quant-fidelity (github.com/IonDen/mlx-quant-fidelity): kv, weights, and compare files.

A report has the keys of its ``FidelityReport`` or ``WeightFidelityReport`` (report.py there); which of
them are there depends on its version, which the file does not name. KL is in nats, rates are shares.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeGuard

from mqf_tui.reports.foreign import NotAReportError, Reading, Readings

TOOL = "mlx-quant-fidelity"
# Keys of its reports that have a place in ours; all others are kept as ``extra``.
_SHARED = (
    "kl",
    "flip_rate",
    "perplexity_ref",
    "perplexity_quant",
    "perplexity_delta",
    "n_positions",
    "n_chunks",
    "corpus",
    "peak_memory_bytes",
)
_PLACED = {*_SHARED, "mlx_version", "mlx_lm_version", "device", "verdict", "warnings"}
_PLACED_KV = {"model_id", "model_revision", "kv_bits", "kv_group_size", "quantize_start", "quantize_mode"}
_PLACED_WEIGHTS = {
    "quant_model_id",
    "reference_model_id",
    "reference_revision",
    "quant_bits",
    "quant_group_size",
    "quant_model_bytes",
    "reference_model_bytes",
}
STOCK = "stock"  # mlx-lm's own quantized cache


def fits(data: dict[str, Any]) -> bool:
    """Whether this is one of its files."""
    return _is_compare(data) or _kind(data) is not None


def read(data: dict[str, Any]) -> Readings:
    """One report, or those of a compare file that were measured; raises NotAReportError."""
    if not _is_compare(data):
        return Readings((_reading(data, "kv report" if _kind(data) == "kv" else "weights report"),))
    found: list[tuple[dict[str, Any], Any]] = []
    left_out: list[str] = []
    for number, entry in enumerate(data["results"], 1):
        if not isinstance(entry, dict):
            raise NotAReportError(f"entry {number} of its results is no object")
        name = entry.get("label") if isinstance(entry.get("label"), str) else f"entry {number}"
        if entry.get("status") != "ok":
            left_out.append(f"{name} ({_reason(entry)})")
            continue
        report = entry.get("report")
        if not isinstance(report, dict) or _kind(report) is None:
            raise NotAReportError(f"{name} of its results is said to be ok and holds no report")
        found.append((report, entry.get("point")))
    if not found:
        raise NotAReportError("none of its results was measured")
    full = next((bytes_ for report, point in found if (bytes_ := _full_bytes(report, point))), None)
    return Readings(
        tuple(_reading(report, "compare file", point, full) for report, point in found), tuple(left_out)
    )


def _is_compare(data: dict[str, Any]) -> bool:
    return isinstance(data.get("results"), list) and data.get("mode") in ("kv", "weight")


def _kind(report: dict[str, Any]) -> str | None:
    if "kl" not in report or "flip_rate" not in report:
        return None
    return "weights" if "quant_model_id" in report else "kv" if "model_id" in report else None


def _reason(entry: dict[str, Any]) -> str:
    words = (entry.get(key) for key in ("status", "error_type", "message"))
    return ": ".join(word for word in words if isinstance(word, str) and word) or "not measured"


def _reading(
    report: dict[str, Any], form: str, point: Any = None, full_bytes: float | None = None
) -> Reading:
    kind = _kind(report)
    placed = _PLACED | (_PLACED_KV if kind == "kv" else _PLACED_WEIGHTS)
    fields: dict[str, Any] = {key: report[key] for key in _SHARED if report.get(key) is not None}
    fields |= {
        "kind": kind,
        "corpus": report.get("corpus") or {"name": "unknown"},
        "n_chunks_planned": report.get("n_chunks") or 0,
        "device": report.get("device") or "",
        "versions": {"mlx": report.get("mlx_version") or "", "mlx_lm": report.get("mlx_lm_version") or ""},
        "warnings": _warnings(report),
        "extra": {key: value for key, value in report.items() if key not in placed},
    }
    fields |= _kv(report, point, full_bytes) if kind == "kv" else _weights(report)
    verdict = report.get("verdict")
    return Reading(TOOL, form, fields, verdict if isinstance(verdict, str) else None)


def _kv(report: dict[str, Any], point: Any, full_bytes: float | None) -> dict[str, Any]:
    found = {
        "model": report["model_id"],
        "model_revision": report.get("model_revision") or "",
        "kv_bits": report.get("kv_bits"),
        "kv_group_size": report.get("kv_group_size"),
        "mode": report.get("quantize_mode"),
        "quantize_start": report.get("quantize_start") or 0,
        "cache": f"{report.get('kv_method', STOCK)} ({TOOL})",
    }
    packed = _packed_bytes(report, point)
    full = _full_bytes(report, point) or full_bytes
    if packed is not None and full is not None and packed <= full:
        found["kv_bytes_per_token"] = {
            "reference": full,
            "variant": packed,
            "reference_16bit": full,
            "variant_16bit": packed,
        }
    return found


def _weights(report: dict[str, Any]) -> dict[str, Any]:
    bits = report.get("reference_bits")
    return {
        "model": report.get("reference_model_id"),
        "model_revision": report.get("reference_revision") or "",
        "variant_model": report["quant_model_id"],
        "kv_bits": report.get("quant_bits"),
        "kv_group_size": report.get("quant_group_size"),
        "weights": "" if bits is None else f"{bits}-bit",
        "weights_bytes": report.get("reference_model_bytes"),
        "variant_weights_bytes": report.get("quant_model_bytes"),
    }


def _warnings(report: dict[str, Any]) -> list[str]:
    given = report.get("warnings") or []
    if not isinstance(given, list) or not all(isinstance(text, str) for text in given):
        raise NotAReportError("its warnings are no list of texts")
    return [*given, *_more_warnings(report)]


def _more_warnings(report: dict[str, Any]) -> Iterator[str]:
    if report.get("kv_partial") is True:
        share = f"{report.get('kv_layers_quantized')} of {report.get('kv_layers_total')}"
        yield f"only {share} layers have a quantized KV cache"
    method = report.get("kv_method", STOCK)
    if isinstance(method, str) and method != STOCK:
        yield f"the KV cache was quantized by {method}, not by mlx-lm itself"


def _packed_bytes(report: dict[str, Any], point: Any) -> float | None:
    """KV bytes per token of the variant, from the report or the compare file's point."""
    candidates = [report.get("measured_kv_bytes_per_token")]
    candidates += [point.get("cost_bytes")] if isinstance(point, dict) else []
    return next((float(n) for n in candidates if _is_positive(n)), None)


def _full_bytes(report: dict[str, Any], point: Any) -> float | None:
    """Of a 16-bit cache, from the packed bytes: b bits a number and 4 bytes (scale, bias) a group of g.

    None where that cannot be said: another method's cache, a cache quantized in some layers only.
    """
    bits, group, packed = report.get("kv_bits"), report.get("kv_group_size"), _packed_bytes(report, point)
    stock = report.get("kv_method", STOCK) == STOCK and not report.get("kv_partial")
    if (
        _kind(report) != "kv"
        or not stock
        or packed is None
        or not _is_positive(bits)
        or not _is_positive(group)
    ):
        return None
    numbers = packed / (bits / 8 + 4 / group)
    # Anything but a whole number tells that the bytes were counted in another way.
    return 2 * numbers if numbers == int(numbers) else None


def _is_positive(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
