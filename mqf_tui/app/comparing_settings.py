"""What was measured and how, of runs side by side, as rows of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mqf_tui.app.comparing import Cell, Row
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import UNKNOWN, inert


def setting_rows(reports: Sequence[Report], *, everything: bool = False) -> list[Row]:
    """What was measured and how: what differs between the runs, or all that any of them knows.

    What one run does not know is not taken for a difference.
    """
    rows: list[Row] = []
    alike = _alike(reports)
    for name, words in _settings(reports):
        differs = len({word for word in words if word}) > 1 and name not in alike
        if differs or (everything and any(words)):
            rows.append(Row(name, tuple(Cell(inert(word) or UNKNOWN) for word in words), differs))
    return rows


def _settings(reports: Sequence[Report]) -> list[tuple[str, list[str]]]:
    def each(word: Callable[[Report], object]) -> list[str]:
        return [str(found) if (found := word(r)) else "" for r in reports]

    names, texts = each(lambda r: r.model), each(lambda r: r.corpus.name)
    hashes, content = each(lambda r: r.model_hash), each(lambda r: r.corpus.content_hash)
    return [
        ("model", _told_apart(names, hashes)),
        ("variant's model", each(lambda r: r.variant_model)),
        ("kind", each(lambda r: {"kv": "KV cache", "weights": "weights"}[r.kind])),
        ("bits", each(lambda r: r.kv_bits or r.kv_format)),
        ("group", each(lambda r: r.kv_group_size)),
        ("layers", each(_layers)),
        ("mode", each(lambda r: r.mode)),
        ("quantized from", each(lambda r: r.mode and f"position {r.quantize_start}")),
        ("attention", each(lambda r: r.kernel)),
        ("corpus", _told_apart(texts, content)),
        ("chunk length", each(lambda r: r.corpus.chunk_length)),
        ("chunks", each(_chunks)),
        ("positions", each(lambda r: f"{r.n_positions:,}" if r.n_positions else "")),
        ("scored of each", each(lambda r: f"the last {r.score_last}" if r.score_last else "all")),
        ("BOS policy", each(lambda r: r.corpus.bos_policy)),
        ("text joined", each(lambda r: r.corpus.join)),
        ("normalization", each(lambda r: r.corpus.normalization)),
        ("thresholds", each(lambda r: r.thresholds.policy)),
        ("cache", each(lambda r: r.cache)),
        ("compute", each(lambda r: r.compute)),
        ("device", each(lambda r: r.device)),
        ("tool", each(lambda r: r.origin.tool if r.origin else "mqf-tui")),
        ("mqf-tui", each(lambda r: r.versions.mqf_tui)),
        ("mlx", each(lambda r: r.versions.mlx)),
        ("mlx-lm", each(lambda r: r.versions.mlx_lm)),
        ("transformers", each(lambda r: r.versions.transformers)),
        ("python", each(lambda r: r.versions.python)),
    ]


def _alike(reports: Sequence[Report]) -> set[str]:
    """What is the same in all, whatever it is called."""
    hashes = {"model": {r.model_hash for r in reports}, "corpus": {r.corpus.content_hash for r in reports}}
    return {name for name, found in hashes.items() if len(found) == 1 and "" not in found}


def _told_apart(names: Sequence[str], hashes: Sequence[str]) -> list[str]:
    """The names; with their hashes where one name stands for different things."""
    clash = any(
        a == b and x and y and x != y
        for a, x in zip(names, hashes, strict=True)
        for b, y in zip(names, hashes, strict=True)
    )
    return [f"{name} {x[:8]}".strip() if clash else name for name, x in zip(names, hashes, strict=True)]


def _layers(r: Report) -> str:
    return "" if r.layers is None else r.layers.words or f"all {r.layers.n_layers}"


def _chunks(r: Report) -> str:
    planned = f" of {r.n_chunks_planned:,}" if r.partial and r.n_chunks_planned > r.n_chunks else ""
    return f"{r.n_chunks:,}{planned}{' (partial)' * r.partial}" if r.n_chunks else ""
