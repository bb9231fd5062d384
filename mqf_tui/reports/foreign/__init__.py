"""Reports that other tools wrote, one module a tool: bytes in, the fields of a ``schema.Report`` out.

Nothing is judged here: verdict and thresholds are added by ``library.importing``.
"""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass, field
from typing import Any

MAX_BYTES = 64 * 1024 * 1024
MAX_DEPTH = 24
MAX_INT = 2**53  # beyond it a float, which JSON's numbers are elsewhere, is no longer exact
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class NotAReportError(ValueError):
    """The file is none that a reader knows, or is broken; the message is the second half of a sentence."""


@dataclass(frozen=True)
class Reading:
    """One report: ``fields`` of a Report, without verdict and thresholds unless it is our own.

    ``form``: which form of the tool's files; ``verdict``: what the tool itself said.
    """

    tool: str
    form: str
    fields: dict[str, Any]
    verdict: str | None = None
    version: str = ""


@dataclass(frozen=True)
class Readings:
    """What a file holds, and what of it was left out and why."""

    found: tuple[Reading, ...]
    left_out: tuple[str, ...] = field(default=())


def read(content: bytes) -> Readings:
    """The reports in a file; raises NotAReportError, and nothing else whatever the bytes are."""
    from mqf_tui.reports.foreign import llama_cpp, mlx_quant_fidelity, own

    if len(content) > MAX_BYTES:
        raise NotAReportError(f"it is larger than {MAX_BYTES // 2**20} MiB, which no report is")
    text = _text(content)
    if not text.lstrip().startswith("{"):
        return llama_cpp.read(text)
    data = parsed(text)
    if own.fits(data):
        return own.read(data)
    if mlx_quant_fidelity.fits(data):
        return mlx_quant_fidelity.read(data)
    raise NotAReportError("its JSON is of no kind known here (mqf-tui, mlx-quant-fidelity)")


def parsed(text: str) -> dict[str, Any]:
    """The JSON object in a text that begins with a brace whose values can be written again."""
    try:
        data = json.loads(text)
    except RecursionError:
        raise NotAReportError("its JSON is nested too deeply") from None
    except ValueError as error:
        raise NotAReportError(f"its JSON is broken ({str(error)[:100]})") from None
    assert isinstance(data, dict)  # it begins with a brace
    return {_readable(str(key)): _clean(value, 1) for key, value in data.items()}


def _clean(value: Any, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise NotAReportError("its JSON is nested too deeply")
    match value:
        case str():
            return _readable(value)
        case bool() | float() | None:
            return value
        case int():
            if abs(value) > MAX_INT:
                raise NotAReportError("it holds a number that is too large")
            return value
        case list():
            return [_clean(item, depth + 1) for item in value]
        case _:
            return {_readable(key): _clean(item, depth + 1) for key, item in value.items()}


def _readable(text: str) -> str:
    # JSON can spell half of a surrogate pair, which no file can hold as UTF-8.
    return text.encode(errors="replace").decode()


def _text(content: bytes) -> str:
    for mark, encoding in _BOMS:
        if content.startswith(mark):
            return content[len(mark) :].decode(encoding, errors="replace")
    return content.decode(errors="replace")
