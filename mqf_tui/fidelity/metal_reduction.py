"""The numbers of a step in one Metal kernel: each logit is read twice, and nothing of their size is written.

A threadgroup takes a row: first both maxima, then all sums, compensated (Kahan) within each thread and added
up in a tree, so that a small KL keeps its digits without float64, which a GPU has not. The portable form in
``metrics`` is its oracle: the kernel is used only where it gave the same on this machine (``trusted``). The
tests run the kernel's own source on the CPU, compiled as C++; on Metal itself it has not been run.
"""

from __future__ import annotations

import functools
from typing import Any

import mlx.core as mx
import numpy as np

LANES = 256
FLOATS = ("total_r", "total_q", "dot", "shifted", "second", "max_r", "max_q", "target_r", "target_q")
INTEGERS = ("top_r", "top_q", "above")

HEADER = """
inline void add(thread float& sum, thread float& carry, float x) {
    float y = x - carry;
    float t = sum + y;
    carry = (t - sum) - y;
    sum = t;
}
inline bool beats(float x, uint i, float best, uint place) {
    return x > best || (x == best && i < place);
}
"""

SOURCE = """
    uint row = threadgroup_position_in_grid.x;
    uint lane = thread_position_in_threadgroup.x;
    uint n = r_shape[1];
    const device T* p = r + size_t(row) * n;
    const device T* o = q + size_t(row) * n;
    threadgroup float a[LANES], b[LANES], c[LANES], d[LANES], e[LANES];
    threadgroup uint i[LANES], j[LANES];

    a[lane] = lane < n ? float(p[lane]) : -INFINITY;
    b[lane] = lane < n ? float(o[lane]) : -INFINITY;
    i[lane] = j[lane] = lane < n ? lane : n - 1;
    for (uint v = lane + LANES; v < n; v += LANES) {
        float x = float(p[v]), y = float(o[v]);
        if (x > a[lane]) { a[lane] = x; i[lane] = v; }
        if (y > b[lane]) { b[lane] = y; j[lane] = v; }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint s = LANES / 2; s > 0; s /= 2) {
        if (lane < s) {
            if (beats(a[lane + s], i[lane + s], a[lane], i[lane])) {
                a[lane] = a[lane + s];
                i[lane] = i[lane + s];
            }
            if (beats(b[lane + s], j[lane + s], b[lane], j[lane])) {
                b[lane] = b[lane + s];
                j[lane] = j[lane + s];
            }
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    float max_r = a[0], max_q = b[0];
    uint top_r = i[0], top_q = j[0];
    float edge = float(o[top_r]);
    threadgroup_barrier(mem_flags::mem_threadgroup);

    float total_r = 0, total_q = 0, dot = 0, shifted = 0, second = 0;
    float carry_r = 0, carry_q = 0, carry_dot = 0, carry_shifted = 0;
    uint above = 0;
    for (uint v = lane; v < n; v += LANES) {
        float x = float(p[v]), y = float(o[v]);
        float weight = metal::exp(x - max_r);
        add(total_r, carry_r, weight);
        add(total_q, carry_q, metal::exp(y - max_q));
        add(dot, carry_dot, weight * (x - y));
        add(shifted, carry_shifted, weight * (x - max_r));
        if (v != top_r && weight > second) second = weight;
        if (y > edge) above += 1;
    }
    a[lane] = total_r; b[lane] = total_q; c[lane] = dot; d[lane] = shifted; e[lane] = second; i[lane] = above;
    threadgroup_barrier(mem_flags::mem_threadgroup);
    for (uint s = LANES / 2; s > 0; s /= 2) {
        if (lane < s) {
            a[lane] += a[lane + s];
            b[lane] += b[lane + s];
            c[lane] += c[lane + s];
            d[lane] += d[lane + s];
            e[lane] = metal::max(e[lane], e[lane + s]);
            i[lane] += i[lane + s];
        }
        threadgroup_barrier(mem_flags::mem_threadgroup);
    }
    if (lane == 0) {
        device float* f = floats + size_t(row) * 9;
        f[0] = a[0]; f[1] = b[0]; f[2] = c[0]; f[3] = d[0]; f[4] = e[0]; f[5] = max_r; f[6] = max_q;
        f[7] = float(p[targets[row]]); f[8] = float(o[targets[row]]);
        device uint* k = integers + size_t(row) * 3;
        k[0] = top_r; k[1] = top_q; k[2] = i[0];
    }
"""


def compare(r: mx.array, q: mx.array, targets: mx.array) -> Any:
    """``metrics.StepMetrics`` of logits r and q (T, V) against target ids (T,), computed by the kernel."""
    floats, integers = run_kernel(r, q, targets)
    return composed(floats, integers)


def composed(floats: mx.array, integers: mx.array) -> Any:
    """The numbers of the kernel, (T, 9) and (T, 3), as ``metrics.StepMetrics``; formulas as there."""
    from mqf_tui.fidelity.metrics import StepMetrics

    f = dict(zip(FLOATS, mx.split(floats, len(FLOATS), axis=1), strict=True))
    f = {name: column[:, 0] for name, column in f.items()}
    top_r, top_q, above = (integers[:, column].astype(mx.int32) for column in range(len(INTEGERS)))
    log_r, log_q = mx.log(f["total_r"]), mx.log(f["total_q"])
    kl = f["dot"] / f["total_r"] - (f["max_r"] - f["max_q"]) - log_r + log_q
    nll_r, nll_q = log_r + (f["max_r"] - f["target_r"]), log_q + (f["max_q"] - f["target_q"])
    return StepMetrics(
        kl=mx.where(kl < 0, mx.zeros_like(kl), kl),
        nll_ref=nll_r,
        nll_quant=nll_q,
        top1_ref=top_r,
        top1_quant=top_q,
        prob_ref=1 / f["total_r"],
        prob_quant=1 / f["total_q"],
        entropy=log_r - f["shifted"] / f["total_r"],
        margin=(1 - f["second"]) / f["total_r"],
        delta_p=mx.exp(-nll_q) - mx.exp(-nll_r),
        in_top5=above < 5,
    )


def run_kernel(r: mx.array, q: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
    """Floats (T, 9) and integers (T, 3) of each row; raises RuntimeError where there is no Metal."""
    rows = r.shape[0]
    floats, integers = _kernel()(
        inputs=[r, q, targets.astype(mx.uint32)],
        template=[("T", r.dtype), ("LANES", LANES)],
        grid=(rows * LANES, 1, 1),
        threadgroup=(LANES, 1, 1),
        output_shapes=[(rows, len(FLOATS)), (rows, len(INTEGERS))],
        output_dtypes=[mx.float32, mx.uint32],
    )
    return floats, integers


@functools.cache
def _kernel() -> Any:
    return mx.fast.metal_kernel(
        name="mqf_position_metrics",
        input_names=["r", "q", "targets"],
        output_names=["floats", "integers"],
        source=SOURCE,
        header=HEADER,
    )


@functools.cache
def trusted() -> bool:
    """Whether this machine has Metal and the kernel gives there what float64 gives; never raises."""
    if not mx.metal.is_available():
        return False
    try:
        return agrees()
    except Exception:  # a compiler, a driver: whatever it is, the portable form does without
        return False


def agrees() -> bool:
    """Whether the kernel's numbers of made-up logits are those of NumPy in float64."""
    from mqf_tui.fidelity.metrics import reduced

    rng = np.random.default_rng(7)
    r = (rng.normal(size=(5, 5003)) * 4).astype(np.float32)
    q = r + (rng.normal(size=r.shape) * 0.02).astype(np.float32)
    targets = rng.integers(0, r.shape[1], len(r))
    found = compare(mx.array(r), mx.array(q), mx.array(targets))
    expected = reduced(np, r.astype(np.float64), q.astype(np.float64), targets)
    return all(
        np.allclose(np.array(one), other, rtol=1e-4, atol=1e-6)
        for one, other in zip(found, expected, strict=True)
    )
