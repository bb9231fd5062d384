"""Looks at memory between steps, and ends a measurement in time where the next step would not fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from mqf_tui.fidelity.errors import OutOfMemoryError
from mqf_tui.reports.text import size

# Left alone: of a limit a fiftieth, of the machine's free memory this much.
LIMIT_SHARE = 0.02
RESERVE = 200 * 10**6


@dataclass(frozen=True)
class Reading:
    """Memory now, in bytes. ``used``: by this measurement, ``spare`` of it only kept for use again.

    ``free``: what the machine has left.
    """

    used: int
    spare: int
    free: int


class Watchdog:
    """Raises OutOfMemoryError from ``check()`` where the next step would go beyond what may be used.

    ``limit_bytes`` is the most that the measurement may use (None: whatever the machine has free), and
    ``step_bytes`` what a step takes for a while. ``read`` gives a Reading, ``release`` gives back what is
    only kept for use again.
    """

    def __init__(
        self,
        limit_bytes: int | None,
        step_bytes: float = 0.0,
        read: Callable[[], Reading] | None = None,
        release: Callable[[], None] | None = None,
    ) -> None:
        self._limit, self._step = limit_bytes, step_bytes
        self._read, self._release = read or read_memory, release or release_memory

    def check(self) -> None:
        """Look once; cheap enough for every step. Raises OutOfMemoryError, with what would work."""
        if self._problem(self._read()) is None:
            return
        self._release()
        problem = self._problem(self._read())
        if problem is not None:
            raise OutOfMemoryError(
                f"{problem}; what was scored is kept. Use shorter chunks (--chunk-length) or fewer settings "
                "at a time, or close other programs."
            )

    def _problem(self, now: Reading) -> str | None:
        """Why the next step would not fit, None where it does."""
        need = max(0.0, self._step - now.spare)
        if self._limit is not None and now.used + need > (1 - LIMIT_SHARE) * self._limit:
            return (
                f"memory is at {size(now.used)} and the next step needs up to {size(need)} more, beyond the "
                f"limit of {size(self._limit)}"
            )
        if now.free < need + RESERVE:
            return (
                f"only {size(now.free)} of memory are left on this machine and the next step needs up to "
                f"{size(need + RESERVE)}; this measurement has {size(now.used)}"
            )
        return None


def read_memory() -> Reading:
    """What MLX tells and, where it computes in main memory, what the whole process takes."""
    import mlx.core as mx

    from mqf_tui.fidelity.memory import free_memory, resident_memory

    spare = int(mx.get_cache_memory())
    if mx.default_device() == mx.cpu:
        return Reading(resident_memory(), spare, free_memory())
    held = int(mx.get_active_memory()) + spare
    return Reading(held, spare, _accelerator_free(held))


def _accelerator_free(held: int) -> int:
    """What is left for this process on an accelerator; Metal's memory is the machine's own."""
    import mlx.core as mx

    from mqf_tui.fidelity.device import prepare
    from mqf_tui.fidelity.memory import free_memory

    left = prepare().memory_bytes - held
    return min(left, free_memory()) if mx.metal.is_available() else left


def release_memory() -> None:
    """Give back the buffers that MLX keeps for use again."""
    import mlx.core as mx

    mx.clear_cache()
