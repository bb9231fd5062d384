"""The report: one typed, versioned schema that every format is rendered from.

All KL values are in nats, rates are shares between 0 and 1, sizes are bytes, intervals are 95 %. Keys
that a newer version wrote are kept (``extra="allow"``), so loading and saving a report never loses any.
Fields with a default are those that an earlier version, or an import from another tool, does not have.
docs/statistics.md defines every number; docs/report.schema.json is this as a JSON Schema.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, WithJsonSchema

from mqf_tui.reports.shown import Named, Shown

SCHEMA_VERSION = 3
Verdict = Literal["good", "marginal", "bad"]
VERDICTS: tuple[Verdict, ...] = ("good", "marginal", "bad")
_WORDS = ("inf", "-inf", "nan")  # JSON has no numbers for these


def _read_number(value: Any) -> Any:
    if isinstance(value, str):
        if value not in _WORDS:
            raise ValueError("a number is no text, but for 'inf', '-inf' and 'nan'")
        return float(value)
    return value


def _write_number(value: float) -> float | str:
    # JSON has no infinity; the string form reads back in every language.
    return value if value - value == 0 else str(value)


Number = Annotated[
    float,
    BeforeValidator(_read_number),
    PlainSerializer(_write_number, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"enum": ["inf", "-inf", "nan"]}]}, mode="serialization"),
]
Bounds = tuple[Number, Number]


class Part(Shown, BaseModel):
    """Base of all parts: immutable, and unknown keys are kept."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Estimate(Part):
    """A figure and its interval; no interval over one chunk, nor of an infinite figure."""

    value: Number
    ci: Bounds | None = None


class KLSummary(Part):
    """KL(P ‖ Q) over the scored positions, nats; ``ci_low`` and ``ci_high`` are of the mean.

    ``worst_share``: the share of all KL that the worst 1 % of the positions carry.
    """

    mean: Number
    median: Number | None = None
    p90: Number | None = None
    p95: Number | None = None
    p99: Number | None = None
    p999: Number | None = None
    max: Number | None = None
    ci_low: Number | None = None
    ci_high: Number | None = None
    median_ci: Bounds | None = None
    p90_ci: Bounds | None = None
    p95_ci: Bounds | None = None
    p99_ci: Bounds | None = None
    p999_ci: Bounds | None = None
    worst_share: Number | None = None


class Flips(Part):
    """What the flips are like. Shares are of all positions.

    ``confident``: the reference gave its top-1 at least 0.5. ``near_tie``: its margin is under 0.05.
    ``lost``, ``gained``, ``changed`` count flips away from, towards, and aside from the text's own token;
    ``accuracy_change`` is (gained - lost) / n and ``mcnemar_p`` McNemar's exact two-sided p value.
    ``longest_run``: most consecutive flips within a chunk.
    """

    confident: Estimate
    near_tie: Estimate
    lost: int
    gained: int
    changed: int
    accuracy_change: Estimate
    mcnemar_p: Number
    top5_agreement: Estimate
    longest_run: int


class DeltaP(Part):
    """Δp = q − p of the text's own next token. ``percentiles`` by name: min, 0.1, 1, … 99.9, max, and the
    intervals of those that have one."""

    mean: Estimate
    rms: Estimate
    percentiles: dict[str, Number]
    percentile_cis: dict[str, Bounds] = {}


class Perplexity(Part):
    """What surrounds the perplexities: intervals, ratio, mean ln(PPL(Q)/PPL(P)), correlation of NLLs."""

    ref_ci: Bounds | None = None
    quant_ci: Bounds | None = None
    delta_ci: Bounds | None = None
    ratio: Estimate
    ln_ratio: Estimate
    nll_correlation: Number | None = None


class Group(Part):
    """Some of the positions. The intervals are of mean KL and flip rate."""

    n_positions: int
    n_chunks: int = 0
    kl_mean: Number
    flip_rate: Number
    ci_low: Number | None = None
    ci_high: Number | None = None
    flip_ci: Bounds | None = None


class DepthBucket(Group):
    """Positions ``start <= depth < end`` within their chunk."""

    start: int
    end: int


class Drift(Part):
    """Where KL begins to drift in a window of more than 4,096 tokens.

    ``start``: the depth from which on, bucket after bucket to the end, mean KL is above that of the depths
    ``first <= depth < end`` beyond the error; None where there is no such depth, or (``known`` False) where
    one chunk gives no error. ``times``: how many times as much it is in the bucket that begins there.
    """

    known: bool
    first: int
    end: int
    start: int | None = None
    times: Number | None = None
    times_ci: Bounds | None = None


class PartSummary(Group):
    """The chunks of one part of the corpus."""

    name: str


class EntropyClass(Group):
    """Positions whose reference entropy (nats) lies in ``[low, high)``; the last class holds its end."""

    low: Number
    high: Number


class TokenClass(Group):
    """Positions whose predicted token is of one class (``vocabulary.TOKEN_CLASSES``)."""

    name: str


class TextReading(Part):
    """The choices with which a text was read and cut; see ``fidelity.text.options.TextOptions``."""

    field: str | None = None
    glob: str | None = None
    documents: str = "auto"
    bos: str = "auto"
    stride: int | None = None
    rest: str = "auto"
    assistant_only: bool = False
    seed: int = 0


class CorpusProvenance(Part):
    """Where the tokens came from; enough to make the same stream again. Empty where not known.

    ``n_chunks``: that the tokens were cut into; 0 before there was padding, when all were whole.
    ``public``: anyone can have this text; None where not known.
    """

    name: str
    version: str = ""
    split: str | None = None
    n_tokens: int = 0
    chunk_length: int = 0
    stride: int = 0
    tokenizer_id: str = ""
    bos_policy: str = ""
    final_chunk_policy: str = ""
    normalization: str = ""
    join: str = ""
    content_hash: str = ""
    token_hash: str = ""
    n_chunks: int = 0
    public: bool | None = None
    reading: TextReading | None = None


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
    """What the verdict was taken from: a run passes a level when all three hold.

    Each pair: the most that is still good, the most that is still marginal.
    """

    policy: str
    kl_mean: tuple[float, float]
    kl_p99: tuple[float, float]
    flip_rate: tuple[float, float]


class Confidence(Part):
    """How sure the verdict is: the share of each verdict among ``replicates`` cluster bootstraps.

    With ``method`` "anytime" the measurement stopped when it was sure; the share is then its guarantee.
    """

    good: Number
    marginal: Number
    bad: Number
    method: Literal["bootstrap", "anytime"] = "bootstrap"
    replicates: int = 0
    seed: int = 0

    def of(self, verdict: Verdict) -> float:
        """The share of one verdict."""
        return {"good": self.good, "marginal": self.marginal, "bad": self.bad}[verdict]


class Stopping(Part):
    """A measurement that could end early (``--until-sure``, ``--precision``, ``--race``).

    ``settled``: one verdict was left ("verdict", "race"), the wanted half-width, a share of mean KL, was
    reached ("precision"), or verdict and half-width ("both"). "race": it was one of several in a sweep, and
    went on until it was out (``Report.dropped``) or its place among them was settled too. The intervals of
    mean KL and flips in such a report are confidence sequences at 1 - ``alpha`` both together, valid however
    often one looked; there is none while they rule nothing out. So is the verdict at 1 - ``alpha``; there is
    no confidence while more than one is left.
    """

    rule: Literal["verdict", "precision", "both", "race"]
    precision: Number | None = None
    settled: bool
    alpha: Number
    n_chunks: int
    method: str


class LayerFormat(Part):
    """A range of cache layers (``0``, ``4-29``) and what is done to them (``8g64``, ``k8v4g64``, ``16``)."""

    layers: str
    format: str


class Layers(Part):
    """Which layers of a cache are quantized. ``words``: the choice in a sentence, "" where it is all of them
    alike; ``recipe``: all layers in order, equal neighbours together."""

    n_layers: int
    n_quantized: int
    words: str = ""
    recipe: list[LayerFormat]


class Versions(Part):
    """Software that took part."""

    mqf_tui: str = ""
    mlx: str = ""
    mlx_lm: str = ""
    python: str = ""
    numpy: str = ""
    transformers: str = ""
    system: str = ""


class Origin(Part):
    """The tool that an imported report comes from, and the file's own form and name."""

    tool: str
    form: str
    file: str
    version: str = ""


class Report(Named, Part):
    """The result of one measurement. ``n_positions`` counts scored positions only (0: not known);
    ``n_positions_planned``: of all chunks planned, where these do not have equally many.

    ``model`` is the reference; ``variant_model`` the quantized one where that is another (kind
    "weights"). ``kind`` "kv": bits and group are the cache's; "weights": those of the weights.
    ``kv_bits`` and ``kv_group_size`` are None where keys, values and layers have no single affine quantizer;
    ``kv_format`` says what they have (``k8v4g64``, ``mxfp4``, ``recipe``; "" before version 3).

    ``kernel``: how attention read the quantized cache. "quantized": from the packed numbers, as mlx-lm does;
    "dequantized": from the same numbers, by standard attention; "emulated": numbers quantized and
    dequantized on their way into the model's own cache, so it is what the quantizer would cost, not what a
    quantized cache of mlx-lm's gives. ``score_last``: only so many positions of each chunk were scored.
    ``sweep_id`` names the sweep that the run is from, ``dropped`` why the sweep went on without it.
    ``text_kept``: words of the text may be shown (None: as before there was a choice, they may).
    """

    schema_version: int = SCHEMA_VERSION
    kind: Literal["kv", "weights"] = "kv"
    created: str
    model: str
    model_hash: str = ""
    model_revision: str = ""
    config_hash: str = ""
    weights_hash: str = ""
    weights_bytes: int | None = None
    variant_model: str = ""
    variant_weights_bytes: int | None = None
    architecture: str = ""
    weights: str = ""
    kv_bits: int | None = None
    kv_group_size: int | None = None
    kv_format: str = ""
    kernel: Literal["quantized", "dequantized", "emulated"] | None = None
    layers: Layers | None = None
    score_last: int | None = None
    sweep_id: str | None = None
    dropped: str | None = None
    mode: Literal["stress", "deployment"] | None = None
    quantize_start: int = 0
    partial: bool = False
    kl: KLSummary
    kl_by_depth: list[DepthBucket] = []
    drift: Drift | None = None
    by_part: list[PartSummary] = []
    by_entropy: list[EntropyClass] = []
    by_token_class: list[TokenClass] = []
    flip_rate: Number
    flip_ci_low: Number | None = None
    flip_ci_high: Number | None = None
    flips: Flips | None = None
    delta_p: DeltaP | None = None
    perplexity_ref: Number
    perplexity_quant: Number
    perplexity_delta: Number
    perplexity: Perplexity | None = None
    n_positions: int = 0
    n_positions_planned: int | None = None
    n_chunks: int = 0
    n_chunks_planned: int = 0
    verdict: Verdict
    confidence: Confidence | None = None
    thresholds: Thresholds
    stopping: Stopping | None = None
    kv_bytes_per_token: KVBytes | None = None
    corpus: CorpusProvenance
    device: str = ""
    memory_bytes: int | None = None
    compute: str = ""
    cache: str = ""
    peak_memory_bytes: int = 0
    seconds: Number = 0.0
    positions_per_second: Number = 0.0
    versions: Versions
    command: str = ""
    text_kept: bool | None = None
    warnings: list[str] = []
    origin: Origin | None = None
