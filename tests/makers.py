"""Makers of small real things: model folders, texts, reports, positions, hub caches."""

from __future__ import annotations

import hashlib
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np

from mqf_tui.fidelity.positions import Positions
from mqf_tui.reports.schema import Report

HEAD_DIM, LAYERS, HEADS, KV_HEADS, HIDDEN, VOCAB, CONTEXT = 64, 2, 2, 1, 64, 300, 1024
SYLLABLES = ("ka", "lo", "mi", "tu", "ra", "se", "no", "vi", "da", "pe", "ho", "zu")


def words(n: int, seed: int = 0) -> str:
    """Text of ``n`` made-up words in sentences."""
    rng = random.Random(seed)
    made = ("".join(rng.choices(SYLLABLES, k=rng.randint(1, 4))) for _ in range(n))
    return " ".join(word + ("." if rng.random() < 0.1 else "") for word in made)


def text_file(path: Path, n_words: int = 600, seed: int = 0) -> Path:
    path.write_text(words(n_words, seed), encoding="utf-8")
    return path


def config(**changes: Any) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "intermediate_size": 96,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD_DIM,
        "rms_norm_eps": 1e-5,
        "vocab_size": VOCAB,
        "max_position_embeddings": CONTEXT,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    } | changes


def write_tokenizer(folder: Path) -> None:
    """A byte-level BPE of at most VOCAB tokens, trained on made-up words."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator([words(2000, seed=1)], trainer)
    made.save(str(folder / "tokenizer.json"))
    kind = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(kind))


def write_weights(folder: Path, *, seed: int = 5, scale: dict[str, float] | None = None) -> None:
    """Random Llama weights, sharp enough for a coarse cache to show; ``scale`` by part of the name."""
    import mlx.core as mx
    from mlx.utils import tree_flatten
    from mlx_lm.models import llama

    mx.random.seed(seed)
    model = llama.Model(llama.ModelArgs.from_dict(config()))
    factors = {"q_proj": 4.0, "k_proj": 4.0, "lm_head": 2.0} | (scale or {})
    arrays = {}
    parameters: Any = tree_flatten(model.parameters())
    for name, array in parameters:
        factor = next((f for part, f in factors.items() if part in name), 1.0)
        arrays[name] = array * factor
    mx.save_safetensors(str(folder / "model.safetensors"), arrays, metadata={"format": "mlx"})


def model_folder(folder: Path, *, scale: dict[str, float] | None = None) -> Path:
    """A whole tiny Llama: 2 layers, heads of 64, a vocabulary of 300, float32."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config()))
    write_tokenizer(folder)
    write_weights(folder, scale=scale)
    return folder


def spoil_weights(folder: Path, name: str, place: tuple[int, ...], value: float) -> Path:
    """Put ``value`` into one tensor."""
    import mlx.core as mx

    file = str(folder / "model.safetensors")
    loaded: Any = mx.load(file)
    arrays = dict(loaded)
    arrays[name][place] = value
    mx.save_safetensors(file, arrays, metadata={"format": "mlx"})
    return folder


def environment(**changes: str) -> dict[str, str]:
    """For a process of this checkout's command line, with its output buffered as it usually is."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return kept | {"PYTHONPATH": str(Path(__file__).parent.parent)} | changes


def rewrite_config(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def hub_cache(home: Path, models: dict[str, Path]) -> Path:
    """A Hugging Face hub cache: blobs, and snapshots of links to them."""
    for name, source in models.items():
        repo = home / f"models--{name.replace('/', '--')}"
        revision = hashlib.sha1(name.encode()).hexdigest()
        snapshot = repo / "snapshots" / revision
        snapshot.mkdir(parents=True)
        (repo / "blobs").mkdir()
        (repo / "refs").mkdir()
        (repo / "refs" / "main").write_text(revision)
        for number, file in enumerate(sorted(source.iterdir())):
            blob = repo / "blobs" / f"{number:040x}"
            blob.write_bytes(file.read_bytes())
            (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return home


def report_data(**changes: Any) -> dict[str, Any]:
    """A report as the plain data that a JSON file of schema version 1 holds."""
    return {
        "schema_version": 1,
        "kind": "kv",
        "created": "2026-03-04T05:06:07+00:00",
        "model": "org/tiny-llama",
        "model_hash": "0123456789ab",
        "architecture": "llama",
        "weights": "float32",
        "kv_bits": 4,
        "kv_group_size": 64,
        "mode": "stress",
        "quantize_start": 0,
        "partial": False,
        "kl": {
            "mean": 0.0234,
            "median": 0.0112,
            "p90": 0.06,
            "p95": 0.09,
            "p99": 0.21,
            "max": 1.5,
            "ci_low": 0.02,
            "ci_high": 0.027,
        },
        "kl_by_depth": [
            {"start": 0, "end": 64, "n_positions": 128, "kl_mean": 0.01, "flip_rate": 0.0},
            {"start": 64, "end": 127, "n_positions": 126, "kl_mean": 0.037, "flip_rate": 0.05},
        ],
        "by_part": [
            {
                "name": "prose",
                "n_chunks": 1,
                "n_positions": 127,
                "kl_mean": 0.02,
                "flip_rate": 0.01,
                "ci_low": None,
                "ci_high": None,
            },
            {
                "name": "code",
                "n_chunks": 1,
                "n_positions": 127,
                "kl_mean": 0.03,
                "flip_rate": 0.04,
                "ci_low": None,
                "ci_high": None,
            },
        ],
        "flip_rate": 0.025,
        "flip_ci_low": 0.01,
        "flip_ci_high": 0.04,
        "perplexity_ref": 12.5,
        "perplexity_quant": 12.75,
        "perplexity_delta": 0.25,
        "n_positions": 254,
        "n_chunks": 2,
        "n_chunks_planned": 2,
        "verdict": "marginal",
        "thresholds": {
            "policy": "kv-1",
            "kl_mean": [0.01, 0.1],
            "kl_p99": [0.1, 1.0],
            "flip_rate": [0.01, 0.05],
        },
        "kv_bytes_per_token": {
            "reference": 1024.0,
            "variant": 160.0,
            "number_bytes": 4,
            "reference_16bit": 512.0,
            "variant_16bit": 144.0,
            "reference_measured": 1024.0,
            "variant_measured": 160.0,
        },
        "corpus": {
            "name": "notes.txt",
            "version": "file",
            "split": None,
            "n_tokens": 256,
            "chunk_length": 128,
            "stride": 128,
            "tokenizer_id": "org/tiny-llama",
            "bos_policy": "none",
            "final_chunk_policy": "dropped",
            "normalization": "none",
            "join": "none",
            "content_hash": "aa" * 8,
            "token_hash": "bb" * 8,
        },
        "device": "CPU (x86_64, 2 cores)",
        "compute": "float32 weights",
        "cache": "QuantizedKVCache of mlx-lm",
        "peak_memory_bytes": 1000000,
        "seconds": 2.0,
        "positions_per_second": 127.0,
        "versions": {"mqf_tui": "0.1.0", "mlx": "0.32.4", "mlx_lm": "0.32.2", "python": "3.11.7"},
        "command": "mqf-tui kv org/tiny-llama --kv-bits 4",
        "warnings": [],
    } | changes


def report(**changes: Any) -> Report:
    return Report.model_validate(report_data(**changes))


def positions(n_chunks: int = 2, per_chunk: int = 127, seed: int = 3) -> Positions:
    rng = np.random.default_rng(seed)
    n = n_chunks * per_chunk
    top = rng.integers(0, VOCAB, n).astype(np.int32)
    prob = rng.uniform(0.2, 1, n)
    return Positions.of(
        {
            "chunk": np.repeat(np.arange(n_chunks), per_chunk),
            "depth": np.tile(np.arange(per_chunk), n_chunks),
            "part": np.repeat(np.arange(n_chunks) % 2, per_chunk),
            "token": rng.integers(0, VOCAB, n),
            "kl": rng.lognormal(-4, 1, n),
            "nll_ref": rng.exponential(2, n),
            "nll_quant": rng.exponential(2, n),
            "top1_ref": top,
            "top1_quant": np.where(rng.random(n) < 0.05, (top + 1) % VOCAB, top),
            "prob_ref": prob,
            "prob_quant": np.clip(prob + rng.normal(0, 0.02, n), 0, 1),
            "entropy": rng.exponential(1.5, n),
            "margin": prob * rng.random(n),
            "in_top5": rng.random(n) < 0.98,
            "token_class": rng.integers(0, 6, n),
        },
        ("prose", "code"),
        {i: f" t{i}" for i in range(VOCAB)},
    )
