"""The device: OpenBLAS in the process for real, the warnings, and accelerators with MLX's answers faked."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from mqf_tui.fidelity import device

LINUX = sys.platform.startswith("linux")
linux_only = pytest.mark.skipif(not LINUX, reason="OpenBLAS is looked for on Linux only")


def blas_is_installed() -> bool:
    program = (
        "import ctypes, sys\n"
        "for name in sys.argv[1:]:\n"
        "    try:\n        ctypes.CDLL(name)\n    except OSError:\n        continue\n"
        "    sys.exit(0)\n"
        "sys.exit(1)"
    )
    return subprocess.run([sys.executable, "-c", program, *device.BLAS_LIBRARIES], timeout=60).returncode == 0


needs_blas = pytest.mark.skipif(not (LINUX and blas_is_installed()), reason="no OpenBLAS here")


def run(program: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stderr == ""
    return done.stdout.strip()


@needs_blas
@pytest.mark.skipif(mx.default_device() != mx.cpu, reason="not a CPU device")
def test_openblas_is_in_this_process_and_in_time() -> None:
    found = device.prepare()
    assert found.blas in device.BLAS_LIBRARIES
    assert "libopenblas" in Path("/proc/self/maps").read_text()
    assert found.warnings == ()


@needs_blas
def test_mlx_multiplies_with_openblas(tmp_path: Path) -> None:
    program = (
        "from mqf_tui.fidelity import device; device.prepare()\n"
        "import mlx.core as mx; mx.set_default_device(mx.cpu); a = mx.ones((64, 64)); mx.eval(a @ a)"
    )
    run(program, LD_DEBUG="bindings", LD_DEBUG_OUTPUT=str(tmp_path / "bindings"))
    lines = [line for log in tmp_path.iterdir() for line in log.read_text(errors="replace").splitlines()]
    # The loader writes which library each symbol of each library was taken from.
    products = [line for line in lines if "libmlx" in line.split(" to ")[0] and "cblas_sgemm'" in line]
    assert products
    assert all("libopenblas" in line.split(" to ")[1] for line in products)


@needs_blas
def test_mlx_imported_first_is_warned_about() -> None:
    program = "import mlx.core; from mqf_tui.fidelity import device; print(*device.prepare().warnings)"
    assert "before OpenBLAS could be loaded" in run(program)


@linux_only
def test_no_openblas_is_warned_about_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "BLAS_LIBRARIES", ("libno-such-blas.so.0", "libneither.so"))
    assert device.load_blas() is None
    monkeypatch.setattr(mx, "default_device", lambda: mx.cpu)
    found = device._prepared.__wrapped__()
    assert (found.is_cpu, found.blas) == (True, None)
    assert len(found.warnings) == 1
    assert "OpenBLAS was not found" in found.warnings[0]
    assert "apt install libopenblas0-pthread" in found.warnings[0]


def test_libraries_are_tried_in_turn_and_for_the_whole_process(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[str, int]] = []

    def load(name: str, mode: int) -> None:
        tried.append((name, mode))
        if name == device.BLAS_LIBRARIES[0]:
            raise OSError("cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", load)
    assert device.load_blas() == device.BLAS_LIBRARIES[1]
    assert tried == [(name, ctypes.RTLD_GLOBAL) for name in device.BLAS_LIBRARIES[:2]]


def test_warnings_of_a_cpu_are_for_linux_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert device.cpu_device(None).warnings == ()
    monkeypatch.setattr(sys, "platform", "linux")
    assert device.cpu_device("libopenblas.so.0").warnings == ()
    assert len(device.cpu_device("libopenblas.so.0", late=True).warnings) == 1
    assert len(device.cpu_device(None, late=True).warnings) == 1


@pytest.mark.parametrize(
    ("chip", "plain"),
    [
        ("Intel(R) Xeon(R) Processor", "Intel Xeon"),
        ("Intel(R) Xeon(R) Processor @ 2.10GHz", "Intel Xeon"),
        ("Intel(R) Xeon(R) CPU E5-2673 v4 @ 2.30GHz", "Intel Xeon E5-2673 v4"),
        ("Intel(R) Core(TM) i7-8650U CPU @ 1.90GHz", "Intel Core i7-8650U"),
        ("Intel® Core™ i5", "Intel Core i5"),
        ("AMD EPYC 7763 64-Core Processor", "AMD EPYC 7763"),
        ("QEMU Virtual CPU version 2.5+", "QEMU Virtual CPU version 2.5+"),
        ("Apple M9 Ultra", "Apple M9 Ultra"),
        ("Processor", "Processor"),
        ("x86_64", "x86_64"),
    ],
)
def test_a_cpu_is_named_without_noise(monkeypatch: pytest.MonkeyPatch, chip: str, plain: str) -> None:
    monkeypatch.setattr("mqf_tui.fidelity.provenance.chip", lambda: chip)
    monkeypatch.setattr("psutil.cpu_count", lambda logical=True: 4 if logical else 2)
    assert device.cpu_device("libopenblas.so.0").name == f"CPU ({plain}, 2 cores)"


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_free_memory_is_the_kernels() -> None:
    lines = Path("/proc/meminfo").read_text().splitlines()
    kernel = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines}
    assert kernel["MemAvailable"] / 2 < device.free_memory() < kernel["MemTotal"]


@pytest.mark.skipif(not LINUX, reason="reads /proc")
def test_all_memory_is_the_kernels() -> None:
    (total,) = re.findall(r"MemTotal: +(\d+) kB", Path("/proc/meminfo").read_text())
    found = device.cpu_device("libopenblas.so.0")
    assert device.all_memory() == found.all_memory_bytes == int(total) * 1024


def test_a_device_is_prepared_once() -> None:
    assert device._prepared() is device._prepared()
    assert device.prepare().memory_bytes != 0


class Metal:
    """MLX's answers on a machine with an accelerator."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, info: dict[str, str | int], *, metal: bool) -> None:
        self.limits: list[int] = []
        monkeypatch.setattr(sys, "platform", "darwin" if metal else "linux")
        monkeypatch.setattr(device, "load_blas", lambda: None)
        monkeypatch.setattr(device, "free_memory", lambda: 777)
        monkeypatch.setattr(mx, "default_device", lambda: mx.gpu)
        monkeypatch.setattr(mx, "device_info", lambda *_: info)
        monkeypatch.setattr(mx.metal, "is_available", lambda: metal)
        monkeypatch.setattr(mx, "set_wired_limit", self.limits.append)


def test_metal_may_use_its_working_set_and_keeps_it_resident(monkeypatch: pytest.MonkeyPatch) -> None:
    info: dict[str, str | int] = {
        "device_name": "Apple M9",
        "memory_size": 64_000,
        "max_recommended_working_set_size": 48_000,
    }
    metal = Metal(monkeypatch, info, metal=True)
    assert device._prepared.__wrapped__() == device.Device(
        "Apple M9", False, None, 48_000, all_memory_bytes=64_000
    )
    assert metal.limits == [48_000]


@pytest.mark.parametrize(
    ("info", "expected", "all_memory"),
    [
        ({"device_name": "NVIDIA H900", "total_memory": 141_000, "free_memory": 90_000}, 90_000, 141_000),
        ({"device_name": "NVIDIA H900", "total_memory": 141_000}, 141_000, 141_000),
        ({"device_name": "NVIDIA H900", "memory_size": 5000}, 5000, 5000),
        ({"device_name": "NVIDIA H900"}, 777, 0),
    ],
)
def test_other_accelerators_wire_nothing(
    monkeypatch: pytest.MonkeyPatch, info: dict[str, str | int], expected: int, all_memory: int
) -> None:
    other = Metal(monkeypatch, info, metal=False)
    assert device._prepared.__wrapped__() == device.Device(
        "NVIDIA H900", False, None, expected, all_memory_bytes=all_memory
    )
    assert other.limits == []


def test_an_accelerator_without_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    Metal(monkeypatch, {"memory_size": 9}, metal=True)
    assert device._prepared.__wrapped__().name == "GPU"


def test_importing_the_module_imports_no_mlx() -> None:
    program = "import sys, mqf_tui.fidelity.device; print([m for m in sys.modules if m.startswith('mlx')])"
    assert run(program) == "[]"
