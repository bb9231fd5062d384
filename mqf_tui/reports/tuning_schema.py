"""What a tuning found, as data: versioned, and every format is rendered from it.

KL is in nats, rates are shares between 0 and 1, sizes are KV bytes per token of a 16-bit cache, intervals
are 95 %. A difference is always the setting's figure less the proposed recipe's.
"""

from __future__ import annotations

from mqf_tui.reports.schema import (
    CorpusProvenance,
    Estimate,
    LayerFormat,
    Number,
    Part,
    Thresholds,
    Verdict,
    Versions,
)
from mqf_tui.reports.sensitivity_schema import Sensitivity

TUNING_VERSION = 1


class TunedSetting(Part):
    """One setting that was measured as a whole: a recipe, or the same for all layers (``uniform``).

    ``predicted_kl``: the sum of what its parts cost alone. ``kl``: what it was measured to cost.
    ``difference``: its mean KL less the proposed recipe's, position by position; None of the recipe itself.
    ``within``: whether it keeps to the goal, as a mean KL was measured; ``surely``: with its whole interval.
    """

    setting: str
    uniform: bool
    layers: list[LayerFormat]
    kv_bytes: Number
    predicted_kl: Number
    kl: Estimate
    flips: Estimate
    verdict: Verdict
    within: bool
    surely: bool = False
    difference: Estimate | None = None


class Tuning(Part):
    """A mixed recipe for one model, measured as a whole.

    Goal: ``max_kl`` (nats) or ``max_kv_bytes``. ``met``: whether ``recipe`` keeps to it as
    measured; ``recipe.surely`` whether that can be relied on. ``tried``: recipes
    that were measured and not proposed; ``uniform``: settings of about the recipe's size without a mix.
    ``rule``: how widths that were not measured layer by layer were predicted. ``full_bytes``: the cache in
    full precision. ``command``: the command line that measures the recipe again. ``toml``: the recipe as a
    file for ``--recipe``. ``code``: the Python that applies it with mlx-lm ("": there is none). ``partial``:
    recipes that were still to be tried were not, and ``ended`` says why.
    """

    schema_version: int = TUNING_VERSION
    created: str
    model: str
    model_hash: str = ""
    corpus: CorpusProvenance
    chunk_length: int
    quantize_start: int = 0
    n_positions: int
    n_chunks: int
    device: str = ""
    compute: str = ""
    cache: str = ""
    max_kl: Number | None = None
    max_kv_bytes: Number | None = None
    met: bool
    answer: str
    n_layers: int
    full_bytes: Number
    recipe: TunedSetting
    tried: list[TunedSetting]
    uniform: list[TunedSetting]
    sensitivity: list[Sensitivity]
    warnings: list[str]
    rule: str = ""
    thresholds: Thresholds | None = None
    versions: Versions = Versions()
    command: str = ""
    toml: str = ""
    code: str = ""
    partial: bool = False
    ended: str = ""
