"""Models and tokenizers into memory, against mlx-lm's own load; and all that can be wrong with them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.utils
import numpy as np
import pytest

from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.errors import (
    BrokenWeightsError,
    FidelityError,
    NotANumberError,
    OutOfMemoryError,
    UnsupportedModelError,
)
from mqf_tui.fidelity.model.facts import ModelFacts, read_facts
from mqf_tui.fidelity.model.loading import Loaded, compute_words, load_model, load_tokenizer
from tests.makers import model_folder, rewrite_config, words, write_tokenizer
from tests.tiny_configs import LAYERS, PLAIN, build, flat, quantized_folder, stub_folder

CPU = Device("a CPU", True, None, 10**12)
GPU = Device("an accelerator", False, None, 10**12)
WEIGHTS = "model.safetensors"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return model_folder(tmp_path / "tiny")


def loaded(folder: Path, device: Device = CPU, **options: Any) -> Any:
    return last(read_facts(folder, **options), device, **options)


def last(facts: ModelFacts, device: Device = CPU, **options: Any) -> Any:
    steps: list[Loaded] = list(load_model(facts, device, **options))
    return steps[-1].model


def change_weights(folder: Path, **arrays: mx.array | None) -> None:
    """Replace (None: remove) tensors; dots in their names are written ``__``."""
    held = mx.load(str(folder / WEIGHTS))
    mx.eval(held)
    assert isinstance(held, dict)
    for key, array in arrays.items():
        held.pop(key.replace("__", "."), None)
        if array is not None:
            held[key.replace("__", ".")] = array
    mx.save_safetensors(str(folder / WEIGHTS), held)


def logits(model: Any) -> np.ndarray:
    tokens = mx.array(np.random.default_rng(8).integers(0, 90, (1, 24)))
    return np.array(model(tokens).astype(mx.float32))


def refusal(caught: pytest.ExceptionInfo[FidelityError]) -> str:
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    assert "Traceback" not in text
    return text


def packed(path: Path, name: str, dtype: mx.Dtype, **how: Any) -> Path:
    mx.random.seed(3)
    model = build(PLAIN[name])
    model.set_dtype(dtype)
    return quantized_folder(path, model, PLAIN[name], **how)


HOW = [
    {"group_size": 64, "bits": 4},
    {"group_size": 32, "bits": 3},
    {"group_size": 32, "bits": 8, "mode": "mxfp8"},
]


@pytest.mark.parametrize("how", HOW, ids=str)
@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["qwen2", "qwen3_moe"])
def test_dequantized_weights_compute_what_the_packed_ones_do(
    tmp_path: Path, name: str, dtype: mx.Dtype, how: dict[str, Any]
) -> None:
    folder = packed(tmp_path / "packed", name, dtype, **how)
    own, _ = mlx_lm.utils.load_model(folder)
    assert any(isinstance(m, nn.QuantizedLinear) for _, m in own.named_modules())
    # The same packed numbers, with everything that is not packed in float32.
    own.set_dtype(mx.float32)
    expected, found = logits(own), logits(loaded(folder))
    assert expected.std() > 0.05
    np.testing.assert_allclose(found, expected, atol=2e-5 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16], ids=str)
def test_on_a_cpu_everything_is_float32_and_nothing_is_packed(tmp_path: Path, dtype: mx.Dtype) -> None:
    model = loaded(packed(tmp_path / "packed", "qwen2", dtype, group_size=64, bits=4))
    assert {array.dtype for array in flat(model).values()} == {mx.float32}
    modules = {type(m).__name__ for _, m in model.named_modules()}
    assert not any("Quantized" in name for name in modules)


def test_elsewhere_the_model_stays_as_it_is(tmp_path: Path) -> None:
    folder = packed(tmp_path / "packed", "qwen2", mx.float16, group_size=64, bits=4)
    own, _ = mlx_lm.utils.load_model(folder)
    model = loaded(folder, GPU)
    mine, theirs = flat(model), flat(own)
    assert {n: (a.dtype, a.shape) for n, a in mine.items()} == {
        n: (a.dtype, a.shape) for n, a in theirs.items()
    }
    assert np.array_equal(logits(model), logits(own))


def test_a_half_precision_model_is_cast_exactly(tmp_path: Path) -> None:
    model = build(PLAIN["llama"])
    model.set_dtype(mx.bfloat16)
    folder = stub_folder(tmp_path / "half", PLAIN["llama"])
    saved = flat(model)
    mx.save_safetensors(str(folder / WEIGHTS), saved)
    found = flat(loaded(folder))
    assert found.keys() == saved.keys()
    for name, array in saved.items():
        assert found[name].dtype == mx.float32
        assert mx.array_equal(found[name], array.astype(mx.float32))


def test_shares_grow_to_one(tmp_path: Path) -> None:
    facts = read_facts(packed(tmp_path / "packed", "qwen2", mx.float32, group_size=64, bits=4))
    shares = [step.share for step in load_model(facts, CPU)]
    assert len(shares) == LAYERS + 1
    assert shares == sorted(set(shares))
    assert shares[0] > 0
    assert shares[-1] == 1


@pytest.mark.parametrize("device", [CPU, GPU])
@pytest.mark.parametrize(
    "name", ["model__norm__weight", "model__embed_tokens__weight", "model__layers__1__mlp__up_proj__weight"]
)
def test_not_a_number_in_the_weights(folder: Path, name: str, device: Device) -> None:
    held = mx.load(str(folder / WEIGHTS))
    assert isinstance(held, dict)
    array = held[name.replace("__", ".")]
    row = mx.flatten(array)
    row[7] = float("nan")
    change_weights(folder, **{name: row.reshape(array.shape)})
    with pytest.raises(NotANumberError) as caught:
        loaded(folder, device)
    assert name.replace("__", ".").removeprefix("model.layers.1.") in refusal(caught)
    assert "not-a-number" in refusal(caught)


def test_large_numbers_are_let_through(folder: Path) -> None:
    change_weights(folder, model__norm__weight=mx.full((64,), float("inf")))
    assert loaded(folder) is not None


@pytest.mark.parametrize(
    "change",
    [
        {"hidden_size": 128, "head_dim": 64},
        {"num_hidden_layers": 3},
        {"num_hidden_layers": 1},
        {"vocab_size": 301},
        {"tie_word_embeddings": None, "attention_bias": True},
    ],
)
def test_weights_that_do_not_fit_the_configuration(folder: Path, change: dict[str, Any]) -> None:
    rewrite_config(folder, **change)
    with pytest.raises(BrokenWeightsError) as caught:
        loaded(folder)
    assert "the weights of tiny do not fit its configuration" in refusal(caught)
    assert "download the model again" in refusal(caught)


@pytest.mark.parametrize("array", [None, mx.zeros((3, 3))])
def test_a_tensor_that_is_missing_or_of_another_shape(folder: Path, array: mx.array | None) -> None:
    change_weights(folder, model__layers__0__self_attn__k_proj__weight=array)
    with pytest.raises(BrokenWeightsError) as caught:
        loaded(folder)
    assert "k_proj" in refusal(caught)


def test_a_tensor_too_many(folder: Path) -> None:
    change_weights(folder, model__surprise__weight=mx.zeros((3,)))
    with pytest.raises(BrokenWeightsError) as caught:
        loaded(folder)
    assert "surprise" in refusal(caught)


def test_weights_that_went_away_after_their_headers_were_read(folder: Path) -> None:
    facts = read_facts(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(BrokenWeightsError) as caught:
        last(facts)
    assert "download the model again" in refusal(caught)


def test_a_configuration_that_mlx_lm_cannot_build(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["rms_norm_eps"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UnsupportedModelError) as caught:
        loaded(folder)
    assert "mlx-lm cannot build tiny" in refusal(caught)
    assert "rms_norm_eps" in refusal(caught)


def test_a_models_own_code_runs_only_where_it_is_trusted(folder: Path) -> None:
    (folder / "own.py").write_text(
        "from pathlib import Path\nfrom mlx_lm.models.llama import Model, ModelArgs\n"
        "Path(__file__).with_name('ran').touch()\n"
    )
    facts = read_facts(folder)
    rewrite_config(folder, model_file="own.py", model_type="made-here")
    with pytest.raises(FidelityError):
        last(facts)
    assert not (folder / "ran").exists()
    assert logits(loaded(folder, trust_remote_code=True)).shape == (1, 24, 300)
    assert (folder / "ran").exists()


def test_memory_is_refused_before_anything_is_read(folder: Path) -> None:
    facts = read_facts(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(OutOfMemoryError) as caught:
        last(facts, Device("small", True, None, facts.n_parameters * 4))
    assert "tiny needs about" in refusal(caught)
    assert "are free" in refusal(caught)


def test_memory_is_counted_as_the_device_holds_it(tmp_path: Path) -> None:
    facts = read_facts(packed(tmp_path / "packed", "qwen2", mx.float16, group_size=64, bits=4))
    assert facts.size_bytes < facts.n_parameters
    between = facts.n_parameters * 2
    assert last(facts, Device("small", False, None, between)) is not None
    with pytest.raises(OutOfMemoryError):
        last(facts, Device("small", True, None, between))
    with pytest.raises(OutOfMemoryError):
        last(facts, Device("small", False, None, facts.size_bytes))
    assert last(facts, Device("large", True, None, facts.n_parameters * 5)) is not None


def test_the_tokenizer_is_the_folders(folder: Path) -> None:
    from tokenizers import Tokenizer

    text = words(40)
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer = load_tokenizer(read_facts(folder))
    assert tokenizer.encode(text) == own.encode(text).ids
    assert tokenizer.bos_token_id == own.token_to_id("<s>")


@pytest.mark.parametrize("text", ["", "{", "{}", "[]", "null", '{"model": {"type": "BPE"}}', "\x00\x01"])
def test_a_corrupt_tokenizer(folder: Path, text: str) -> None:
    (folder / "tokenizer.json").write_text(text)
    with pytest.raises(BrokenWeightsError) as caught:
        load_tokenizer(read_facts(folder))
    assert "the tokenizer of tiny cannot be loaded" in refusal(caught)


def test_a_tokenizer_that_went_away(folder: Path) -> None:
    facts = read_facts(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(BrokenWeightsError) as caught:
        load_tokenizer(facts)
    assert "the tokenizer of tiny cannot be loaded" in refusal(caught)


def test_how_it_computes_in_words(tmp_path: Path) -> None:
    facts = read_facts(stub_folder(tmp_path / "plain", PLAIN["llama"]))
    assert compute_words(facts, CPU) == "float32 weights"
    assert compute_words(facts, GPU) == "float32 weights, as they are"
    mx.save_safetensors(str(tmp_path / "plain" / WEIGHTS), {"a": mx.zeros((2,), mx.bfloat16)})
    facts = read_facts(tmp_path / "plain")
    assert compute_words(facts, CPU) == "bfloat16 weights cast to float32"
    facts = read_facts(packed(tmp_path / "packed", "qwen2", mx.float16, group_size=64, bits=4))
    assert compute_words(facts, CPU) == "4-bit, group 64 weights dequantized to float32"
    assert compute_words(facts, GPU) == "4-bit, group 64 weights, as they are"


def test_nothing_is_printed(tmp_path: Path) -> None:
    folder = packed(tmp_path / "packed", "qwen2", mx.float16, group_size=64, bits=4)
    write_tokenizer(folder)
    shutil.copytree(folder, tmp_path / "broken")
    (tmp_path / "broken" / "tokenizer.json").write_text("{]}")
    change_weights(tmp_path / "broken", extra=mx.zeros((2,)))
    program = (
        "import sys; from pathlib import Path; from mqf_tui.fidelity import device\n"
        "found = device.prepare()\n"
        "from mqf_tui.fidelity import errors\n"
        "from mqf_tui.fidelity.model import facts, loading\n"
        "for name, wrong in zip(sys.argv[1:], (0, 2), strict=True):\n"
        "    read, failed = facts.read_facts(Path(name)), 0\n"
        "    for load in (loading.load_tokenizer, lambda f: list(loading.load_model(f, found))):\n"
        "        try:\n            load(read)\n"
        "        except errors.BrokenWeightsError:\n            failed += 1\n"
        "    assert failed == wrong\n"
    )
    argv = [sys.executable, "-W", "default", "-c", program, str(folder), str(tmp_path / "broken")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("device", [CPU, GPU], ids=["cpu", "accelerator"])
def test_each_weight_is_looked_at_once(folder: Path, device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    isnan = mx.isnan

    def counting(array: mx.array) -> mx.array:
        looked.append(array.size)
        return isnan(array)

    monkeypatch.setattr(mx, "isnan", counting)
    model = loaded(folder, device)
    assert sorted(looked) == sorted(array.size for array in flat(model).values())
