"""``mqf-tui doctor``: what this machine offers, and what would make it better."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version

from mqf_tui.console.output import say

PACKAGES = (
    "mqf-tui",
    "mlx",
    "mlx-lm",
    "numpy",
    "textual",
    "plotext",
    "transformers",
    "datasets",
    "huggingface-hub",
)


def run() -> int:
    """Print the state of device, versions, BLAS, memory and folders; 0 when MLX works."""
    from mqf_tui.fidelity import device as devices
    from mqf_tui.library.runs import data_dir
    from mqf_tui.reports.text import size

    device = devices.prepare()
    blas = device.blas or ("not found" if device.is_cpu else "not needed")
    rows = [
        ("device", device.name),
        ("memory", f"{size(device.memory_bytes)} free for use"),
        ("BLAS", blas),
        ("system", f"{platform.platform()}, Python {platform.python_version()}"),
        *((name, _version(name)) for name in PACKAGES),
        ("runs", str(data_dir() / "runs")),
        ("hub cache", _hub_cache()),
    ]
    lines = [f"{name:<16} {text}" for name, text in rows] + [f"! {warning}" for warning in device.warnings]
    say("\n".join(lines) + "\n")
    return 0


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _hub_cache() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return str(HF_HUB_CACHE)
