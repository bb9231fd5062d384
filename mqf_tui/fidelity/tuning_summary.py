"""What a tuning found, as data and in a sentence."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np

from mqf_tui.fidelity.errors import UnsupportedModelError
from mqf_tui.fidelity.events import Swept
from mqf_tui.fidelity.intervals import clustered_interval
from mqf_tui.fidelity.model.architectures import attention_sinks
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.model.loaded import config_of
from mqf_tui.fidelity.model.shapes import read_shape
from mqf_tui.fidelity.provenance import versions
from mqf_tui.fidelity.recipe_code import mlx_lm_code
from mqf_tui.fidelity.recipe_files import to_toml
from mqf_tui.fidelity.recipes import runs
from mqf_tui.fidelity.statistics import mean
from mqf_tui.fidelity.tuning import Candidate, Trials, TuneSettings
from mqf_tui.fidelity.tuning_table import RULE
from mqf_tui.reports.schema import Estimate, LayerFormat, Report
from mqf_tui.reports.text import kl as kl_words
from mqf_tui.reports.tuning_schema import TunedSetting, Tuning

FAR = 1.5  # a prediction that is off by more is worth a word


def summary(
    settings: TuneSettings, facts: ModelFacts, trials: Trials, chosen: Candidate, last: Swept | None = None
) -> Tuning:
    """The tuning whose proposed recipe is ``chosen``; all of ``trials`` scored the same positions.

    ``last``: how the last round ended.
    """
    report = trials.outcomes[chosen.recipe].report
    assert report is not None
    recipe = _setting(settings, trials, chosen, chosen)
    others = [_setting(settings, trials, one, chosen) for one in trials.mixed if one is not chosen]
    uniform = [_setting(settings, trials, one, chosen) for one in trials.uniform]
    full = trials.table.full_bytes
    return Tuning(
        created=datetime.now(UTC).isoformat(timespec="milliseconds"),
        model=report.model,
        model_hash=report.model_hash,
        corpus=report.corpus,
        chunk_length=settings.base.chunk_length,
        quantize_start=settings.base.quantize_start,
        n_positions=report.n_positions,
        n_chunks=report.n_chunks,
        device=report.device,
        compute=report.compute,
        cache=report.cache,
        max_kl=settings.max_kl,
        max_kv_bytes=settings.max_kv_bytes,
        met=recipe.within,
        answer=answer(settings, recipe, uniform, full, partial=bool(_ended(last))),
        n_layers=trials.table.n_layers,
        full_bytes=full,
        recipe=recipe,
        tried=others,
        uniform=uniform,
        sensitivity=list(trials.sensed.sensitivities),
        rule=RULE if set(settings.bits) - set(settings.measured_bits) else "",
        thresholds=report.thresholds,
        versions=versions(),
        command=report.command,
        toml=_toml(report, recipe, chosen),
        code=_code(settings, facts, report, chosen),
        warnings=[*_warnings(recipe), *report.warnings],
        ended=_ended(last),
        partial=bool(_ended(last)),
    )


def _ended(last: Swept | None) -> str:
    """Why it ended early, "" where it did not."""
    if last is not None and last.error is not None:
        return str(last.error)
    return "it was stopped on request" if last is not None and last.stopped else ""


def answer(
    settings: TuneSettings,
    recipe: TunedSetting,
    uniform: list[TunedSetting],
    full_bytes: float,
    *,
    partial: bool = False,
) -> str:
    """What to take, in a sentence, and whether the mix is worth it."""
    times = full_bytes / recipe.kv_bytes
    size = f"{recipe.kv_bytes:,.0f} KV bytes per token ({times:.1f}× smaller than 16-bit)"
    if not recipe.within and settings.max_kl is not None:
        which = "tried so far" if partial else "of these formats"
        return (
            f"no recipe {which} kept to {settings.max_kl:g} nats as measured; the nearest has a "
            f"mean KL of {kl_words(recipe.kl.value)} at {size}."
        )
    took = f"the recipe has a mean KL of {kl_words(recipe.kl.value)} at {size}"
    return f"{took}{_doubt(settings, recipe)}; {_worth(recipe, uniform)}"


def _doubt(settings: TuneSettings, recipe: TunedSetting) -> str:
    """That the interval goes beyond the goal, where it does."""
    if recipe.surely or settings.max_kl is None:
        return ""
    if recipe.kl.ci is None:
        return ", of one chunk and so without an interval: the goal is not surely kept"
    return f"; its interval reaches {kl_words(recipe.kl.ci[1])}, so the goal is not surely kept"


def _toml(report: Report, recipe: TunedSetting, chosen: Candidate) -> str:
    notes = [
        f"Measured as a whole on {report.corpus.name}: mean KL {kl_words(recipe.kl.value)} nats over "
        f"{report.n_positions:,} positions, {recipe.kv_bytes:,.0f} KV bytes per token of a 16-bit cache.",
        "To measure it again: mqf-tui kv MODEL --recipe FILE",
    ]
    return to_toml(chosen.recipe, model=report.model, notes=notes)


def _code(settings: TuneSettings, facts: ModelFacts, report: Report, chosen: Candidate) -> str:
    sinks = attention_sinks(config_of(facts))
    try:
        # The model's name says where it comes from; a path stays on this machine.
        return mlx_lm_code(chosen.recipe, model=report.model, kinds=read_shape(facts).kinds, sinks=sinks)
    except UnsupportedModelError:
        return ""


def _worth(recipe: TunedSetting, uniform: list[TunedSetting]) -> str:
    """The mix against settings without one: fewer bytes, or less KL, beyond the error."""
    rivals = [one for one in uniform if one.within and one.kv_bytes <= recipe.kv_bytes]
    if not rivals:
        more = [one for one in uniform if one.within]
        if not more:
            if len(recipe.layers) == 1:
                return "it is the same for all layers, so it is no mix."
            return "no setting without a mix of about its size keeps to the goal."
        least = min(more, key=lambda one: one.kv_bytes)
        return (
            f"the smallest setting without a mix that keeps to the goal, {least.setting}, needs "
            f"{least.kv_bytes:,.0f} bytes."
        )
    best = min(rivals, key=lambda one: one.kl.value)
    d = best.difference
    assert d is not None
    figures = f"{best.setting} without a mix has {kl_words(best.kl.value)} at {best.kv_bytes:,.0f} bytes"
    if d.ci is None or d.ci[0] <= 0 <= d.ci[1]:
        return f"{figures}, which cannot be told apart, so the mix is not shown to be worth it here."
    return f"{figures}, so the mix {'is worth it' if d.value > 0 else 'is worse'}."


def _setting(settings: TuneSettings, trials: Trials, one: Candidate, chosen: Candidate) -> TunedSetting:
    outcome, size = trials.outcomes[one.recipe], trials.table.bytes(one.choice)
    report = outcome.report
    assert report is not None
    goal, room = settings.max_kl, size <= (settings.max_kv_bytes or 0)
    return TunedSetting(
        setting=_name(one, trials),
        uniform=one.uniform,
        layers=[LayerFormat(layers=span, format=layer.word) for span, layer in runs(one.recipe)],
        kv_bytes=size,
        predicted_kl=one.choice.kl,
        kl=_estimate(report.kl.mean, report.kl.ci_low, report.kl.ci_high),
        flips=_estimate(report.flip_rate, report.flip_ci_low, report.flip_ci_high),
        verdict=report.verdict,
        within=room if goal is None else report.kl.mean <= goal,
        surely=room if goal is None else trials.most(one) <= goal,
        difference=None if one is chosen else _difference(trials, one, chosen),
    )


def _name(one: Candidate, trials: Trials) -> str:
    if one.uniform:
        return next(layer.word for layer in one.recipe.layers if not layer.full)
    return "recipe" if len(trials.mixed) == 1 else f"recipe {trials.mixed.index(one) + 1}"


def _difference(trials: Trials, one: Candidate, chosen: Candidate) -> Estimate:
    """Mean KL less the chosen recipe's, paired by position."""
    first, second = (trials.outcomes[c.recipe].positions for c in (chosen, one))
    assert np.array_equal(first.token, second.token)
    difference = second.kl.astype(np.float64) - first.kl
    return Estimate(value=mean(difference), ci=clustered_interval(difference, first.chunk))


def _estimate(value: float, low: float | None, high: float | None) -> Estimate:
    return Estimate(value=value, ci=None if low is None or high is None else (low, high))


def _warnings(recipe: TunedSetting) -> list[str]:
    predicted, measured = recipe.predicted_kl, recipe.kl.value
    if predicted > 0 and measured > 0 and not 1 / FAR <= measured / predicted <= FAR:
        return [
            f"layers alone predicted a mean KL of {kl_words(predicted)} and together they gave "
            f"{kl_words(measured)}, so the choice among them rests on rough figures"
        ]
    return []
