"""Two ranks on two cores, one thread each, against one rank with one thread.

    python benchmarks/ranks.py [MODEL] [--ranks N] [--pairs N] [--chunks N] [--chunk-length L] [--bits 8,4]

Both sides are sweeps through mlx.launch and MLX's ring, in alternating pairs; the ratio is the median over
pairs. Scoring: from the first chunk dealt to the last one back. Whole: with starting, importing and loading.
The positions of both sides are compared bit for bit. Others' share: of all processors' time while scoring.
Where that is large the wall clock says little; "a core each" is what the processor time of all ranks allows
if none had to wait.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import psutil

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Measured:
    scoring: float
    whole: float
    processor: float
    others: float
    kl: list[Any]


def measured(settings: Any, n_ranks: int) -> Measured:
    from mqf_tui import api
    from mqf_tui.fidelity.events import Failed, Finished, Started
    from mqf_tui.scale.hosts import fleet_of

    began = time.perf_counter()
    scoring = before = own = 0.0
    kl: list[Any] = []
    for event in api.sweep_events(settings, fleet=fleet_of(ranks=n_ranks)):
        match event:
            case Started():
                scoring, before, own = time.perf_counter(), busy(), ours()
            case Finished(positions=positions):
                kl.append(positions.kl)
            case Failed(error=error):
                raise error
            case _:
                last = getattr(event, "seconds", 0.0)
                if last:
                    ended, after, mine = time.perf_counter(), busy(), ours()
    # What the last step took is in both; reports are made afterwards.
    total = (ended - scoring) * (os.cpu_count() or 1)
    others = max(0.0, (after - before) - (mine - own)) / total
    return Measured(ended - scoring, time.perf_counter() - began, mine - own, others, kl)


def busy() -> float:
    times = psutil.cpu_times()._asdict()
    return sum(times.values()) - sum(
        times.get(name, 0.0) for name in ("idle", "iowait", "guest", "guest_nice")
    )


def ours() -> float:
    """Processor seconds of this process and all below it."""
    total = 0.0
    for process in (me := psutil.Process(), *me.children(recursive=True)):
        try:
            times = process.cpu_times()
            total += times.user + times.system
        except psutil.Error:
            continue
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("--chunk-length", type=int, default=512)
    parser.add_argument("--bits", default="8,4")
    options = parser.parse_args()
    for name in THREADS:
        os.environ[name] = "1"
    from mqf_tui.fidelity.settings import KVSettings, SweepSettings

    variants = tuple(
        KVSettings(
            options.model, kv_bits=int(b), max_chunks=options.chunks, chunk_length=options.chunk_length
        )
        for b in options.bits.split(",")
    )
    settings = SweepSettings(variants)
    print(
        f"{options.model}: {len(variants)} settings, {options.chunks} chunks of {options.chunk_length} "
        f"tokens, one thread a rank, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    scoring, whole, free = [], [], []
    for _ in range(options.pairs):
        one, several = measured(settings, 1), measured(settings, options.ranks)
        same = all(np.array_equal(a, b) for a, b in zip(one.kl, several.kl, strict=True))
        scoring.append(one.scoring / several.scoring)
        whole.append(one.whole / several.whole)
        free.append(options.ranks * one.processor / several.processor)
        print(
            f"  1 rank {one.scoring:.2f} s, {options.ranks} ranks {several.scoring:.2f} s: "
            f"{scoring[-1]:.2f} times "
            f"(whole: {one.whole:.2f} s, {several.whole:.2f} s: {whole[-1]:.2f} times); "
            f"processor {one.processor:.2f} s, {several.processor:.2f} s, a core each: {free[-1]:.2f} times; "
            f"{'the same' if same else 'OTHER'} numbers; "
            f"others took {one.others:.0%} and {several.others:.0%}"
        )
    print(
        f"scoring: {statistics.median(scoring):.2f} times ({min(scoring):.2f} to {max(scoring):.2f}); "
        f"whole: {statistics.median(whole):.2f} times; a core each: {statistics.median(free):.2f} times"
    )


if __name__ == "__main__":
    main()
