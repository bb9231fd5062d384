"""``mqf-tui doctor``: what this machine offers, and what would make it better."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from mqf_tui.console.output import say
from mqf_tui.fidelity.settings import share_word

if TYPE_CHECKING:
    from mqf_tui.reports.schema import Thresholds

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
    from mqf_tui.fidelity.errors import BadSettingError
    from mqf_tui.fidelity.verdict import KV_POLICY
    from mqf_tui.library.runs import data_dir
    from mqf_tui.library.settings import settings_file, user_policy
    from mqf_tui.library.tokens import cache_dir
    from mqf_tui.reports.text import size

    device = devices.prepare()
    file, problems = settings_file(), list(device.warnings)
    try:
        policy = _policy_words(user_policy() or KV_POLICY)
    except BadSettingError as error:
        policy, problems = "the settings file is broken, see below", [*problems, str(error)]
    blas = device.blas or ("not found" if device.is_cpu else "not needed")
    rows = [
        ("device", device.name),
        ("memory", f"{size(device.memory_bytes)} free for use"),
        ("BLAS", blas),
        ("system", f"{platform.platform()}, Python {platform.python_version()}"),
        *((name, _version(name)) for name in PACKAGES),
        ("runs", str(data_dir() / "runs")),
        ("tokenised texts", str(cache_dir() / "tokens")),
        ("settings", f"{file}{'' if file.exists() else ' (not there: defaults)'}"),
        ("verdict", policy),
        ("hub cache", _hub_cache()),
    ]
    lines = [f"{name:<16} {text}" for name, text in rows] + [f"! {problem}" for problem in problems]
    say("\n".join(lines) + "\n")
    return 0


def _policy_words(policy: Thresholds) -> str:
    """``kv-1: good up to mean KL 0.01, p99 0.1, flips 1%; marginal up to …``."""

    def level(k: int) -> str:
        flips = share_word(policy.flip_rate[k])
        return f"mean KL {policy.kl_mean[k]:g}, p99 {policy.kl_p99[k]:g}, flips {flips}"

    return f"{policy.policy}: good up to {level(0)}; marginal up to {level(1)}"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _hub_cache() -> str:
    from huggingface_hub.constants import HF_HUB_CACHE

    return str(HF_HUB_CACHE)
