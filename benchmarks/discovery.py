"""How long it takes to list 200 models: for the first time, and with the facts of the last time on disk.

    python benchmarks/discovery.py [PROCESSES]

A Hugging Face cache is made of 200 repositories with real configurations, weight files with real headers
(their data a hole in the file), indices of four shards for a third of them, tokenizers of several MB, blobs
and links. Each figure is of a fresh process, from the call of ``local_models()`` on, the files in the
system's cache; cold: without the facts that are kept on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

N_MODELS = 200
SHARDS = 4
TOKENIZER_BYTES = 4_000_000
LLAMA = {"num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-5, "rope_theta": 5e5}
HEADS = {"num_attention_heads": 32} | LLAMA
CONFIGS: tuple[dict[str, Any], ...] = (
    {"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336} | HEADS,
    {"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336} | HEADS,
    {"model_type": "qwen2", "hidden_size": 4096, "intermediate_size": 18944} | HEADS,
    {"model_type": "qwen3", "hidden_size": 4096, "intermediate_size": 12288} | HEADS,
    {"model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "sliding_window": 2047} | HEADS,
    {"model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216, "num_attention_heads": 8,
     "sliding_window": 4096} | LLAMA,
    {"model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_attention_heads": 4,
     "sliding_window": 512, "sliding_window_pattern": 6} | LLAMA,
    {"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "num_attention_heads": 32,
     "num_experts": 128, "num_experts_per_tok": 8, "moe_intermediate_size": 768} | LLAMA,
    {"model_type": "gpt_oss", "hidden_size": 2880, "intermediate_size": 2880, "num_attention_heads": 64,
     "sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 12} | LLAMA,
    {"model_type": "deepseek_v3", "hidden_size": 2048, "intermediate_size": 10944, "num_attention_heads": 16,
     "num_key_value_heads": 16, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128,
     "v_head_dim": 128},
)  # fmt: skip
MATRICES = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj",
            "mlp.up_proj", "mlp.down_proj")  # fmt: skip
LISTING = """
import json, sys, time
began = time.perf_counter()
from mqf_tui.library import models
imported, used = time.perf_counter(), time.process_time()
found = models.local_models()
done, used = time.perf_counter(), time.process_time() - used
print(json.dumps([imported - began, done - imported, used, sum(m.facts is not None for m in found),
                  sorted({"mlx", "mlx.core", "numpy", "pydantic", "huggingface_hub"} & set(sys.modules))]))
"""


def tensors(hidden: int, bits: int | None) -> dict[str, tuple[str, list[int]]]:
    """About 300 of them, as mlx-lm names and packs them."""
    found: dict[str, tuple[str, list[int]]] = {}
    layers = 32 if bits is None else 13

    def matrix(name: str, rows: int) -> None:
        if bits is None:
            found[f"{name}.weight"] = "BF16", [rows, hidden]
            return
        found[f"{name}.weight"] = "U32", [rows, hidden * bits // 32]
        found[f"{name}.scales"] = found[f"{name}.biases"] = "BF16", [rows, hidden // 64]

    matrix("model.embed_tokens", 32_000)
    for layer in range(layers):
        for name in MATRICES:
            matrix(f"model.layers.{layer}.{name}", hidden)
        for norm in ("input_layernorm", "post_attention_layernorm"):
            found[f"model.layers.{layer}.{norm}.weight"] = "BF16", [hidden]
    found["model.norm.weight"] = "BF16", [hidden]
    matrix("lm_head", 32_000)
    return found


def weight_file(path: Path, entries: dict[str, tuple[str, list[int]]], mark: int) -> None:
    """Header and size are right; the data is a hole with a mark in it."""
    header: dict[str, Any] = {"__metadata__": {"format": "mlx"}}
    end = 0
    for name, (dtype, shape) in entries.items():
        size = (4 if dtype == "U32" else 2) * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text + mark.to_bytes(8, "little"))
        file.truncate(8 + len(text) + end)


def files_of(number: int) -> Iterator[tuple[str, Any]]:
    """Names, and bytes or tensors, of one repository."""
    config = dict(CONFIGS[number % len(CONFIGS)])
    bits = (4, None, 8)[number % 3]
    config |= {
        "num_hidden_layers": 32 if bits is None else 13,
        "vocab_size": 32_000,
        "max_position_embeddings": 32_768,
    }
    if bits is not None:
        config["quantization"] = config["quantization_config"] = {
            "group_size": 64,
            "bits": bits,
            "mode": "affine",
        }
    yield "config.json", json.dumps(config, indent=4).encode()
    whole = tensors(config["hidden_size"], bits)
    if number % 3 == 1:
        names = list(whole)
        cut = [names[k * len(names) // SHARDS : (k + 1) * len(names) // SHARDS] for k in range(SHARDS)]
        shards = {f"model-{k + 1:05}-of-{SHARDS:05}.safetensors": part for k, part in enumerate(cut)}
        where = {name: shard for shard, part in shards.items() for name in part}
        yield "model.safetensors.index.json", json.dumps({"weight_map": where}, indent=4).encode()
        for shard, part in shards.items():
            yield shard, {name: whole[name] for name in part}
    else:
        yield "model.safetensors", whole
    yield "tokenizer.json", TOKENIZER_BYTES
    yield (
        "tokenizer_config.json",
        json.dumps(
            {"chat_template": "{{ messages }}" * 200, "added": {str(n): {} for n in range(900)}}
        ).encode(),
    )
    yield "special_tokens_map.json", b"{}"
    yield "README.md", b"---\nlicense: apache-2.0\nlibrary_name: mlx\n---\n\n# A model\n" + b"words " * 500


def hub(home: Path) -> None:
    """The cache: blobs, snapshots of links to them, and what main is."""
    for number in range(N_MODELS):
        repo = home / f"models--someone--model-{number:03}-Instruct"
        commit = hashlib.sha1(repo.name.encode()).hexdigest()
        snapshot = repo / "snapshots" / commit
        for folder in (snapshot, repo / "blobs", repo / "refs"):
            folder.mkdir(parents=True)
        (repo / "refs" / "main").write_text(commit)
        for name, content in files_of(number):
            blob = repo / "blobs" / hashlib.sha256(f"{number}{name}".encode()).hexdigest()
            if isinstance(content, dict):
                weight_file(blob, content, number)
            elif isinstance(content, int):
                blob.write_bytes(b'{"model": "' + b"x" * content + b'"}')
            else:
                blob.write_bytes(content)
            (snapshot / name).symlink_to(Path("../../blobs") / blob.name)


def listed(environment: dict[str, str]) -> tuple[float, float, float]:
    """Milliseconds of the import, of the list, and of the processor for the list, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", LISTING], env=environment, capture_output=True, text=True, check=True
    )
    imported, took, used, n_facts, heavy = json.loads(done.stdout)
    assert n_facts == N_MODELS + 1, f"{n_facts} models have facts"
    assert not [name for name in heavy if name.startswith("mlx")], heavy
    return imported * 1000, took * 1000, used * 1000


def told(words: str, times: list[tuple[float, float, float]]) -> None:
    """Medians and extremes."""
    imports, lists, used = (sorted(t[k] for t in times) for k in (0, 1, 2))
    median, whole = statistics.median(lists), statistics.median(t[0] + t[1] for t in times)
    print(
        f"{words}: {median:.0f} ms ({lists[0]:.0f} to {lists[-1]:.0f}, {len(times)} processes; "
        f"{statistics.median(used):.0f} ms of the processor), "
        f"{whole:.0f} ms with the import of {statistics.median(imports):.0f} ms",
        flush=True,
    )


def main() -> None:
    processes = int(sys.argv[1]) if len(sys.argv) > 1 else 9
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        began = time.perf_counter()
        hub(home / "hub")
        print(f"{N_MODELS} models made in {time.perf_counter() - began:.1f} s", flush=True)
        environment = {
            **os.environ,
            "HOME": folder,
            "HF_HUB_CACHE": str(home / "hub"),
            "MQF_TUI_CACHE_DIR": str(home / "cache"),
            "MQF_TUI_CONFIG_DIR": str(home / "config"),
            "MQF_TUI_DATA_DIR": str(home / "data"),
        }
        environment.pop("MQF_TUI_MODELS", None)
        kept = home / "cache" / "models.json"
        listed(environment)
        cold: list[tuple[float, float, float]] = []
        for _ in range(processes):
            kept.unlink()
            cold.append(listed(environment))
        told("cold", cold)
        told("warm", [listed(environment) for _ in range(processes)])


if __name__ == "__main__":
    main()
