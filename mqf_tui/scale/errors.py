"""What may go wrong with ranks."""

from __future__ import annotations

from mqf_tui.fidelity.errors import FidelityError, MeasurementError


class HostError(FidelityError):
    """A host that cannot be found, reached or used, or that has something else than the others."""


class RankError(MeasurementError):
    """Ranks died, and none is left to go on."""
