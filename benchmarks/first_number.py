"""From process start to the first number on the screen, against loading and one step alone.

    python benchmarks/first_number.py [MODEL] [--pairs N]

The first number: `mqf-tui kv` until its engine yields the first scored step. The base: a process that imports
mlx-lm, loads the same model in the same way and runs one step of the reference and one of the variant.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
FIRST = """
from mqf_tui import api
from mqf_tui.fidelity.events import StepScored
from mqf_tui.fidelity.settings import KVSettings
for event in api.events(KVSettings({model!r}, max_chunks=1)):
    if isinstance(event, StepScored):
        break
"""
BASE = """
from mqf_tui.fidelity import device as devices
device = devices.prepare()
from mqf_tui import api
from mqf_tui.fidelity.settings import KVSettings
from mqf_tui.fidelity.model.loading import load_model
facts = api.facts_of(KVSettings({model!r}))
for loaded in load_model(facts, device):
    model = loaded.model
import mlx.core as mx
from mqf_tui.fidelity.caches import reference_cache, variant_cache
from mqf_tui.fidelity.quantizers import parsed
from mqf_tui.fidelity.recipes import Recipe
recipe = Recipe.uniform(len(model.layers), parsed("8g64"))
ids = mx.arange(128)[None]
for cache in (reference_cache(model), variant_cache(model, recipe, "quantized")):
    mx.eval(model(ids, cache=cache))
"""


def timed(program: str) -> float:
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--pairs", type=int, default=5)
    options = parser.parse_args()
    programs = [program.format(model=options.model) for program in (FIRST, BASE)]
    pairs = []
    for index in range(options.pairs):
        order = programs if index % 2 else programs[::-1]
        seconds = {program: timed(program) for program in order}
        pairs.append((seconds[programs[0]], seconds[programs[1]]))
    ratios = sorted(first / base for first, base in pairs)
    first, base = (statistics.median(column) for column in zip(*pairs, strict=True))
    print(
        f"first number {first:.2f} s, load and one step {base:.2f} s, ratio median "
        f"{statistics.median(ratios):.3f} (min {ratios[0]:.3f}, max {ratios[-1]:.3f}, {len(ratios)} pairs)"
    )


if __name__ == "__main__":
    main()
