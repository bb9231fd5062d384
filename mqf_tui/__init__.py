"""Measure what a quantization costs a language model on MLX.

``measure_kv_fidelity`` is the whole measurement as one call, ``measure_kv_sweep`` that of several settings
beside one pass of the reference, ``measure_kv_sensitivity`` that of each layer alone, and ``tune_kv`` finds a
setting for each layer; the command line and the app use the same engine (``mqf_tui.fidelity``). Importing
this package imports nothing heavy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mqf_tui.api import Sweep, measure_kv_fidelity, measure_kv_sweep
    from mqf_tui.fidelity.errors import FidelityError
    from mqf_tui.fidelity.text.options import TextOptions
    from mqf_tui.reports.schema import Report
    from mqf_tui.tuning_api import measure_kv_sensitivity, tune_kv

__version__ = "0.1.0"
__all__ = [
    "FidelityError",
    "Report",
    "Sweep",
    "TextOptions",
    "__version__",
    "measure_kv_fidelity",
    "measure_kv_sensitivity",
    "measure_kv_sweep",
    "tune_kv",
]

_HOMES = {
    "Sweep": "mqf_tui.api",
    "measure_kv_fidelity": "mqf_tui.api",
    "measure_kv_sensitivity": "mqf_tui.tuning_api",
    "measure_kv_sweep": "mqf_tui.api",
    "tune_kv": "mqf_tui.tuning_api",
    "FidelityError": "mqf_tui.fidelity.errors",
    "TextOptions": "mqf_tui.fidelity.text.options",
    "Report": "mqf_tui.reports.schema",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(home), name)
