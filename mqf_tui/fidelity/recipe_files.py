"""A recipe as a small TOML text, and back (no disk here)."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from typing import Any

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.quantizers import LayerQuantizers, parsed
from mqf_tui.fidelity.recipes import Recipe, from_ranges, runs
from mqf_tui.reports.text import inert

VERSION = 1
MAX_LAYERS = 10_000  # far beyond any model; a file may come from anywhere


def to_toml(recipe: Recipe, *, model: str, notes: Sequence[str] = ()) -> str:
    """The recipe as TOML, runs of equal layers on one line; ``notes`` become comments, one a line.

    Layers that stay in full precision are written out as ``"16"``, so that nothing is left to be guessed.
    """
    comments = "".join(f"# {' '.join(inert(note).split())}\n" for note in notes)
    lines = "".join(f'{span} = "{layer.word}"\n' for span, layer in runs(recipe))
    return (
        f"{comments}version = {VERSION}\nmodel = {_string(model)}\n"
        f"n_layers = {len(recipe.layers)}\n\n[layers]\n{lines}"
    )


def from_toml(text: str) -> Recipe:
    """The recipe that ``to_toml`` wrote or that a person did; layers in no range stay in full precision.

    A format is a string such as ``"k8v4g32"`` or a plain number of bits (groups of 64).
    Raises BadSettingError.
    """
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise BadSettingError(
            f"the recipe is no TOML ({error}); write one as `mqf-tui tune` does."
        ) from error
    version = data.get("version")
    if type(version) is not int or version != VERSION:
        raise BadSettingError(
            f"the recipe has {'no version' if version is None else f'version {version!r}'} and this program "
            f"reads version {VERSION}; write one as `mqf-tui tune` does, or upgrade mqf-tui."
        )
    unknown = sorted(data.keys() - {"version", "model", "n_layers", "layers"})
    if unknown:
        raise BadSettingError(
            f"the recipe has an unknown entry {unknown[0]!r}; it takes version, model, n_layers and [layers]."
        )
    n_layers, layers = data.get("n_layers"), data.get("layers")
    if type(n_layers) is not int or not 0 < n_layers <= MAX_LAYERS:
        raise BadSettingError(
            f"the recipe's n_layers is {n_layers!r}; write the number of layers of the model's cache."
        )
    if not isinstance(layers, dict) or not layers:
        raise BadSettingError('the recipe has no [layers]; write lines such as 0-3 = "k8v4g64" there.')
    return from_ranges({span: _quantizers(span, word) for span, word in layers.items()}, n_layers)


def model_of(text: str) -> str | None:
    """The model that the recipe was made for, where the text names one."""
    try:
        model = tomllib.loads(text).get("model")
    except (tomllib.TOMLDecodeError, RecursionError, ValueError):
        return None
    return model if isinstance(model, str) else None


def _quantizers(span: str, word: Any) -> LayerQuantizers:
    if isinstance(word, bool) or not isinstance(word, int | str):
        raise BadSettingError(
            f'layers {span} of the recipe have {word!r}; write a format such as "8" or "k8v4g64".'
        )
    try:
        return parsed(str(word))
    except BadSettingError as error:
        raise BadSettingError(f"layers {span} of the recipe: {error}") from error


def _string(text: str) -> str:
    """A basic string of TOML: JSON's escapes are TOML's, but that JSON leaves DEL as it is.

    Paths may hold lone surrogates, which no UTF-8 file can.
    """
    clean = text.encode("utf-8", "replace").decode("utf-8")
    return json.dumps(clean, ensure_ascii=False).replace("\x7f", "\\u007f")
