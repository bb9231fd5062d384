"""The report as JSON, and back."""

from __future__ import annotations

import re
import unicodedata

from pydantic import ValidationError

from mqf_tui.reports.schema import Report

_UNSEEN = re.compile(r"[\x7f-\U0010ffff]")


def to_json(report: Report) -> str:
    """The report as JSON text; infinities and NaN as strings. Keys that an older file lacks stay away.

    Characters that could drive a terminal or turn a line round stand as their escapes.
    """
    return seen(report.model_dump_json(indent=2, exclude_unset=True)) + "\n"


def seen(text: str) -> str:
    """JSON text with every character that one would not see, or would feel, as its escape."""
    return _UNSEEN.sub(_escaped, text)


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if unicodedata.category(character)[0] != "C" and character not in "\u2028\u2029":
        return character
    units = character.encode("utf-16-be")
    return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))


def from_json(text: str | bytes) -> Report:
    """A report from its JSON; raises ValueError with one clause about "it" that says what is wrong."""
    try:
        return Report.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(wrong(error) if text.strip() else "it is empty") from error


def wrong(error: ValidationError) -> str:
    """What is wrong with a report, in a clause about "it": its first mistake."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"]))[:100]
    message = first["msg"].removeprefix("Value error, ")
    match first["type"]:
        case "json_invalid":
            return "it is no whole JSON"
        case "missing":
            return f"it lacks {where}"
        case _ if not where:
            return "it is JSON, but no report"
        case _:
            return f"its {where} is not what a report holds: {message[:1].lower()}{message[1:200]}"
