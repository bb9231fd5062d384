"""Names as an enemy would choose them."""

from __future__ import annotations

from mqf_tui.reports.schema import Report
from tests import makers

HOSTILE = (
    "=evil\x1b[31m\x1b]0;owned\x07\x9b2J|cell|\n# heading\r\n| a | b |\n---\n\u202e\u2066<script>"
    "alert(1)</script>![x](http://x/y)`code` ``` \\|end &lt;b&gt; @someone #12 www.evil.example key: 'value' "
    '"x" - item {a: &b [*c]} %d \u2028line\u200b :smile: $x$ </details> <!-- x'
)


def hostile_report(name: str, **changes: object) -> Report:
    """A report that carries ``name`` wherever a report carries text from outside."""
    data = makers.report_data(
        model=name,
        model_hash=name,
        model_revision=name,
        config_hash=name,
        weights_hash=name,
        variant_model=name,
        architecture=name,
        weights=name,
        device=name,
        compute=name,
        cache=name,
        created=name,
        warnings=[name],
        command=f"mqf-tui kv {name}",
        origin={"tool": name, "form": name, "file": name, "version": name},
        confidence={"good": 0.0, "marginal": 1.0, "bad": 0.0, "replicates": 10},
        by_token_class=[{"name": name, "n_positions": 5, "kl_mean": 0.1, "flip_rate": 0.1}],
        delta_p={"mean": {"value": 0.1}, "rms": {"value": 0.1}, "percentiles": {name: 0.5}},
    )
    data["by_part"][0]["name"] = name
    data["thresholds"]["policy"] = name
    data["versions"] = dict.fromkeys(
        ("mqf_tui", "mlx", "mlx_lm", "python", "numpy", "transformers", "system"), name
    )
    words = (
        *("name", "version", "split", "tokenizer_id", "bos_policy", "final_chunk_policy", "normalization"),
        *("join", "content_hash", "token_hash"),
    )
    data["corpus"] |= dict.fromkeys(words, name)
    return Report.model_validate(data | changes)
