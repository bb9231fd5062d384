"""Fit the simulator of tests/simulated.py to saved runs, and set its figures beside the runs' own; of
several runs of the same chunks fit what they share as well (tests/simulated_sweep.py).

python benchmarks/fit_simulated.py RUN_FOLDER [RUN_FOLDER…]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from scipy import stats

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.simulated import draw, fit
from tests.simulated_sweep import fit_shared


def describe(name: str, kl: np.ndarray, flip: np.ndarray) -> str:
    """Figures of (chunks, positions)."""
    means, rates = kl.mean(axis=1), flip.mean(axis=1)
    median, p90, p99 = np.quantile(kl, [0.5, 0.9, 0.99])
    return (
        f"  {name:9} mean {kl.mean():.3g}, median {median:.3g}, p90 {p90:.3g}, p99 {p99:.3g}, flips "
        f"{flip.mean():.4f}; chunks: variation {means.std(ddof=1) / means.mean():.3f}, skewness "
        f"{stats.skew(means):.2f}, sd of flips {rates.std(ddof=1):.4f}, correlation of KL and flips "
        f"{np.corrcoef(means, rates)[0, 1]:.2f}"
    )


runs = []
for folder in sys.argv[1:]:
    with np.load(Path(folder) / "positions.npz", allow_pickle=False) as z:
        n_chunks = len(np.unique(z["chunk"]))
        run_kl = z["kl"].astype(np.float64).reshape(n_chunks, -1)
        run_flip = (z["top1_ref"] != z["top1_quant"]).reshape(n_chunks, -1)
    runs.append((run_kl, run_flip))
    print(Path(folder).name)
    print(describe("run", run_kl, run_flip))
    for upper in (True, False):
        shape = fit(run_kl, run_flip, upper)
        drawn = draw(shape, 4000, np.random.default_rng(1))
        print(" ", "upper halves:" if upper else "all positions:", shape)
        print(describe("simulated", np.exp(drawn.log_kl.T + shape.centre), shape.flip_level > drawn.level.T))
if len({run_kl.shape for run_kl, _ in runs}) == 1 < len(runs):
    shapes = [fit(run_kl, run_flip) for run_kl, run_flip in runs]
    print("shared by all:", fit_shared(*(np.stack(both) for both in zip(*runs, strict=True)), shapes))
