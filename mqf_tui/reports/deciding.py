"""The figures of a report in words, as pictures and pages show them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from mqf_tui.reports.rows import between, bounds, known
from mqf_tui.reports.schema import Bounds, Report
from mqf_tui.reports.setting_words import scored_words
from mqf_tui.reports.text import counted, inert, kl, percent

SIGNS = {"good": "●", "marginal": "▲", "bad": "■"}


class Deciding(NamedTuple):
    """One of the three figures that a verdict is taken from."""

    name: str
    value: float | None
    words: str
    interval: str
    limits: tuple[float, float]
    allowed: str


def deciding(report: Report) -> Iterator[Deciding]:
    """Mean KL, p99 KL and flips, each with its interval and thresholds."""
    k, limits = report.kl, report.thresholds
    yield Deciding(
        "mean KL (nats)",
        k.mean,
        kl(k.mean),
        _interval(k.mean, mean_interval(report), kl),
        limits.kl_mean,
        _allowed(*(f"{v:g}" for v in limits.kl_mean)),
    )
    yield Deciding(
        "p99 KL (nats)",
        k.p99,
        kl(k.p99),
        _interval(k.p99, k.p99_ci, kl),
        limits.kl_p99,
        _allowed(*(f"{v:g}" for v in limits.kl_p99)),
    )
    flips = report.flip_rate if known(report.flip_rate) else None
    yield Deciding(
        "top-1 flips",
        flips,
        percent(flips),
        _interval(flips, bounds(report.flip_ci_low, report.flip_ci_high), percent),
        limits.flip_rate,
        _allowed(*(f"{100 * v:g} %" for v in limits.flip_rate)),
    )


def _interval(value: float | None, ci: Bounds | None, word: Callable[[float], str]) -> str:
    words = between(ci, word)
    if words:
        return f"95 %: {words}"
    return "not known" if value is None else "no interval"


def _allowed(good: str, marginal: str) -> str:
    return f"good ≤ {good}, marginal ≤ {marginal}"


def setting_line(report: Report) -> str:
    """Setting, mode and how much was measured."""
    parts = [report.setting]
    if report.mode == "stress":
        parts.append("stress")
    elif report.mode == "deployment":
        parts.append(f"deployment from position {report.quantize_start}")
    parts += measured(report)
    if report.origin is not None:
        parts.append(f"imported from {inert(report.origin.tool)}")
    return " · ".join(parts)


def measured(report: Report) -> Iterator[str]:
    """Corpus, chunks and positions, as far as they are known."""
    if report.corpus.name:
        yield inert(report.corpus.name)
    if report.n_chunks:
        length = f" of {report.corpus.chunk_length} tokens" if report.corpus.chunk_length else ""
        yield counted(report.n_chunks, "chunk") + length
    if words := scored_words(report):
        yield words
    if report.n_positions:
        yield counted(report.n_positions, "position")
    if report.partial:
        yield f"partial: {report.n_chunks} of {report.n_chunks_planned} chunks begun"
    if report.dropped:
        yield "dropped from its sweep"


def mean_interval(report: Report) -> Bounds | None:
    """The interval of mean KL, where there is one."""
    return bounds(report.kl.ci_low, report.kl.ci_high)
