"""MLX, mlx-lm and transformers into the process, by one thread at a time."""

from __future__ import annotations

import threading

from mqf_tui.fidelity.device import prepare

# Threads may take it more than once: what is imported or loaded under it may need it again.
ONE_AT_A_TIME = threading.RLock()


def imported() -> None:
    """Have all three imported, after the BLAS that MLX is to find; returns at once where they are.

    To be called first by a thread beside which another one may need them too. transformers puts another
    module in its own place at the end of its import, so that a thread which waits for that end is given one
    without its names.
    """
    with ONE_AT_A_TIME:
        prepare()
        import mlx_lm.utils as last_large_import

        del last_large_import
