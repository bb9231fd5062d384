"""Every statistic again, slow and plain: float64, loops, SciPy. Written from the definitions, not the code.

``summary`` gives the same figures as ``fidelity.statistics.summarise``, as nested plain data.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from scipy import stats

from mqf_tui.fidelity.positions import ARRAYS, Positions

CLASSES = ("word start", "word continuation", "digit", "punctuation", "whitespace", "special")
SEED, REPLICATES = 20261125, 1000


def columns(p: Positions) -> dict[str, np.ndarray]:
    """The columns in float64 (ids in int64), so that nothing is rounded to a narrow kind on the way."""
    wide = {"f": np.float64, "i": np.int64, "b": np.bool_}
    return {name: getattr(p, name).astype(wide[getattr(p, name).dtype.kind]) for name in ARRAYS}


def mean(x: Iterable[float]) -> float:
    values = [float(v) for v in x]
    try:
        return math.fsum(values) / len(values)
    except ValueError:  # +inf and -inf
        return math.nan


def by_chunk(x: Sequence[float], chunk: Sequence[int]) -> dict[int, list[float]]:
    found: dict[int, list[float]] = {}
    for value, name in zip(x, chunk, strict=True):
        found.setdefault(int(name), []).append(float(value))
    return found


def interval(x: Sequence[float], chunk: Sequence[int], level: float = 0.95) -> tuple[float, float] | None:
    """x̄ ± t · sqrt(G/(G-1) · Σ_g (Σ_{i∈g} (x_i - x̄))²) / n."""
    groups, middle = by_chunk(x, chunk), mean(x)
    n_groups = len(groups)
    if n_groups < 2 or not math.isfinite(middle):
        return None
    total = math.fsum(math.fsum(v - middle for v in values) ** 2 for values in groups.values())
    error = math.sqrt(n_groups / (n_groups - 1) * total) / len(x)
    half = stats.t.ppf(0.5 + level / 2, n_groups - 1) * error
    return middle - half, middle + half


def cut(found: tuple[float, float] | None, low: float, high: float) -> tuple[float, float] | None:
    return None if found is None else (max(low, found[0]), min(high, found[1]))


def rate_interval(hits: Sequence[bool], chunk: Sequence[int]) -> tuple[float, float] | None:
    """Clustered, cut to 0..1; Wilson's where every chunk has the same rate, nothing with one chunk."""
    k, n = int(sum(map(bool, hits))), len(hits)
    if len(set(map(int, chunk))) < 2:
        return None
    if any(sum(map(int, of)) * n != k * len(of) for of in by_chunk(hits, chunk).values()):
        return cut(interval([float(h) for h in hits], chunk), 0.0, 1.0)
    wilson = stats.binomtest(k, n).proportion_ci(0.95, method="wilson")
    return float(wilson.low), float(wilson.high)


def rate(hits: Sequence[bool], chunk: Sequence[int]) -> dict[str, Any]:
    return {"value": mean(hits), "ci": rate_interval(hits, chunk)}


def quantile(x: Iterable[float], share: float) -> float:
    """Linear interpolation between order statistics at share · (n - 1)."""
    ordered = sorted(map(float, x))
    place = share * (len(ordered) - 1)
    below = math.floor(place)
    part = place - below
    low = ordered[below]
    if part == 0 or low == ordered[below + 1]:
        return low
    return low + (ordered[below + 1] - low) * part if math.isfinite(ordered[below + 1]) else math.inf


def exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf


def exp_interval(found: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if found is None else (exp(found[0]), exp(found[1]))


def change_interval(
    gained: Sequence[bool], lost: Sequence[bool], chunk: Sequence[int]
) -> tuple[float, float] | None:
    """Clustered; where every chunk changes by the same, Newcombe's square and add of Wilson's intervals."""
    change = [float(g) - float(w) for g, w in zip(gained, lost, strict=True)]
    found = interval(change, chunk)
    moves = {Fraction(int(sum(of)), len(of)) for of in by_chunk(change, chunk).values()}
    if found is None or len(moves) > 1:
        return cut(found, -1.0, 1.0)
    n, up, down = len(change), sum(map(bool, gained)), sum(map(bool, lost))
    of_up, of_down = (stats.binomtest(int(k), n).proportion_ci(0.95, method="wilson") for k in (up, down))
    low = math.sqrt((up / n - of_up.low) ** 2 + (of_down.high - down / n) ** 2)
    high = math.sqrt((of_up.high - up / n) ** 2 + (down / n - of_down.low) ** 2)
    return cut(((up - down) / n - low, (up - down) / n + high), -1.0, 1.0)


def capped(shares: dict[str, float], observed: str, n_chunks: int) -> dict[str, float]:
    """Not surer than the sign test's smallest two-sided p value lets so many chunks be."""
    p = float(stats.binomtest(0, n_chunks, 0.5).pvalue)
    beside = {"good": ["marginal"], "marginal": ["good", "bad"], "bad": ["marginal"]}[observed]
    return {
        name: (1 - p) * share + (p / len(beside) if name in beside else 0.0) for name, share in shares.items()
    }


def draws(n_chunks: int) -> np.ndarray:
    """How often each chunk is drawn in each replicate (B, G): G - 1 draws with replacement."""
    return np.random.default_rng(SEED).multinomial(n_chunks - 1, [1 / n_chunks] * n_chunks, REPLICATES)


def replicates(p: dict[str, np.ndarray]) -> list[dict[str, float]]:
    """Mean KL, flip rate and the percentiles of each replicate: the drawn chunks put one after the other."""
    names = sorted(set(p["chunk"].tolist()))
    kl = [p["kl"][p["chunk"] == name] for name in names]
    flip = [(p["top1_ref"] != p["top1_quant"])[p["chunk"] == name] for name in names]
    found = []
    for times in draws(len(names)):
        drawn = [g for g, count in enumerate(times) for _ in range(count)]
        whole = np.concatenate([kl[g] for g in drawn])
        figures = {f"{share:g}": _np_quantile(whole, share) for share in (0.5, 0.9, 0.95, 0.99, 0.999)}
        flips = np.concatenate([flip[g] for g in drawn])
        found.append(figures | {"mean": float(whole.mean()), "flips": float(flips.mean())})
    return found


def _np_quantile(x: np.ndarray, share: float) -> float:
    if np.isfinite(x).all():
        return float(np.quantile(x, share))
    return quantile(x, share)  # NumPy's interpolation makes NaN of infinities


def percentile_interval(values: Iterable[float], n_chunks: int) -> tuple[float, float]:
    """Order statistics as far out as the 2.5 % and 97.5 % of Student's t are for the normal distribution."""
    ordered = sorted(values)
    tail = Fraction(round(stats.norm.cdf(stats.t.ppf(0.025, n_chunks - 1)), 12))
    low, high = (max(math.ceil(share * len(ordered)), 1) - 1 for share in (tail, 1 - tail))
    return ordered[low], ordered[high]


def verdict(kl: float, p99: float, flips: float, policy: dict[str, Any]) -> str:
    pairs = ((kl, policy["kl_mean"]), (p99, policy["kl_p99"]), (flips, policy["flip_rate"]))
    if all(value <= limits[0] for value, limits in pairs):
        return "good"
    return "marginal" if all(value <= limits[1] for value, limits in pairs) else "bad"


def longest_run(chunk: Sequence[int], depth: Sequence[int], flip: Sequence[bool]) -> int:
    flipped = {(int(c), int(d)) for c, d, f in zip(chunk, depth, flip, strict=True) if f}
    best = 0
    for c, d in flipped:
        length = 0
        while (c, d + length) in flipped:
            length += 1
        best = max(best, length)
    return best


def flips(p: dict[str, np.ndarray]) -> dict[str, Any]:
    chunk = p["chunk"]
    lost = gained = changed = 0
    confident, near, gains, losses = [], [], [], []
    for ref, quant, token, prob, margin in zip(
        p["top1_ref"], p["top1_quant"], p["token"], p["prob_ref"], p["margin"], strict=True
    ):
        flipped = ref != quant
        confident.append(flipped and prob >= 0.5)
        near.append(flipped and margin < 0.05)
        losses.append(flipped and ref == token)
        gains.append(flipped and quant == token)
        if losses[-1]:
            lost += 1
        elif gains[-1]:
            gained += 1
        elif flipped:
            changed += 1
    n = lost + gained
    return {
        "confident": rate(confident, chunk),
        "near_tie": rate(near, chunk),
        "lost": lost,
        "gained": gained,
        "changed": changed,
        "accuracy_change": {
            "value": mean([float(g) - float(w) for g, w in zip(gains, losses, strict=True)]),
            "ci": change_interval(gains, losses, chunk),
        },
        "mcnemar_p": float(stats.binomtest(lost, n, 0.5).pvalue) if n else 1.0,
        "top5_agreement": rate(p["in_top5"].tolist(), chunk),
        "longest_run": longest_run(chunk, p["depth"], p["top1_ref"] != p["top1_quant"]),
    }


def delta_p(p: dict[str, np.ndarray]) -> dict[str, Any]:
    d, chunk = p["delta_p"].tolist(), p["chunk"]
    squares = [x * x for x in d]
    bounds = cut(interval(squares, chunk), 0.0, 1.0)
    shares = ("0.1", "1", "5", "10", "25", "50", "75", "90", "95", "99", "99.9")
    return {
        "mean": {"value": mean(d), "ci": interval(d, chunk)},
        "rms": {
            "value": math.sqrt(mean(squares)),
            "ci": None if bounds is None else (math.sqrt(bounds[0]), math.sqrt(bounds[1])),
        },
        "percentiles": {"min": min(d), **{s: quantile(d, float(s) / 100) for s in shares}, "max": max(d)},
        "percentile_cis": delta_bounds(d, chunk, shares),
    }


def delta_bounds(d: list[float], chunk: np.ndarray, shares: Sequence[str]) -> dict[str, Any]:
    """The bootstrap's interval of each percentile of Δp, made to hold the percentile itself."""
    names = sorted(set(chunk.tolist()))
    if len(names) < 2:
        return {}
    values = np.array(d)
    apart = [values[chunk == name] for name in names]
    drawn = [
        np.concatenate([apart[g] for g, count in enumerate(times) for _ in range(count)])
        for times in draws(len(names))
    ]
    found = {}
    for s in shares:
        share = float(s) / 100
        ends = percentile_interval((_np_quantile(whole, share) for whole in drawn), len(names))
        found[s] = tuple(sorted((*ends, quantile(d, share)))[::2])
    return found


def perplexities(p: dict[str, np.ndarray]) -> dict[str, Any]:
    """The difference's interval by the delta method: d(e^ȳ - e^x̄) = e^ȳ dȳ - e^x̄ dx̄."""
    x, y, chunk = p["nll_ref"].tolist(), p["nll_quant"].tolist(), p["chunk"]
    ppl_x, ppl_y = exp(mean(x)), exp(mean(y))
    ratio = [b - a for a, b in zip(x, y, strict=True)]
    delta = ppl_y - ppl_x
    if math.isfinite(delta) and math.isfinite(ppl_x):
        mean_x, mean_y = mean(x), mean(y)
        moves = [ppl_y * (b - mean_y) - ppl_x * (a - mean_x) for a, b in zip(x, y, strict=True)]
        around = interval(moves, chunk)
    else:
        around = None
    varied = len(x) > 1 and len(set(x)) > 1 and len(set(y)) > 1 and np.isfinite(x + y).all()
    return {
        "ref_ci": exp_interval(interval(x, chunk)),
        "quant_ci": exp_interval(interval(y, chunk)),
        "delta_ci": None if around is None else (delta + around[0], delta + around[1]),
        "ratio": {"value": exp(mean(ratio)), "ci": exp_interval(interval(ratio, chunk))},
        "ln_ratio": {"value": mean(ratio), "ci": interval(ratio, chunk)},
        "nll_correlation": float(stats.pearsonr(x, y).statistic) if varied else None,
    }


def group(p: dict[str, np.ndarray], chosen: Sequence[bool]) -> dict[str, Any]:
    here = {name: column[np.asarray(chosen)] for name, column in p.items()}
    flip = (here["top1_ref"] != here["top1_quant"]).tolist()
    low, high = cut(interval(here["kl"].tolist(), here["chunk"]), 0.0, math.inf) or (None, None)
    return {
        "n_positions": len(flip),
        "n_chunks": len(set(here["chunk"].tolist())),
        "kl_mean": mean(here["kl"]),
        "flip_rate": mean(flip),
        "ci_low": low,
        "ci_high": high,
        "flip_ci": rate_interval(flip, here["chunk"]),
    }


def groups(
    p: dict[str, np.ndarray], labels: Sequence[int], n: int, named: Callable[[int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """The figures of each label that occurs."""
    found = []
    for k in range(n):
        chosen = [label == k for label in labels]
        if any(chosen):
            found.append(group(p, chosen) | named(k))
    return found


def by_depth(p: dict[str, np.ndarray], chunk_length: int, first: int) -> list[dict[str, Any]]:
    edges = depth_edges(chunk_length, first)
    n = len(edges) - 1
    labels = [next(k for k in range(n) if edges[k] <= d < edges[k + 1]) for d in p["depth"].tolist()]
    return groups(p, labels, n, lambda k: {"start": edges[k], "end": edges[k + 1]})


def depth_edges(chunk_length: int, first: int) -> list[int]:
    """Eight equal parts; in windows of over 4,096 tokens scored from the beginning 128, 256, 512, ..."""
    end = chunk_length - 1
    if chunk_length <= 4096:
        return [round(first + Fraction(k * (end - first), 8)) for k in range(9)]
    assert first == 0, "tests/test_depth.py has the others"
    powers = [2**k for k in range(7, 40) if 2**k < end]
    return [0, *(powers[:-1] if end - powers[-1] < powers[-1] / 4 else powers), end]


def drift(p: dict[str, np.ndarray], chunk_length: int, first: int) -> dict[str, Any] | None:
    """From the end back: as long as a bucket's mean KL is above the first one's, two-sided p < 0.05.

    Each chunk's share in ln(mean) is (its sum - its count times the mean) / (the mean times all positions).
    """
    if chunk_length <= 4096:
        return None
    edges, names = depth_edges(chunk_length, first), sorted(set(p["chunk"].tolist()))
    found: dict[str, Any] = {"known": len(names) > 1, "first": edges[0], "end": edges[1]}
    found |= {"start": None, "times": None, "times_ci": None}
    shares, means = [], []
    for low, high in itertools.pairwise(edges):
        inside = (p["depth"] >= low) & (p["depth"] < high)
        values = {name: p["kl"][inside & (p["chunk"] == name)].tolist() for name in names}
        n, middle = sum(map(len, values.values())), mean(itertools.chain(*values.values()))
        means.append(middle)
        shares.append([math.fsum(v - middle for v in values[name]) / (middle * n) for name in names])
    degrees = len(names) - 1
    for k in range(len(means) - 1, 0, -1):
        ratio = math.log(means[k] / means[0])
        squares = math.fsum((x - y) ** 2 for x, y in zip(shares[k], shares[0], strict=True))
        error = math.sqrt(len(names) / degrees * squares) if degrees else math.inf
        if ratio <= 0 or not degrees or 2 * stats.t.sf(ratio / error, degrees) >= 0.05:
            break
        half = stats.t.ppf(0.975, degrees) * error
        ends = math.exp(ratio - half), math.exp(ratio + half)
        found |= {"start": edges[k], "times": means[k] / means[0], "times_ci": ends}
    return found


def by_entropy(p: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    ordered = sorted(p["entropy"].tolist())
    edges = [ordered[math.floor(Fraction(k, 4) * (len(ordered) - 1))] for k in range(5)]
    labels = [max(k for k in range(4) if edges[k] <= e) for e in p["entropy"].tolist()]
    return groups(p, labels, 4, lambda k: {"low": edges[k], "high": edges[k + 1]})


def worst_share(kl: list[float]) -> float | None:
    n = -(-len(kl) // 100)  # one in a hundred, rounded up
    total = math.fsum(kl)
    return math.fsum(sorted(kl)[-n:]) / total if 0 < total < math.inf else None


def summary(p: Positions, chunk_length: int, first: int, policy: dict[str, Any]) -> dict[str, Any]:
    """Every figure of a summary, by its name."""
    c = columns(p)
    kl, chunk, flip = c["kl"].tolist(), c["chunk"], (c["top1_ref"] != c["top1_quant"]).tolist()
    names = {"median": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "p999": 0.999}
    bounds: dict[str, Any] = {f"{name}_ci": None for name in names}
    sure = None
    figures = {name: quantile(kl, share) for name, share in names.items()}
    said = verdict(mean(kl), figures["p99"], mean(flip), policy)
    if len(set(chunk.tolist())) > 1:
        drawn = replicates(c)
        for name, share in names.items():
            ends = percentile_interval((r[f"{share:g}"] for r in drawn), len(set(chunk.tolist())))
            bounds[f"{name}_ci"] = tuple(sorted((*ends, figures[name]))[::2])
        each = [verdict(r["mean"], r["0.99"], r["flips"], policy) for r in drawn]
        shares = {level: each.count(level) / len(each) for level in ("good", "marginal", "bad")}
        sure = capped(shares, said, len(set(chunk.tolist())))
        sure |= {"method": "bootstrap", "replicates": REPLICATES, "seed": SEED}
    low, high = cut(interval(kl, chunk), 0.0, math.inf) or (None, None)
    return {
        "n_positions": len(kl),
        "n_chunks": len(set(chunk.tolist())),
        "kl": {
            "mean": mean(kl),
            "max": max(kl),
            "ci_low": low,
            "ci_high": high,
            "worst_share": worst_share(kl),
            **figures,
            **bounds,
        },
        "flip_rate": mean(flip),
        "flip_interval": rate_interval(flip, chunk),
        "flips": None if math.isnan(c["margin"][0]) else flips(c),
        "delta_p": delta_p(c),
        "perplexity_ref": exp(mean(c["nll_ref"])),
        "perplexity_quant": exp(mean(c["nll_quant"])),
        "perplexity": perplexities(c),
        "by_depth": by_depth(c, chunk_length, first),
        "by_part": groups(c, c["part"].tolist(), len(p.part_names), lambda k: {"name": p.part_names[k]}),
        "by_entropy": [] if math.isnan(c["margin"][0]) else by_entropy(c),
        "by_token_class": groups(c, c["token_class"].tolist(), 6, lambda k: {"name": CLASSES[k]}),
        "verdict": said,
        "confidence": sure,
        "drift": drift(c, chunk_length, first),
    }


def metrics(r: np.ndarray, q: np.ndarray, targets: np.ndarray) -> list[dict[str, Any]]:
    """Per position, from float64 log-softmaxes of logits (T, V), row by row; −inf logits are p = 0."""
    return [
        _position(row_r, row_q, int(t))
        for row_r, row_q, t in zip(r.astype(np.float64), q.astype(np.float64), targets, strict=True)
    ]


def _position(r: np.ndarray, q: np.ndarray, target: int) -> dict[str, Any]:
    log_p, log_q = r - np.logaddexp.reduce(r), q - np.logaddexp.reduce(q)
    kl = entropy = 0.0
    for a, b in zip(log_p.tolist(), log_q.tolist(), strict=True):
        if a > -math.inf:
            kl += math.exp(a) * (a - b)
            entropy -= math.exp(a) * a
    top_r = next(v for v in range(len(r)) if r[v] == r.max())
    top_q = next(v for v in range(len(q)) if q[v] == q.max())
    ordered = sorted(np.exp(log_p), reverse=True)
    return {
        "kl": max(kl, 0.0),
        "nll_ref": -log_p[target],
        "nll_quant": -log_q[target],
        "top1_ref": top_r,
        "top1_quant": top_q,
        "prob_ref": ordered[0],
        "prob_quant": math.exp(log_q[top_q]),
        "entropy": entropy,
        "margin": ordered[0] - ordered[1],
        "delta_p": math.exp(log_q[target]) - math.exp(log_p[target]),
        "in_top5": sum(1 for v in q if v > q[top_r]) < 5,
    }
