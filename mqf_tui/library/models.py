"""Models on this machine: the demo, folders, and the local Hugging Face cache. Nothing is downloaded."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mqf_tui.fidelity.errors import FidelityError, ModelNotFoundError
from mqf_tui.fidelity.facts import ModelFacts, read_facts

DEMO = "demo"


@dataclass(frozen=True)
class LocalModel:
    """A model that can be chosen; ``problem`` says why it cannot be measured, None where it can."""

    name: str
    source: str
    facts: ModelFacts | None
    problem: str | None


def find_model(name: str) -> Path:
    """The folder of ``demo``, a path, or a name in the hub cache; raises ModelNotFoundError."""
    if name == DEMO:
        return Path(str(resources.files("mqf_tui.demo") / "model"))
    # os.path, since Path.expanduser raises for an unknown user and Path keeps "." without a name.
    path = Path(os.path.abspath(os.path.expanduser(name)))
    try:
        if name and path.is_dir():
            next(path.iterdir(), None)
            return path
        if path.is_file():
            raise ModelNotFoundError(f"{path.name} is a file; name the model's folder, with its config.json.")
    except OSError as error:
        raise ModelNotFoundError(
            f"{name} cannot be read ({error.strerror}); check its permissions."
        ) from error
    cached = dict(_hub_snapshots())
    if name in cached:
        return cached[name]
    raise ModelNotFoundError(_not_found(name, sorted(cached)))


def local_models() -> tuple[LocalModel, ...]:
    """The demo and all models of the hub cache, with what their headers say."""
    found = [_described(DEMO, "bundled", find_model(DEMO))]
    found += [_described(name, "hub cache", folder) for name, folder in sorted(_hub_snapshots())]
    return tuple(found)


def is_folder(typed: str) -> bool:
    """Whether ``typed`` is the path of a folder; whatever else it may be is no error."""
    try:
        return bool(typed) and Path(os.path.expanduser(typed)).is_dir()
    except (OSError, ValueError):
        return False


def describe_folder(name: str) -> LocalModel:
    """What a folder or name the user typed is; never raises."""
    try:
        return _described(name, "folder", find_model(name))
    except FidelityError as error:
        return LocalModel(name, "folder", None, str(error))


def _described(name: str, source: str, folder: Path) -> LocalModel:
    try:
        facts = read_facts(folder, None if source == "folder" else name)
    except FidelityError as error:
        return LocalModel(name, source, None, str(error))
    except OSError as error:
        return LocalModel(name, source, None, f"it cannot be read ({error.strerror}); check its permissions.")
    return LocalModel(name, source, facts, facts.refusal)


def _hub_snapshots() -> Iterator[tuple[str, Path]]:
    """Name and newest snapshot folder of every cached model repository that has a configuration."""
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repos = scan_cache_dir().repos
    except (CacheNotFound, OSError, ValueError):
        return
    for repo in repos:
        if repo.repo_type != "model":
            continue
        revisions = sorted(repo.revisions, key=lambda r: ("main" in r.refs, r.last_modified), reverse=True)
        for revision in revisions:
            if (revision.snapshot_path / "config.json").exists():
                yield repo.repo_id, revision.snapshot_path
                break


def _not_found(name: str, cached: list[str]) -> str:
    if name.startswith((".", "/", "~")) or name.count("/") > 1 or "\\" in name:
        return f"there is no folder {name}; check the path, or see `mqf-tui models` for what is here."
    near = difflib.get_close_matches(name, [*cached, DEMO], n=1, cutoff=0.7)
    if near:
        other = f", or do you want to `hf download {name}`" if name.count("/") == 1 else ""
        return f"there is no model {name} on this machine; did you mean {near[0]}{other}?"
    fetch = f"fetch it with `hf download {name}`, or " if name.count("/") == 1 else ""
    return (
        f"there is no model {name!r} on this machine; {fetch}name a folder, 'demo', or one that "
        "`mqf-tui models` lists."
    )
