"""The bundled demo model: small, loadable as any other, and really trained."""

from __future__ import annotations

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
from mlx_lm.utils import load

from mqf_tui import measure_kv_fidelity
from tests.conftest import DATA


@pytest.fixture(scope="module")
def loaded(demo_model: Path):
    model, tokenizer = load(str(demo_model))
    model.update({"model": _float32(model.parameters()["model"])})
    return model, tokenizer


def _float32(tree):
    if isinstance(tree, dict):
        return {key: _float32(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_float32(value) for value in tree]
    return tree.astype(mx.float32)


def test_it_is_small(demo_model: Path) -> None:
    assert sum(path.stat().st_size for path in demo_model.iterdir()) < 6_000_000


def test_held_out_text_is_predicted_far_better_than_by_a_unigram_model(loaded) -> None:
    model, tokenizer = loaded
    text = (DATA / "demo_heldout.txt").read_text(encoding="utf-8").partition("----\n")[2]
    ids = np.array([0, *tokenizer.encode(text)])
    assert len(ids) > 1500
    nll = []
    for start in range(0, len(ids) - 1, 512):
        piece = ids[start : start + 513]
        logits = np.array(model(mx.array(piece[None, :-1]))[0]).astype(np.float64)
        log_p = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
        nll += [-log_p[i, t] for i, t in enumerate(piece[1:])]
    counts = np.load(DATA / "demo_unigram.npz")["counts"].astype(np.float64)
    unigram = -np.log((counts + 1) / (counts.sum() + len(counts)))[ids[1:]]
    assert np.exp(np.mean(nll)) * 5 < np.exp(unigram.mean())


def test_bits_differ_visibly() -> None:
    runs = {
        bits: measure_kv_fidelity("demo", kv_bits=bits, chunk_length=256, max_chunks=5) for bits in (8, 4, 2)
    }
    means = [runs[bits].kl.mean for bits in (8, 4, 2)]
    assert means[0] * 5 < means[1]
    assert means[1] * 5 < means[2]
    assert runs[8].verdict == "good"
    assert runs[2].verdict == "bad"


def test_it_writes_words(loaded) -> None:
    from mlx_lm import generate

    model, tokenizer = loaded
    text = generate(model, tokenizer, prompt="If the file does not exist,", max_tokens=30)
    assert " the " in text
