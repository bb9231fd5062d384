"""The folded part of the Markdown report: by depth and kind of text, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mqf_tui.reports.escaping import code, said
from mqf_tui.reports.rows import between, bounds, known
from mqf_tui.reports.schema import Group, Report
from mqf_tui.reports.setting_words import kernel_words, recipe_words, text_notes
from mqf_tui.reports.text import UNKNOWN, counted, duration, kl, percent, point_range, points, size

_RULES = {"l": "---", "r": "---:"}


def table(header: Sequence[str], rows: Iterable[Sequence[str]], align: str) -> str:
    """A table of cells that are escaped already, without the columns that say nothing.

    ``align``: an ``l`` or ``r`` for each column.
    """
    body = list(rows)
    used = [i for i in range(len(header)) if i == 0 or any(row[i] not in ("", UNKNOWN) for row in body)]
    lines = [header, [_RULES[side] for side in align], *body]
    return "\n".join("| " + " | ".join(line[i] for i in used) + " |" for line in lines)


def groups(what: str, named: Iterable[tuple[str, Group]]) -> str:
    """Mean KL and flips of each group of positions; the names are escaped already."""
    header = (what, "positions", "KL mean", "95 % interval", "flips (%)", "95 % interval")
    rows = (
        (
            name,
            f"{group.n_positions:,}",
            kl(group.kl_mean),
            between(bounds(group.ci_low, group.ci_high), kl) or UNKNOWN,
            percent(group.flip_rate).removesuffix(" %"),
            between(group.flip_ci, percent).removesuffix(" %") or UNKNOWN,
        )
        for name, group in named
    )
    return table(header, rows, "lrrrrr")


def details(report: Report) -> Iterator[str]:
    """The folded blocks, those that have something to say."""
    tables = list(_breakdowns(report))
    if tables:
        yield _folded("By depth, entropy and kind of token, and how Δp is spread", tables)
    origin = list(_provenance(report))
    if origin:
        yield _folded("How it was measured", [table(("", ""), origin, "ll")])


def _folded(summary: str, blocks: Iterable[str]) -> str:
    # Blank lines, or GitHub would take what is inside for HTML.
    inside = "\n\n".join(blocks)
    return f"<details>\n<summary>{summary}</summary>\n\n{inside}\n\n</details>"


def _breakdowns(report: Report) -> Iterator[str]:
    if report.kl_by_depth:
        yield groups("depth", ((f"{b.start:,} to {b.end - 1:,}", b) for b in report.kl_by_depth))
    if report.by_entropy:
        named = ((f"{e.low:.2f} to {e.high:.2f}", e) for e in report.by_entropy)
        yield groups("entropy (nats)", named)
    if report.by_token_class:
        yield groups("next token", ((said(c.name), c) for c in report.by_token_class))
    if report.delta_p is not None and report.delta_p.percentiles:
        spread = report.delta_p.percentiles
        names = [said(name) if name in ("min", "max") else f"p{said(name)}" for name in spread]
        rows = [("pp", *(points(value).removesuffix(" pp") for value in spread.values()))]
        if cis := report.delta_p.percentile_cis:
            rows.append(("95 %", *(point_range(cis.get(name)) for name in spread)))
        yield table(("Δp", *names), rows, "l" + "r" * len(names))


def _provenance(report: Report) -> Iterator[tuple[str, str]]:
    for name, words in (
        ("model", _model(report)),
        ("text", _text(report)),
        ("tokens", _tokens(report)),
        ("machine", _machine(report)),
        ("computed", _joined(said(report.compute), said(report.cache))),
        ("attention", said(kernel_words(report))),
        ("layers", said(recipe_words(report))),
        ("sweep", code(report.sweep_id) if report.sweep_id else ""),
        ("speed", _speed(report)),
        ("software", _software(report)),
        ("verdict", _confidence(report)),
        ("made", said(report.created[:19].replace("T", " "))),
    ):
        if words:
            yield name, words


def _joined(*words: str) -> str:
    return ", ".join(word for word in words if word)


def _hash(name: str, value: str) -> str:
    return f"{name} {code(value)}" if value else ""


def _model(report: Report) -> str:
    r = report
    return _joined(
        said(r.architecture),
        said(r.weights),
        size(r.weights_bytes) if r.weights_bytes else "",
        _hash("revision", r.model_revision),
        _hash("content", r.model_hash),
        _hash("config", r.config_hash),
        _hash("weights index", r.weights_hash),
    )


def _text(report: Report) -> str:
    c = report.corpus
    return _joined(
        said(c.name),
        f"version {said(c.version)}" if c.version not in ("", "file") else "",
        f"split {said(c.split)}" if c.split else "",
        _hash("content", c.content_hash),
        said(c.join) if c.join != "none" else "",
        f"normalization {said(c.normalization)}" if c.normalization not in ("", "none") else "",
    )


def _tokens(report: Report) -> str:
    c = report.corpus
    return _joined(
        counted(c.n_tokens, "token") if c.n_tokens else "",
        _hash("stream", c.token_hash),
        f"chunks of {c.chunk_length}, stride {c.stride}" if c.chunk_length else "",
        f"last chunk {said(c.final_chunk_policy)}" if c.final_chunk_policy else "",
        f"BOS {said(c.bos_policy)}" if c.bos_policy else "",
        f"tokenizer of {said(c.tokenizer_id)}" if c.tokenizer_id else "",
        *text_notes(c, report.text_kept),
    )


def _machine(report: Report) -> str:
    r = report
    return _joined(
        said(r.device),
        f"{size(r.memory_bytes)} of memory" if r.memory_bytes else "",
        f"at most {size(r.peak_memory_bytes)} used" if r.peak_memory_bytes else "",
    )


def _speed(report: Report) -> str:
    if not report.seconds:
        return ""
    rate = report.positions_per_second
    return _joined(duration(report.seconds), f"{rate:,.0f} positions/s" if known(rate) and rate else "")


def _software(report: Report) -> str:
    v = report.versions
    named = (
        ("mqf-tui", v.mqf_tui),
        ("mlx", v.mlx),
        ("mlx-lm", v.mlx_lm),
        ("Python", v.python),
        ("NumPy", v.numpy),
        ("transformers", v.transformers),
    )
    return _joined(*(f"{name} {said(version)}" for name, version in named if version), said(v.system))


def _confidence(report: Report) -> str:
    if report.stopping is not None and report.stopping.settled:
        return said(report.stopping.method)
    c = report.confidence
    if c is None or not c.replicates:
        return ""
    return f"confidence from {c.replicates:,} bootstraps of whole chunks, seed {c.seed}"
