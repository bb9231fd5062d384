"""A hub for pictures: always the same models, and downloads that stand still."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from mqf_tui.fidelity.errors import CancelledError, HubError
from mqf_tui.library.hub.download import Progress
from mqf_tui.library.hub.search import HubModel

ORG = "mlx-community/"
GATED = f"{ORG}gemma-3-1b-it-qat-4bit"
MODELS = (
    HubModel(f"{ORG}Qwen3-0.6B-4bit", 412_300, 45, "2026-02-11", False, False, 335_000_000, True),
    HubModel(f"{ORG}Llama-3.2-1B-Instruct-4bit", 398_100, 61, "2025-11-06", False, False, 695_000_000, False),
    HubModel(
        f"{ORG}Qwen3-4B-Instruct-2507-4bit", 120_900, 28, "2026-01-30", False, False, 2_260_000_000, False
    ),
    HubModel(GATED, 88_400, 12, "2025-12-19", True, False, 733_000_000, False),
    HubModel(f"{ORG}SmolLM2-135M-Instruct", 45_210, 31, "2025-10-02", False, False, 269_000_000, False),
    HubModel(
        f"{ORG}Mistral-Small-24B-Instruct-2501-4bit", 9_870, 19, "2025-09-28", False, False, None, False
    ),
    HubModel(f"{ORG}own-finetune-8bit", 3, 0, "2026-03-01", False, True, 1_110_000_000, False),
)


def search(
    text: str,
    author: str | None,
    limit: int,
    *,
    on_waiting: Callable[[str], None],
    cancelled: Callable[[], bool],
) -> tuple[HubModel, ...]:
    return tuple(model for model in MODELS[:limit] if text.lower() in model.name.lower())


def download(name: str, *, on_progress: Callable[[Progress], None], cancelled: Callable[[], bool]) -> Path:
    """A gated model is refused; of all others a part is here until they are cancelled."""
    if name == GATED:
        page = f"https://huggingface.co/{name}"
        raise HubError(
            f"{name} is gated: only who has accepted its conditions may fetch it; accept them at {page}, log "
            "in here with `hf auth login`, then fetch it again."
        )
    on_progress(Progress("model.safetensors", 7, 3, 301_000_000, 695_000_000, 11_800_000.0))
    while not cancelled():
        time.sleep(0.02)
    raise CancelledError("cancelled.")
