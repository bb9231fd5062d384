"""A saved run looked into again: one of its chunks scored once more, for the likeliest tokens."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import BadCorpusError, FidelityError
from mqf_tui.fidelity.events import Event, Failed, Loading, Started, Stopped
from mqf_tui.reports.schema import Report

if TYPE_CHECKING:
    from mqf_tui.fidelity.model.facts import ModelFacts
    from mqf_tui.fidelity.rescoring import Rescored, Rescorer
    from mqf_tui.library.runs import SavedRun


def noting_places(running: Iterator[Event], facts: ModelFacts) -> Iterator[Event]:
    """The events; where model and text lie is noted on this machine, so that the run can be looked into."""
    from mqf_tui.fidelity.text.corpora import is_public
    from mqf_tui.library import places

    for event in running:
        if isinstance(event, Started):
            given = event.plan.settings
            if given.model != "demo" and os.path.exists(os.path.expanduser(given.model)):
                places.note("models", facts.content_hash, facts.folder)
            # The name of a mixture is no place; the path of its file is one.
            named = given.mixture is not None and not os.path.exists(os.path.expanduser(given.corpus))
            if not named and not is_public(given.corpus):
                places.note("texts", event.plan.corpus.content_hash, given.corpus)
        yield event


def rescore(
    run: SavedRun,
    chunk: int,
    depths: Sequence[int],
    k: int = 10,
    control: Control | None = None,
    *,
    model: str | None = None,
    corpus: str | None = None,
    trust_remote_code: bool = False,
    rescorer: Rescorer | None = None,
) -> Iterator[Loading | Rescored | Stopped | Failed]:
    """Score one chunk of a saved run again, for its ``k`` likeliest tokens at some ``depths`` (see
    ``fidelity.rescoring``); the last event is Rescored, or Stopped or Failed.

    ``model`` and ``corpus`` say where both lie now; None: where they lay, by what is in them. ``rescorer``
    keeps the model for the next call; without one it is loaded and released. Never raises. Iterate it in the
    thread of all other measurements.
    """
    from mqf_tui.fidelity.model.loaded import check_on_disk
    from mqf_tui.fidelity.rescoring import Asked, Rescorer, settings_of

    own = rescorer or Rescorer()
    try:
        check_on_disk(run.report)
        positions = run.positions()
        from mqf_tui.library.corpora_file import with_mixture

        places = _places_of(run.report, model, corpus)
        settings = with_mixture(settings_of(run.report, *places, trust_remote_code=trust_remote_code))
        from mqf_tui.api import facts_of

        facts = facts_of(settings)
        from mqf_tui.library.tokens import FileTokens

        wanted = tuple(map(int, depths))
        asked = Asked(run.report, positions, settings, facts, int(chunk), wanted, int(k))
        yield from own.score(asked, control or Control(), FileTokens(facts.folder))
    except FidelityError as error:
        yield Failed(error)
    except Exception as error:
        from mqf_tui.fidelity.engine import as_failure

        yield Failed(as_failure(error))
    finally:
        if rescorer is None:
            own.close()


def _places_of(report: Report, model: str | None, corpus: str | None) -> tuple[str, str]:
    """Where the model and the text of a run are to be found; raises BadCorpusError for an unknown one."""
    from mqf_tui.fidelity.text.corpora import is_public
    from mqf_tui.library import places
    from mqf_tui.library.corpora_file import mixture_named

    text = report.corpus
    if corpus is None:
        known = text.version not in ("file", "folder") and is_public(text.name)
        corpus = text.name if known else places.find("texts", text.content_hash)
    if corpus is None and mixture_named(text.name) is not None:
        corpus = text.name
    if corpus is None:
        raise BadCorpusError(
            f"the text of this run, {text.name!r}, was a file, and where it lies is not known; say where."
        )
    return model or places.find("models", report.model_hash) or report.model, corpus
