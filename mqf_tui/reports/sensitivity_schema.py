"""What each cache layer alone costs, as data: layer by layer, keys and values apart.

KL is in nats, sizes are bytes per token, intervals are 95 %.
"""

from __future__ import annotations

from typing import Literal

from mqf_tui.reports.schema import Estimate, Number, Part

CacheSide = Literal["keys", "values", "both"]


class LayerCost(Part):
    """One cache layer quantized alone, all others in full precision.

    ``layer`` counts from 0, as the cache does. ``kl``: mean KL and its interval. ``bytes_saved``: KV bytes
    per token that this alone saves, for a 16-bit cache.
    """

    layer: int
    side: CacheSide
    kl: Estimate
    bytes_saved: Number


class Sensitivity(Part):
    """All layers that were tried, by layer and side. ``format``: what was done to each (``4g64``).

    ``n_layers``: how many the cache has. Layers that cannot be quantized have no entry.
    """

    format: str
    n_layers: int
    n_positions: int = 0
    n_chunks: int = 0
    layers: list[LayerCost]
