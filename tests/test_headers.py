"""Headers of real safetensors files, damaged in every way; parameters against models really quantized."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import pytest

from mqf_tui.fidelity.errors import BrokenWeightsError, FidelityError, ModelNotFoundError
from mqf_tui.fidelity.model.facts import read_facts
from mqf_tui.fidelity.model.headers import (
    Tensor,
    parameters,
    read_config,
    read_header,
    read_weights,
    weight_files,
)
from tests.tiny_configs import build, flat, quantized_folder, stub_folder

NAME = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return stub_folder(tmp_path / "some-model", {"model_type": "llama"})


def refused(act: Callable[[], Any], *words: str, kind: type[FidelityError] = BrokenWeightsError) -> None:
    with pytest.raises(kind) as caught:
        act()
    message = str(caught.value)
    for word in words:
        assert word in message
    assert "\n" not in message
    assert message.endswith(".")


def with_header(path: Path, header: bytes, data: bytes = b"") -> None:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)


def test_names_types_and_shapes_are_those_saved(tmp_path: Path) -> None:
    kinds = {
        "F32": mx.float32, "F16": mx.float16, "BF16": mx.bfloat16,
        "U32": mx.uint32, "I8": mx.int8, "U8": mx.uint8, "BOOL": mx.bool_,
    }  # fmt: skip
    shapes = [(3, 5), (7,), (), (2, 1, 4), (1, 1), (6,), (2, 2)]
    arrays = {f"a.{k}": mx.zeros(s, kinds[k]) for k, s in zip(kinds, shapes, strict=True)}
    path = tmp_path / NAME
    mx.save_safetensors(str(path), arrays, metadata={"format": "mlx"})
    expected = {Tensor(f"a.{k}", k, s) for k, s in zip(kinds, shapes, strict=True)}
    assert set(read_header(path)) == expected


def cut(n: int) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:n]


@pytest.mark.parametrize(
    "damage",
    [
        cut(-1),
        cut(-40),
        cut(30),
        cut(8),
        cut(5),
        cut(0),
        lambda raw: raw + b"\0",
        lambda raw: raw + raw,
        lambda raw: struct.pack("<Q", 2**63) + raw[8:],
        lambda raw: struct.pack("<Q", len(raw)) + raw[8:],
        lambda raw: struct.pack("<Q", 0) + raw[8:],
        lambda raw: raw[:8] + b"x" + raw[9:],
        lambda raw: b"\xa5" * len(raw),
    ],
)
def test_damaged_files_are_refused(folder: Path, damage: Callable[[bytes], bytes]) -> None:
    path = folder / NAME
    path.write_bytes(damage(path.read_bytes()))
    refused(lambda: read_weights(folder), NAME, "truncated or damaged", "download the model again")


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"null",
        b"3",
        b'{"a": 1}',
        b'{"a": {}}',
        b'{"a": {"dtype": "F32", "shape": [1]}}',
        b'{"a": {"dtype": "F32", "shape": 1, "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 1e999]}}',
        b'{"a": {"dtype": "F32", "shape": [1], "data_offsets": null}}',
        b"\xff\xfe{}",
        b"[" * 100_000,
        b"",
    ],
)
def test_strange_headers_are_refused(folder: Path, header: bytes) -> None:
    with_header(folder / NAME, header, b"\0" * 4)
    refused(lambda: read_weights(folder), NAME, "truncated or damaged")


def test_a_git_lfs_pointer_is_called_one(folder: Path) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    (folder / NAME).write_text(pointer)
    refused(lambda: read_weights(folder), "Git LFS pointer", "git lfs pull")


@pytest.mark.parametrize(
    ("file", "word"),
    [
        ("model-q4.gguf", "GGUF"),
        ("pytorch_model.bin", "PyTorch pickle"),
        ("consolidated.pth", "PyTorch pickle"),
        ("weights.npz", "NPZ"),
    ],
)
def test_other_formats_are_named(folder: Path, file: str, word: str) -> None:
    (folder / NAME).rename(folder / file)
    refused(lambda: read_weights(folder), f"holds {word} weights", "mlx_lm.convert")


def test_no_weights_at_all_and_weights_of_another_name(folder: Path) -> None:
    (folder / NAME).rename(folder / "adapters.safetensors")
    refused(lambda: read_weights(folder), "none named model*.safetensors", "rename")
    (folder / "adapters.safetensors").unlink()
    refused(lambda: read_weights(folder), "no weights", "finish the download")


def shards(folder: Path, *names: str, present: int) -> None:
    (folder / NAME).unlink()
    for number, name in enumerate(names[:present]):
        mx.save_safetensors(str(folder / name), {f"part{number}.weight": mx.zeros((number + 1, 4))})
    weight_map = {f"part{n}.weight": name for n, name in enumerate(names)}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


SHARDS = tuple(f"model-0000{n}-of-00004.safetensors" for n in range(1, 5))


def test_shards_are_read_together(folder: Path) -> None:
    shards(folder, *SHARDS, present=4)
    weights = read_weights(folder)
    assert {t.name: t.shape for t in weights.tensors} == {f"part{n}.weight": (n + 1, 4) for n in range(4)}
    assert weights.size_bytes == sum(os.path.getsize(folder / name) for name in SHARDS)


@pytest.mark.parametrize(
    ("present", "words"), [(3, f"{SHARDS[3]} is missing"), (1, f"{SHARDS[1]} and 2 more")]
)
def test_missing_shards_are_named(folder: Path, present: int, words: str) -> None:
    shards(folder, *SHARDS, present=present)
    refused(lambda: read_weights(folder), words, "finish the download")


@pytest.mark.parametrize(
    "name", ["../x.safetensors", "/etc/hostname", "sub/model.safetensors", "..\\x.st", 7]
)
def test_an_index_that_leaves_its_folder_is_refused(folder: Path, name: object) -> None:
    (folder.parent / "x.safetensors").write_bytes((folder / NAME).read_bytes())
    (folder / INDEX).write_text(json.dumps({"weight_map": {"a": name}}))
    refused(lambda: weight_files(folder), INDEX, "points outside its folder", "do not use")


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"weight_map": 3}', '{"weight_map": {"a": []}}', "[" * 9**6]
)
def test_a_broken_index_is_refused(folder: Path, text: str) -> None:
    (folder / INDEX).write_text(text)
    refused(lambda: weight_files(folder), INDEX, "cannot be read")


def test_what_cannot_be_read_is_said(folder: Path) -> None:
    (folder / NAME).unlink()
    (folder / NAME).symlink_to(folder / "blob-that-was-deleted")
    refused(lambda: read_weights(folder), NAME, "cannot be read", "No such file")
    (folder / NAME).unlink()
    (folder / NAME).mkdir()
    refused(lambda: read_weights(folder), NAME, "cannot be read", "directory")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_missing_permissions_are_said(folder: Path) -> None:
    (folder / NAME).chmod(0)
    refused(lambda: read_weights(folder), NAME, "Permission denied", "check its permissions")
    (folder / "config.json").chmod(0)
    refused(lambda: read_config(folder), "Permission denied", kind=ModelNotFoundError)


def test_the_hash_tells_models_apart(tmp_path: Path) -> None:
    first = stub_folder(tmp_path / "first", {"model_type": "llama"})
    second = stub_folder(tmp_path / "second", {"model_type": "llama"})
    original = read_weights(first).content_hash
    assert len(original) == 12
    assert read_weights(second).content_hash == original

    raw = bytearray((second / NAME).read_bytes())
    raw[-1] ^= 1
    (second / NAME).write_bytes(raw)
    assert read_weights(second).content_hash != original

    (first / "config.json").write_text('{"model_type": "llama", "rope_theta": 1}')
    assert read_weights(first).content_hash != original


def test_a_change_spread_over_a_large_file_changes_the_hash(folder: Path) -> None:
    values = mx.zeros((1_500_000,))
    mx.save_safetensors(str(folder / NAME), {"a": values})
    before = read_weights(folder).content_hash
    mx.save_safetensors(str(folder / NAME), {"a": values + 1e-6})
    assert read_weights(folder).content_hash != before


def test_configurations_that_are_none(folder: Path, tmp_path: Path) -> None:
    config = folder / "config.json"
    for text in ("", "{", "\x00", "[" * 100_000):
        config.write_text(text)
        refused(lambda: read_config(folder), "config.json of some-model", "not valid JSON")
    config.write_bytes(b"\xff\xfe{\x00}\x00")
    refused(lambda: read_config(folder), "not valid JSON")
    config.write_text("[1]")
    refused(lambda: read_config(folder), "not an object")
    config.unlink()
    refused(lambda: read_config(folder), "has no config.json", kind=ModelNotFoundError)
    config.mkdir()
    refused(lambda: read_config(folder), "cannot be read", kind=ModelNotFoundError)
    (tmp_path / "bare").mkdir()
    refused(lambda: read_config(tmp_path / "bare"), "bare is empty", kind=ModelNotFoundError)
    refused(lambda: read_config(tmp_path / "gone"), "gone", kind=ModelNotFoundError)


TINY = {
    "model_type": "qwen2", "hidden_size": 128, "num_hidden_layers": 2, "intermediate_size": 256,
    "num_attention_heads": 2, "num_key_value_heads": 1, "rms_norm_eps": 1e-5, "vocab_size": 70,
    "tie_word_embeddings": False,
}  # fmt: skip


def quantized(path: Path, **how: Any) -> tuple[Path, int]:
    """A model quantized and described by mlx-lm; its folder and its true number of parameters."""
    model = build(TINY)
    true = sum(array.size for array in flat(model).values())
    return quantized_folder(path, model, TINY, **how), true


def test_plain_parameters_are_counted(tmp_path: Path) -> None:
    arrays = flat(build(TINY))
    folder = stub_folder(tmp_path / "plain", TINY)
    mx.save_safetensors(str(folder / NAME), arrays)
    assert parameters(read_weights(folder)) == sum(a.size for a in arrays.values())


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
def test_packed_parameters_are_counted_unpacked(tmp_path: Path, bits: int, group: int) -> None:
    folder, true = quantized(tmp_path / "packed", group_size=group, bits=bits)
    facts = read_facts(folder)
    assert facts.n_parameters == true
    assert (facts.weight_bits, facts.weight_group_size) == (bits, group)
    assert facts.weights == f"{bits}-bit, group {group}"


@pytest.mark.parametrize(("mode", "group", "bits"), [("mxfp4", 32, 4), ("nvfp4", 16, 4), ("mxfp8", 32, 8)])
def test_floating_formats_too(tmp_path: Path, mode: str, group: int, bits: int) -> None:
    folder, true = quantized(tmp_path / "packed", group_size=group, bits=bits, mode=mode)
    assert read_facts(folder).n_parameters == true


def test_mixed_bits_and_groups_are_counted_too(tmp_path: Path) -> None:
    own = {
        "embed_tokens": {"group_size": 32, "bits": 8},
        "layers.0.mlp.down_proj": {"group_size": 128, "bits": 3},
        "layers.1.mlp.down_proj": {"group_size": 32, "bits": 6},
        "layers.1.self_attn.q_proj": {"group_size": 128, "bits": 2},
        "lm_head": {"group_size": 64, "bits": 5},
    }

    def predicate(path: str, module: nn.Module) -> bool | dict[str, int]:
        if path.endswith("o_proj"):
            return False
        return next((how for name, how in own.items() if path.endswith(name)), True)

    folder, true = quantized(tmp_path / "mixed", group_size=64, bits=4, quant_predicate=predicate)
    assert read_facts(folder).n_parameters == true


@pytest.mark.parametrize("shape", [(), (0,), (4, 0)])
def test_impossible_shapes_become_a_sentence(folder: Path, shape: tuple[int, ...]) -> None:
    arrays = {"a.weight": mx.zeros((4, 8), mx.uint32), "a.scales": mx.zeros(shape)}
    mx.save_safetensors(str(folder / NAME), arrays)
    with pytest.raises(FidelityError, match="impossible value"):
        read_facts(folder)
