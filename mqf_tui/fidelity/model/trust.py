"""Code that a model folder carries: found, named, and refused unless the user trusts it.

Weights are read from safetensors alone, which hold no code. Two libraries would run Python files of the
folder: mlx-lm the ``model_file`` of config.json, transformers what an ``auto_map`` of config.json or of
tokenizer_config.json names. Both are told not to, as well; the check here says it before anything is loaded.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mqf_tui.fidelity.errors import BrokenWeightsError, UntrustedCodeError
from mqf_tui.fidelity.model.bounded import TooLargeError, no_file, parsed, read_plain
from mqf_tui.fidelity.model.headers import folder_name
from mqf_tui.reports.text import size

TOKENIZER_CONFIG = "tokenizer_config.json"
# Bytes. Those of speech models list tens of thousands of added tokens.
MAX_TOKENIZER_CONFIG = 16_000_000
NAMED = 12  # files that a sentence names; the error has them all
WALKED = 10_000  # entries of the folder that are looked at


def check_code(folder: Path, config: dict[str, Any], trusted: bool) -> None:
    """Refuse code that would run when the model or its tokenizer is loaded.

    ``config`` is what config.json holds. Raises UntrustedCodeError where there is such code and it is not
    ``trusted``; BrokenWeightsError where it lies outside the folder or a ``model_file`` is missing, trusted
    or not, and where tokenizer_config.json is no file or too large.
    """
    own = config.get("model_file")
    named = {str(own)} if own else set[str]()
    classes = {*_classes(config), *_classes(_tokenizer_config(folder))}
    mapped = {_file_of(name.split("--")[-1]) for name in classes}
    for file in sorted(named | mapped):
        if Path(file).name != file or "\\" in file:
            raise BrokenWeightsError(
                f"{folder_name(folder)} names code outside its folder ({file[:80]!r}); do not use this model."
            )
        _check_file(folder, file)
    if own and not os.path.lexists(folder / str(own)):
        raise BrokenWeightsError(
            f"{folder_name(folder)} is built by Python code of its own ({str(own)[:80]}), which is not in "
            "its folder, as downloads here fetch no code; choose another model, or put that file there if "
            "you trust it."
        )
    # What an auto_map names is often left out of a conversion; nothing of it can run then.
    named |= {file for file in mapped if os.path.exists(folder / file)}
    if not named or trusted:
        return
    # Once trusted, transformers takes these from other repositories in the hub's cache.
    elsewhere = {_file_of(name) for name in classes if "--" in name}
    files = tuple(dict.fromkeys((*sorted(named), *sorted(elsewhere), *_others(folder))))
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    raise UntrustedCodeError(
        f"{folder_name(folder)} carries its own Python code ({', '.join(files[:NAMED])}{more}), which would "
        "run with your rights; read it, and pass --trust-remote-code if you trust it.",
        files,
    )


def _file_of(name: str) -> str:
    """The file of ``file.Class``."""
    return name.rpartition(".")[0].removesuffix(".py") + ".py"


def _classes(config: dict[str, Any]) -> Iterator[str]:
    """What an ``auto_map`` names, in any of its forms: ``file.Class``, ``owner/name--file.Class``."""
    entry = config.get("auto_map")
    values = entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ()
    for value in values:
        for name in value if isinstance(value, list) else [value]:
            if isinstance(name, str) and name:
                yield name


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    """What tokenizer_config.json holds, where it may name code; whatever else is wrong with it, transformers
    will say."""
    try:
        raw = read_plain(folder / TOKENIZER_CONFIG, MAX_TOKENIZER_CONFIG)
        # Most name none and are long. An ASCII letter may be written as an escape.
        if b"auto_map" not in raw and b"\\u00" not in raw:
            return {}
        found = parsed(raw)
    except TooLargeError as error:
        raise BrokenWeightsError(
            f"{TOKENIZER_CONFIG} of {folder_name(folder)} has {size(error.size)}, more than that of any "
            "model; download the model again."
        ) from error
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _check_file(folder: Path, file: str) -> None:
    """Nothing may be run from what is no file, and none be waited for."""
    with contextlib.suppress(OSError, ValueError):
        other = no_file((folder / file).stat())
        if other is not None:
            raise BrokenWeightsError(
                f"{file[:80]} of {folder_name(folder)} is {other}, not a file; do not use this model."
            )


def _others(folder: Path) -> Iterator[str]:
    """The other Python files of the folder: what is run first may import them."""
    walked = 0
    for home, _, names in os.walk(folder):
        walked += 1 + len(names)
        if walked > WALKED:
            return
        inside = Path(home).relative_to(folder)
        yield from sorted((inside / name).as_posix() for name in names if name.endswith(".py"))
