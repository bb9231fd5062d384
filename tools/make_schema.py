"""Write docs/report.schema.json, the JSON Schema (2020-12) of the report, from mqf_tui/reports/schema.py.

python tools/make_schema.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mqf_tui.reports.schema import SCHEMA_VERSION, Report

FILE = Path(__file__).resolve().parent.parent / "docs" / "report.schema.json"
NUMBER = [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}]
SHARED: dict[str, Any] = {
    "Number": {"description": "A number, or the name of one that JSON cannot write.", "anyOf": NUMBER},
    "Bounds": {
        "description": "The lower and the upper end of an interval.",
        "type": "array",
        "prefixItems": [{"$ref": "#/$defs/Number"}] * 2,
        "minItems": 2,
        "maxItems": 2,
    },
}
DESCRIPTION = (
    "KL, NLL and entropy in nats (natural logarithm), rates as "
    "shares between 0 and 1, sizes in bytes, times in seconds, intervals of 95 %. Reports of older versions "
    "are valid too; keys that are not listed here may come with newer ones and are to be kept."
)


def report_schema() -> dict[str, Any]:
    """The schema of what is written: only what every version has is required, further keys are allowed."""
    made = Report.model_json_schema(mode="serialization")
    parts: dict[str, Any] = {name: _plainer(part) for name, part in made.pop("$defs").items()}
    report = _plainer(made)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:mqf-tui:report:{SCHEMA_VERSION}",
        "title": "mqf-tui report",
        "description": f"{report.pop('description')} {DESCRIPTION}",
        **report,
        "$defs": dict(sorted((parts | SHARED).items())),
    }


def _plainer(value: Any, *, names: bool = False) -> Any:
    """Without titles that only repeat a key, with shared parts by reference and prose without markup.

    ``names``: the keys of ``value`` are properties of a report, not words of the schema.
    """
    if isinstance(value, list):
        return [_plainer(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    if names:
        return {key: _plainer(inner) for key, inner in value.items()}
    found = {
        key: _plainer(inner, names=key == "properties") for key, inner in value.items() if key != "title"
    }
    if "description" in found:
        found["description"] = " ".join(found["description"].replace("``", "").split())
    if found.get("anyOf", [])[:2] == NUMBER:
        rest = found.pop("anyOf")[2:]
        number = {"$ref": "#/$defs/Number"}
        return ({"anyOf": [number, *rest]} if rest else number) | found
    if found.items() >= {k: v for k, v in SHARED["Bounds"].items() if k != "description"}.items():
        return {"$ref": "#/$defs/Bounds"}
    return found


def text() -> str:
    """The file's content."""
    return json.dumps(report_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text(), encoding="utf-8")
