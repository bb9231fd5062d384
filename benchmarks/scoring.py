"""Speed and memory of the scoring loop, each figure against its counterpart in the same run.

    python benchmarks/scoring.py [MODEL] [--pairs N]

Speed: one chunk of 512 tokens scored by our loop, against the two forward passes it cannot do without
(full-precision and quantized cache, in the same steps of 128, logits computed and dropped). The pairs
alternate; the ratio is the median over pairs. Memory: peak of scoring one chunk of 512 and of 2,048
tokens, each in a process of its own, against the size of the caches.
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
    from mqf_tui.fidelity.facts import read_facts
    from mqf_tui.fidelity.loading import load_model
    from mqf_tui.library.models import find_model

    facts = read_facts(find_model(name), "demo" if name == "demo" else None)
    model = None
    for loaded in load_model(facts, device):
        model = loaded.model
    return facts, model


def tokens_of(facts: Any, length: int) -> Any:
    from mqf_tui.fidelity.corpora import make_chunks, read_corpus
    from mqf_tui.fidelity.loading import load_tokenizer

    chunks = make_chunks(read_corpus("builtin"), load_tokenizer(facts), length, 1, tokenizer_id=facts.name)
    return chunks.tokens[0]


def score(model: Any, tokens: Any, settings: Any) -> float:
    from mqf_tui.fidelity.control import Control
    from mqf_tui.fidelity.scoring import ChunkScorer

    began = time.perf_counter()
    for _ in ChunkScorer(model, tokens, settings, Control()):
        pass
    return time.perf_counter() - began


def bare(model: Any, tokens: Any, settings: Any) -> float:
    import mlx.core as mx

    from mqf_tui.fidelity.scoring import steps
    from mqf_tui.fidelity.caches import reference_cache, variant_cache

    began = time.perf_counter()
    ids = mx.array(tokens)
    for cache in (reference_cache(model), variant_cache(model, settings)):
        for a, b in steps(0, len(tokens) - 1):
            mx.eval(model(ids[None, a:b], cache=cache))
    return time.perf_counter() - began


def speed(name: str, pairs: int) -> None:
    from mqf_tui.fidelity.settings import KVSettings

    facts, model = load(name)
    tokens = tokens_of(facts, 512)
    for bits in (8, 4):
        settings = KVSettings(name, kv_bits=bits)
        score(model, tokens, settings), bare(model, tokens, settings)
        timed = []
        for index in range(pairs):
            if index % 2:
                b = bare(model, tokens, settings)
                timed.append((score(model, tokens, settings), b))
            else:
                s = score(model, tokens, settings)
                timed.append((s, bare(model, tokens, settings)))
        ratios = sorted(ours / base for ours, base in timed)
        ours, base = (statistics.median(column) for column in zip(*timed, strict=True))
        print(
            f"{facts.name}, {bits}-bit: scoring {ours:.3f} s, two bare passes {base:.3f} s, ratio median "
            f"{statistics.median(ratios):.3f} (min {ratios[0]:.3f}, max {ratios[-1]:.3f}, {pairs} pairs)"
        )


def memory(name: str) -> None:
    peaks = {}
    for length in (512, 2048):
        words = [sys.executable, __file__, name, "--peak", str(length)]
        done = subprocess.run(words, capture_output=True, text=True, check=True, cwd=ROOT)
        peaks[length] = json.loads(done.stdout.splitlines()[-1])
        p = peaks[length]
        print(
            f"{p['model']}, chunk of {length}: peak {p['peak'] / 1e6:.1f} MB, of it weights "
            f"{p['weights'] / 1e6:.1f} MB and caches {p['caches'] / 1e6:.1f} MB"
        )
    grown = peaks[2048]["peak"] - peaks[512]["peak"]
    caches = peaks[2048]["caches"] - peaks[512]["caches"]
    whole = (2048 - 512) * peaks[512]["vocabulary"] * 4 * 2
    print(
        f"growth {grown / 1e6:.1f} MB; the caches grow by {caches / 1e6:.1f} MB, "
        f"both runs' logits of the whole chunk would by {whole / 1e6:.1f} MB"
    )


def peak(name: str, length: int) -> None:
    import mlx.core as mx

    from mqf_tui.fidelity.facts import kv_bytes_per_token
    from mqf_tui.fidelity.settings import KVSettings

    facts, model = load(name)
    tokens = tokens_of(facts, length)
    weights = mx.get_active_memory()
    mx.reset_peak_memory()
    score(model, tokens, KVSettings(name, kv_bits=4, chunk_length=length))
    per_token = sum(kv_bytes_per_token(facts, bits, 64, scale_bytes=4) for bits in (None, 4))
    found = {
        "model": facts.name,
        "peak": mx.get_peak_memory(),
        "weights": weights,
        "caches": length * per_token,
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
