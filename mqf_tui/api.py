"""The Python API: the same engine that the command line and the app use."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from numbers import Integral, Real
from os import PathLike, fspath
from typing import TYPE_CHECKING

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import BadSettingError, FidelityError
from mqf_tui.fidelity.events import Event, Failed, Finished, Swept
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.reports.schema import Report

if TYPE_CHECKING:
    from mqf_tui.fidelity.facts import ModelFacts
    from mqf_tui.fidelity.positions import Positions


def events(settings: KVSettings, control: Control | None = None) -> Iterator[Event]:
    """Find the model and measure it; yields events and never raises.

    Iterate it in one thread from beginning to end: MLX's streams belong to the thread that made them.
    """
    for event in sweep_events(SweepSettings((settings,)), control):
        if not isinstance(event, Swept):
            yield event


def sweep_events(
    settings: SweepSettings,
    control: Control | None = None,
    *,
    chunks: Sequence[int] | None = None,
    known: Mapping[int, Sequence[Positions]] | None = None,
) -> Iterator[Event]:
    """Find the model and measure all variants beside one reference pass (see ``fidelity.engine.sweep``).

    Yields events and never raises. Iterate it in one thread from beginning to end.
    """
    try:
        settings.check()
        from mqf_tui.library.settings import user_policy

        first = settings.first
        if first.thresholds is None:
            policy = user_policy()
            own = tuple(replace(one, thresholds=policy) for one in settings.variants)
            settings = replace(settings, variants=own)
        facts = facts_of(first)
    except FidelityError as error:
        yield Failed(error)
        yield Swept(settings.sweep_id, 0, 0, 0.0, error=error)
        return
    from mqf_tui.fidelity.engine import sweep

    yield from sweep(settings, facts, control or Control(), chunks=chunks, known=known)


def facts_of(settings: KVSettings) -> ModelFacts:
    """What the model of these settings is, from its configuration and headers; raises FidelityError."""
    from mqf_tui.fidelity.facts import read_facts
    from mqf_tui.library.models import find_model

    folder = find_model(settings.model)
    name = settings.model if settings.model == "demo" or not _is_path(settings.model) else None
    return read_facts(folder, name, trust_remote_code=settings.trust_remote_code)


def measure_kv_fidelity(
    model: str | PathLike[str],
    *,
    kv_bits: int = 8,
    kv_group_size: int = 64,
    quantize_start: int = 0,
    chunk_length: int = 512,
    max_chunks: int | None = None,
    corpus: str | PathLike[str] = "builtin",
    trust_remote_code: bool = False,
    until_sure: bool = False,
    precision: float | None = None,
    max_kl: float | None = None,
    max_flips: float | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Report:
    """Measure what a quantized KV cache costs ``model`` on ``corpus``.

    model: a folder, ``demo``, or the name of a model in the local Hugging Face cache.
    corpus: ``builtin``, ``wikitext-2``, or a UTF-8 text file.
    Lengths are in tokens; ``max_chunks`` None scores every chunk of the corpus. ``until_sure`` stops as
    soon as the verdict is settled, ``precision`` as soon as mean KL is known to within that share of itself,
    both together when both are reached.
    ``max_kl`` (nats) and ``max_flips`` (a share) are the most that is still good; the other thresholds are
    those of the user's settings file, or else the default. ``on_event`` is called with every event of the
    measurement (see ``mqf_tui.fidelity.events``). Nothing is saved.

    Raises FidelityError (or a subclass) with a message that says what would work.
    """
    settings = KVSettings(
        model=_path_words("model", model),
        kv_bits=_whole(kv_bits),
        kv_group_size=_whole(kv_group_size),
        quantize_start=_whole(quantize_start),
        chunk_length=_whole(chunk_length),
        max_chunks=None if max_chunks is None else _whole(max_chunks),
        corpus=_path_words("corpus", corpus),
        trust_remote_code=trust_remote_code,
        until_sure=until_sure,
        precision=_real(precision),
        max_kl=_real(max_kl),
        max_flips=_real(max_flips),
    )
    for event in events(settings):
        if on_event is not None:
            on_event(event)
        match event:
            case Failed(error=error):
                raise error
            case Finished(report=report):
                return report
    raise FidelityError("the measurement ended without a result; run it again.")


def _whole(value: int) -> int:
    """NumPy's integers as Python's; anything else is left for the settings to refuse."""
    return int(value) if isinstance(value, Integral) and not isinstance(value, bool) else value


def _real(value: float | None) -> float | None:
    """NumPy's fractions as Python's; anything else is left for the settings to refuse."""
    return float(value) if isinstance(value, Real) and not isinstance(value, Integral) else value


def _path_words(name: str, value: str | PathLike[str]) -> str:
    if not isinstance(value, str | PathLike) or not isinstance(words := fspath(value), str):
        raise BadSettingError(f"{name} is {value!r}; use a name or a path.")
    return words


def _is_path(model: str) -> bool:
    return os.path.exists(os.path.expanduser(model))
