"""What a sweep says, as data: versioned, and every format is rendered from it.

KL is in nats, rates are shares between 0 and 1, sizes are bytes, intervals are 95 %. A difference is always
the second figure less the first. Keys that a newer version wrote are kept. docs/sweeps.md defines each.
"""

from __future__ import annotations

from typing import Literal

from mqf_tui.reports.comparison_schema import Difference, Ranking
from mqf_tui.reports.schema import CorpusProvenance, Estimate, Number, Part, Thresholds, Verdict, Versions
from mqf_tui.reports.sensitivity_schema import Sensitivity

SWEEP_VERSION = 1


class Passes(Part):
    """Chunks that went through the model: once as the reference, and once for each variant."""

    reference: int
    variants: int


class Step(Part):
    """What the setting of the frontier with the next fewer bytes would change.

    ``difference``: its mean KL less this one's. ``tie``: within the error.
    ``bytes_saved`` are per token.
    """

    run: str
    setting: str
    difference: Difference
    paired: bool
    tie: bool
    bytes_saved: Number


class SweepVariant(Part):
    """One setting of the sweep. ``run``: the id it is saved under, "" where it is not.

    ``short_setting`` is for narrow places and unlike that of any other variant. ``keys``, ``values``: their
    formats (``8g64``, ``mxfp4``, ``16``), None where layers differ. ``n_planned``: positions that were
    planned for it. ``dropped``: why the sweep went on without it. ``control_of``: the run whose kernel it is
    the control of; it is not ranked then. ``kv_bytes`` are per token, on the ranking's basis.
    """

    run: str
    setting: str
    short_setting: str
    keys: str | None = None
    values: str | None = None
    verdict: Verdict
    kl: Estimate
    flips: Estimate
    kv_bytes: Number | None = None
    n_positions: int
    n_chunks: int
    n_planned: int = 0
    partial: bool = False
    dropped: str | None = None
    kernel: Literal["quantized", "dequantized", "emulated"] | None = None
    control_of: str | None = None
    on_frontier: bool = False
    next_cheaper: Step | None = None


class GridCell(Part):
    """One combination of a grid; ``row`` and ``column`` count from 0.

    ``fewer``: it scored fewer positions than the setting that scored the most, so that its figures are of
    less of the text: in a race it was out before.
    """

    row: int
    column: int
    run: str
    setting: str
    kl: Estimate
    kv_bytes: Number | None = None
    verdict: Verdict
    n_positions: int = 0
    fewer: bool = False
    cheapest_good: bool = False


class Grid(Part):
    """Keys (rows) by values (columns), most bits first. ``words``: what all cells have in common.

    A combination without a cell was not measured; that of 16 and 16 is the reference itself.
    """

    words: str
    rows: list[str]
    columns: list[str]
    cells: list[GridCell]


class Control(Part):
    """The same numbers read by two kernels: what the quantizer costs, and what its attention adds.

    ``kl_quantizer``: mean KL by standard attention over quantized and dequantized numbers; ``kl_total``: by
    attention from the packed ones. ``difference``: the second less the first, paired over shared positions.
    """

    setting: str
    run: str
    control_run: str
    kl_total: Number
    kl_quantizer: Number
    difference: Difference
    words: str


class SweepReport(Part):
    """Several settings of one model on one text, scored beside one pass of the reference.

    ``answer``: which setting to take, in a sentence. ``budget``: what it had to keep to, in words ("": no
    budget). ``evidence``: how many positions each got where they got different ones ("": all got the
    same). ``memory``: the memory plan in words. ``partial``: it did not come to its end, and ``ended`` says
    why. ``seconds``: scoring time of all together.
    """

    schema_version: int = SWEEP_VERSION
    sweep_id: str
    created: str
    model: str
    model_hash: str = ""
    corpus: CorpusProvenance
    device: str = ""
    compute: str = ""
    mode: Literal["stress", "deployment"] | None = None
    quantize_start: int = 0
    chunk_length: int
    score_last: int | None = None
    command: str = ""
    versions: Versions = Versions()
    n_chunks_planned: int
    passes: Passes
    seconds: Number
    memory: str = ""
    partial: bool = False
    ended: str = ""
    budget: str = ""
    answer: str
    evidence: str = ""
    thresholds: Thresholds | None = None
    ranking: Ranking
    variants: list[SweepVariant]
    grids: list[Grid]
    controls: list[Control]
    warnings: list[str]
    sensitivity: Sensitivity | None = None
