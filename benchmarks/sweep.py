"""A sweep of six settings against six textbook measurements, each from process start to its report.

    python benchmarks/sweep.py [FOLDER] [--pairs N] [--chunks N] [--length L]

8, 6 and 4 bits in groups of 32 and 64. The textbook measurement (textbook.py) loads the model and goes over
each chunk twice, once for the reference; six of them are six processes. The sweep is `mqf-tui sweep`. Both
use the fast BLAS and float32. The ratio is the sweep's time over the sum of the six; the pairs alternate.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
SMOLLM2 = ROOT / ".models" / "SmolLM2-135M-Instruct-fp16"
SETTINGS = [(bits, group) for bits in (8, 6, 4) for group in (32, 64)]


def timed(words: list[str]) -> tuple[float, str]:
    with tempfile.TemporaryDirectory() as data:
        environment = os.environ | {"MQF_TUI_DATA_DIR": data}
        began = time.perf_counter()
        done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, env=environment)
        seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{' '.join(words)} failed:\n{done.stderr}")
    return seconds, done.stdout


def textbook(folder: str, chunks: int, length: int) -> tuple[float, list[dict[str, Any]]]:
    total, found = 0.0, []
    for bits, group in SETTINGS:
        script = str(ROOT / "benchmarks" / "textbook.py")
        words = [sys.executable, script, folder, *map(str, (bits, group, chunks, length))]
        seconds, said = timed(words)
        total += seconds
        found.append(json.loads(said.splitlines()[-1]))
    return total, found


def swept(folder: str, chunks: int, length: int) -> tuple[float, list[dict[str, Any]]]:
    words = [
        sys.executable,
        "-m",
        "mqf_tui",
        "sweep",
        folder,
        "--kv-bits",
        "8,6,4",
        "--kv-group-size",
        "32,64",
    ]
    words += ["--max-chunks", str(chunks), "--chunk-length", str(length), "--format", "json"]
    seconds, said = timed(words)
    found = {v["keys"]: v for v in json.loads(said)["variants"]}
    in_order = (found[f"{bits}g{group}"] for bits, group in SETTINGS)
    return seconds, [{"kl": v["kl"]["value"], "flips": v["flips"]["value"]} for v in in_order]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", default=str(SMOLLM2))
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--chunks", type=int, default=2)
    parser.add_argument("--length", type=int, default=512)
    options = parser.parse_args()
    ratios = []
    for pair in range(options.pairs):
        order = (textbook, swept) if pair % 2 else (swept, textbook)
        found = {how.__name__: how(options.folder, options.chunks, options.length) for how in order}
        (base, expected), (ours, got) = found["textbook"], found["swept"]
        ratios.append(ours / base)
        print(f"sweep {ours:.1f} s, six textbook measurements {base:.1f} s, ratio {ratios[-1]:.3f}")
        if not pair:
            for (bits, group), a, b in zip(SETTINGS, expected, got, strict=True):
                print(f"  {bits}-bit g{group}: mean KL {b['kl']:.6g}, textbook {a['kl']:.6g}")
    print(f"ratio, median of {len(ratios)}: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
