"""The values that an independent scorer gave for SmolLM2-135M on the reference text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mqf_tui import measure_kv_fidelity
from tests.conftest import DATA

VALUES = json.loads((DATA / "reference-values.json").read_text())


@pytest.mark.slow
@pytest.mark.smollm
@pytest.mark.parametrize(
    "expected", VALUES["runs"], ids=lambda r: f"{r['kv_bits']}-bit-g{r['kv_group_size']}"
)
def test_reference_values(smollm2: Path, expected: dict) -> None:
    report = measure_kv_fidelity(
        smollm2,
        kv_bits=expected["kv_bits"],
        kv_group_size=expected["kv_group_size"],
        chunk_length=512,
        max_chunks=4,
        corpus=DATA / VALUES["text"],
    )
    assert report.n_positions == VALUES["positions"]
    assert report.kl.mean == pytest.approx(expected["kl_mean"], rel=0.005)
    assert report.kl.median == pytest.approx(expected["kl_median"], rel=0.005)
    assert report.kl.p99 == pytest.approx(expected["kl_p99"], rel=0.005)
    assert abs(report.flip_rate - expected["flip_rate"]) * VALUES["positions"] <= 1.0001
    assert report.perplexity_ref == pytest.approx(expected["perplexity_ref"], rel=0.005)
    assert report.perplexity_quant == pytest.approx(expected["perplexity_quant"], rel=0.005)
    assert report.verdict == expected["verdict"]
    kv = report.kv_bytes_per_token
    assert kv.variant_measured == pytest.approx(kv.variant)
    assert kv.reference_measured == pytest.approx(kv.reference)
