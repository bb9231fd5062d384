"""What a comparison and a ranking say, as data: versioned, and every format is rendered from it.

KL and NLL are in nats, rates are shares between 0 and 1, sizes are bytes, intervals are 95 %. A difference
is always the other run's figure less the baseline's. Keys that a newer version wrote are kept.
"""

from __future__ import annotations

from typing import Literal

from mqf_tui.reports.schema import Bounds, Number, Part, Thresholds, Verdict

COMPARISON_VERSION = 1
RANKING_VERSION = 1
ALPHA = 0.05  # a difference with a p value under this is beyond the error


class Side(Part):
    """One of the runs, as its own report has it; its verdict, in a ranking, as judged there.

    ``sure``: how sure its verdict is (None: not known). ``settled``: whether the rule that looked at the
    run again and again settled its verdict (None: there was no such rule); where it did not, nothing is
    said of how sure the verdict is. ``dropped``: why it left a race.
    ``kv_bytes`` is per token, on the basis that the comparison or ranking names.
    """

    run: str
    model: str
    setting: str
    short_setting: str
    created: str
    imported: bool = False
    partial: bool = False
    n_positions: int
    n_chunks: int
    kl_mean: Number
    kl_ci: Bounds | None = None
    flip_rate: Number
    flip_ci: Bounds | None = None
    verdict: Verdict
    sure: Number | None = None
    settled: bool | None = None
    dropped: str | None = None
    kv_bytes: Number | None = None
    kv_reference: Number | None = None

    @property
    def left_undecided(self) -> bool:
        """Whether it left a race before its verdict was settled: what it seems to be is not to be taken."""
        return self.dropped is not None and self.settled is False


class Difference(Part):
    """``value``: the second figure less the first. ``first``, ``second``: over what was compared.

    ``ci`` and the two-sided ``p`` (of no difference) are None where no error is known.
    """

    first: Number
    second: Number
    value: Number
    ci: Bounds | None = None
    p: Number | None = None

    @property
    def beyond_error(self) -> bool:
        """Whether chance alone would seldom give it."""
        return self.p is not None and self.p < ALPHA


class OneSidedFlips(Part):
    """Shared positions that flip in the first run only, in the second only, in both.

    ``mcnemar_p``: McNemar's exact two-sided p value that either kind is as likely. It takes positions
    for independent, which those of a chunk are not: the clustered p of the flips is the safer one.
    """

    first_only: int
    second_only: int
    both: int
    mcnemar_p: Number


class Pair(Part):
    """The baseline (first) against another run (second).

    ``paired``: position by position over ``n_positions`` shared ones in ``n_chunks``; else ``why_unpaired``
    says why not, and the differences are Welch's. ``same``: not one shared position differs; ``same_run``:
    the run was compared with itself.
    ``nll`` compares the mean NLL of the variants; unpaired, what each adds to its reference's.
    ``accuracy`` is how often the text's own token is top-1; unpaired, its change from the reference.
    A difference is None where one of the two does not know the figure.
    ``differs``: what differs besides the setting, each as ``what: one against the other``.
    """

    other: Side
    paired: bool
    why_unpaired: str | None = None
    same: bool = False
    same_run: bool = False
    n_positions: int = 0
    n_chunks: int = 0
    kl: Difference
    flips: Difference | None = None
    nll: Difference | None = None
    accuracy: Difference | None = None
    delta_p: Difference | None = None
    one_sided_flips: OneSidedFlips | None = None
    kl_correlation: Number | None = None
    differs: list[str]
    warnings: list[str]


class Comparison(Part):
    """Runs of one reference model, each against the first.

    ``kv_basis``: what all KV bytes are counted for, a 16-bit cache (by formula) or the cache "as run".
    """

    schema_version: int = COMPARISON_VERSION
    kv_basis: Literal["16-bit", "as run"] | None = None
    baseline: Side
    pairs: list[Pair]


class Domination(Part):
    """Another setting that costs no more and is no worse; ``tie``: its KL is within the error."""

    run: str
    setting: str
    tie: bool


class Cost(Part):
    """What a setting costs on one axis, and its ``reference``. ``dominated_by`` None: on the Pareto frontier.

    Another setting dominates where it needs fewer bytes and its mean KL is lower or within the error, or
    where it needs as many and its mean KL is lower beyond the error.
    """

    bytes: Number
    reference: Number | None = None
    dominated_by: Domination | None = None


class Row(Part):
    """One setting. ``rank_first`` and ``rank_last`` differ in a tie. ``error_known`` False: there is no test
    of it, so the rank is only the order of the figures. ``near``: not bad, and neither the direction of
    its flips nor Δp differs from nothing. ``kv`` is per token.
    """

    side: Side
    rank_first: int
    rank_last: int
    error_known: bool
    kv: Cost | None = None
    weights: Cost | None = None
    near: bool = False


class LeftOut(Part):
    """A run that is not ranked, and why."""

    run: str
    setting: str
    why: str


class Choice(Part):
    """A setting to take; ``sure``: the probability that it is at least as good as asked for.

    ``settled`` as in ``Side``.
    """

    run: str
    setting: str
    sure: Number | None = None
    settled: bool | None = None
    times_smaller: Number | None = None


class Ranking(Part):
    """Settings of one model, by mean KL, best first. ``answer`` is the answer in a sentence.

    A group of ranks is a tie: of each of its members the mean KL is within the error of the group's best
    one. ``cost``: the axis that ``choice`` is the cheapest on, among the settings that are at least
    ``least``. ``surer``: the cheapest that is so with 95 %, where ``choice`` is not. ``indistinct``: runs
    that this measurement cannot tell apart on quality, cheapest first. ``thresholds`` None: runs of
    different kinds were judged by different ones. ``group``: which runs these are and why they, where they
    were chosen. ``kv_basis`` as in ``Comparison``.
    """

    schema_version: int = RANKING_VERSION
    model: str
    group: str | None = None
    kv_basis: Literal["16-bit", "as run"] | None = None
    cost: Literal["kv", "weights"] | None
    least: Verdict
    answer: str
    choice: Choice | None
    surer: Choice | None
    rows: list[Row]
    indistinct: list[str]
    advice: str | None
    left_out: list[LeftOut]
    thresholds: Thresholds | None
    warnings: list[str]
