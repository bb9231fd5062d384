"""What a report says of the software and the machine. Nothing that tells whose machine it is."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from mqf_tui import __version__
from mqf_tui.reports.schema import Versions
from mqf_tui.reports.text import inert

CPUINFO = Path("/proc/cpuinfo")
SYSCTL = ("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string")
LONGEST = 80


def versions() -> Versions:
    """The software that takes part in a measurement; empty where something is not installed."""
    return Versions(
        mqf_tui=__version__,
        mlx=_version("mlx"),
        mlx_lm=_version("mlx-lm"),
        python=platform.python_version(),
        numpy=_version("numpy"),
        transformers=_version("transformers"),
        system=system(),
    )


def system() -> str:
    """The system and its processor architecture: ``macOS 15.2, arm64``. No kernel's or host's name."""
    return f"{_short(_system())}, {platform.machine()}"


def chip() -> str:
    """The processor's own name, or its architecture where it has none."""
    if sys.platform == "darwin":
        name = _sysctl()
    else:
        name = _from_cpuinfo(CPUINFO)
    return _short(name) or platform.machine()


def _system() -> str:
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _sysctl() -> str:
    try:
        return subprocess.run(SYSCTL, capture_output=True, text=True, timeout=5, check=True).stdout
    except (OSError, ValueError, subprocess.SubprocessError):
        return ""


def _from_cpuinfo(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    pairs = (line.partition(":") for line in lines)
    return next((value for key, _, value in pairs if key.strip() == "model name"), "")


def _short(name: str) -> str:
    return " ".join(inert(name).split())[:LONGEST]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
