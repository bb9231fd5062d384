"""Sensitivity and tuning: the table, the rule for other widths, and both end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.engine import measure
from mqf_tui.fidelity.errors import BadSettingError, UnsupportedModelError
from mqf_tui.fidelity.events import Failed, Finished, StepScored, Stopped
from mqf_tui.fidelity.greedy import Choice, Option
from mqf_tui.fidelity.model.facts import ModelFacts, read_facts
from mqf_tui.fidelity.model.shapes import CacheLayer
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer, parsed
from mqf_tui.fidelity.recipes import Recipe
from mqf_tui.fidelity.sensitivity import Alone, Outcome, Sensed, sense
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.fidelity.tuning import Candidate, Stage, Trials, Tuned, TuneSettings, proposed, tune
from mqf_tui.fidelity.tuning_summary import answer
from mqf_tui.fidelity.tuning_table import Table, kl_at
from mqf_tui.reports.schema import Estimate
from mqf_tui.reports.sensitivity_schema import CacheSide, LayerCost, Sensitivity
from mqf_tui.reports.tuning_report import to_markdown
from mqf_tui.reports.tuning_schema import TunedSetting

from . import makers, tiny_configs

FULL = LayerQuantizers()


@pytest.fixture(scope="module")
def facts(demo_model: Path) -> ModelFacts:
    return read_facts(demo_model, "demo")


def _base(**changes: Any) -> KVSettings:
    return replace(KVSettings("demo", kv_group_size=32, chunk_length=48, max_chunks=3), **changes)


def _sensitivity(format_: str, table: dict[tuple[int, CacheSide], float]) -> Sensitivity:
    layers = [
        LayerCost(layer=i, side=side, kl=Estimate(value=kl), bytes_saved=1) for (i, side), kl in table.items()
    ]
    return Sensitivity(format=format_, n_layers=3, layers=layers)


def test_widths_that_were_not_measured() -> None:
    # (2^4 - 1)^2 / (2^8 - 1)^2 = (15 / 255)^2 = 1/289.
    assert kl_at({4: 0.289}, 8) == pytest.approx(0.001)
    assert kl_at({4: 0.01}, 2) == pytest.approx(0.01 * 25)
    assert kl_at({4: 0.01, 2: 0.07}, 2) == 0.07
    # Between two: log KL linear in log(2^b - 1); at 3 bits log(7/3) / log(15/3) of the way from 2 to 4.
    share = np.log(7 / 3) / np.log(5)
    assert kl_at({4: 0.01, 2: 0.07}, 3) == pytest.approx(
        np.exp((1 - share) * np.log(0.07) + share * np.log(0.01))
    )
    assert kl_at({4: 0.01, 2: 0.07}, 8) == pytest.approx(0.01 / 289)
    assert kl_at({4: 0.0, 2: 0.09}, 3) == pytest.approx(0.09 * 9 / 49)
    assert kl_at({4: 0.0}, 8) == 0


def test_the_table_counts_bytes_and_makes_recipes() -> None:
    # Two full layers of 2 heads of 64, of which one was measured, and a window that does not grow.
    cache = [CacheLayer("full", 128, 128), CacheLayer("sliding", 128, 128, 16), CacheLayer("full", 128, 128)]
    sensed = [_sensitivity("4g64", {(2, "keys"): 0.1, (2, "values"): 0.01})]
    table = Table.of(sensed, (8, 4), 64, cache)
    assert table.full_bytes == 2 * (128 + 128) * 2
    choice = table.choice(parsed("k8v4g64"))
    # 8 bits and 4 bits, and 2 · 2 bytes of scale and bias for each 64 numbers.
    assert table.bytes(choice) == 512 + 128 * (8 / 8 + 4 / 64) + 128 * (4 / 8 + 4 / 64)
    assert choice.kl == pytest.approx(0.1 * 15**2 / 255**2 + 0.01)
    assert table.recipe(choice) == Recipe((FULL, FULL, parsed("k8v4g64")))


def test_a_layer_alone_is_measured_as_its_own_run_would(facts: ModelFacts) -> None:
    base, quantizer = _base(), Quantizer(4, 32)
    *_, last = sense(base, facts, Control(), [quantizer])
    assert isinstance(last, Sensed)
    (found,) = last.sensitivities
    assert (found.format, found.n_layers, found.n_positions, found.n_chunks) == ("4g32", 4, 3 * 47, 3)
    assert [(c.layer, c.side) for c in found.layers] == [(i, s) for i in range(4) for s in ("keys", "values")]
    # 32 numbers a token and side here: 2 bytes each, or 4 bits and a 32nd of 4 bytes.
    assert {c.bytes_saved for c in found.layers} == {64 * (2 - 0.5 - 4 / 32)}
    for cost in (found.layers[0], found.layers[5], found.layers[7]):
        alone = Alone(cost.layer, cost.side, quantizer)
        assert alone.quantizers == parsed("k4v16g32" if cost.side == "keys" else "k16v4g32")
        *_, own = measure(alone.settings(base), facts, Control())
        assert isinstance(own, Finished)
        assert cost.kl.value == own.report.kl.mean
        assert cost.kl.ci == (own.report.kl.ci_low, own.report.kl.ci_high)


def test_layers_before_the_one_alone_are_not_run_again(
    facts: ModelFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_lm.models.llama import TransformerBlock

    run, lengths = TransformerBlock.__call__, list[int]()

    def counted(self: Any, x: Any, *args: Any, **options: Any) -> Any:
        lengths.append(x.shape[1])
        return run(self, x, *args, **options)

    monkeypatch.setattr(TransformerBlock, "__call__", counted)
    *_, last = sense(_base(max_chunks=2), facts, Control(), [Quantizer(4, 32)])
    assert isinstance(last, Sensed)
    # In each chunk's one step: the reference's 4 layers, and twice 4 + 3 + 2 + 1 (not 4 · 4).
    assert lengths.count(47) == 2 * (4 + 2 * (4 + 3 + 2 + 1))


def test_keys_and_values_as_one(facts: ModelFacts) -> None:
    *_, last = sense(_base(max_chunks=1), facts, Control(), [Quantizer(4, 32)], apart=False)
    assert isinstance(last, Sensed)
    assert [(c.layer, c.side) for c in last.sensitivities[0].layers] == [(i, "both") for i in range(4)]


def test_what_was_stopped_counts_whole_chunks_only(facts: ModelFacts) -> None:
    control, seen = Control(), []
    for event in sense(_base(), facts, control, [Quantizer(4, 32)]):
        if isinstance(event, StepScored) and event.chunk == 1 and event.variant == 3:
            control.stop()
        seen.append(event)
    last = seen[-1]
    assert isinstance(last, Sensed)
    assert last.partial
    assert last.sensitivities[0].n_chunks == 1
    assert last.sensitivities[0].n_positions == 47
    control = Control()
    control.stop()
    assert isinstance(list(sense(_base(), facts, control, [Quantizer(4, 32)]))[-1], Stopped)


@pytest.mark.parametrize("per_pass", [8, 3])
def test_layers_that_a_stop_left_unmeasured_are_never_given(
    facts: ModelFacts, monkeypatch: pytest.MonkeyPatch, per_pass: int
) -> None:
    """Stopped within the first chunk, with some layers scored whole (in groups) or none."""
    from mqf_tui.fidelity import planning

    plan = planning.plan_memory
    monkeypatch.setattr(
        planning, "plan_memory", lambda *given: replace(plan(*given), variants_per_pass=per_pass)
    )
    for stop_at in (1, per_pass):
        control, scored, seen = Control(), set[int](), list[Any]()
        for event in sense(_base(), facts, control, [Quantizer(4, 32)]):
            seen.append(event)
            if isinstance(event, StepScored):
                scored.add(event.variant)
                if len(scored) == stop_at:
                    control.stop()
        if stop_at < 8:
            assert len(scored) < 8
            assert isinstance(seen[-1], Stopped), seen[-1]
        else:  # the chunk had come to its end for all
            assert seen[-1].sensitivities[0].n_positions == 47
    # In groups, stopped in the second chunk: the first counts, for all.
    control, last = Control(), None
    for event in sense(_base(), facts, control, [Quantizer(4, 32)]):
        if isinstance(event, StepScored) and event.chunk == 1 and event.variant == 0:
            control.stop()
        last = event
    assert isinstance(last, Sensed)
    assert (last.sensitivities[0].n_chunks, last.sensitivities[0].n_positions) == (1, 47)
    assert all(cost.kl.value > 0 for cost in last.sensitivities[0].layers)


def test_a_layer_that_moves_nothing_is_told_from_one_that_was_not_reached(facts: ModelFacts) -> None:
    """Layer 1's keys move nothing, by events made to say so; the sweep stops in its second chunk."""
    from mqf_tui.fidelity import engine
    from mqf_tui.fidelity.errors import ZeroDriftError

    def run(sweep: Any, last_scored: int) -> Any:
        control = Control()
        for event in engine.sweep(sweep, facts, control):
            if getattr(event, "variant", None) == 2 and isinstance(event, StepScored):
                zeros = np.zeros_like(event.positions.kl)
                still = replace(event.positions, kl=zeros, top1_quant=event.positions.top1_ref)
                event = replace(event, positions=still)
            if isinstance(event, StepScored) and (event.chunk, event.variant) == (last_scored, 2):
                control.stop()
            if getattr(event, "variant", None) == 2 and isinstance(event, Finished | Stopped):
                event = Failed(ZeroDriftError("nothing moved"), variant=2)
            yield event

    *_, last = sense(_base(), facts, Control(), [Quantizer(4, 32)], run=lambda sweep: run(sweep, 1))
    assert isinstance(last, Sensed)
    (found,) = last.sensitivities
    assert (found.n_chunks, found.n_positions) == (1, 47)
    assert [c.kl.value > 0 for c in found.layers] == [i != 2 for i in range(8)]
    assert last.outcomes[2][1].still
    *_, last = sense(_base(), facts, Control(), [Quantizer(4, 32)], run=lambda sweep: run(sweep, 0))
    assert isinstance(last, Stopped)


def test_a_model_without_layers_to_tune(tmp_path: Path) -> None:
    folder = tiny_configs.stub_folder(tmp_path / "latent", tiny_configs.LATENT["deepseek_v3"])
    *_, last = sense(_base(), read_facts(folder), Control(), [Quantizer(4, 32)])
    assert isinstance(last, Failed)
    assert isinstance(last.error, UnsupportedModelError)
    assert "--kernel emulated" in str(last.error)


def _folder(path: Path, config: dict[str, Any]) -> ModelFacts:
    """A tiny random model of another architecture, in a folder."""
    import mlx.core as mx

    mx.random.seed(2)
    path.mkdir()
    config = config | {"vocab_size": makers.VOCAB}
    (path / "config.json").write_text(json.dumps(config))
    makers.write_tokenizer(path)
    weights = tiny_configs.flat(tiny_configs.build(config))
    mx.save_safetensors(str(path / "model.safetensors"), weights, metadata={"format": "mlx"})
    return read_facts(path)


@pytest.mark.parametrize(
    ("name", "kernel", "layers"),
    [
        ("gemma3_text", "auto", [1, 3]),
        ("gpt_oss", "auto", [1, 3]),
        ("qwen3_next", "auto", [3]),
        ("gemma3_text", "emulated", [1, 3]),
        ("deepseek_v3", "emulated", [0, 1, 2, 3]),
    ],
)
def test_layers_that_grow_are_measured_alone(
    tmp_path: Path, name: str, kernel: Any, layers: list[int]
) -> None:
    config = (tiny_configs.SPECIAL | tiny_configs.LATENT)[name]
    facts = _folder(tmp_path / "model", config)
    *_, last = sense(_base(kernel=kernel, max_chunks=2), facts, Control(), [Quantizer(3, 32)], apart=False)
    assert isinstance(last, Sensed), last
    (found,) = last.sensitivities
    assert found.n_layers == 4
    assert [cost.layer for cost in found.layers] == layers
    assert all(cost.kl.value > 0 for cost in found.layers)


def test_a_mixed_model_tuned(tmp_path: Path) -> None:
    """Bytes count the layers that grow; the windows stay as they are."""
    facts = _folder(tmp_path / "model", tiny_configs.SPECIAL["gemma3_text"])
    # Two full layers of 2 heads of 32: 2 · 2 · 2 · 32 · 2 = 512 bytes in full precision, 160 at 4 bits.
    settings = TuneSettings(_base(max_chunks=2), max_kv_bytes=200, bits=(8, 4), sensed_chunks=1)
    *_, last = tune(settings, facts, Control())
    assert isinstance(last, Tuned), last
    assert last.tuning.full_bytes == 512
    assert 160 <= last.tuning.recipe.kv_bytes <= 200
    assert [layer.full for layer in last.recipe.layers] == [True, False, True, False]
    assert last.report.kv_bytes_per_token is not None
    assert last.report.kv_bytes_per_token.variant_16bit == last.tuning.recipe.kv_bytes
    assert last.report.layers is not None
    assert "the 2 sliding-window ones are bounded and stay" in last.report.layers.words


def _tuned(facts: ModelFacts, **goal: Any) -> tuple[Tuned, list[Any]]:
    seen = list(tune(TuneSettings(_base(), sensed_chunks=2, **goal), facts, Control()))
    assert isinstance(seen[-1], Tuned), seen[-1]
    return seen[-1], seen


def test_tuned_to_a_size(facts: ModelFacts) -> None:
    tuned, _ = _tuned(facts, max_kv_bytes=330)
    tuning, report = tuned.tuning, tuned.report
    assert tuning.met
    assert tuning.recipe.kv_bytes <= 330
    assert report.kv_bytes_per_token is not None
    assert report.kv_bytes_per_token.variant_16bit == tuning.recipe.kv_bytes
    assert tuning.full_bytes == report.kv_bytes_per_token.reference_16bit
    # The recipe is measured, not added up: as its own run gives it.
    *_, own = measure(_base(recipe=tuned.recipe), facts, Control())
    assert isinstance(own, Finished)
    assert tuning.recipe.kl.value == report.kl.mean == own.report.kl.mean
    assert tuning.recipe.predicted_kl != report.kl.mean
    # Beside it settings without a mix, of about its size, with the paired difference.
    assert {one.setting for one in tuning.uniform} >= {"4g32", "6g32"}
    four = next(one for one in tuning.uniform if one.setting == "4g32")
    *_, other = measure(_base(kv=parsed("4g32")), facts, Control())
    assert isinstance(other, Finished)
    assert four.kl.value == other.report.kl.mean
    assert four.difference is not None
    assert four.difference.value == pytest.approx(
        np.mean(other.positions.kl.astype(float) - own.positions.kl), rel=1e-6
    )


def test_tuned_to_a_kl_as_measured(facts: ModelFacts) -> None:
    tuned, _ = _tuned(facts, max_kl=0.01)
    tuning = tuned.tuning
    assert tuning.met
    assert tuned.report.kl.mean <= 0.01
    assert tuning.recipe.predicted_kl > 0
    like = [one for one in tuning.tried if one.kl.value <= 0.01 and one.surely >= tuning.recipe.surely]
    assert all(one.kv_bytes >= tuning.recipe.kv_bytes for one in like)
    assert len(tuning.sensitivity) == 2
    assert {s.format for s in tuning.sensitivity} == {"4g32", "2g32"}


def _trials(*kls: tuple[float, float | None]) -> Trials:
    """Recipes as if measured: mean KL and where its interval ends, each of more bytes than the one before."""
    trials = Trials(Table(1, ((0, "keys"),), ((),), {}, 0.0), Sensed(()))
    for i, (mean, high) in enumerate(kls):
        recipe = Recipe((parsed(("2", "3", "4", "6", "8")[i]),))
        low = None if high is None else 0.0
        report: Any = SimpleNamespace(kl=SimpleNamespace(mean=mean, ci_low=low, ci_high=high))
        trials.candidates[recipe] = Candidate(Choice((Option(str(i), mean, 100.0 + i),)), recipe)
        trials.outcomes[recipe] = Outcome(report, Positions.empty())
    return trials


@pytest.mark.parametrize(
    ("kls", "chosen"),
    [
        ([(0.9, 1.1), (0.7, 0.95), (0.3, 0.5)], 101),
        ([(1.2, 1.5), (0.9, 1.1), (0.8, 1.05)], 101),
        ([(1.4, 1.6), (1.2, 1.5)], 101),
        ([(0.9, None), (0.7, None)], 100),
    ],
)
def test_a_recipe_whose_interval_keeps_to_the_goal_goes_first(kls: Any, chosen: int) -> None:
    trials = _trials(*kls)
    assert proposed(TuneSettings(_base(), max_kl=1.0), trials).choice.bytes == chosen


def test_the_answer_says_where_the_goal_is_not_surely_kept() -> None:
    def said(mean: float, ci: tuple[float, float] | None, *, partial: bool = False) -> str:
        within, surely = mean <= 0.01, ci is not None and ci[1] <= 0.01
        setting = TunedSetting(
            setting="recipe",
            uniform=False,
            layers=[],
            kv_bytes=100,
            predicted_kl=mean,
            kl=Estimate(value=mean, ci=ci),
            flips=Estimate(value=0.0),
            verdict="good",
            within=within,
            surely=surely,
        )
        return answer(TuneSettings(_base(), max_kl=0.01), setting, [], 400, partial=partial)

    assert "its interval reaches 0.0121, so the goal is not surely kept" in said(0.0095, (0.007, 0.0121))
    assert "surely" not in said(0.007, (0.005, 0.0095))
    assert "without an interval: the goal is not surely kept" in said(0.007, None)
    assert "no recipe of these formats kept to 0.01" in said(0.02, (0.01, 0.03))
    assert "no recipe tried so far kept to 0.01" in said(0.02, (0.01, 0.03), partial=True)


def test_a_goal_is_aimed_at_with_the_whole_interval(facts: ModelFacts) -> None:
    """Over one chunk there is none, and the report says so; over ten some recipe has all of it below."""
    one, ten = (
        list(tune(TuneSettings(_base(max_chunks=n), max_kl=0.01, sensed_chunks=1), facts, Control()))[-1]
        for n in (1, 10)
    )
    assert isinstance(one, Tuned)
    assert isinstance(ten, Tuned)
    assert one.tuning.met
    assert not one.tuning.recipe.surely
    assert "| not surely |" in to_markdown(one.tuning)
    assert ten.tuning.recipe.surely
    assert ten.report.kl.ci_high is not None
    assert ten.report.kl.mean < ten.report.kl.ci_high <= 0.01
    assert f"it is the best of {1 + len(ten.tuning.tried)} recipes there" in to_markdown(ten.tuning)


def test_a_prediction_that_is_too_low_is_stepped_back_from(
    facts: ModelFacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All layers alone made to look ten times better than they are."""
    from mqf_tui.fidelity import tuning as module

    def flattered(*args: Any, **options: Any) -> Any:
        for event in sense(*args, **options):
            if isinstance(event, Sensed):
                made = []
                for s in event.sensitivities:
                    costs = [c.model_copy(update={"kl": Estimate(value=c.kl.value / 10)}) for c in s.layers]
                    made.append(s.model_copy(update={"layers": costs}))
                event = Sensed(tuple(made))
            yield event

    monkeypatch.setattr(module, "sense", flattered)
    tuned, seen = _tuned(facts, max_kl=0.003)
    stages = [event.what for event in seen if isinstance(event, module.Stage)]
    assert stages[1:] == [f"measuring recipes as a whole, round {i + 1}" for i in range(len(stages) - 1)]
    assert 2 <= len(stages) - 1 <= module.ROUNDS
    assert tuned.tuning.met
    assert tuned.report.kl.mean <= 0.003
    assert sum(not one.within for one in tuned.tuning.tried) >= 2
    assert any("alone predicted" in warning for warning in tuned.tuning.warnings)


@pytest.mark.parametrize("stage", [0, 1])
def test_a_tuning_that_is_stopped_ends(facts: ModelFacts, stage: int) -> None:
    control, seen = Control(), []
    for event in tune(TuneSettings(_base(), max_kv_bytes=330, sensed_chunks=1), facts, control):
        seen.append(event)
        stages = [e for e in seen if isinstance(e, Stage)]
        if isinstance(event, StepScored) and len(stages) == stage + 1:
            control.stop()
    assert isinstance(seen[-1], Stopped)
    assert not any(isinstance(event, Tuned) for event in seen)


def test_goals_that_cannot_be(facts: ModelFacts) -> None:
    def error(**changes: Any) -> str:
        base = changes.pop("base", _base())
        seen = list(tune(TuneSettings(base, **changes), facts, Control()))
        assert len(seen) == 1
        assert isinstance(seen[0], Failed)
        assert isinstance(seen[0].error, BadSettingError)
        return str(seen[0].error)

    assert "one goal" in error()
    assert "one goal" in error(max_kl=0.1, max_kv_bytes=100)
    assert "smallest formats need 192" in error(max_kv_bytes=10)
    assert "nothing to tune" in error(max_kv_bytes=1024)
    assert "max KL is -1" in error(max_kl=-1)
    assert "max KL is nan" in error(max_kl=float("nan"))
    assert "7 bits do not exist" in error(max_kl=0.1, bits=(8, 7))
    assert "no candidate" in error(max_kl=0.1, bits=(8, 4), sensed_bits=(3,))
    assert "no bits" in error(max_kl=0.1, bits=())
    assert "sensitivity chunks" in error(max_kl=0.1, sensed_chunks=0)
    assert "leave out --layers" in error(max_kl=0.1, base=_base(layers="0-1"))


def test_widths_to_measure() -> None:
    def bits(*candidates: int) -> tuple[int, ...]:
        return TuneSettings(_base(), max_kl=1, bits=candidates).measured_bits

    assert bits(8, 6, 4, 3, 2) == (4, 2)
    assert bits(8, 4) == (4,)
    assert bits(8, 6) == (6,)
    assert bits(8, 3, 2) == (3, 2)


@pytest.mark.smollm
@pytest.mark.slow
def test_smollm2_tuned(smollm2: Path) -> None:
    """SmolLM2's second layer has keys that bear no coarse quantizer; a recipe keeps more bits for them."""
    facts = read_facts(smollm2)
    base = KVSettings(str(smollm2), chunk_length=40, max_chunks=2)
    settings = TuneSettings(base, max_kv_bytes=7000, bits=(8, 4), sensed_chunks=1)
    *_, last = tune(settings, facts, Control())
    assert isinstance(last, Tuned)
    keys = [layer.keys.bits if layer.keys else 16 for layer in last.recipe.layers]
    assert keys[1] >= 8
    assert min(keys) == 4
    uniform = next(one for one in last.tuning.uniform if one.setting == "4g64")
    assert last.report.kl.mean < uniform.kl.value
