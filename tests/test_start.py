"""What the app imports before its first screen: nothing that a user would have to wait for."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "datasets",
    "huggingface_hub",
    "mlx",
    "mlx_lm",
    "numpy",
    "plotext",
    "pydantic",
    "scipy",
    "transformers",
)


def test_the_first_screen_needs_no_heavy_library() -> None:
    program = (
        "import sys, mqf_tui.cli, mqf_tui.app.app, mqf_tui.app.screens.models\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
