"""Where models lie on this machine: the demo, the Hugging Face cache, LM Studio's folders, one's own folders.

Nothing is downloaded, and no model's file is opened here.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mqf_tui.fidelity.model.headers import folder_name
from mqf_tui.library.hub.cache import CONFIG, PREFIX, Repository, hub_cache, repositories
from mqf_tui.library.incomplete import begun_download
from mqf_tui.library.lm_studio import lm_studio_folders

__all__ = ["CONFIG"]

DEMO = "demo"
BUNDLED, HUB, LM_STUDIO, FOLDER = "bundled", "hub cache", "LM Studio", "folder"
VARIABLE = "MQF_TUI_MODELS"
DEPTH = 2  # folders below a folder of models: organisation and name, as the hub has it
CONVERTED = "mlx_model"  # what `mlx_lm.convert` and `mlx_lm.fuse` write where nothing else is said


@dataclass(frozen=True)
class Place:
    """A model by its name; ``source`` is BUNDLED, HUB, LM_STUDIO or FOLDER.

    A revision that is not the newest is named ``owner/name@revision``.
    """

    name: str
    source: str
    folder: Path


def demo_place() -> Place:
    """The model that comes with the package."""
    return Place(DEMO, BUNDLED, Path(str(resources.files("mqf_tui.demo") / "model")))


def places() -> tuple[Place, ...]:
    """Everything that looks like a model, each folder once: the demo, the hub's cache, LM Studio, folders."""
    found = (*hub_places(), *lm_studio_places(), *folder_places())
    ranks = {HUB: 0, LM_STUDIO: 1, FOLDER: 2}
    ordered = sorted(found, key=lambda place: (ranks[place.source], place.name))
    once: dict[object, Place] = {}
    for place in (demo_place(), *ordered):
        once.setdefault(_identity(place.folder), place)
    return tuple(once.values())


def hub_places(cache: Path | None = None) -> Iterator[Place]:
    """The revisions of every cached model repository that have a configuration, or whose download has begun.

    The main one, or else the newest, has the repository's name. None: the cache of huggingface_hub.
    """
    for repo in repositories(hub_cache() if cache is None else cache):
        yield from repository_places(repo)


def repository_places(repo: Repository) -> Iterator[Place]:
    """The revisions of one cached repository."""
    snapshots = repo.snapshots()
    for snapshot in snapshots:
        name = repo.name if snapshot is snapshots[0] else f"{repo.name}@{snapshot.short}"
        yield Place(name, HUB, Path(snapshot.folder))
    if not snapshots and repo.begun():
        yield Place(repo.name, HUB, _begun_at(repo))


def revision_places(repo: Repository, revision: str) -> list[Place]:
    """What ``repo@revision`` may mean: none, one, or several where it is the beginning of several commits."""
    return [Place(f"{repo.name}@{revision}", HUB, Path(one.folder)) for one in repo.meant(revision)]


def lm_studio_places() -> Iterator[Place]:
    """The models in LM Studio's folders that are no GGUF files."""
    for home in lm_studio_folders():
        yield from _below(home, home, DEPTH, LM_STUDIO)


def folder_places(folders: Sequence[Path] | None = None) -> Iterator[Place]:
    """The models in the folders of the user, named by their path in them; None: ``model_folders()`` and what
    mlx-lm has converted here. A folder may be a hub's cache."""
    if folders is None:
        converted = Path(os.path.abspath(CONVERTED))
        folders = (*model_folders(), *([converted] if os.path.exists(converted / CONFIG) else []))
    for home in folders:
        if (home / CONFIG).is_file():
            yield Place(folder_name(home), FOLDER, home)
        else:
            yield from _below(home, home, DEPTH, FOLDER)


def model_folders() -> tuple[Path, ...]:
    """The folders that ``MQF_TUI_MODELS`` names (several with the system's separator of paths), then those
    of settings.toml."""
    from mqf_tui.library.settings_file import settings_file

    named = [part for part in os.environ.get(VARIABLE, "").split(os.pathsep) if part]
    ours = (Path(os.path.abspath(os.path.expanduser(part))) for part in named)
    theirs: tuple[Path, ...] = ()
    if settings_file().is_file():  # most have none, and reading one imports a lot
        from mqf_tui.library.settings import user_settings

        theirs = user_settings().model_folders
    return tuple(dict.fromkeys((*ours, *theirs)))


def missing_folders() -> tuple[Path, ...]:
    """Those of them that are not there."""
    return tuple(folder for folder in model_folders() if not _is_folder(folder))


def _begun_at(repo: Repository) -> Path:
    """Where the files will be found, if that is known yet."""
    commit = repo.refs().get("main", "")
    folder = os.path.join(repo.folder, "snapshots", os.path.basename(commit))
    return Path(folder if commit and os.path.isdir(folder) else repo.folder)


def _below(home: Path, folder: Path, depth: int, source: str) -> Iterator[Place]:
    try:
        children = sorted(child for child in folder.iterdir() if not child.name.startswith("."))
    except (OSError, ValueError):
        return
    if any(child.name.startswith(PREFIX) for child in children):
        yield from hub_places(folder)
        children = [child for child in children if not child.name.startswith(PREFIX)]
    for child in children:
        if not _is_folder(child):
            continue
        if os.path.lexists(child / CONFIG) or begun_download(_names(child)):
            yield Place(child.relative_to(home).as_posix(), source, child)
        elif depth > 1:
            yield from _below(home, child, depth - 1, source)


def _names(folder: Path) -> Iterable[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return ()


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _identity(folder: Path) -> object:
    """The same for two ways to one folder."""
    try:
        about = os.stat(folder)
    except (OSError, ValueError):
        return str(folder)
    # Some network file systems number nothing.
    return (about.st_dev, about.st_ino) if about.st_ino else os.path.realpath(folder)
