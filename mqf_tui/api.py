"""The Python API: the same engine that the command line and the app use."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from typing import TYPE_CHECKING

from mqf_tui.argument_values import above_zero, path_words, real, several, whole, whole_or_none, words
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import BadSettingError, FidelityError
from mqf_tui.fidelity.events import Event, Failed, Finished, Swept
from mqf_tui.fidelity.settings import KEEP_TOP, KVSettings, SweepSettings
from mqf_tui.fidelity.text.options import TextOptions, text_choices
from mqf_tui.listening import result_of
from mqf_tui.model_argument import Model, asked_model
from mqf_tui.reports.schema import Report
from mqf_tui.rescoring_api import noting_places
from mqf_tui.rescoring_api import rescore as rescore

if TYPE_CHECKING:
    from mqf_tui.fidelity.model.facts import ModelFacts
    from mqf_tui.fidelity.positions import Positions
    from mqf_tui.fidelity.quantizers import Kernel
    from mqf_tui.fidelity.recipes import Recipe
    from mqf_tui.library.tokens import FileTokens
    from mqf_tui.reports.sweep_schema import SweepReport
    from mqf_tui.scale.crew import Keep, Notice
    from mqf_tui.scale.hosts import Fleet


def events(
    settings: KVSettings, control: Control | None = None, *, facts: ModelFacts | None = None
) -> Generator[Event]:
    """Find the model and measure it; yields events and never raises. ``facts``: see ``sweep_events``.

    Iterate it in one thread from beginning to end: MLX's streams belong to the thread that made them.
    """
    for event in sweep_events(SweepSettings((settings,)), control, facts=facts):
        if not isinstance(event, Swept):
            yield event


def sweep_events(
    settings: SweepSettings,
    control: Control | None = None,
    *,
    chunks: Sequence[int] | None = None,
    known: Mapping[int, Sequence[Positions]] | None = None,
    fleet: Fleet | None = None,
    keep: Keep | None = None,
    notice: Notice | None = None,
    facts: ModelFacts | None = None,
) -> Generator[Event]:
    """Find the model and measure all variants beside one reference pass (see ``fidelity.engine.sweep``).

    ``fleet``: the chunks are scored by its ranks (see ``scale.sweeping.sweep``, also for ``keep`` and
    ``notice``). ``facts``: of a model that need not be found, such as one in memory already (see
    ``fidelity.model.loaded``). Yields events and never raises. Iterate it in one thread from beginning to
    end.
    """
    try:
        settings.check()
        from mqf_tui.library.corpora_file import with_mixture
        from mqf_tui.library.settings import user_policy

        settings = replace(settings, variants=tuple(map(with_mixture, settings.variants)))
        first = settings.first
        if first.thresholds is None:
            policy = user_policy()
            own = tuple(replace(one, thresholds=policy) for one in settings.variants)
            settings = replace(settings, variants=own)
        if settings.memory_limit is None:
            from mqf_tui.fidelity.memory import user_limit

            settings = replace(settings, memory_limit=user_limit())
        facts = facts_of(first) if facts is None else facts
        store = _store(facts, fleet)
    except FidelityError as error:
        yield Failed(error)
        yield Swept(settings.sweep_id, 0, 0, 0.0, error=error)
        return
    control = control or Control()
    if fleet is not None:
        from mqf_tui.scale.sweeping import sweep as ranked

        ranks = ranked(settings, facts, control, fleet, known=known, store=store, keep=keep, notice=notice)
        yield from noting_places(ranks, facts)
        return
    from mqf_tui.fidelity.engine import sweep
    from mqf_tui.library.recent import recent_reports

    past = recent_reports()
    running = sweep(settings, facts, control, chunks=chunks, known=known, store=store, past=past)
    yield from noting_places(running, facts)


def _store(facts: ModelFacts, fleet: Fleet | None) -> FileTokens | None:
    """What keeps the tokens of texts; None for a model in memory, whose tokenizer may be any."""
    from mqf_tui.fidelity.model.loaded import LoadedFacts
    from mqf_tui.library.tokens import FileTokens

    if not isinstance(facts, LoadedFacts):
        return FileTokens(facts.folder)
    if fleet is not None:
        raise BadSettingError(
            "ranks load the model themselves, so a loaded (model, tokenizer) pair cannot be measured by a "
            "fleet; name the model's folder, or leave the fleet out."
        )
    return None


def facts_of(settings: KVSettings) -> ModelFacts:
    """What the model of these settings is, from its configuration and headers; raises FidelityError."""
    from mqf_tui.fidelity.model.facts import read_facts
    from mqf_tui.library.models import find_model

    folder = find_model(settings.model)
    name = settings.model if settings.model == "demo" or not _is_path(settings.model) else None
    return read_facts(folder, name, trust_remote_code=settings.trust_remote_code)


@dataclass(frozen=True)
class Sweep:
    """What a sweep found: its own report, and one for each setting, in the order they were asked for."""

    report: SweepReport
    runs: tuple[Report, ...]

    def __str__(self) -> str:
        return str(self.report)

    def _repr_html_(self) -> str | None:
        return self.report._repr_html_()  # pyright: ignore[reportPrivateUsage]


def measure_kv_fidelity(
    model: Model,
    *,
    kv_bits: int = 8,
    kv_group_size: int = 64,
    k_bits: int | None = None,
    v_bits: int | None = None,
    kv: str | None = None,
    layers: str | None = None,
    recipe: Recipe | str | PathLike[str] | None = None,
    kernel: Kernel = "auto",
    quantize_start: int = 0,
    chunk_length: int = 512,
    max_chunks: int | None = None,
    score_last: int | None = None,
    corpus: str | PathLike[str] = "builtin",
    trust_remote_code: bool = False,
    until_sure: bool = False,
    precision: float | None = None,
    max_kl: float | None = None,
    max_flips: float | None = None,
    keep_top: int = KEEP_TOP,
    text: TextOptions | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Report:
    """Measure what a quantized KV cache costs ``model`` on ``corpus``.

    model: a folder, ``demo``, the name of a model in the local Hugging Face cache (``owner/name``, or
    ``owner/name@revision``), or the pair (model, tokenizer) that ``mlx_lm.load`` returns, which is measured
    as it is in memory and stays as it is.
    corpus: ``builtin``, ``wikitext-2``, ``hf:owner/name``, a mixture of corpora.toml, a file or a folder, or
    several of these with `` + `` between them; docs/text.md has all. ``text``: how it is read and cut.
    What is quantized: ``kv_bits`` and ``kv_group_size`` for keys and values alike; ``k_bits`` and ``v_bits``
    apart (16: full precision); or ``kv`` as a word such as ``k8v4g32`` or ``mxfp4``. ``layers``:
    ``full-attention``, ``all``, or sets such as ``0-3:8,4-:k8v4``. ``recipe``: a Recipe or the TOML file of
    one. ``kernel``: see ``reports.schema.Report``.
    Lengths are in tokens; ``max_chunks`` None scores every chunk of the corpus, ``score_last`` only the last
    so many positions of each. ``until_sure`` stops as soon as the verdict is settled, ``precision`` as soon
    as mean KL is known to within that share of itself, both together when both are reached.
    ``max_kl`` (nats) and ``max_flips`` (a share) are the most that is still good; the other thresholds are
    those of the user's settings file, or else the default. ``on_event`` is called with every event of the
    measurement (see ``mqf_tui.fidelity.events``); the last has the likeliest ``keep_top`` tokens of both runs
    at the worst positions and confident flips, as ``tops``. Nothing is saved.

    Raises FidelityError (or a subclass) with a message that says what would work.
    """
    word, facts = asked_model(model)
    base = KVSettings(
        model=word,
        kv_bits=whole(kv_bits),
        kv_group_size=whole(kv_group_size),
        layers=layers,
        recipe=_recipe(recipe),
        kernel=kernel,
        quantize_start=whole(quantize_start),
        chunk_length=whole(chunk_length),
        max_chunks=whole_or_none(max_chunks),
        score_last=whole_or_none(score_last),
        corpus=path_words("corpus", corpus),
        trust_remote_code=trust_remote_code,
        until_sure=until_sure,
        precision=real(precision),
        max_kl=real(max_kl),
        max_flips=real(max_flips),
        keep_top=whole(keep_top),
        text=text_choices(text),
    )
    running = events(one_variant(base, kv, k_bits, v_bits), facts=facts)
    return result_of(
        running, on_event, lambda event: event.report if isinstance(event, Finished) else None, "measurement"
    )


def measure_kv_sweep(
    model: Model,
    *,
    kv_bits: Sequence[int] | int = (),
    kv_group_size: Sequence[int] | int = (64,),
    kv: Sequence[str] | str = (),
    k_bits: Sequence[int] | int = (),
    v_bits: Sequence[int] | int = (),
    control: bool = False,
    race: bool = False,
    layers: str | None = None,
    kernel: Kernel = "auto",
    quantize_start: int = 0,
    chunk_length: int = 512,
    max_chunks: int | None = None,
    score_last: int | None = None,
    corpus: str | PathLike[str] = "builtin",
    trust_remote_code: bool = False,
    until_sure: bool = False,
    precision: float | None = None,
    max_kl: float | None = None,
    max_flips: float | None = None,
    keep_top: int = KEEP_TOP,
    text: TextOptions | None = None,
    max_kv_bytes_per_token: float | None = None,
    memory_limit: int | None = None,
    fleet: Fleet | None = None,
    on_event: Callable[[Event], None] | None = None,
) -> Sweep:
    """Measure several settings beside one pass of the reference (1 + N passes a chunk), and rank them.

    ``kv_bits`` × ``kv_group_size``, each of ``kv`` (words such as ``k8v4``), and ``k_bits`` × ``v_bits`` as a
    grid; 8, 6 and 4 bits where nothing is named. ``control``: each setting with both kernels, to tell the
    quantizer's error from the kernel's. ``race`` drops settings on the way that are surely bad, or surely
    worse than one that takes no more memory. ``max_kv_bytes_per_token``: what the setting to take must keep
    to. ``memory_limit``: bytes. ``fleet``: the ranks that score (``scale.hosts.fleet_of``). The rest as in
    ``measure_kv_fidelity``. Nothing is saved.

    Raises FidelityError (or a subclass) with a message that says what would work; also where one setting
    alone cannot be measured.
    """
    from mqf_tui.fidelity.choosing import Limits
    from mqf_tui.fidelity.pairing import Subject
    from mqf_tui.fidelity.recipes import names_all_formats
    from mqf_tui.fidelity.spreading import spread, with_control
    from mqf_tui.fidelity.sweep_summary import sweep_summary

    word, facts = asked_model(model)
    base = KVSettings(
        model=word,
        layers=layers,
        kernel=kernel,
        quantize_start=whole(quantize_start),
        chunk_length=whole(chunk_length),
        max_chunks=whole_or_none(max_chunks),
        score_last=whole_or_none(score_last),
        corpus=path_words("corpus", corpus),
        trust_remote_code=trust_remote_code,
        until_sure=until_sure,
        precision=real(precision),
        max_kl=real(max_kl),
        max_flips=real(max_flips),
        keep_top=whole(keep_top),
        text=text_choices(text),
    )
    bits, groups, k_bits, v_bits = map(several, (kv_bits, kv_group_size, k_bits, v_bits))
    formats = words("kv", kv)
    limit = whole_or_none(memory_limit)
    limits = Limits(above_zero("max_kv_bytes_per_token", max_kv_bytes_per_token))
    if not (bits or formats or k_bits or v_bits or names_all_formats(layers)):
        bits = (8, 6, 4)
    variants = spread(
        base,
        bits=bits,
        groups=groups,
        formats=formats,
        k_bits=k_bits,
        v_bits=v_bits,
    )
    if control:
        variants = with_control(variants)
    settings = SweepSettings(variants, race=race, memory_limit=limit, sweep_id="unsaved")
    subjects: list[Subject] = []

    def found(event: Event) -> Sweep | None:
        if isinstance(event, Finished):
            name = f"{event.report.short_setting} {len(subjects) + 1}"
            subjects.append(Subject(name, event.report, lambda kept=event.positions: kept))
        if not isinstance(event, Swept):
            return None
        summary = sweep_summary(subjects, ended=event, limits=limits)
        return Sweep(summary, tuple(subject.report for subject in subjects))

    return result_of(sweep_events(settings, fleet=fleet, facts=facts), on_event, found, "sweep")


def one_variant(base: KVSettings, kv: str | None, k_bits: int | None, v_bits: int | None) -> KVSettings:
    """``base`` with keys and values as a word says or apart; as it is where neither is given.

    Raises BadSettingError.
    """
    from mqf_tui.fidelity.quantizers import LayerQuantizers, parsed, quantizer
    from mqf_tui.fidelity.spreading import with_quantizers

    apart = k_bits is not None or v_bits is not None
    if kv is not None:
        words("kv", (kv,))
    if kv is not None and apart:
        raise BadSettingError(
            f"the format {kv!r} says what keys and values get; leave out the bits of keys and values."
        )
    if base.recipe is not None and (kv is not None or apart):
        raise BadSettingError("a recipe says what keys and values get; leave out their format and bits.")
    if kv is not None:
        return with_quantizers(base, parsed(kv, base.kv_group_size))
    if not apart:
        return base
    sides = (base.kv_bits if side is None else whole(side) for side in (k_bits, v_bits))
    return with_quantizers(base, LayerQuantizers(*(quantizer(side, base.kv_group_size) for side in sides)))


def _recipe(recipe: Recipe | str | PathLike[str] | None) -> Recipe | None:
    from mqf_tui.fidelity.recipes import Recipe

    if recipe is None or isinstance(recipe, Recipe):
        return recipe
    from mqf_tui.library.recipes import read_recipe

    return read_recipe(path_words("recipe", recipe))


def _is_path(model: str) -> bool:
    return os.path.exists(os.path.expanduser(model))
