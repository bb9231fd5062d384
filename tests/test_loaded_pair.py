"""A (model, tokenizer) pair that is in memory: the numbers of the folder it came from, and left as it was."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm
import numpy as np
import pytest
from mlx.utils import tree_flatten
from mlx_lm.models import activations, base, llama
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.tuner.utils import linear_to_lora_layers
from mlx_lm.utils import load_model
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from mqf_tui import FidelityError, Report, measure_kv_fidelity, measure_kv_sensitivity, measure_kv_sweep
from mqf_tui import api as engine_api
from mqf_tui.fidelity.comparison import compare
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import (
    BadSettingError,
    ModelNotFoundError,
    NotANumberError,
    UnsupportedModelError,
)
from mqf_tui.fidelity.events import Failed, StepScored, Stopped, Swept
from mqf_tui.fidelity.model.facts import read_facts
from mqf_tui.fidelity.model.loaded import LoadedFacts, loaded_facts
from mqf_tui.fidelity.model.shapes import read_shape
from mqf_tui.fidelity.model.twins import twin
from mqf_tui.fidelity.pairing import Subject
from mqf_tui.fidelity.positions import ARRAYS, Positions
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.library.runs import save_run
from mqf_tui.reports.formats import FORMATS, render
from mqf_tui.tuning_api import tune_kv
from tests import makers, tiny_models
from tests.tiny_configs import LATENT, PLAIN, SPECIAL, build, stub_folder

EVERY = PLAIN | SPECIAL | LATENT
SHORT: dict[str, Any] = {"kv_bits": 4, "kv_group_size": 32, "chunk_length": 96, "max_chunks": 2}
Pair = tuple[Any, Any]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def tiny(home: Path) -> Path:
    return makers.model_folder(home / "tiny-llama")


@pytest.fixture(scope="module")
def notes(home: Path) -> str:
    return str(makers.text_file(home / "notes.txt", 300))


def loaded(folder: Path) -> Pair:
    model, tokenizer, *_ = mlx_lm.load(str(folder))
    return model, tokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny: Path) -> Any:
    return AutoTokenizer.from_pretrained(tiny)


def arrays(model: Any) -> dict[str, Any]:
    flat: Any = tree_flatten(model.parameters())
    return dict(flat)


def scored(model: Any, **options: Any) -> tuple[Report, Positions]:
    """The report, and the positions of all steps."""
    steps: list[Positions] = []

    def listen(event: object) -> None:
        if isinstance(event, StepScored):
            steps.append(event.positions)

    report = measure_kv_fidelity(model, on_event=listen, **(SHORT | options))
    return report, Positions.concatenate(steps)


def assert_same_numbers(one: tuple[Report, Positions], other: tuple[Report, Positions]) -> None:
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(one[1], name), getattr(other[1], name), err_msg=name)
    mine, theirs = (r.model_dump() for r, _ in (one, other))
    apart = {name for name in theirs if mine[name] != theirs[name]}
    # What a pair cannot know of its folder, and what no two runs have in common.
    assert apart <= {
        *("created", "seconds", "positions_per_second", "peak_memory_bytes", "warnings"),
        *("model_hash", "config_hash", "weights_hash", "weights_bytes", "compute", "command"),
    }


def test_the_numbers_are_those_of_the_folder(tiny: Path, notes: str) -> None:
    by_path = scored(tiny, corpus=notes)
    assert by_path[0].kl.mean > 0.001
    pair = loaded(tiny)
    assert_same_numbers(scored(pair, corpus=notes), by_path)
    plain = AutoTokenizer.from_pretrained(tiny)
    assert_same_numbers(scored((pair[0], plain), corpus=notes), by_path)
    assert_same_numbers(scored(list(pair), corpus=notes, quantize_start=0), by_path)


def test_half_precision_is_computed_as_by_path_and_as_in_float32(demo_model: Path) -> None:
    by_path = scored("demo", chunk_length=64)
    pair = loaded(demo_model)
    assert {str(a.dtype) for a in arrays(pair[0]).values()} == {"mlx.core.float16"}
    assert_same_numbers(mine := scored(pair, chunk_length=64), by_path)
    assert mine[0].compute == "float16 weights, loaded in memory, cast to float32 in a copy"
    assert mine[0].model == "demo"
    pair[0].set_dtype(mx.float32)
    report, positions = scored(pair, chunk_length=64)
    np.testing.assert_array_equal(positions.kl, by_path[1].kl)
    assert report.compute == "float32 weights, loaded in memory, as they are"


@pytest.mark.smollm
def test_a_real_model(smollm2: Path, notes: str) -> None:
    options: dict[str, Any] = {"kv_group_size": 64, "chunk_length": 16, "max_chunks": 1, "corpus": notes}
    by_path, pair = scored(smollm2, **options), loaded(smollm2)
    report, positions = scored(pair, **options)
    np.testing.assert_allclose(positions.kl, by_path[1].kl, rtol=1e-5, atol=1e-7)
    assert report.kl.mean == pytest.approx(by_path[0].kl.mean, rel=1e-6)
    assert report.model == by_path[0].model == "SmolLM2-135M-Instruct-fp16"


@pytest.mark.parametrize("mode", ["deployment", "emulated", "keys and values", "last positions"])
def test_every_way_of_measuring_takes_a_pair(mode: str, tiny: Path, notes: str) -> None:
    options: dict[str, Any] = {
        "deployment": {"quantize_start": 30},
        "emulated": {"kernel": "emulated"},
        "keys and values": {"kv": "k8v4g32", "layers": "1"},
        "last positions": {"score_last": 20, "until_sure": True},
    }[mode]
    assert_same_numbers(scored(loaded(tiny), corpus=notes, **options), scored(tiny, corpus=notes, **options))


def test_a_sweep_and_the_layers_of_a_pair(tiny: Path, notes: str) -> None:
    options: dict[str, Any] = {"chunk_length": 64, "max_chunks": 2, "corpus": notes}
    pair = loaded(tiny)
    mine, theirs = (measure_kv_sweep(m, kv_bits=[8, 3], kv_group_size=32, **options) for m in (pair, tiny))
    assert [r.kl for r in mine.runs] == [r.kl for r in theirs.runs]
    assert mine.report.answer == theirs.report.answer
    assert "loaded in memory" in mine.report.compute
    one, other = (measure_kv_sensitivity(m, kv_bits=3, kv_group_size=32, **options) for m in (pair, tiny))
    assert one.sensitivity == other.sensitivity


def test_a_tuning_of_a_pair(tiny: Path, notes: str) -> None:
    options: dict[str, Any] = {"chunk_length": 64, "max_chunks": 2, "sensed_chunks": 1, "bits": (8, 3)}
    goal = 2 * 2 * 64 * 0.7 * 2  # bytes: 0.7 of two layers' keys and values in 16 bits
    mine, theirs = (
        tune_kv(m, max_kv_bytes_per_token=goal, kv_group_size=32, corpus=notes, **options)
        for m in (loaded(tiny), tiny)
    )
    assert (mine.toml, mine.code, mine.recipe) == (theirs.toml, theirs.code, theirs.recipe)
    assert mine.code
    assert mine.command == ""


@pytest.mark.parametrize("name", EVERY)
def test_facts_and_shape_are_those_of_the_folder(name: str, tokenizer: Any, tmp_path: Path) -> None:
    model = build(EVERY[name])
    folder = stub_folder(tmp_path / "model", EVERY[name])
    mine, theirs = loaded_facts((model, tokenizer)), read_facts(folder)
    told = ("architecture", "n_layers", "n_heads", "n_kv_heads", "head_dim", "v_head_dim", "vocab_size")
    for fact in (*told, "refusal", "special", "latent"):
        assert getattr(mine, fact) == getattr(theirs, fact), fact
    assert len(read_shape(mine).kinds) == len(make_prompt_cache(model))
    assert read_shape(mine).kinds == read_shape(theirs).kinds
    assert mine.n_parameters == sum(a.size for a in arrays(model).values())


@pytest.mark.parametrize("name", ["gemma3_text", "qwen3_next", "deepseek_v3"])
def test_windows_states_and_latents_are_measured_as_by_path(name: str, home: Path, notes: str) -> None:
    folder = tiny_models.folder_of(name, home / "kinds")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"), name_or_path=str(folder)
    )
    model = load_model(folder)[0]
    options: dict[str, Any] = {"chunk_length": 40, "max_chunks": 1, "kernel": "emulated", "corpus": notes}
    report, positions = scored((model, tokenizer), **options)
    by_path, theirs = scored(folder, **options)
    np.testing.assert_array_equal(positions.kl, theirs.kl)
    assert (report.layers, report.kv_bytes_per_token) == (by_path.layers, by_path.kv_bytes_per_token)
    assert report.architecture == by_path.architecture == name


def test_a_chat_template_is_the_tokenizer_s(tiny: Path) -> None:
    model, tokenizer = loaded(tiny)
    assert not loaded_facts((model, tokenizer)).chat_template
    tokenizer.chat_template = "{{ messages }}"
    assert loaded_facts((model, tokenizer)).chat_template


def test_facts_of_weights(tiny: Path) -> None:
    mine, theirs = loaded_facts(loaded(tiny)), read_facts(tiny)
    same = ("dtype", "n_parameters", "context", "weights", "weight_bits", "architecture")
    assert [getattr(mine, f) for f in same] == [getattr(theirs, f) for f in same]
    model, tokenizer = loaded(tiny)
    nn.quantize(model, group_size=32, bits=4, class_predicate=lambda path, part: "proj" in path)
    mixed = loaded_facts((model, tokenizer))
    assert (mixed.weight_bits, mixed.weight_group_size, mixed.weights) == (4, 32, "4-bit, group 32")
    assert mixed.n_parameters == theirs.n_parameters
    assert mixed.size_bytes < mine.size_bytes == sum(a.nbytes for a in arrays(loaded(tiny)[0]).values())


def test_most_of_the_quantized_weights_decide_and_the_others_count_right(tiny: Path) -> None:
    model, tokenizer = loaded(tiny)

    def predicate(path: str, part: Any) -> Any:
        if "lm_head" in path:
            return {"bits": 8, "group_size": 64}
        return {"bits": 4, "group_size": 32} if "proj" in path else False

    nn.quantize(model, class_predicate=predicate)
    facts = loaded_facts((model, tokenizer))
    assert (facts.weight_bits, facts.weight_group_size) == (4, 32)
    assert facts.n_parameters == read_facts(tiny).n_parameters


@pytest.mark.parametrize(("mode", "bits", "group"), [("mxfp4", 4, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16)])
def test_the_mode_of_quantized_weights_is_told(mode: str, bits: int, group: int, tiny: Path) -> None:
    model, tokenizer = loaded(tiny)
    nn.quantize(model, group_size=group, bits=bits, mode=mode)
    facts = loaded_facts((model, tokenizer))
    assert facts.weights == f"{bits}-bit {mode}, group {group}"
    assert (facts.weight_mode, facts.weight_bits, facts.weight_group_size) == (mode, bits, group)
    assert facts.n_parameters == read_facts(tiny).n_parameters


def test_a_matrix_of_another_mode_is_told_apart(tiny: Path) -> None:
    model, tokenizer = loaded(tiny)

    def predicate(path: str, part: Any) -> Any:
        own = {"bits": 4, "group_size": 32, "mode": "mxfp4"}
        return own if "lm_head" in path else "proj" in path

    nn.quantize(model, group_size=32, bits=4, class_predicate=predicate)
    quantized = [one for one in loaded_facts((model, tokenizer)).formats if one.bits is not None]
    assert [(one.mode, one.where) for one in quantized] == [("affine", ""), ("mxfp4", "lm_head")]


def _cache_limit() -> int:
    limit = mx.set_cache_limit(0)
    mx.set_cache_limit(limit)
    return limit


class Snapshot:
    """Everything of a user's model that a measurement might change."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.now = self._look()
        self.said = self._said()

    def _look(self) -> list[object]:
        model, tokenizer = self.pair
        modules: list[Any] = model.modules()
        return [
            [(id(m), type(m), m.training, sorted(m._no_grad), sorted(vars(m))) for m in modules],
            [(id(m), [(key, id(value)) for key, value in m.items()]) for m in modules],
            [
                [id(entry) for entry in m.values() if isinstance(entry, list) for entry in entry]
                for m in modules
            ],
            {name: (id(a), np.array(a.astype(mx.float32)).tobytes()) for name, a in arrays(model).items()},
            [_cache_limit()],
            [llama.scaled_dot_product_attention, llama.swiglu],
            [tokenizer.encode("so it is"), id(tokenizer), str(mx.default_device())],
        ]

    def _said(self) -> str:
        return mlx_lm.generate(*self.pair, prompt="ka lo mi", max_tokens=12)

    def check(self) -> None:
        assert self._look() == self.now
        assert llama.scaled_dot_product_attention is base.scaled_dot_product_attention
        assert llama.swiglu is activations.swiglu
        assert self._said() == self.said


class ListenerError(Exception):
    pass


def _raising(error: BaseException) -> Callable[[object], None]:
    def listen(event: object) -> None:
        if isinstance(event, StepScored):
            raise error

    return listen


def counting(patched: pytest.MonkeyPatch, interrupt_at: int | None = None) -> list[int]:
    """Count how often a layer attends; Ctrl-C at one of these times."""
    calls, attend = [0], llama.Attention.__call__

    def attended(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == interrupt_at:
            raise KeyboardInterrupt
        return attend(self, *args, **kwargs)

    patched.setattr(llama.Attention, "__call__", attended)
    return calls


@pytest.mark.parametrize("precision", ["float32", "float16"])
@pytest.mark.parametrize(
    "end", ["whole", "interrupted", "interrupted in a pass", "a listener's error", "an error"]
)
def test_the_user_s_model_is_as_it_was(
    end: str, precision: str, tiny: Path, notes: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, tokenizer = loaded(tiny)
    model.set_dtype(getattr(mx, precision))
    model.freeze(keys=["weight"])
    model.train()
    mx.set_cache_limit(123_456_789)
    before = Snapshot((model, tokenizer))
    options: dict[str, Any] = {"corpus": notes, **SHORT}
    if end == "whole":
        measure_kv_sensitivity((model, tokenizer), kv_group_size=32, chunk_length=64, corpus=notes)
        before.check()
        measure_kv_fidelity((model, tokenizer), **options)
    elif end == "an error":
        with pytest.raises(UnsupportedModelError):
            measure_kv_fidelity((model, tokenizer), **(options | {"kv_group_size": 128}))
        before.check()
        with pytest.raises(BadSettingError):
            measure_kv_fidelity((model, tokenizer), **(options | {"layers": "7"}))
    elif end == "interrupted in a pass":
        # The first layer is replayed in the variant's pass, so the list of layers is another in every pass.
        options["layers"] = "1"
        with monkeypatch.context() as patched:
            n_calls = counting(patched)
            measure_kv_fidelity((model, tokenizer), **options)
        for n in sorted({2, n_calls[0] // 2, n_calls[0] - 1, n_calls[0]}):
            with monkeypatch.context() as patched:
                counting(patched, n)
                with pytest.raises(KeyboardInterrupt):
                    measure_kv_fidelity((model, tokenizer), **options)
    else:
        error = KeyboardInterrupt() if end == "interrupted" else ListenerError()
        with pytest.raises(type(error)) as caught:
            measure_kv_fidelity((model, tokenizer), on_event=_raising(error), **options)
        assert caught.value is error  # and its traceback is held: nothing waits for it to go
    before.check()


def test_a_model_that_gives_no_numbers_is_told_and_left_alone(tiny: Path, notes: str) -> None:
    model, tokenizer = loaded(tiny)
    model.lm_head.weight = mx.full(model.lm_head.weight.shape, float("nan"))
    with pytest.raises(NotANumberError, match=r"lm_head\.weight"):
        measure_kv_fidelity((model, tokenizer), corpus=notes, **SHORT)
    assert llama.swiglu is activations.swiglu
    assert mx.isnan(model.lm_head.weight).all().item()


def test_a_stop_gives_a_partial_report(tiny: Path, notes: str) -> None:
    control, settings = Control(), KVSettings("", 4, 32, chunk_length=64, corpus=notes)
    before = Snapshot(pair := loaded(tiny))
    events = []
    for event in engine_api.events(settings, control, facts=loaded_facts(pair)):
        events.append(event)
        if isinstance(event, StepScored):
            control.stop()
    assert isinstance(events[-1], Stopped)
    assert events[-1].report is not None
    assert events[-1].report.partial
    before.check()


def test_training_is_measured_in_evaluation_mode(tiny: Path, notes: str) -> None:
    """Adapters with dropout, as they are while one fine-tunes: the numbers are those of the merged model."""
    model, tokenizer = loaded(tiny)
    model.freeze()
    linear_to_lora_layers(model, 2, {"rank": 4, "scale": 4.0, "dropout": 0.5})
    for name, array in arrays(model).items():
        if "lora_b" in name:
            mx.random.seed(len(name))
            part: Any = model
            for word in name.split(".")[:-1]:
                part = part[int(word)] if word.isdigit() else getattr(part, word)
            part.lora_b = mx.random.normal(array.shape) * 0.1
    model.train()
    report, positions = scored((model, tokenizer), corpus=notes)
    assert model.training
    assert all(part.training for part in model.modules())
    bare = measure_kv_fidelity(tiny, corpus=notes, **SHORT)
    fused = [(n, m.fuse()) for n, m in model.named_modules() if hasattr(m, "fuse")]
    from mlx.utils import tree_unflatten

    model.update_modules(tree_unflatten(fused))
    merged, others = scored((model, tokenizer), corpus=notes)
    np.testing.assert_allclose(positions.nll_ref, others.nll_ref, rtol=1e-3, atol=1e-3)
    assert abs(report.perplexity_ref - bare.perplexity_ref) > 0.05 * bare.perplexity_ref
    assert report.model_hash != merged.model_hash


def test_quantized_weights_on_a_cpu_are_measured_as_they_are(tiny: Path, notes: str, home: Path) -> None:
    """The same function as the folder's, which is dequantized while it is loaded: equal but for rounding."""
    model, tokenizer = loaded(tiny)
    nn.quantize(model, group_size=32, bits=8)
    folder = home / "tiny-8bit"
    shutil.copytree(tiny, folder)
    mx.save_safetensors(str(folder / "model.safetensors"), arrays(model), metadata={"format": "mlx"})
    makers.rewrite_config(folder, quantization={"group_size": 32, "bits": 8})
    before = Snapshot((model, tokenizer))
    options: dict[str, Any] = {"corpus": notes, "chunk_length": 40, "max_chunks": 1}
    report, positions = scored((model, tokenizer), **options)
    before.check()
    by_path, theirs = scored(folder, **options)
    np.testing.assert_allclose(positions.nll_ref, theirs.nll_ref, rtol=1e-3, atol=1e-4)
    assert report.kl.mean == pytest.approx(by_path.kl.mean, rel=0.01)
    assert report.compute == "8-bit, group 32 weights, loaded in memory, as they are"
    assert by_path.compute == "8-bit, group 32 weights dequantized to float32"
    assert any("hundreds of times longer" in warning for warning in report.warnings)
    assert any(isinstance(part, nn.QuantizedLinear) for part in model.modules())


def test_a_half_precision_cache_counts_as_one(tiny: Path, notes: str) -> None:
    model, tokenizer = loaded(tiny)
    model.set_dtype(mx.float16)
    nn.quantize(model, group_size=32, bits=8)
    report, _ = scored((model, tokenizer), corpus=notes, chunk_length=40, max_chunks=1)
    kv = report.kv_bytes_per_token
    assert kv is not None
    assert kv.number_bytes == 2
    assert kv.reference == kv.reference_16bit == kv.reference_measured == 2 * 2 * 64 * 2
    assert kv.variant == kv.variant_16bit == pytest.approx(kv.variant_measured)


def test_the_hash_tells_models_apart(tiny: Path) -> None:
    model, tokenizer = loaded(tiny)

    def hashed() -> str:
        return loaded_facts((model, tokenizer)).content_hash

    first = hashed()
    assert hashed() == first == loaded_facts(loaded(tiny)).content_hash
    assert first != read_facts(tiny).content_hash
    seen = {first}
    weight = model.model.layers[1].mlp.down_proj.weight
    one = np.array(weight)
    one[17, 29] = np.nextafter(one[17, 29], np.float32(1))  # one bit of one number
    model.model.layers[1].mlp.down_proj.weight = mx.array(one)
    seen.add(hashed())
    model.model.layers[1].mlp.down_proj.weight = weight[::-1]
    seen.add(hashed())
    model.model.layers[1].mlp.down_proj.weight = weight
    assert hashed() == first
    model.set_dtype(mx.float16)
    seen.add(hashed())
    nn.quantize(model, group_size=32, bits=4)
    seen.add(hashed())
    model.args.rope_theta = 500.0
    seen.add(hashed())
    assert len(seen) == 6


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("org/Model-1B", "org/Model-1B"),
        ("gpt2", "gpt2"),
        ("", "llama"),
        (None, "llama"),
        ("/home/someone/models/My Model", "My Model"),
        ("~/models/mine", "mine"),
        ("C:\\Users\\someone\\models\\mine", "mine"),
        ("/c/hub/models--org--Big-Model/snapshots/" + "0a" * 20, "org/Big-Model"),
        ("/x/\x1b[31mred\x9b", "[31mred"),
        ("a/b/c", "c"),
    ],
)
def test_the_name_is_no_path(given: str | None, name: str, tiny: Path) -> None:
    model, tokenizer = loaded(tiny)
    tokenizer._tokenizer.name_or_path = given
    assert loaded_facts((model, tokenizer)).name == name


def test_no_format_tells_where_the_model_lay(tiny: Path, notes: str) -> None:
    report, positions = scored(loaded(tiny), corpus=notes)
    assert report.model == "tiny-llama"
    for name in FORMATS:
        assert str(tiny.parent) not in str(render(name, report, positions))
    assert report.command == ""
    assert "To measure it again" not in str(render("html", report, positions))


class TorchLike(nn.Module):
    pass


TorchLike.__module__ = "torch.nn.modules.module"


class BadTokenizer:
    def encode(self, text: str, add_special_tokens: bool = True) -> object:
        raise RuntimeError("no\nfile")


class WordTokenizer:
    def encode(self, text: str, add_special_tokens: bool = True) -> list[str]:
        return text.split()


class OwnTokenizer:
    """Of a library that has its own words for special tokens."""

    def encode(self, text: str) -> list[int]:
        return [ord(letter) for letter in text]


def _wrong(tiny: Path) -> dict[str, tuple[object, str]]:
    model, tokenizer = loaded(tiny)
    without = loaded(tiny)[0]
    without.args = None
    return {
        "a model alone": (model, r"without its tokenizer; pass the pair \(model, tokenizer\)"),
        "a tokenizer that is a name": (
            (model, "org/model"),
            "tokenizer of the pair is 'org/model', which is none",
        ),
        "a tokenizer that is none": ((model, None), "tokenizer of the pair is None"),
        "no tokenizer": ((model, object()), "of the type builtins.object"),
        "turned round": ((tokenizer, model), r"wrong way round; pass it as \(model, tokenizer\)"),
        "three": ((model, tokenizer, {}), "tuple of 3"),
        "one": ((model,), "tuple of 1"),
        "a name in a pair": (("org/model", tokenizer), "'org/model', which is none of mlx-lm's"),
        "a number": (17, "17; use a name, a path or a"),
        "bytes": (b"demo", "b'demo'; use a name, a path"),
        "no layers": ((model.model.norm, tokenizer), "has no layers"),
        "an empty list of layers": ((nn.Sequential(), tokenizer), "has no layers|no arguments"),
        "no arguments": ((without, tokenizer), "no arguments"),
        "PyTorch's": ((TorchLike(), tokenizer), r"PyTorch's \(module.TorchLike\)"),
        "PyTorch's alone": (TorchLike(), "PyTorch's|without its tokenizer"),
        "a broken tokenizer": ((model, BadTokenizer()), r"cannot encode text \(no file\)"),
        "other options": ((model, OwnTokenizer()), "cannot encode text .*'add_special_tokens'"),
        "words": ((model, WordTokenizer()), "does not encode text as token ids"),
    }


WRONG = (
    *(
        "a model alone",
        "a tokenizer that is a name",
        "a tokenizer that is none",
        "no tokenizer",
        "turned round",
    ),
    *("three", "one", "a name in a pair", "a number", "bytes", "no layers", "an empty list of layers"),
    *("no arguments", "PyTorch's", "PyTorch's alone", "a broken tokenizer", "other options", "words"),
)


@pytest.mark.parametrize("what", WRONG)
def test_a_wrong_thing_gets_its_sentence(what: str, tiny: Path) -> None:
    given, words = _wrong(tiny)[what]
    with pytest.raises(BadSettingError, match=words) as caught:
        measure_kv_fidelity(given)  # type: ignore[arg-type]
    said = str(caught.value)
    assert said.endswith(".")
    assert len(said) < 300
    assert "\n" not in said
    assert " at 0x" not in said
    for other in (measure_kv_sweep, measure_kv_sensitivity, tune_kv):
        with pytest.raises(BadSettingError, match=words):
            other(given)  # type: ignore[operator]


def test_impossible_arguments(tiny: Path) -> None:
    model, tokenizer = loaded(tiny)
    model.args.num_attention_heads = "many"
    with pytest.raises(UnsupportedModelError, match="impossible value"):
        measure_kv_fidelity((model, tokenizer))


def test_settings_that_cannot_be_are_refused_before_anything_is_scored(tiny: Path, notes: str) -> None:
    with pytest.raises(UnsupportedModelError, match="group size 128"):
        measure_kv_fidelity(loaded(tiny), kv_group_size=128, corpus=notes)
    with pytest.raises(BadSettingError, match="context of 1024"):
        measure_kv_fidelity(loaded(tiny), chunk_length=2048, corpus=notes)


def test_a_fleet_takes_no_pair(tiny: Path) -> None:
    from mqf_tui.scale.hosts import Fleet, fleet_of

    fleet: Fleet = fleet_of(ranks=2)
    settings = SweepSettings((KVSettings(""),))
    first, last = engine_api.sweep_events(settings, fleet=fleet, facts=loaded_facts(loaded(tiny)))
    assert isinstance(first, Failed)
    assert isinstance(last, Swept)
    assert "name the model's folder" in str(first.error)


def test_it_works_in_another_thread_than_it_was_loaded_in(tiny: Path, notes: str) -> None:
    pair, found = loaded(tiny), list[Report]()

    def work() -> None:
        found.append(scored(pair, corpus=notes)[0])
        mx.clear_streams()

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found[0].kl == scored(pair, corpus=notes)[0].kl


def test_saved_runs_compare_with_those_of_the_folder(tiny: Path, notes: str) -> None:
    subjects = []
    for model in (tiny, loaded(tiny)):
        report, positions = scored(model, corpus=notes)
        run = save_run(report, positions)
        subjects.append(Subject(run.id, run.report, run.positions))
    comparison = compare(subjects)
    (pair,) = comparison.pairs
    assert pair.paired
    assert pair.same
    assert any(what.startswith("compute: ") and "loaded in memory" in what for what in pair.differs)
    assert any("loaded in memory" in warning for warning in pair.warnings)
    elsewhere = subjects[1].report.model_copy(update={"model": "other/thing"})
    with pytest.raises(BadSettingError, match="their names differ"):
        compare([subjects[0], Subject("x", elsewhere, subjects[1].load)])
    tuned = subjects[1].report.model_copy(update={"model_hash": "0" * 12})
    with pytest.raises(BadSettingError, match="their contents differ"):
        compare([subjects[1], Subject("x", tuned, subjects[1].load)])


@pytest.mark.parametrize("place", [None, "folder"])
def test_such_a_run_cannot_be_scored_again(place: str | None, tiny: Path, notes: str) -> None:
    report, positions = scored(loaded(tiny), corpus=notes)
    run = save_run(report, positions)
    where = {} if place is None else {"model": str(tiny), "corpus": notes}
    (last,) = engine_api.rescore(run, 0, [1], **where)
    assert isinstance(last, Failed)
    assert isinstance(last.error, ModelNotFoundError)
    assert "save that model in a folder and measure it by its path" in str(last.error)


def test_a_twin_shares_arrays_and_nothing_else(tiny: Path) -> None:
    model = loaded(tiny)[0]
    model.train()
    other: Any = twin(model)
    assert {name: id(a) for name, a in arrays(other).items()} == {n: id(a) for n, a in arrays(model).items()}
    assert not {id(part) for part in other.modules()} & {id(part) for part in model.modules()}
    assert other.layers is not model.layers
    assert (model.training, other.training) == (True, False)
    other.layers[0].self_attn.q_proj.weight = mx.zeros((1, 1))
    other.layers.pop()
    assert len(model.layers) == 2
    assert model.layers[0].self_attn.q_proj.weight.shape != (1, 1)


def test_a_twin_keeps_what_is_there_twice_one(tiny: Path) -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one = nn.Linear(2, 2)
            self.again = [self.one, {"deep": (self.one, 3)}]

    other: Any = twin(made := Twice(), mx.float16)
    assert other.again[0] is other.one is other.again[1]["deep"][0]
    assert other.one is not made.one
    assert (other.one.weight.dtype, made.one.weight.dtype) == (mx.float16, mx.float32)


def test_paths_of_every_kind(tiny: Path, notes: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Place:
        def __fspath__(self) -> str:
            return str(tiny)

    monkeypatch.setenv("HOME", str(tiny.parent))
    monkeypatch.chdir(tiny.parent)
    models: list[Any] = [Place(), tiny, "~/tiny-llama", "tiny-llama", "./tiny-llama/"]
    found = [measure_kv_fidelity(m, corpus=notes, chunk_length=32, max_chunks=1, kv_bits=3) for m in models]
    assert {report.model for report in found} == {"tiny-llama"}
    assert len({report.kl.mean for report in found}) == 1


def test_a_name_with_a_revision_reaches_the_library(monkeypatch: pytest.MonkeyPatch, tiny: Path) -> None:
    asked: list[str] = []

    def find(name: str, *_: object, **__: object) -> Path:
        asked.append(name)
        raise ModelNotFoundError(f"there is no model {name}.")

    monkeypatch.setattr("mqf_tui.library.models.find_model", find)
    with pytest.raises(FidelityError, match="org/model@abc123"):
        measure_kv_fidelity("org/model@abc123")
    assert asked[0] == "org/model@abc123"


def test_facts_hold_a_configuration_that_is_plain(tiny: Path) -> None:
    facts = loaded_facts(loaded(tiny))
    assert isinstance(facts, LoadedFacts)
    assert json.loads(json.dumps(facts.config)) == facts.config
    assert facts.config["hidden_size"] == makers.HIDDEN
    assert hash(facts) == hash(loaded_facts(loaded(tiny)))
