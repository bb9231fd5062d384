"""Write docs/*.schema.json, the JSON Schemas (2020-12) of the reports, from their classes.

python tools/make_schema.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mqf_tui.reports.comparison_schema import COMPARISON_VERSION, RANKING_VERSION, Comparison, Ranking
from mqf_tui.reports.schema import SCHEMA_VERSION, Part, Report
from mqf_tui.reports.sweep_schema import SWEEP_VERSION, SweepReport

DOCS = Path(__file__).resolve().parent.parent / "docs"
WRITTEN: dict[str, tuple[type[Part], int]] = {
    "report": (Report, SCHEMA_VERSION),
    "comparison": (Comparison, COMPARISON_VERSION),
    "ranking": (Ranking, RANKING_VERSION),
    "sweep": (SweepReport, SWEEP_VERSION),
}
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
    "shares between 0 and 1, sizes in bytes, times in seconds, intervals of 95 %. What older versions wrote "
    "is valid too; keys that are not listed here may come with newer ones and are to be kept."
)


def schema(name: str) -> dict[str, Any]:
    """The schema of what is written: only what every version has is required, further keys are allowed."""
    kind, version = WRITTEN[name]
    made = kind.model_json_schema(mode="serialization")
    parts: dict[str, Any] = {name: _plainer(part) for name, part in made.pop("$defs").items()}
    whole = _plainer(made)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:mqf-tui:{name}:{version}",
        "title": f"mqf-tui {name}",
        "description": f"{whole.pop('description')} {DESCRIPTION}",
        **whole,
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


def file(name: str) -> Path:
    """Where the schema is published."""
    return DOCS / f"{name}.schema.json"


def text(name: str) -> str:
    """The file's content."""
    return json.dumps(schema(name), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for each in WRITTEN:
        file(each).write_text(text(each), encoding="utf-8")
