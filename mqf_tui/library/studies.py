"""Saved sweeps, sensitivities and tunings as one list. Their files are looked into, not read as reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from mqf_tui.library.runs import data_dir
from mqf_tui.library.sweeps import list_sweeps
from mqf_tui.library.tunings import list_tunings

StudyKind = Literal["sweep", "sensitivity", "tuning"]


@dataclass(frozen=True)
class Study:
    """One of them. ``answer``: what came out, in a sentence; ``problem``: why it cannot be read, if so."""

    id: str
    kind: StudyKind
    created: str = ""
    model: str = ""
    answer: str = ""
    partial: bool = False
    problem: str = ""


def all_studies(root: Path | None = None) -> list[Study]:
    """All of them, newest first; what cannot be read last."""
    return sorted(_each(root), key=lambda study: (study.created, study.id), reverse=True)


def _each(root: Path | None) -> Iterator[Study]:
    home = root or data_dir()
    for name in list_sweeps(root):
        yield _read(home / "sweeps" / f"{name}.json", "sweep")
    for name in list_tunings(root):
        yield _read(home / "tunings" / f"{name}.json", "tuning")


def _read(path: Path, kind: StudyKind) -> Study:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        return Study(path.stem, kind, problem=f"it cannot be opened ({error.strerror})")
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        return Study(path.stem, kind, problem="it is damaged")
    data = cast("dict[str, Any]", found)
    created, model, answer = (data.get(name) for name in ("created", "model", "answer"))
    if not (isinstance(created, str) and isinstance(model, str) and isinstance(answer, str)):
        return Study(path.stem, kind, problem="it is damaged")
    if kind == "sweep" and data.get("sensitivity") is not None:
        kind = "sensitivity"
    return Study(path.stem, kind, created, model, answer, data.get("partial") is True)
