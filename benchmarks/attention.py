"""Attention and SwiGLU of a CPU device against MLX's own, and the kernels of a quantized cache.

    python benchmarks/attention.py [MODEL] [--pairs N] [--cpu-time]

Steps: one step of 128 tokens behind 384 and behind 3,968, with MLX's functions and with ours, for the
reference and for 4-bit caches of both kernels; the pairs alternate, the ratio is the median. Parts: what each
kernel takes of one layer's step. Agreement: KL at each position of a chunk of 512, with each kernel.
``--cpu-time`` counts processor time instead of the clock's, for a machine that has other work (set
OPENBLAS_NUM_THREADS=1, because BLAS threads that wait take processor time too).
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import time
from collections.abc import Callable
from typing import Any

from scoring import load, tokens_of

clock = time.perf_counter
STEP = 128


def timed(work: Callable[[], Any]) -> float:
    import mlx.core as mx

    began = clock()
    mx.eval(work())
    return (clock() - began) * 1e3


def settled(work: Callable[[], Any], times: int = 9) -> float:
    return statistics.median(timed(work) for _ in range(times))


def recipe_of(model: Any, word: str) -> Any:
    from mqf_tui.fidelity.caches import reference_cache
    from mqf_tui.fidelity.quantizers import parsed
    from mqf_tui.fidelity.recipes import Recipe

    return Recipe.uniform(len(reference_cache(model)), parsed(word))


def parts(model: Any) -> None:
    """One layer's step of 128 tokens behind 384, kernel by kernel, in milliseconds."""
    import mlx.core as mx
    from mlx_lm.models.activations import swiglu

    from mqf_tui.fidelity import cpu_kernels

    layer, args = model.layers[0], model.args
    dim = args.hidden_size // args.num_attention_heads
    x = mx.random.normal((1, STEP, args.hidden_size))
    wide = mx.random.normal((1, STEP, args.intermediate_size))
    q = mx.random.normal((1, args.num_attention_heads, STEP, dim))
    k = mx.random.normal((1, args.num_key_value_heads, 512, dim))
    mx.eval(x, wide, q, k)
    att, mlp = layer.self_attn, layer.mlp

    def products() -> list[Any]:
        return [
            f(x) for f in (att.q_proj, att.k_proj, att.v_proj, att.o_proj, mlp.gate_proj, mlp.up_proj)
        ] + [mlp.down_proj(wide)]

    kernels: dict[str, Callable[[], Any]] = {
        "products": products,
        "attention, MLX": lambda: mx.fast.scaled_dot_product_attention(
            q, k, k, scale=dim**-0.5, mask="causal"
        ),
        "attention, ours": lambda: cpu_kernels.attend(q, k, k, dim**-0.5, "causal"),
        "SwiGLU, MLX": lambda: swiglu(wide, wide),
        "SwiGLU, ours": lambda: cpu_kernels.swiglu(wide, wide),
        "rotary positions": lambda: [att.rope(q, offset=384), att.rope(k[..., :STEP, :], offset=384)],
        "norms": lambda: [layer.input_layernorm(x), layer.post_attention_layernorm(x)],
        "sums": lambda: [x + x, x + x],
    }
    for name, kernel in kernels.items():
        print(f"one layer: {name} {settled(kernel):.2f} ms")
    head = model.model.embed_tokens.as_linear if args.tie_word_embeddings else model.lm_head
    print(f"the whole model's head: {settled(lambda: head(x)):.1f} ms")


def steps(model: Any, pairs: int) -> None:
    """The same step, with MLX's functions and with ours."""
    import mlx.core as mx

    from mqf_tui.fidelity import attention, caches

    some, none = recipe_of(model, "4g64"), recipe_of(model, "16")
    kinds: tuple[tuple[str, Any, Any], ...] = (
        ("reference", none, "quantized"),
        ("4-bit, dequantized", some, "dequantized"),
        ("4-bit, quantized", some, "quantized"),
    )
    for before in (384, 3968):
        ids = mx.arange(7, 7 + before + STEP)[None] % model.args.vocab_size
        reference = caches.reference_cache(model)
        with attention.installed(model):
            for a in range(0, before, STEP):
                model(ids[:, a : a + STEP], cache=reference)
                caches.eval_cache(reference)
        for name, recipe, kernel in kinds:
            last, both = ids[:, before:], list[tuple[float, float]]()
            for _ in range(pairs + 1):
                ours, stock = (
                    step(model, last, caches.converted(reference, recipe, kernel), installs)
                    for installs in (True, False)
                )
                both.append((ours, stock))
            ours, stock = (statistics.median(column) for column in zip(*both[1:], strict=True))
            ratio = statistics.median(a / b for a, b in both[1:])
            print(
                f"window {before + STEP}, {name}: MLX's {stock:.0f} ms, ours {ours:.0f} ms, ratio {ratio:.3f}"
            )


def step(model: Any, ids: Any, cache: Any, ours: bool) -> float:
    from mqf_tui.fidelity import attention, caches

    caches.eval_cache(cache)
    with attention.installed(model) if ours else contextlib.nullcontext():
        return timed(lambda: model(ids, cache=cache))


def agreement(facts: Any, model: Any) -> None:
    """KL of each position with both kernels, and with one of them in other steps, from float64 logits."""
    import mlx.core as mx
    import numpy as np

    from mqf_tui.fidelity import attention, caches

    ids = mx.array(tokens_of(facts, 512))[None, :-1]

    def logs(recipe: Any, kernel: Any, size: int) -> Any:
        cache = caches.variant_cache(model, recipe, kernel)
        rows = []
        with attention.installed(model):
            for a in range(0, ids.shape[1], size):
                x = np.array(model(ids[:, a : a + size], cache=cache)[0]).astype(np.float64)
                rows.append(x - np.logaddexp.reduce(x, axis=-1, keepdims=True))
        return np.concatenate(rows)

    reference = logs(recipe_of(model, "16"), "quantized", STEP)
    for word in ("8g64", "4g64", "k8v4g64"):
        recipe = recipe_of(model, word)
        ways = (("dequantized", STEP), ("quantized", STEP), ("dequantized", STEP // 2))
        first, *others = (logs(recipe, kernel, size) for kernel, size in ways)
        kl = (np.exp(reference) * (reference - first)).sum(-1)
        print(f"{word}: mean KL {kl.mean():.6g} dequantized, steps of {STEP}")
        for (kernel, size), q in zip(ways[1:], others, strict=True):
            found = (np.exp(reference) * (reference - q)).sum(-1)
            apart = np.abs(found - kl)
            print(
                f"  {kernel}, steps of {size}: mean KL {found.mean():.6g}; positions apart by "
                f"{np.median(apart):.1e} in the median, {np.quantile(apart, 0.99):.1e} at p99; "
                f"{int((q.argmax(-1) != first.argmax(-1)).sum())} of {len(kl)} top tokens differ"
            )


def main() -> None:
    global clock
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", default="demo")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--cpu-time", action="store_true")
    given = parser.parse_args()
    if given.cpu_time:
        clock = time.process_time
    facts, model = load(given.model)
    parts(model)
    steps(model, given.pairs)
    agreement(facts, model)


if __name__ == "__main__":
    main()
