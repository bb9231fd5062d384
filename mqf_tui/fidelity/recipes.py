"""Which quantizers each cache layer of one model gets (no mlx)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mqf_tui.fidelity.quantizers import LayerQuantizers

# What a cache layer of a model keeps: see caches.layer_kinds.
LayerKind = Literal["full", "sliding", "chunked", "recurrent", "latent", "composite", "other"]


@dataclass(frozen=True)
class Recipe:
    """One entry per layer of the model's cache, in its order."""

    layers: tuple[LayerQuantizers, ...]

    @classmethod
    def uniform(cls, n_layers: int, quantizers: LayerQuantizers) -> Recipe:
        """The same for every layer."""
        return cls((quantizers,) * n_layers)

    @property
    def n_quantized(self) -> int:
        """Layers of which keys or values are quantized."""
        return sum(not layer.full for layer in self.layers)

    @property
    def first_quantized(self) -> int:
        """Index of the first layer that is quantized; the number of layers where none is."""
        return next((i for i, layer in enumerate(self.layers) if not layer.full), len(self.layers))
