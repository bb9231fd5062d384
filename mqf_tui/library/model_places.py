"""Where models lie on this machine: the demo, the local Hugging Face cache, and folders of models.

Nothing is downloaded, and no model's file is opened here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mqf_tui.fidelity.headers import folder_name

DEMO = "demo"
BUNDLED, HUB, FOLDER = "bundled", "hub cache", "folder"
VARIABLE = "MQF_TUI_MODELS"
CONFIG = "config.json"
DEPTH = 2  # folders below a folder of models: organisation and name, as the hub has it


@dataclass(frozen=True)
class Place:
    """A model by its name; ``source`` is BUNDLED, HUB or FOLDER."""

    name: str
    source: str
    folder: Path


def demo_place() -> Place:
    """The model that comes with the package."""
    return Place(DEMO, BUNDLED, Path(str(resources.files("mqf_tui.demo") / "model")))


def places() -> tuple[Place, ...]:
    """Everything that looks like a model, each folder once: the demo, the hub's cache, folders, by name."""
    found = [demo_place(), *sorted(hub_places(), key=_name), *sorted(folder_places(), key=_name)]
    once: dict[str, Place] = {}
    for place in found:
        once.setdefault(os.path.realpath(place.folder), place)
    return tuple(once.values())


def hub_places() -> Iterator[Place]:
    """The newest snapshot of every cached model repository that has a configuration."""
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
            if (revision.snapshot_path / CONFIG).exists():
                yield Place(repo.repo_id, HUB, revision.snapshot_path)
                break


def folder_places(folders: Sequence[Path] | None = None) -> Iterator[Place]:
    """The models in the folders of the user, named by their path in them; None: ``model_folders()``."""
    for home in model_folders() if folders is None else folders:
        if (home / CONFIG).is_file():
            yield Place(folder_name(home), FOLDER, home)
        else:
            yield from _below(home, home, DEPTH)


def model_folders() -> tuple[Path, ...]:
    """The folders that ``MQF_TUI_MODELS`` names (several with the system's separator of paths), then those
    of settings.toml."""
    from mqf_tui.library.settings import user_settings

    named = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    ours = (Path(os.path.abspath(os.path.expanduser(part))) for part in named)
    return tuple(dict.fromkeys((*ours, *user_settings().model_folders)))


def missing_folders() -> tuple[Path, ...]:
    """Those of them that are not there."""
    return tuple(folder for folder in model_folders() if not _is_folder(folder))


def _below(home: Path, folder: Path, depth: int) -> Iterator[Place]:
    try:
        children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except OSError:
        return
    for child in children:
        if not _is_folder(child):
            continue
        if (child / CONFIG).exists():
            yield Place(child.relative_to(home).as_posix(), FOLDER, child)
        elif depth > 1:
            yield from _below(home, child, depth - 1)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        return False


def _name(place: Place) -> str:
    return place.name
