"""Runs and positions as CSV. docs/formats.md names the columns; new ones are added at the end only."""

from __future__ import annotations

import csv
import functools
import io
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from mqf_tui.reports.schema import Bounds, Estimate, Report
from mqf_tui.reports.setting_words import recipe_words
from mqf_tui.reports.text import inert

if TYPE_CHECKING:
    from mqf_tui.fidelity.positions import Positions

# What a spreadsheet would take for the beginning of a formula, in both widths.
_FORMULA = tuple("=+-@＝＋－＠")
_PERCENTILES = ("min", "0.1", "1", "5", "10", "25", "50", "75", "90", "95", "99", "99.9", "max")
POSITION_COLUMNS = (
    *("chunk", "depth", "part", "token", "token_text", "token_class", "kl", "nll_ref", "nll_quant"),
    *("delta_p", "flip", "top1_ref", "top1_ref_text", "top1_quant", "top1_quant_text"),
    *("prob_ref", "prob_quant", "in_top5", "entropy", "margin"),
)
Column = tuple[str, Callable[[Report], Any]]


def to_csv(
    reports: Iterable[Report],
    ids: Sequence[str] | None = None,
    labels: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """One row a run. Rates are shares, KL is in nats, what is not known is empty; ``ids`` name the runs.

    ``labels``: further columns at the end, a text for each run.
    """
    saved = list(reports)
    names = [""] * len(saved) if ids is None else list(ids)
    more = labels or {}
    texts = zip(*more.values(), strict=True) if more else [()] * len(saved)
    header = ("run", *(name for name, _ in COLUMNS), *more)
    rows = (
        (name, *(read(r) for _, read in COLUMNS), *text)
        for name, r, text in zip(names, saved, texts, strict=True)
    )
    return written(header, rows)


def positions_csv(positions: Positions, *, words: bool = True) -> str:
    """One row a position; tokens by id and by an inert spelling on one line (``words`` False: neither)."""
    from mqf_tui.fidelity.vocabulary import TOKEN_CLASSES
    from mqf_tui.reports.token_text import named

    parts, classes = dict(enumerate(positions.part_names)), dict(enumerate(TOKEN_CLASSES))
    spelled = functools.cache(lambda token: named(token, positions.texts))

    def column(name: str) -> Iterable[Any]:
        if not words and name.removesuffix("_text") in ("token", "top1_ref", "top1_quant"):
            return itertools.repeat(None, len(positions))
        if name.endswith("_text"):
            return map(spelled, getattr(positions, name.removesuffix("_text")).tolist())
        values = getattr(positions, name)
        if name == "part":
            return (parts.get(i, i) for i in values.tolist())
        if name == "token_class":
            return map(classes.get, values.tolist())
        if name == "in_top5" and not positions.detailed:
            return itertools.repeat(None, len(positions))
        # NumPy's own words are the shortest digits that give the stored float16 or float32 back.
        return map(_Written, map(str, values)) if values.dtype.kind == "f" else values.tolist()

    return written(POSITION_COLUMNS, zip(*map(column, POSITION_COLUMNS), strict=True))


class _Written(str):
    """A number that is text already, so no formula in spite of its sign."""

    __slots__ = ()


def written(header: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """Rows under a header; text in them is inert and no formula."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return buffer.getvalue()


def _cell(value: Any) -> Any:
    match value:
        case _Written():
            return None if value == "nan" else str(value)
        case bool():
            return int(value)
        case float():
            return None if value != value else repr(value)
        case str():
            text = inert(value)
            return f"'{text}" if text.lstrip().startswith(_FORMULA) else text
        case _:
            return value


def _part(path: str) -> Callable[[Report], Any]:
    """The value at the end of a dotted path; None where a part of it is not there."""

    def read(report: Report) -> Any:
        value: Any = report
        for name in path.split("."):
            value = getattr(value, name)
            if value is None:
                return None
        return value

    return read


def _plain(*paths: str) -> list[Column]:
    return [(path.replace(".", "_"), _part(path)) for path in paths]


def _ends(name: str, read: Callable[[Report], Bounds | None]) -> list[Column]:
    def end(which: int) -> Callable[[Report], float | None]:
        return lambda report: ci[which] if (ci := read(report)) else None

    return [(f"{name}_ci_low", end(0)), (f"{name}_ci_high", end(1))]


def _estimates(*paths: str) -> list[Column]:
    """Value and interval of each Estimate."""
    found: list[Column] = []
    for path in paths:
        read = _part(path)

        def value(report: Report, read: Callable[[Report], Estimate | None] = read) -> float | None:
            return None if (figure := read(report)) is None else figure.value

        def ends(report: Report, read: Callable[[Report], Estimate | None] = read) -> Bounds | None:
            return None if (figure := read(report)) is None else figure.ci

        name = path.replace(".", "_")
        found += [(name, value), *_ends(name, ends)]
    return found


def _kl() -> list[Column]:
    found = _plain("kl.mean", "kl.ci_low", "kl.ci_high")
    for name in ("median", "p90", "p95", "p99", "p999"):
        found += [*_plain(f"kl.{name}"), *_ends(f"kl_{name}", _part(f"kl.{name}_ci"))]
    return found + _plain("kl.max", "kl.worst_share")


def _flips() -> list[Column]:
    return [
        *_plain("flip_rate", "flip_ci_low", "flip_ci_high"),
        *_estimates("flips.confident", "flips.near_tie"),
        *_plain("flips.lost", "flips.gained", "flips.changed"),
        *_estimates("flips.accuracy_change"),
        *_plain("flips.mcnemar_p"),
        *_estimates("flips.top5_agreement"),
        *_plain("flips.longest_run"),
    ]


def _percentile(name: str) -> Column:
    word = name if name in ("min", "max") else "p" + name.replace(".", "")
    read = _part("delta_p.percentiles")
    return f"delta_p_{word}", lambda report: (read(report) or {}).get(name)


def _perplexity() -> list[Column]:
    found: list[Column] = []
    for which in ("ref", "quant", "delta"):
        found += _plain(f"perplexity_{which}")
        found += _ends(f"perplexity_{which}", _part(f"perplexity.{which}_ci"))
    return [
        *found,
        *_estimates("perplexity.ratio", "perplexity.ln_ratio"),
        *_plain("perplexity.nll_correlation"),
    ]


def _list(name: str) -> Column:
    return name, lambda report: "; ".join(getattr(report, name))


COLUMNS: tuple[Column, ...] = (
    *_plain("created", "kind", "model", "variant_model", "kv_bits", "kv_group_size", "mode"),
    *_plain("quantize_start", "verdict", "confidence.good", "confidence.marginal", "confidence.bad"),
    *_plain("confidence.method", "thresholds.policy", "partial", "n_positions", "n_chunks"),
    *_plain("n_chunks_planned", "stopping.rule", "stopping.settled"),
    *_kl(),
    *_flips(),
    *_estimates("delta_p.mean", "delta_p.rms"),
    *map(_percentile, _PERCENTILES),
    *_perplexity(),
    *_plain("kv_bytes_per_token.reference", "kv_bytes_per_token.variant"),
    *_plain("kv_bytes_per_token.reference_16bit", "kv_bytes_per_token.variant_16bit"),
    *_plain("weights_bytes", "variant_weights_bytes"),
    *_plain("corpus.name", "corpus.version", "corpus.split", "corpus.n_tokens", "corpus.chunk_length"),
    *_plain("corpus.content_hash", "corpus.token_hash", "corpus.bos_policy"),
    *_plain("model_hash", "model_revision", "config_hash", "weights_hash", "architecture", "weights"),
    *_plain("device", "memory_bytes", "compute", "cache", "peak_memory_bytes", "seconds"),
    *_plain("positions_per_second", "versions.mqf_tui", "versions.mlx", "versions.mlx_lm"),
    *_plain("versions.python", "origin.tool", "origin.form", "origin.file", "command"),
    _list("warnings"),
    *_plain("schema_version", "kv_format", "kernel", "layers.n_layers", "layers.n_quantized", "layers.words"),
    ("layers_recipe", recipe_words),
    *_plain("score_last", "sweep_id", "dropped", "drift.start"),
    *_plain("corpus.stride", "corpus.final_chunk_policy", "corpus.join", "corpus.reading.assistant_only"),
    *_plain("corpus.public", "text_kept", "n_positions_planned"),
)
