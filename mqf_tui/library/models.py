"""Models on this machine: the demo, the Hugging Face cache, LM Studio's, folders. Nothing is downloaded."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mqf_tui.fidelity.errors import BadSettingError, BrokenWeightsError, FidelityError, ModelNotFoundError
from mqf_tui.fidelity.model.facts import ModelFacts, identified, read_facts
from mqf_tui.library import incomplete
from mqf_tui.library.facts_cache import FactsCache
from mqf_tui.library.hub.cache import Repository, hub_cache, repositories, repository
from mqf_tui.library.hub.names import parse_repo
from mqf_tui.library.model_places import (
    BUNDLED,
    DEMO,
    FOLDER,
    HUB,
    LM_STUDIO,
    Place,
    demo_place,
    folder_places,
    lm_studio_places,
    places,
    repository_places,
    revision_places,
)

__all__ = ["BUNDLED", "DEMO", "FOLDER", "HUB", "LM_STUDIO", "LocalModel"]

FETCH = "mqf-tui models download"
MOST_NAMED = 5


@dataclass(frozen=True)
class LocalModel:
    """A model that can be chosen; ``problem`` says why it cannot be measured, None where it can.

    Neither ``facts`` nor ``problem``: its headers are not read yet. ``folder`` is None where there is none.
    ``incomplete``: its download has not come to its end. ``facts.content_hash`` is empty until ``read_now``
    or ``fully_described``.
    """

    name: str
    source: str
    facts: ModelFacts | None
    problem: str | None
    folder: Path | None = None
    incomplete: bool = False
    trusted: bool = False  # whether the user said yes to code of its own

    @property
    def word(self) -> str:
        """What the settings of a measurement call it: a folder by its path, as others may have its name."""
        known = self.facts.folder if self.facts else self.folder
        return os.path.abspath(known) if self.source in (FOLDER, LM_STUDIO) and known else self.name


def find_model(name: str) -> Path:
    """The folder of ``demo``, a path, or a name that ``local_models`` lists.

    The name of a repository in the hub's cache may have ``@revision`` behind it: a branch, a tag, or the
    beginning of a commit. Raises ModelNotFoundError, and BrokenWeightsError where a download is incomplete.
    """
    place = _place(name)
    if place.source != FOLDER and (why := _incomplete(place)):
        raise BrokenWeightsError(why)
    return place.folder


def model_named(name: str) -> LocalModel:
    """The model that ``find_model`` finds, whole or not, and all that is known of it; raises
    ModelNotFoundError."""
    return read_now(_described(_place(name)))


def local_models() -> tuple[LocalModel, ...]:
    """The demo, all models of the hub's cache, LM Studio's and the user's folders: what their headers say."""
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


def fully_described(found: Sequence[Place], *, keep: bool = True) -> Iterator[LocalModel]:
    """Each with what its headers say, and then again with the hash of its content where that is not known
    yet: this takes longer, since the weights are sampled for it. ``keep`` as in ``described``."""
    models: list[LocalModel] = []
    for model in described(found, keep=keep):
        models.append(model)
        yield model
    cache = FactsCache()
    for model in models:
        if model.facts is not None and not model.facts.content_hash:
            yield _identified(model, cache)
    if keep:
        cache.save(place.folder for place in found)


def read_now(model: LocalModel) -> LocalModel:
    """The model with all there is to know of it, read here and now where it was not yet."""
    if model.facts is None and model.problem is None and model.folder is not None:
        model = _described(Place(model.name, model.source, model.folder))
    return model if model.facts is None or model.facts.content_hash else _identified(model)


def is_folder(typed: str) -> bool:
    """Whether ``typed`` is the path of a folder; whatever else it may be is no error."""
    try:
        return bool(typed) and Path(os.path.expanduser(typed)).is_dir()
    except (OSError, ValueError):
        return False


def describe_folder(name: str) -> LocalModel:
    """What a folder or name the user typed is, its hash included; never raises."""
    try:
        return read_now(_described(Place(name, FOLDER, find_model(name))))
    except FidelityError as error:
        return LocalModel(name, FOLDER, None, str(error))


def _place(name: str) -> Place:
    if name == DEMO:
        return demo_place()
    # os.path, since Path.expanduser raises for an unknown user and Path keeps "." without a name.
    path = Path(os.path.abspath(os.path.expanduser(name)))
    try:
        if name and path.is_dir():
            next(path.iterdir(), None)
            return Place(name, FOLDER, path)
        if path.is_file():
            raise ModelNotFoundError(f"{path.name} is a file; name the model's folder, with its config.json.")
    except OSError as error:
        raise ModelNotFoundError(
            f"{name} cannot be read ({error.strerror}); check its permissions."
        ) from error
    return _named(name)


def _described(place: Place, cache: FactsCache | None = None) -> LocalModel:
    name, source, folder = place.name, place.source, place.folder
    called = name if source in (BUNDLED, HUB) else None
    try:
        facts = cache.facts(folder, called) if cache else read_facts(folder, called, hashed=False)
    except FidelityError as error:
        why = _incomplete(place)
        return LocalModel(name, source, None, why or str(error), folder, incomplete=bool(why))
    except OSError as error:
        problem = f"it cannot be read ({error.strerror}); check its permissions."
        return LocalModel(name, source, None, problem, folder)
    return LocalModel(name, source, facts, facts.refusal, folder)


def _identified(model: LocalModel, cache: FactsCache | None = None) -> LocalModel:
    """With the hashes of what is in it, or why they cannot be made."""
    try:
        facts = model.facts
        if facts is not None:
            facts = cache.identified(facts) if cache else identified(facts)
    except FidelityError as error:
        return replace(model, problem=str(error))
    except OSError as error:
        problem = f"it cannot be read ({error.strerror}); check its permissions."
        return replace(model, problem=problem)
    return replace(model, facts=facts)


def _named(name: str) -> Place:
    """The model of that name: the hub's, LM Studio's or one in a folder; raises ModelNotFoundError."""
    repo_name, at, revision = name.partition("@")
    cached = repository(hub_cache(), repo_name)
    if cached is not None and at:
        of_it = revision_places(cached, revision)
        if len(of_it) == 1:
            return of_it[0]
        raise ModelNotFoundError(_no_revision(cached, revision, [place.folder.name for place in of_it]))
    if cached is not None and (newest := next(repository_places(cached), None)):
        return newest
    named = {place.name: place for place in (*folder_places(), *lm_studio_places())}
    if name in named:
        return named[name]
    # A repository of that very name may be there, with no model in it.
    hubs = {repo.name for repo in repositories(hub_cache())} - {repo_name}
    raise ModelNotFoundError(_not_found(name, sorted({*named, *hubs})))


def _incomplete(place: Place) -> str | None:
    """A sentence where the model's files are not all here."""
    lacks = incomplete.missing(place.folder)
    if lacks is None:
        return None
    fetch = f"`{FETCH} {place.name}`" if _fetchable(place.name) else ""
    if place.source == HUB:
        more = f"{fetch} goes on"
    elif place.source == LM_STUDIO and fetch:
        more = f"go on in LM Studio, or let {fetch} fetch it anew"
    else:
        more = "download the model again, or copy what is missing"
    return f"the download of {place.name} is incomplete, with {lacks.words}; {more}."


def _fetchable(name: str) -> bool:
    """Whether the hub may have a model of this name."""
    try:
        return "/" in parse_repo(name).repo
    except BadSettingError:
        return False


def _no_revision(repo: Repository, revision: str, several: list[str]) -> str:
    if several:
        longer = " and ".join(name[:12] for name in several[:2])
        return (
            f"{revision!r} is the beginning of several revisions of {repo.name} ({longer}); write more of it."
        )
    known = repo.known()
    here = ", ".join(known[:MOST_NAMED]) + (", …" if len(known) > MOST_NAMED else "")
    name = f"{repo.name}@{revision}"
    fetch = f"; `{FETCH} {name}` would fetch it" if _fetchable(name) else ""
    only = f"only {here}" if here else "and no other"
    return f"{repo.name} has no revision {revision!r} on this machine, {only}{fetch}."


def _not_found(name: str, cached: list[str]) -> str:
    fetchable = _fetchable(name)
    if name.startswith((".", "/", "~")) or (name.count("/") > 1 and not fetchable) or "\\" in name:
        return f"there is no folder {name}; check the path, or see `mqf-tui models` for what is here."
    near = difflib.get_close_matches(name, [*cached, DEMO], n=1, cutoff=0.7)
    if near:
        other = f", or do you want to `{FETCH} {name}`" if fetchable else ""
        return f"there is no model {name} on this machine; did you mean {near[0]}{other}?"
    fetch = f"fetch it with `{FETCH} {name}`, or " if fetchable else ""
    return (
        f"there is no model {name!r} on this machine; {fetch}name a folder, 'demo', or one that "
        "`mqf-tui models` lists."
    )
