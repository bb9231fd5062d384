"""The device, its memory, and what must happen before MLX is first imported."""

from __future__ import annotations

import ctypes
import functools
import re
import sys
import threading
from dataclasses import dataclass, replace

from mqf_tui.fidelity.memory import all_memory, free_memory
from mqf_tui.reports.text import counted

# Debian, Fedora and Arch, in turn. MLX's CPU wheels carry the reference BLAS; symbols that are
# already in the process win over it, and float32 products become about 70 times faster.
BLAS_LIBRARIES = ("libopenblas.so.0", "libopenblasp.so.0", "libopenblas.so")

# Metal's word for it, CUDA's, then whole sizes.
MEMORY_KEYS = ("max_recommended_working_set_size", "free_memory", "total_memory", "memory_size")
ALL_MEMORY_KEYS = ("memory_size", "total_memory")

LEAST_KEPT = 64 * 2**20  # bytes

_PREPARING = threading.Lock()  # a second thread would find MLX half imported, and call that too late

# "Virtual CPU" names a product; CPU elsewhere in a CPU's name says nothing.
NOISE = re.compile(
    r"\((?:R|TM|C)\)|[®™©]|@ *[\d.]+ *[GM]Hz|\b(?:\d+-Core )?Processor\b|(?<!Virtual )\bCPU\b", re.IGNORECASE
)


@dataclass(frozen=True)
class Device:
    """Where the measurement runs. ``memory_bytes`` is what it may use, ``all_memory_bytes`` what there is
    (0: not known); ``blas`` only on a Linux CPU."""

    name: str
    is_cpu: bool
    blas: str | None
    memory_bytes: int
    warnings: tuple[str, ...] = ()
    all_memory_bytes: int = 0


def prepare() -> Device:
    """Load the BLAS, then MLX, and describe the device. The first import of MLX must be this one."""
    with _PREPARING:
        device = _prepared()
    return replace(device, memory_bytes=free_memory()) if device.is_cpu else device


@functools.cache
def _prepared() -> Device:
    late = "mlx.core" in sys.modules
    blas = load_blas() if sys.platform.startswith("linux") else None
    import mlx.core as mx

    if mx.default_device() == mx.cpu:
        return cpu_device(blas, late=late)
    info = accelerator_info()
    limit = _first(info, MEMORY_KEYS) or free_memory()
    raise_wired_limit(limit)
    name = str(info.get("device_name") or "GPU")
    return Device(name, False, None, limit, all_memory_bytes=_first(info, ALL_MEMORY_KEYS))


def _first(info: dict[str, str | int], keys: tuple[str, ...]) -> int:
    return next((int(info[key]) for key in keys if info.get(key)), 0)


def cpu_device(blas: str | None, *, late: bool = False) -> Device:
    """The CPU as a device, with what would make it faster."""
    warnings = []
    if sys.platform.startswith("linux"):
        if blas is None:
            warnings.append(
                "OpenBLAS was not found, so this runs many times slower than it could; "
                "install it (Debian: apt install libopenblas0-pthread)"
            )
        elif late:
            warnings.append("MLX was imported before OpenBLAS could be loaded; this may run slowly")
    import psutil

    from mqf_tui.fidelity.provenance import chip

    cores = counted(psutil.cpu_count(logical=False) or psutil.cpu_count() or 1, "core")
    name = f"CPU ({plain(chip())}, {cores})"
    return Device(name, True, blas, free_memory(), tuple(warnings), all_memory())


def plain(chip: str) -> str:
    """A processor's name without trade marks, clock rate, and words that say it is a processor."""
    return " ".join(NOISE.sub(" ", chip).split()) or chip


def load_blas() -> str | None:
    """Load OpenBLAS for the whole process; the library's name, or None where there is none."""
    for name in BLAS_LIBRARIES:
        try:
            ctypes.CDLL(name, mode=ctypes.RTLD_GLOBAL)
        except OSError:
            continue
        return name
    return None


def reset_peak_memory() -> None:
    """Begin to count the peak of MLX's memory anew."""
    import mlx.core as mx

    mx.reset_peak_memory()


def keep_for_reuse(step_bytes: float) -> None:
    """Let MLX keep what two steps free, for the next ones, and no more: old caches must not pile up."""
    import mlx.core as mx

    mx.set_cache_limit(int(2 * step_bytes) + LEAST_KEPT)


def release() -> None:
    """Give back what MLX keeps for use again, once a measurement is over."""
    if "mlx.core" in sys.modules:
        import mlx.core as mx

        mx.clear_cache()


def accelerator_info() -> dict[str, str | int]:
    """What MLX tells about the accelerator (Metal or CUDA)."""
    import mlx.core as mx

    return dict(mx.device_info())


def raise_wired_limit(limit: int) -> None:
    """Let Metal keep large weights resident (macOS 15 and newer; elsewhere nothing happens)."""
    import mlx.core as mx

    if mx.metal.is_available():
        mx.set_wired_limit(limit)
