"""The report: one typed, versioned schema that every format is rendered from.

All KL values are in nats, rates are shares between 0 and 1, sizes are bytes. Keys that a newer
version wrote are kept (``extra="allow"``), so loading and saving a report never loses any.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

SCHEMA_VERSION = 1
Verdict = Literal["good", "marginal", "bad"]


def _read_number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


def _write_number(value: float) -> float | str:
    # JSON has no infinity; the string form reads back in every language.
    return value if value - value == 0 else str(value)


Number = Annotated[float, BeforeValidator(_read_number), PlainSerializer(_write_number, when_used="json")]


class Part(BaseModel):
    """Base of all parts: immutable, and unknown keys are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class KLSummary(Part):
    """KL(P ‖ Q) over the scored positions, nats; the interval is of the mean."""

    mean: Number
    median: Number
    p90: Number
    p95: Number
    p99: Number
    max: Number
    ci_low: Number | None = None
    ci_high: Number | None = None


class DepthBucket(Part):
    """Positions ``start <= depth < end`` within their chunk."""

    start: int
    end: int
    n_positions: int
    kl_mean: Number
    flip_rate: Number


class PartSummary(Part):
    """The chunks of one part of the corpus."""

    name: str
    n_chunks: int
    n_positions: int
    kl_mean: Number
    flip_rate: Number
    ci_low: Number | None = None
    ci_high: Number | None = None


class CorpusProvenance(Part):
    """Where the tokens came from; enough to make the same stream again."""

    name: str
    version: str
    split: str | None = None
    n_tokens: int
    chunk_length: int
    stride: int
    tokenizer_id: str
    bos_policy: str
    final_chunk_policy: str
    normalization: str
    join: str
    content_hash: str
    token_hash: str


class KVBytes(Part):
    """KV-cache bytes per token over all layers, by formula and as measured from the filled caches.

    ``number_bytes`` is the size of the cache's floating-point numbers here: 4 on a CPU device, where
    everything runs in float32. The ``_16bit`` pair is the formula for a 16-bit cache.
    """

    reference: Number
    variant: Number
    number_bytes: int = 2
    reference_16bit: Number | None = None
    variant_16bit: Number | None = None
    reference_measured: Number | None = None
    variant_measured: Number | None = None


class Thresholds(Part):
    """What the verdict was taken from: a run passes a level when all three hold."""

    policy: str
    kl_mean: tuple[float, float]
    kl_p99: tuple[float, float]
    flip_rate: tuple[float, float]


class Versions(Part):
    """Software that took part."""

    mqf_tui: str
    mlx: str
    mlx_lm: str
    python: str


class Report(Part):
    """The result of one KV-cache measurement. ``n_positions`` counts scored positions only."""

    schema_version: int = SCHEMA_VERSION
    kind: Literal["kv"] = "kv"
    created: str
    model: str
    model_hash: str
    architecture: str
    weights: str
    kv_bits: int
    kv_group_size: int
    mode: Literal["stress", "deployment"]
    quantize_start: int
    partial: bool = False
    kl: KLSummary
    kl_by_depth: list[DepthBucket]
    by_part: list[PartSummary] = []
    flip_rate: Number
    flip_ci_low: Number | None = None
    flip_ci_high: Number | None = None
    perplexity_ref: Number
    perplexity_quant: Number
    perplexity_delta: Number
    n_positions: int
    n_chunks: int
    n_chunks_planned: int
    verdict: Verdict
    thresholds: Thresholds
    kv_bytes_per_token: KVBytes
    corpus: CorpusProvenance
    device: str
    compute: str
    cache: str
    peak_memory_bytes: int
    seconds: Number
    positions_per_second: Number
    versions: Versions
    command: str
    warnings: list[str] = []

    @property
    def setting(self) -> str:
        """The variant in words: ``8-bit KV cache, group 64``."""
        return f"{self.kv_bits}-bit KV cache, group {self.kv_group_size}"
