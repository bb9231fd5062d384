"""Models on this machine: the demo, folders, and the local Hugging Face cache. Nothing is downloaded."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mqf_tui.fidelity.errors import FidelityError, ModelNotFoundError
from mqf_tui.fidelity.facts import ModelFacts, read_facts
from mqf_tui.library.facts_cache import FactsCache
from mqf_tui.library.model_places import (
    BUNDLED,
    DEMO,
    FOLDER,
    HUB,
    Place,
    demo_place,
    folder_places,
    hub_places,
    places,
)

__all__ = ["BUNDLED", "DEMO", "FOLDER", "HUB", "LocalModel"]


@dataclass(frozen=True)
class LocalModel:
    """A model that can be chosen; ``problem`` says why it cannot be measured, None where it can.

    Neither ``facts`` nor ``problem``: its headers are not read yet. ``folder`` is None where there is none.
    """

    name: str
    source: str
    facts: ModelFacts | None
    problem: str | None
    folder: Path | None = None

    @property
    def word(self) -> str:
        """What the settings of a measurement call it: a folder by its path."""
        known = self.facts.folder if self.facts else self.folder
        return os.path.abspath(known) if self.source == FOLDER and known else self.name


def find_model(name: str) -> Path:
    """The folder of ``demo``, a path, or a name that ``local_models`` lists; raises ModelNotFoundError."""
    if name == DEMO:
        return demo_place().folder
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
    named = {place.name: place.folder for place in (*folder_places(), *hub_places())}
    if name in named:
        return named[name]
    raise ModelNotFoundError(_not_found(name, sorted(named)))


def local_models() -> tuple[LocalModel, ...]:
    """The demo, all models of the hub's cache and of the user's folders, with what their headers say."""
    return tuple(described(places()))


def listed(place: Place) -> LocalModel:
    """A model whose headers are not read yet."""
    return LocalModel(place.name, place.source, None, None, place.folder)


def described(found: Sequence[Place], *, keep: bool = True) -> Iterator[LocalModel]:
    """Each with what its headers say, or said when they were read last.

    ``keep``: in the end these are kept on disk, and no others, so they should be all of ``places()``.
    """
    cache = FactsCache()
    for place in found:
        yield _described(place, cache)
    if keep:
        cache.save(place.folder for place in found)


def read_now(model: LocalModel) -> LocalModel:
    """The model with what its headers say, read here and now where they were not yet."""
    if model.facts is not None or model.problem is not None or model.folder is None:
        return model
    return _described(Place(model.name, model.source, model.folder))


def is_folder(typed: str) -> bool:
    """Whether ``typed`` is the path of a folder; whatever else it may be is no error."""
    try:
        return bool(typed) and Path(os.path.expanduser(typed)).is_dir()
    except (OSError, ValueError):
        return False


def describe_folder(name: str) -> LocalModel:
    """What a folder or name the user typed is; never raises."""
    try:
        return _described(Place(name, FOLDER, find_model(name)))
    except FidelityError as error:
        return LocalModel(name, FOLDER, None, str(error))


def _described(place: Place, cache: FactsCache | None = None) -> LocalModel:
    name, source, folder = place.name, place.source, place.folder
    called = None if source == FOLDER else name
    try:
        facts = cache.facts(folder, called) if cache else read_facts(folder, called)
    except FidelityError as error:
        return LocalModel(name, source, None, str(error), folder)
    except OSError as error:
        problem = f"it cannot be read ({error.strerror}); check its permissions."
        return LocalModel(name, source, None, problem, folder)
    return LocalModel(name, source, facts, facts.refusal, folder)


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
