"""The tables of the page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from mqf_tui.reports.markup import Markup, element
from mqf_tui.reports.rows import Row, between, bounds, figures, known
from mqf_tui.reports.schema import Group, Report
from mqf_tui.reports.setting_words import kernel_words, recipe_words, text_notes
from mqf_tui.reports.text import UNKNOWN, counted, duration, inert, kl, percent, point_range, points, size


def table(header: Sequence[str], rows: Iterable[Sequence[str]], class_: str) -> Markup:
    """A table whose first column names the rows; without a header where all its words are empty."""
    body = [
        element("tr", element("th", row[0], scope="row"), *(element("td", cell) for cell in row[1:]))
        for row in rows
    ]
    head = element("thead", element("tr", *(element("th", word, scope="col") for word in header)))
    whole = element("table", head if any(header) else None, element("tbody", *body), class_=class_)
    return element("div", whole, class_="scroll", tabindex="0")


def figures_table(report: Report) -> Markup:
    """Every figure with its interval."""
    rows: list[Row] = list(figures(report))
    return table(("figure", "value", "95 % interval"), rows, "figures")


def group_table(what: str, named: Iterable[tuple[str, Group]]) -> Markup:
    """Mean KL and flips of groups of positions, each with n and interval."""
    groups = list(named)
    in_chunks = any(group.n_chunks for _, group in groups)
    rows = (
        (
            inert(name),
            f"{group.n_positions:,}",
            *([f"{group.n_chunks:,}"] if in_chunks else []),
            kl(group.kl_mean),
            between(bounds(group.ci_low, group.ci_high), kl) or UNKNOWN,
            percent(group.flip_rate),
            between(group.flip_ci, percent) or UNKNOWN,
        )
        for name, group in groups
    )
    chunks = ["chunks"] if in_chunks else []
    header = (what, "positions", *chunks, "mean KL", "95 % interval", "flips", "95 % interval")
    return table(header, rows, "figures")


def breakdowns(report: Report) -> Iterator[tuple[str, Markup]]:
    """By part, depth, entropy and token class, those that there are: heading and table."""
    if report.by_part:
        yield "By part of the corpus", group_table("part", ((p.name, p) for p in report.by_part))
    if report.kl_by_depth:
        depths = ((f"{b.start:,} to {b.end - 1:,}", b) for b in report.kl_by_depth)
        yield "By depth in the chunk", group_table("depth", depths)
    if report.by_entropy:
        classes = ((f"{e.low:.2f} to {e.high:.2f}", e) for e in report.by_entropy)
        yield "By the reference's entropy", group_table("nats", classes)
    if report.by_token_class:
        yield "By kind of next token", group_table("token", ((c.name, c) for c in report.by_token_class))
    if report.delta_p is not None and report.delta_p.percentiles:
        spread, cis = report.delta_p.percentiles.items(), report.delta_p.percentile_cis
        names = [inert(name) if name in ("min", "max") else f"p{inert(name)}" for name, _ in spread]
        rows = [("Δp", *(points(value).removesuffix(" pp") for _, value in spread))]
        if cis:
            rows.append(("95 %", *(point_range(cis.get(name)) for name, _ in spread)))
        yield "How Δp is spread (percentage points)", table(("", *names), rows, "figures close")


def provenance(report: Report) -> Iterator[tuple[str, str]]:
    """Where the numbers come from, as far as it is known: name and words."""
    r, c, v = report, report.corpus, report.versions
    for name, words in (
        ("reference", [r.model, _called("revision", r.model_revision), _called("hash", r.model_hash)]),
        ("its files", [_called("config", r.config_hash), _called("weights index", r.weights_hash)]),
        ("architecture", [r.architecture, r.weights, size(r.weights_bytes) if r.weights_bytes else ""]),
        ("variant", [r.variant_model, r.cache]),
        ("attention", [kernel_words(r)]),
        ("layers", [recipe_words(r)]),
        ("computed in", [r.compute]),
        (
            "corpus",
            [
                f"{c.name} {c.version}".strip(),
                _called("split", c.split or ""),
                _called("content", c.content_hash),
            ],
        ),
        ("tokens", list(_tokens(report))),
        ("made of it", [_called("join", c.join), _called("normalization", c.normalization)]),
        ("device", [r.device, f"{size(r.memory_bytes)} of memory" if r.memory_bytes else ""]),
        ("time", list(_time(report))),
        ("peak memory", [size(r.peak_memory_bytes) if r.peak_memory_bytes else ""]),
        ("software", [*(_called(n, word) for n, word in _software(report)), v.system]),
        ("thresholds", [thresholds(report)]),
        ("confidence", [_confidence(report)]),
        ("sweep", [r.sweep_id or ""]),
        ("made", [r.created[:19].replace("T", " ")]),
    ):
        said = ", ".join(inert(word) for word in words if word)
        if said:
            yield name, said


def _called(name: str, word: str) -> str:
    return f"{name} {word}" if word else ""


def _tokens(report: Report) -> Iterator[str]:
    c = report.corpus
    if c.n_tokens:
        yield counted(c.n_tokens, "token")
    yield _called("stream", c.token_hash)
    if c.chunk_length:
        yield f"chunks of {c.chunk_length}, stride {c.stride}"
    yield _called("last chunk", c.final_chunk_policy)
    yield _called("BOS", c.bos_policy)
    yield _called("tokenizer of", c.tokenizer_id)
    yield c.join if c.join != "none" else ""
    yield from text_notes(c, report.text_kept)


def _time(report: Report) -> Iterator[str]:
    if report.seconds:
        yield duration(report.seconds)
        if known(report.positions_per_second) and report.positions_per_second:
            yield f"{report.positions_per_second:,.0f} positions/s"


def _software(report: Report) -> Iterator[tuple[str, str]]:
    v = report.versions
    yield from (("mqf-tui", v.mqf_tui), ("mlx", v.mlx), ("mlx-lm", v.mlx_lm), ("Python", v.python))
    yield from (("NumPy", v.numpy), ("transformers", v.transformers))


def thresholds(report: Report) -> str:
    """Which thresholds the verdict was taken from."""
    t = report.thresholds
    named = (("mean KL", t.kl_mean, 1.0, ""), ("p99", t.kl_p99, 1.0, ""), ("flips", t.flip_rate, 100.0, " %"))
    limits = (
        f"{name} ≤ {scale * pair[0]:g} / {scale * pair[1]:g}{unit}" for name, pair, scale, unit in named
    )
    return f"{t.policy} (good / marginal): {', '.join(limits)}"


def _confidence(report: Report) -> str:
    if report.stopping is not None and report.stopping.settled:
        return report.stopping.method
    c = report.confidence
    if c is None or not c.replicates:
        return ""
    return f"from {c.replicates:,} bootstraps of whole chunks, seed {c.seed}"
