"""What a measurement will take, before it is started. Rough, and said so."""

from __future__ import annotations

import math
from dataclasses import dataclass
from importlib import resources

from mqf_tui.fidelity.facts import ModelFacts, kv_bytes_per_token
from mqf_tui.fidelity.settings import STEP, KVSettings
from mqf_tui.library.runs import SavedRun

# Parameters times positions a second on two CPU cores with OpenBLAS; any saved run replaces it.
USUAL_SPEED = 8e9


@dataclass(frozen=True)
class Estimate:
    """``seconds`` None where the number of chunks is not known before the text is read."""

    n_positions: int | None
    words: str  # what to say before the number of positions: nothing, "about" or "up to"
    seconds: float | None
    memory_bytes: float
    from_runs: bool


def estimate(facts: ModelFacts, settings: KVSettings, runs: list[SavedRun]) -> Estimate:
    """Positions, seconds and memory of a measurement."""
    chunks, words = settings.max_chunks, "up to "
    if settings.corpus == "builtin":
        room = _builtin_chunks(facts, settings.chunk_length)
        words = "" if chunks and chunks < 0.8 * room else "about "
        chunks = min(chunks, room) if chunks else room
    if settings.stops_early:
        words = "up to "
    positions = chunks * (settings.chunk_length - 1 - settings.quantize_start) if chunks else None
    speed = _speed(facts, runs)
    rate = (speed or USUAL_SPEED) / max(1, facts.n_parameters)
    passes = settings.quantize_start / 2 * (chunks or 0)
    return Estimate(
        n_positions=positions,
        words=words,
        seconds=(positions + passes) / rate if positions else None,
        memory_bytes=_memory(facts, settings),
        from_runs=speed is not None,
    )


def _speed(facts: ModelFacts, runs: list[SavedRun]) -> float | None:
    """Parameters times positions a second, from the newest run of the same model."""
    same = (run.report for run in runs if run.report.model_hash == facts.content_hash)
    return next((r.positions_per_second * facts.n_parameters for r in same if r.positions_per_second), None)


def _memory(facts: ModelFacts, settings: KVSettings) -> float:
    """Weights in float32, both caches, and the logits of one step, four times over."""
    caches = kv_bytes_per_token(facts, None, scale_bytes=4) + kv_bytes_per_token(
        facts, settings.kv_bits, settings.kv_group_size, scale_bytes=4
    )
    return facts.n_parameters * 4 + settings.chunk_length * caches + 4 * STEP * facts.vocab_size * 4


def _builtin_chunks(facts: ModelFacts, chunk_length: int) -> int:
    """Chunks of the built-in corpus, from how many characters a token of such a vocabulary takes.

    A line through two vocabularies: 2.35 characters with 4,096 entries, 2.96 with 49,152.
    """
    per_token = 0.3 + 0.17 * math.log2(max(2, facts.vocab_size))
    folder = resources.files("mqf_tui.demo") / "corpus"
    sizes = (len(part.read_bytes()) for part in folder.iterdir() if part.name.endswith(".txt"))
    return max(1, sum(int(size / per_token) // chunk_length for size in sizes))
