"""Speed and memory of the scoring loop, each figure against its counterpart in the same run.

    python benchmarks/scoring.py [MODEL] [--pairs N]

Speed: one chunk of 512 tokens scored by our loop, against the two forward passes it cannot do without
(full-precision and quantized cache, in the same steps of 128, logits computed and dropped): by mlx-lm's own
caches and attention, and by the same caches and attention as ours. The pairs alternate; the ratio is the
median over pairs. Memory: peak of scoring one chunk of 512 and of 4,096 tokens, each in a process of its own,
against the size of the caches.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mqf_tui.fidelity import device as devices

ROOT = Path(__file__).parent.parent


def load(name: str) -> tuple[Any, Any]:
    device = devices.prepare()
    from mqf_tui.fidelity.model.facts import read_facts
    from mqf_tui.fidelity.model.loading import load_model
    from mqf_tui.library.models import find_model

    facts = read_facts(find_model(name), "demo" if name == "demo" else None)
    model = None
    for loaded in load_model(facts, device):
        model = loaded.model
    return facts, model


def tokens_of(facts: Any, length: int) -> Any:
    from mqf_tui.fidelity.model.loading import load_tokenizer
    from mqf_tui.fidelity.text.chunking import make_chunks
    from mqf_tui.fidelity.text.corpora import read_corpus

    chunks = make_chunks(read_corpus("builtin"), load_tokenizer(facts), length, 1, tokenizer_id=facts.name)
    return chunks.tokens[0]


def variant_of(model: Any, bits: int, kernel: Any) -> Any:
    from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer
    from mqf_tui.fidelity.recipes import Recipe
    from mqf_tui.fidelity.scoring import Variant

    one = Quantizer(bits, 64)
    return Variant(Recipe.uniform(len(model.layers), LayerQuantizers(one, one)), kernel)


def score(model: Any, tokens: Any, variant: Any) -> float:
    from mqf_tui.fidelity.attention import installed
    from mqf_tui.fidelity.control import Control
    from mqf_tui.fidelity.scoring import ChunkScorer, Text

    began = time.perf_counter()
    with installed(model):
        for _ in ChunkScorer(model, Text(tokens), [variant], Control()):
            pass
    return time.perf_counter() - began


def bare(model: Any, tokens: Any, variant: Any) -> float:
    import mlx.core as mx

    from mqf_tui.fidelity.caches import reference_cache, variant_cache
    from mqf_tui.fidelity.scoring import steps

    began = time.perf_counter()
    ids = mx.array(tokens)
    for cache in (reference_cache(model), variant_cache(model, variant.recipe, variant.kernel)):
        for a, b in steps(0, len(tokens) - 1):
            mx.eval(model(ids[None, a:b], cache=cache))
    return time.perf_counter() - began


def bare_ours(model: Any, tokens: Any, variant: Any) -> float:
    from mqf_tui.fidelity.attention import installed

    with installed(model):
        return bare(model, tokens, variant)


def speed(name: str, pairs: int) -> None:
    facts, model = load(name)  # before MLX is imported: the fast BLAS must be there first
    import mlx.core as mx

    tokens = tokens_of(facts, 512)
    kernel = "dequantized" if mx.default_device() == mx.cpu else "quantized"
    for bits in (8, 4):
        ours, stock = variant_of(model, bits, kernel), variant_of(model, bits, "quantized")
        ways = (
            ("scoring", lambda v=ours: score(model, tokens, v)),
            ("mlx-lm's own passes", lambda v=stock: bare(model, tokens, v)),
            ("the same passes bare", lambda v=ours: bare_ours(model, tokens, v)),
        )
        for _, way in ways:
            way()
        timed: dict[str, list[float]] = {name: [] for name, _ in ways}
        for index in range(pairs):
            for what, way in ways if index % 2 else ways[::-1]:
                timed[what].append(way())
        print(f"{facts.name}, {bits}-bit: scoring {statistics.median(timed['scoring']):.3f} s")
        for what, _ in ways[1:]:
            ratios = sorted(a / b for a, b in zip(timed["scoring"], timed[what], strict=True))
            print(
                f"  against {what} ({statistics.median(timed[what]):.3f} s): median "
                f"{statistics.median(ratios):.3f} (min {ratios[0]:.3f}, max {ratios[-1]:.3f}, {pairs} pairs)"
            )


def memory(name: str) -> None:
    peaks = {}
    for length in (512, 4096):
        words = [sys.executable, __file__, name, "--peak", str(length)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
        peaks[length] = json.loads(done.stdout.splitlines()[-1])
        p = peaks[length]
        print(
            f"{p['model']}, chunk of {length}: peak {p['peak'] / 1e6:.1f} MB, of it weights "
            f"{p['weights'] / 1e6:.1f} MB and caches {p['caches'] / 1e6:.1f} MB"
        )
    grown = peaks[4096]["peak"] - peaks[512]["peak"]
    caches = peaks[4096]["caches"] - peaks[512]["caches"]
    whole = (4096 - 512) * peaks[512]["vocabulary"] * 4 * 2
    print(
        f"growth {grown / 1e6:.1f} MB; the caches grow by {caches / 1e6:.1f} MB, "
        f"both runs' logits of the whole chunk would by {whole / 1e6:.1f} MB"
    )
    allowed = 1.15 * peaks[512]["peak"] + caches
    print(
        f"peak at 4,096: {peaks[4096]['peak'] / allowed:.3f} of 1.15 times that at 512 and the caches' growth"
    )


def peak(name: str, length: int) -> None:
    facts, model = load(name)
    import mlx.core as mx

    from mqf_tui.fidelity.model.facts import kv_bytes

    tokens = tokens_of(facts, length)
    weights = mx.get_active_memory()
    mx.reset_peak_memory()
    kernel = "dequantized" if mx.default_device() == mx.cpu else "quantized"
    variant = variant_of(model, 4, kernel)
    score(model, tokens, variant)
    cost = kv_bytes(facts, variant.recipe, ("full",) * len(model.layers), 4)
    found = {
        "model": facts.name,
        "peak": mx.get_peak_memory(),
        "weights": weights,
        "caches": length * (cost.reference + cost.variant),
        "vocabulary": facts.vocab_size,
    }
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        peak(options.model, options.peak)
        return
    speed(options.model, options.pairs)
    memory(options.model)


if __name__ == "__main__":
    main()
