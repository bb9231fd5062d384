"""A second scorer, as plain as can be: mlx-lm's own caches, float64 textbook formulas, nothing of ours."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

STEP = 128


@dataclass
class Scored:
    """Per-position numbers of one setting, in the order of the text."""

    kl: np.ndarray
    nll_ref: np.ndarray
    nll_quant: np.ndarray
    flip: np.ndarray


def score(
    folder: Path, text: Path, settings: list[tuple[int, int]], length: int, n_chunks: int
) -> dict[tuple[int, int], Scored]:
    """Each (bits, group) on the first chunks of ``text``, quantized from the first token on."""
    import mlx.core as mx
    from mlx.utils import tree_map
    from mlx_lm.models.cache import QuantizedKVCache, make_prompt_cache
    from mlx_lm.utils import load_model
    from transformers import PreTrainedTokenizerFast

    model: Any = load_model(folder)[0]
    model.update(tree_map(lambda a: a.astype(mx.float32), model.parameters()))
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    ids = tokenizer.encode(text.read_text(encoding="utf-8"))
    rows: dict[tuple[int, int], list[np.ndarray]] = {setting: [] for setting in settings}
    for first in range(0, n_chunks * length, length):
        tokens = np.array(ids[first : first + length])
        full = make_prompt_cache(model)
        packed = {(b, g): [QuantizedKVCache(group_size=g, bits=b) for _ in full] for b, g in settings}
        for a in range(0, length - 1, STEP):
            b = min(a + STEP, length - 1)
            log_p = log_softmax(model(mx.array(tokens[None, a:b]), cache=full)[0])
            for setting, cache in packed.items():
                log_q = log_softmax(model(mx.array(tokens[None, a:b]), cache=cache)[0])
                rows[setting].append(compare(log_p, log_q, tokens[a + 1 : b + 1]))
    return {setting: Scored(*np.concatenate(found, axis=1)) for setting, found in rows.items()}


def log_softmax(logits: Any) -> np.ndarray:
    x = np.array(logits).astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def compare(log_p: np.ndarray, log_q: np.ndarray, targets: np.ndarray) -> np.ndarray:
    at = np.arange(len(targets))
    return np.stack(
        [
            (np.exp(log_p) * (log_p - log_q)).sum(axis=-1),
            -log_p[at, targets],
            -log_q[at, targets],
            log_p.argmax(axis=-1) != log_q.argmax(axis=-1),
        ]
    )
