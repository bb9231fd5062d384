"""Time and memory of summarising 1,000,000 positions, against the time that scoring them would take.

    python benchmarks/summarising.py [--saved RUN_FOLDER]

The positions are simulated (tests/simulated.py). ``Summarising`` is all of it: intervals, breakdowns, the
bootstrap of the percentiles and of the verdict. The demo model's scoring is measured here in the same run
(chunks of 512 tokens, all of them but the first, which warms up); another model's speed is read from a run
that was saved. Peak memory is what the summary allocates beyond the positions themselves (tracemalloc).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from mqf_tui.fidelity.positions import ARRAYS, Positions
from mqf_tui.fidelity.statistics import summarise
from tests.simulated import BITS_8, draw

GOAL = 0.05
LAYOUTS = {"2,000 chunks of 500": (2000, 500), "60,000 of 17": (60000, 17), "200 of 5,000": (200, 5000)}


def simulated(n_chunks: int, length: int) -> Positions:
    """All columns: KL and flips as the simulator draws them, the others plain random numbers."""
    rng = np.random.default_rng(3)
    drawn = draw(BITS_8, n_chunks, rng, length)
    n = n_chunks * length
    top, nll = rng.integers(0, 49152, n), rng.exponential(2, n)
    flip = (drawn.level < np.float32(BITS_8.flip_level)).T.ravel()
    columns = {
        "chunk": np.repeat(np.arange(n_chunks), length),
        "depth": np.tile(np.arange(length), n_chunks),
        "part": np.repeat(np.arange(n_chunks) % 5, length),
        "token": rng.integers(0, 49152, n),
        "kl": np.exp(drawn.log_kl.T.ravel() + np.float32(BITS_8.centre)),
        "nll_ref": nll,
        "nll_quant": nll + rng.normal(0, 0.02, n),
        "top1_ref": top,
        "top1_quant": top + flip,
        "prob_ref": rng.random(n),
        "prob_quant": rng.random(n),
        "entropy": rng.exponential(2, n),
        "margin": rng.random(n),
        "in_top5": rng.random(n) < 0.99,
        "token_class": rng.integers(0, 6, n),
    }
    return Positions.of(columns, ("prose", "code", "mathematics", "chat", "multilingual"))


def summarising(layout: str, n_chunks: int, length: int) -> float:
    positions = simulated(n_chunks, length)
    timed = []
    for _ in range(3):
        began = time.perf_counter()
        summarise(positions, length + 1)
        timed.append(time.perf_counter() - began)
    own = sum(getattr(positions, name).nbytes for name in ARRAYS)
    tracemalloc.start()
    summarise(positions, length + 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds = statistics.median(timed)
    per_million = seconds * 1e6 / len(positions)
    print(
        f"{layout:20} {len(positions):,} positions: {seconds:.2f} s ({min(timed):.2f} to {max(timed):.2f}), "
        f"peak {peak / 1e6:.0f} MB beside the positions' {own / 1e6:.0f} MB",
        flush=True,
    )
    return per_million


def demo_speed() -> float:
    """Positions a second of the demo model here, a sweep of one variant."""
    from mqf_tui.api import events
    from mqf_tui.fidelity.events import StepScored
    from mqf_tui.fidelity.settings import KVSettings

    seconds, scored = [0.0], [0]
    for event in events(KVSettings("demo", kv_bits=8, max_chunks=6)):
        if isinstance(event, StepScored):
            seconds.append(event.seconds)
            scored.append(event.n_positions)
    start = scored.index(511)
    return (scored[-1] - scored[start]) / (seconds[-1] - seconds[start])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--saved", type=Path, help="the folder of a run of a larger model")
    options = parser.parse_args()
    speeds = {"demo (measured now)": demo_speed()}
    if options.saved:
        report = json.loads((options.saved / "report.json").read_text())
        speeds[f"{report['model']} (saved)"] = report["positions_per_second"]
    slowest = max(summarising(name, *layout) for name, layout in LAYOUTS.items())
    for name, speed in speeds.items():
        share = slowest * speed / 1e6
        print(
            f"{name}: {speed:,.0f} positions/s, so 1,000,000 take {1e6 / speed:,.0f} s; the slowest summary "
            f"is {share:.2%} of it ({'within' if share < GOAL else 'OVER'} {GOAL:.0%})"
        )


if __name__ == "__main__":
    main()
