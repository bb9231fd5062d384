"""Models that bring Python code of their own: which files that is, and the model once the user trusts it."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mqf_tui.library.models import LocalModel

ON_COMMAND_LINE = "pass --trust-remote-code if you trust it"
FETCHING = re.compile(r"`mqf-tui models download [^`]+` goes on")
SEARCHING = re.compile(r"with `mqf-tui models search[^`]*`")
HERE = "press Enter to be asked whether you trust it"


@dataclass(frozen=True)
class Chosen:
    """A model that was chosen, with all there is to know of it; ``files`` as ``code_of`` has them."""

    model: LocalModel
    files: tuple[str, ...] = ()

    @property
    def problem(self) -> str:
        """Why it cannot be set up as it is; "" where it can."""
        why = "its headers cannot be read." if self.model.facts is None else ""
        return self.model.problem or why


def is_read(model: LocalModel) -> bool:
    """Whether it can be set up without a look at the disk."""
    return model.facts is not None and bool(model.facts.content_hash) and not model.problem


def chosen(model: LocalModel) -> Chosen:
    """Read what is not known of a model yet."""
    from mqf_tui.library.models import read_now

    found = read_now(model)
    return Chosen(found, code_of(found) if found.problem and not found.incomplete else ())


def chosen_of_hub(name: str, folder: Path | None) -> Chosen:
    """Read a model of the hub's cache, in ``folder`` if that is known; raises FidelityError where it is not
    there."""
    from mqf_tui.library.model_places import HUB, Place
    from mqf_tui.library.models import find_model, listed

    return chosen(listed(Place(name, HUB, folder or find_model(name))))


def code_of(model: LocalModel) -> tuple[str, ...]:
    """The files of code for which the model is refused; none where it is refused for something else, or not
    at all. Nothing is run."""
    from mqf_tui.fidelity.errors import FidelityError, UntrustedCodeError
    from mqf_tui.fidelity.model.facts import read_facts

    if model.folder is None:
        return ()
    try:
        read_facts(model.folder, model.name)
    except UntrustedCodeError as error:
        return error.files or ("code that its configuration names",)
    except (FidelityError, OSError):
        pass
    return ()


def in_app(problem: str) -> str:
    """What is wrong with a model, with what would work here in place of the command line's options."""
    here = FETCHING.sub("Enter goes on with it", problem.replace(ON_COMMAND_LINE, HERE))
    return SEARCHING.sub("on the hub (H)", here).replace("`mqf-tui models` lists", "Models (m) lists")


def trusted(model: LocalModel) -> LocalModel:
    """The model as it is with its code trusted; ``problem`` says why it still cannot be measured. Nothing is
    run before it is loaded."""
    from mqf_tui.fidelity.errors import FidelityError
    from mqf_tui.fidelity.model.facts import read_facts
    from mqf_tui.library.model_places import FOLDER

    if model.folder is None:
        return model
    try:
        facts = read_facts(
            model.folder, None if model.source == FOLDER else model.name, trust_remote_code=True
        )
    except FidelityError as error:
        return replace(model, facts=None, problem=str(error))
    except OSError as error:
        problem = f"it cannot be read ({error.strerror}); check its permissions."
        return replace(model, facts=None, problem=problem)
    return replace(model, facts=facts, problem=facts.refusal, trusted=True)
