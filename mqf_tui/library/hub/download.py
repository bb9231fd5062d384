"""A model from the hub into the cache of this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mqf_tui.fidelity.errors import HubError
from mqf_tui.library.hub.calls import Patience, get_json
from mqf_tui.library.hub.faults import NoSuchRevisionError, NotOnHubError
from mqf_tui.library.hub.fetching import fetch
from mqf_tui.library.hub.files import Listing, elsewhere, listing, wanted
from mqf_tui.library.hub.meter import Meter, Progress
from mqf_tui.library.hub.names import RepoName, parse_repo
from mqf_tui.library.hub.search import near_names
from mqf_tui.library.hub.store import Store
from mqf_tui.library.incomplete import missing

__all__ = ["Progress", "download_model"]

NAMED = 6  # branches and tags in a sentence


def download_model(
    name: str,
    *,
    on_progress: Callable[[Progress], None],
    cancelled: Callable[[], bool] = lambda: False,
) -> Path:
    """Fetch what is missing of ``owner/name`` or ``owner/name@revision``; returns its folder in the cache.

    ``on_progress`` is called in the calling thread, some times a second. What a cancelled or broken download
    has fetched is kept, and the next one goes on from there. Raises BadSettingError for an impossible name,
    HubError, and CancelledError soon after ``cancelled`` says so.
    """
    repo = parse_repo(name)
    meter = Meter(on_progress)
    patience = Patience(cancelled, meter.wait)
    found = _listing(repo, patience)
    files = wanted(repo, found.files)
    store = Store(repo.repo, found.commit)
    meter.plan(files, [store.begun(file) for file in files])
    store.check_room(str(repo), meter.missing)
    for file in files:
        patience.check()
        meter.begin(file)
        if not store.has(file):
            fetch(repo, file, store, meter, patience)
        meter.finish(file)
    with store.writing():
        store.point(repo.revision or "main")
    if (lacks := missing(store.snapshot)) is not None:
        raise HubError(f"{repo} is incomplete on the hub itself, with {lacks.words}; {elsewhere(repo)}.")
    return store.snapshot


def _listing(name: RepoName, patience: Patience) -> Listing:
    """What the repository holds; where it or its revision does not exist, a sentence that names what does."""
    try:
        return listing(name, patience)
    except NotOnHubError as error:
        near = near_names(name, patience)
        if not near:
            raise
        raise NotOnHubError(f"{str(error).removesuffix('.')}; near to it are {_listed(near)}.") from None
    except NoSuchRevisionError as error:
        known = _revisions(name, patience)
        if not known:
            raise
        raise NoSuchRevisionError(
            f"{name.repo} has no revision {name.revision or 'main'}; name one that it has: {_listed(known)}."
        ) from error


def _revisions(name: RepoName, patience: Patience) -> list[str]:
    """The branches and tags of a repository; none where they cannot be had at once."""
    patience = replace(patience, tries=1)
    try:
        refs = get_json(f"/api/models/{name.repo}/refs", {}, patience, name)
        return [str(ref["name"]) for kind in ("branches", "tags") for ref in refs[kind]][: NAMED + 1]
    except (HubError, LookupError, TypeError):
        return []


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:NAMED])
    return ", ".join(shown) + (", …" if len(names) > NAMED else "")
