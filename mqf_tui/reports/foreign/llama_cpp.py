"""What llama.cpp's ``llama-perplexity --kl-divergence`` prints: a whole log, or its summary alone.

tools/perplexity/perplexity.cpp prints since April 2024 (pull request 6936)

    Mean PPL(Q)                   :   6.407115 ±   0.039119
    Mean    KLD:   0.031273 ±   0.000238
    99.0%   KLD:   0.302110
    Mean    Δp: -0.596 ± 0.014 %
    Same top p: 91.901 ± 0.072 %

and others of the kind; from January 2024 on it printed "Average:", "KLD_99 :" and so on under "KL-divergence
statistics", with perplexity and same top in the last row of the table of chunks. ± is one standard error
over positions, taken as independent. KL is in nats, Δp and "Same top p" in per cent. Consoles that lack ±
and Δ put other signs there, and logging may put a time before each line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from mqf_tui.reports.foreign import NotAReportError, Reading, Readings

TOOL = "llama.cpp"
Z = 1.96  # standard errors to either side of a 95 % interval of a normal distribution
UNKNOWN_MODEL = "unknown model"
_NUMBER = r"[-+]?(?:\d{1,40}(?:\.\d{0,40})?(?:[eE][-+]?\d{1,3})?|(?i:nan|inf))(?:\(\w{1,8}\))?"
_ERROR = rf"(?:[ \t]*(?:\+/?-|[^\s\d.+%-]{{1,4}})[ \t]*(?P<error>{_NUMBER}))?"
_LABEL = (
    r"(?P<label>Cor\(ln\(PPL\(Q\)\), ln\(PPL\(base\)\)\)|"
    r"Mean +(?:ln\(PPL\(Q\)/PPL\(base\)\)|PPL\(Q\)/PPL\(base\)|PPL\(Q\)-PPL\(base\)|PPL\(Q\)|PPL\(base\))|"
    r"(?:Mean|Median|Maximum|Minimum|\d{1,2}\.\d{1,3}%) +(?:KLD|\S{0,4}p)|RMS +\S{0,4}p|Same top p|"
    r"Average|Median|Maximum|Minimum|KLD_\d\d)"
)
_FIGURE = re.compile(rf"{_LABEL}[ \t]*:[ \t]*(?P<value>{_NUMBER}){_ERROR}")
_LOGGED = r"(?:\S{1,40} I +)?[ \t]*"  # newer logs put a time and a level before a line
_ROW = re.compile(
    rf"^{_LOGGED}\d{{1,9}}[ \t]+(?P<ppl>{_NUMBER})[ \t]+(?P<ratio>{_NUMBER})[ \t]*±[ \t]*"
    rf"(?P<ratio_error>{_NUMBER})[ \t]+{_NUMBER}[ \t]*±[ \t]*{_NUMBER}[ \t]+(?P<top>{_NUMBER})[ \t]*±[ \t]*"
    rf"(?P<top_error>{_NUMBER})[ \t\r]*$",
    re.MULTILINE,
)
_PLAN = re.compile(r"kl_divergence: computing over (\d{1,9}) chunks, n_ctx=(\d{1,9})")
_CHUNKS = re.compile(rf"^{_LOGGED}(\d{{1,9}})[ \t]+[-\d.]+[ \t]+[-\d.± \t]+", re.MULTILINE)
_FACTS = {
    "file": re.compile(r"loaded meta data with .{1,80} from (\S.{0,400}?) \(version"),
    "name": re.compile(r"general\.name\s+str\s+= ([^\r\n]{1,200})"),
    "type": re.compile(r"(?:file type|model ftype)\s+= ([^\r\n]{1,80})"),
    "size": re.compile(r"(?:file|model) size\s+= (\d{1,6}(?:\.\d{1,4})?) (MiB|GiB)"),
    "architecture": re.compile(
        r"(?:general\.architecture\s+str|print_meta: arch|print_info: arch)\s+= (\w{1,60})"
    ),
    "build": re.compile(r"(?:build: |build = )(\d{1,9} \(\w{1,40}\))"),
    "k_cache": re.compile(r"K \((\w{1,12})\):"),
    "v_cache": re.compile(r"V \((\w{1,12})\):"),
}
_QUANT_SUFFIX = re.compile(r"[-_.](?:UD-)?(?:I?Q\d\w*|TQ\d\w*|MXFP4\w*|BF16|F16|F32)$", re.IGNORECASE)
_BITS = re.compile(r"(?:I?Q|TQ|MXFP|BF|F)(\d{1,2})", re.IGNORECASE)
_UNITS = {"MiB": 2**20, "GiB": 2**30}
_KL = {
    "median": "Median KLD",
    "p90": "90.0% KLD",
    "p95": "95.0% KLD",
    "p99": "99.0% KLD",
    "p999": "99.9% KLD",
    "max": "Maximum KLD",
}
_OLDER_HEADER = "KL-divergence statistics"
_OLDER = {
    "Average": "Mean KLD",
    "Median": "Median KLD",
    "Maximum": "Maximum KLD",
    "Minimum": "Minimum KLD",
}


class Figure(NamedTuple):
    """A printed value and its standard error (None: none was printed, or no number)."""

    value: float
    error: float | None = None

    def scaled(self, factor: float) -> Figure:
        """Both times a factor."""
        return Figure(self.value * factor, None if self.error is None else self.error * factor)

    def ci(self, low: float = -math.inf, high: float = math.inf) -> tuple[float, float] | None:
        """The 95 % interval, cut to the range that the figure can have."""
        if self.error is None or not math.isfinite(self.value):
            return None
        ends = self.value - Z * self.error, self.value + Z * self.error
        return max(ends[0], min(low, self.value)), min(ends[1], max(high, self.value))

    def estimate(self) -> dict[str, Any]:
        """As the schema's Estimate."""
        return {"value": self.value, "ci": self.ci()}


def read(text: str) -> Readings:
    """The one summary in a text; raises NotAReportError."""
    figures = _figures(text)
    if not figures:
        raise NotAReportError("it is neither a JSON object nor what llama.cpp prints for --kl-divergence")
    _add_older(text, figures)
    missing = [name for name in ("Mean KLD", "99.0% KLD", "Same top p") if name not in figures]
    if missing:
        raise NotAReportError(f"its summary by llama.cpp lacks {' and '.join(map(repr, missing))}")
    facts = {name: found[1].strip() for name, pattern in _FACTS.items() if (found := pattern.search(text))}
    fields = _statistics(figures) | _model(facts, text) | _extent(text)
    fields["warnings"] = list(_warnings(figures, facts))
    return Readings((Reading(TOOL, "--kl-divergence summary", fields, version=facts.get("build", "")),))


def _figures(text: str) -> dict[str, Figure]:
    """Each printed figure by its label with single spaces; raises where one label has two values."""
    found: dict[str, Figure] = {}
    is_older = _OLDER_HEADER in text
    for match in _FIGURE.finditer(text):
        label = _label(match["label"])
        if not is_older and match["label"] in _OLDER:
            continue
        figure = Figure(_number(match["value"]), _error(match["error"]))
        # Some versions print the 99th percentile twice.
        if found.setdefault(label, figure) != figure:
            raise NotAReportError(
                f"it holds more than one summary by llama.cpp ({label!r} comes twice with other values); put "
                "each in a file of its own"
            )
    return found


def _label(label: str) -> str:
    words = " ".join(label.split())
    if words in _OLDER:
        return _OLDER[words]
    if words.startswith("KLD_"):
        return f"{int(words[4:])}.0% KLD"
    first, _, last = words.partition(" ")
    # Δ may have become other signs on its way through a console.
    return f"{first} Δp" if last.endswith("p") and words != "Same top p" else words


def _number(word: str) -> float:
    return float(word.partition("(")[0])


def _error(word: str | None) -> float | None:
    # "-nan" stands where rounding made a variance negative, that is, where there is next to none.
    value = math.nan if word is None else _number(word)
    return value if math.isfinite(value) and value >= 0 else None


def _add_older(text: str, figures: dict[str, Figure]) -> None:
    """What the first form has in its table of chunks only; same top is a share there."""
    rows = list(_ROW.finditer(text))
    if not rows or "Same top p" in figures:
        return
    last = rows[-1]
    ratio = Figure(_number(last["ratio"]), _error(last["ratio_error"]))
    figures["Same top p"] = Figure(_number(last["top"]), _error(last["top_error"])).scaled(100)
    figures["Mean PPL(Q)"] = Figure(_number(last["ppl"]))
    figures["Mean PPL(base)"] = Figure(_number(last["ppl"]) * _exp(-ratio.value))
    figures["Mean ln(PPL(Q)/PPL(base))"] = ratio


def _statistics(figures: Mapping[str, Figure]) -> dict[str, Any]:
    mean, top = figures["Mean KLD"], figures["Same top p"].scaled(0.01)
    flips = Figure(1 - top.value, top.error)
    low, high = mean.ci(0.0) or (None, None)
    flip_low, flip_high = flips.ci(0.0, 1.0) or (None, None)
    kl: dict[str, Any] = {name: figures[label].value for name, label in _KL.items() if label in figures}
    base, quant = (figures.get(f"Mean PPL({which})", Figure(math.nan)) for which in ("base", "Q"))
    delta = figures.get("Mean PPL(Q)-PPL(base)", Figure(quant.value - base.value))
    found: dict[str, Any] = {
        "kl": kl | {"mean": mean.value, "ci_low": low, "ci_high": high},
        "flip_rate": flips.value,
        "flip_ci_low": flip_low,
        "flip_ci_high": flip_high,
        "perplexity_ref": base.value,
        "perplexity_quant": quant.value,
        "perplexity_delta": delta.value,
        "extra": {"printed": {label: figure.value for label, figure in figures.items()}},
    }
    if "Mean ln(PPL(Q)/PPL(base))" in figures:
        found["perplexity"] = _perplexity(figures, base, quant, delta)
    if "Mean Δp" in figures and "RMS Δp" in figures:
        found["delta_p"] = _delta_p(figures)
    return found


def _perplexity(figures: Mapping[str, Figure], base: Figure, quant: Figure, delta: Figure) -> dict[str, Any]:
    log_ratio = figures["Mean ln(PPL(Q)/PPL(base))"]
    value = _exp(log_ratio.value)
    error = None if log_ratio.error is None else value * log_ratio.error
    ratio = figures.get("Mean PPL(Q)/PPL(base)", Figure(value, error))
    correlation = figures.get("Cor(ln(PPL(Q)), ln(PPL(base)))")
    return {
        "ref_ci": base.ci(0.0),
        "quant_ci": quant.ci(0.0),
        "delta_ci": delta.ci(),
        "ratio": ratio.estimate(),
        "ln_ratio": log_ratio.estimate(),
        "nll_correlation": correlation.scaled(0.01).value if correlation else None,
    }


def _delta_p(figures: Mapping[str, Figure]) -> dict[str, Any]:
    names = {"Minimum Δp": "min", "Median Δp": "50", "Maximum Δp": "max"}
    percentiles: dict[str, float] = {}
    for label, figure in figures.items():
        if label.endswith("% Δp"):
            percentiles[f"{float(label.partition('%')[0]):g}"] = figure.value / 100
        elif label in names:
            percentiles[names[label]] = figure.value / 100
    order = sorted(percentiles, key=lambda name: {"min": -1.0, "max": 101.0}.get(name) or float(name))
    return {
        "mean": figures["Mean Δp"].scaled(0.01).estimate(),
        "rms": figures["RMS Δp"].scaled(0.01).estimate(),
        "percentiles": {name: percentiles[name] for name in order},
    }


def _model(facts: Mapping[str, str], text: str) -> dict[str, Any]:
    file = facts.get("file", "").replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".gguf")
    base = _QUANT_SUFFIX.sub("", file)
    bits = _BITS.search(facts.get("type", ""))
    size = _FACTS["size"].search(text)
    return {
        "kind": "weights",
        "model": facts.get("name") or base or UNKNOWN_MODEL,
        "variant_model": file,
        "architecture": facts.get("architecture", ""),
        "kv_bits": int(bits[1]) if bits else None,
        "variant_weights_bytes": round(float(size[1]) * _UNITS[size[2]]) if size else None,
        "versions": {},
    }


def _extent(text: str) -> dict[str, Any]:
    """Chunks and positions: the second half of each context is scored."""
    plan, rows = _PLAN.search(text), _CHUNKS.findall(text)
    corpus: dict[str, Any] = {"name": "unknown"}
    if plan is None:
        n = int(rows[-1]) if rows else 0
        return {"n_chunks": n, "n_chunks_planned": n, "corpus": corpus}
    n, length = int(plan[1]), int(plan[2])
    scored = max(0, length - 1 - length // 2)
    corpus |= {"chunk_length": length, "stride": length, "n_tokens": n * length}
    return {"n_chunks": n, "n_chunks_planned": n, "n_positions": n * scored, "corpus": corpus}


def _warnings(figures: Mapping[str, Figure], facts: Mapping[str, str]) -> Iterator[str]:
    yield (
        "the intervals are 1.96 of llama.cpp's standard errors, which take positions as independent: next to "
        "intervals clustered by chunk they are too narrow"
    )
    yield "llama.cpp does not print which model its reference logits came from, nor the text"
    if figures["Mean KLD"].value < 0:
        yield "the mean KL is below 0 by rounding: llama.cpp stores the reference in 16 bits"
    caches = {facts.get("k_cache", "f16"), facts.get("v_cache", "f16")} - {"f16", "bf16", "f32"}
    if caches:
        yield f"the KV cache was quantized too ({', '.join(sorted(caches))})"
    if "size" in facts:
        yield "the size of the weights is as rounded by llama.cpp"


def _exp(value: float) -> float:
    try:
        return math.exp(value)
    except OverflowError:
        return math.inf
