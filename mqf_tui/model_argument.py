"""What a function of the Python API takes as a model: a name, a path, or a pair that is loaded already."""

from __future__ import annotations

from os import PathLike
from typing import TYPE_CHECKING, Any

from mqf_tui.argument_values import path_words

if TYPE_CHECKING:
    from mqf_tui.fidelity.model.facts import ModelFacts

# A name or a path as ``library.models.find_model`` takes it, or (model, tokenizer) as mlx_lm.load returns it.
Model = str | PathLike[str] | tuple[Any, Any]


def asked_model(model: Model) -> tuple[str, ModelFacts | None]:
    """The word that names the model, or "" and the facts of a loaded pair.

    Raises BadSettingError for what is neither, and what ``fidelity.model.loaded.loaded_facts`` raises.
    """
    if isinstance(model, str | PathLike):
        return path_words("model", model), None
    from mqf_tui.fidelity.model.loaded import loaded_facts, not_a_model

    if not isinstance(model, tuple | list):
        raise not_a_model(model)
    return "", loaded_facts(model)
