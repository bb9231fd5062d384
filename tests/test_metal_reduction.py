"""The Metal kernel's own source, compiled as C++ and run thread by thread, against float64; and its fallback.

The shim gives the kernel's words a meaning on a CPU: a thread for each lane, a real barrier, threadgroup
memory as static arrays. What only a Mac can show is how fast it is, and what Metal's compiler makes of it.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from mqf_tui.fidelity import metal_reduction, metrics
from mqf_tui.fidelity.metrics import reduced

SHIM = """
#include <barrier>
#include <cmath>
#include <cstddef>
#include <limits>
#include <thread>
#include <vector>
typedef unsigned int uint;
#define device
#define threadgroup static
#define LANES 256
#define T float
namespace metal { using std::exp; using std::max; }
struct mem_flags { static const int mem_threadgroup = 0; };
struct Position { uint x; };
static std::barrier<> gate(LANES);
static void threadgroup_barrier(int) { gate.arrive_and_wait(); }
// The C++ headers use this word themselves, so it is hidden around the kernel only.
#define thread
%(header)s
static void body(const T* r, const T* q, const uint* targets, float* floats, uint* integers,
                 const uint* r_shape, Position threadgroup_position_in_grid,
                 Position thread_position_in_threadgroup) {
%(source)s
}
#undef thread
extern "C" void run(const float* r, const float* q, const uint* targets, float* floats, uint* integers,
                    uint rows, uint n) {
    uint shape[2] = {rows, n};
    std::vector<std::thread> lanes;
    for (uint lane = 0; lane < LANES; ++lane)
        lanes.emplace_back([=] {
            for (uint row = 0; row < rows; ++row) {
                body(r, q, targets, floats, integers, shape, {row}, {lane});
                gate.arrive_and_wait();
            }
        });
    for (auto& one : lanes) one.join();
}
"""


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[mx.array, mx.array]]:
    """``run_kernel`` by the compiled source."""
    compiler = shutil.which("g++") or shutil.which("clang++")
    assert compiler, "this test needs a C++ compiler (Debian: apt install g++)"
    folder = tmp_path_factory.mktemp("kernel")
    text = SHIM % {"header": metal_reduction.HEADER, "source": metal_reduction.SOURCE}
    (folder / "kernel.cpp").write_text(text)
    library = folder / "kernel.so"
    words = [compiler, "-std=c++20", "-O1", "-shared", "-fPIC", "-pthread", "kernel.cpp", "-o", library]
    subprocess.run(words, check=True, cwd=folder, capture_output=True, timeout=120)
    run = ctypes.CDLL(str(library)).run

    def by_threads(r: mx.array, q: mx.array, targets: mx.array) -> tuple[mx.array, mx.array]:
        arrays = [np.ascontiguousarray(np.array(a), t) for a, t in ((r, "f4"), (q, "f4"), (targets, "u4"))]
        rows, n = arrays[0].shape
        floats, integers = np.empty((rows, 9), np.float32), np.empty((rows, 3), np.uint32)
        run(*(a.ctypes.data_as(ctypes.c_void_p) for a in (*arrays, floats, integers)), rows, n)
        return mx.array(floats), mx.array(integers)

    return by_threads


def logits(rows: int, n: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    r = (rng.normal(size=(rows, n)) * 5 + 30).astype(np.float32)
    return r, r + (rng.normal(size=r.shape) * noise).astype(np.float32), rng.integers(0, n, rows)


@pytest.mark.parametrize(("n", "noise"), [(49152, 0.01), (49152, 1.0), (1000, 0.1), (257, 0.5), (100, 0.5)])
def test_the_kernel_gives_what_float64_gives(kernel: Any, n: int, noise: float) -> None:
    r, q, targets = logits(4, n, noise, seed=n)
    found = metal_reduction.composed(*kernel(mx.array(r), mx.array(q), mx.array(targets)))
    expected = reduced(np, r.astype(np.float64), q.astype(np.float64), targets)
    for name, one, other in zip(metrics.StepMetrics._fields, found, expected, strict=True):
        np.testing.assert_allclose(np.array(one), other, rtol=2e-5, atol=2e-6, err_msg=name)


def test_identical_logits_give_exactly_zero(kernel: Any) -> None:
    r, _, targets = logits(3, 5000, 0.0, seed=1)
    found = metal_reduction.composed(*kernel(mx.array(r), mx.array(r), mx.array(targets)))
    assert np.array(found.kl).tolist() == [0.0] * 3


def test_of_equal_logits_the_first_is_the_top(kernel: Any) -> None:
    r = np.zeros((1, 3000), np.float32)
    r[0, [700, 20, 2999]] = 2.0
    found = metal_reduction.composed(*kernel(mx.array(r), mx.array(r[:, ::-1].copy()), mx.array([5])))
    assert (int(found.top1_ref[0]), int(found.top1_quant[0])) == (20, 0)
    assert float(found.margin[0]) == 0.0


def test_what_is_not_a_number_stays_one(kernel: Any) -> None:
    r, q, targets = logits(2, 600, 0.1, seed=3)
    q[0, 5] = np.nan
    kl = np.array(metal_reduction.composed(*kernel(mx.array(r), mx.array(q), mx.array(targets))).kl)
    assert np.isnan(kl).tolist() == [True, False]


def test_it_is_used_where_it_agrees_and_nowhere_else(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of Metal is faked: the compiled source, one that is wrong, and a compiler that fails."""
    monkeypatch.setattr(mx.metal, "is_available", lambda: True)
    monkeypatch.setattr(metal_reduction, "run_kernel", kernel)
    assert metal_reduction.trusted.__wrapped__()

    def wrong(*arrays: mx.array) -> tuple[mx.array, mx.array]:
        floats, integers = kernel(*arrays)
        return floats * 1.01, integers

    monkeypatch.setattr(metal_reduction, "run_kernel", wrong)
    assert not metal_reduction.trusted.__wrapped__()

    def broken(*_: mx.array) -> tuple[mx.array, mx.array]:
        raise RuntimeError("[metal] cannot compile")

    monkeypatch.setattr(metal_reduction, "run_kernel", broken)
    assert not metal_reduction.trusted.__wrapped__()


def test_without_metal_the_portable_form_runs() -> None:
    assert metal_reduction.trusted() == mx.metal.is_available()


def test_metrics_use_a_trusted_kernel(kernel: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    r, q, targets = logits(3, 2000, 0.3, seed=9)
    arrays = mx.array(r), mx.array(q), mx.array(targets)
    portable = metrics.position_metrics(*arrays)
    calls: list[int] = []

    def counted(*given: mx.array) -> tuple[mx.array, mx.array]:
        calls.append(1)
        return kernel(*given)

    monkeypatch.setattr(metal_reduction, "trusted", lambda: True)
    monkeypatch.setattr(metrics.mx, "default_device", lambda: mx.gpu)
    monkeypatch.setattr(metal_reduction, "run_kernel", counted)
    for one, other in zip(metrics.position_metrics(*arrays), portable, strict=True):
        np.testing.assert_allclose(np.array(one), np.array(other), rtol=1e-4, atol=1e-6)
    assert calls == [1]
