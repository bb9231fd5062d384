"""A model over several ranks: each holds a share of every layer (tensor) or some of the layers (pipeline)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mlx.core as mx
from mlx_lm.models.cache import KVCache

from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.errors import UnsupportedModelError, brief
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.model.loading import Loaded, load_model
from mqf_tui.fidelity.recipes import LayerKind
from mqf_tui.scale.hosts import Split


def load_split(
    facts: ModelFacts, device: Device, split: Split, group: Any, *, trust_remote_code: bool = False
) -> Iterator[Loaded]:
    """Load this rank's share by mlx-lm's own ``shard`` or ``pipeline``; all ranks of ``group`` together.

    Raises UnsupportedModelError where mlx-lm cannot split the architecture, or not into so many; otherwise as
    ``loading.load_model``.
    """

    def part(model: Any) -> None:
        check_split(model, facts, split, group.size())
        try:
            if split == "tensor":
                model.shard(group)
            else:
                model.model.pipeline(group)
                _relayed(model)
        except (ValueError, TypeError, AttributeError, IndexError) as error:
            raise UnsupportedModelError(
                f"mlx-lm cannot split {facts.name} over {group.size()} ranks ({brief(error)}); "
                "use fewer ranks."
            ) from error

    yield from load_model(facts, device, trust_remote_code=trust_remote_code, part=part, n_parts=group.size())


class Relay:
    """The last entry of a stage's caches, to which mlx-lm ties that the stage has sent its rows on.

    It ties that to the keys of whatever cache is last, which not every cache of a measurement has.
    """

    def __init__(self) -> None:
        self.sent = mx.zeros(1)

    @property
    def keys(self) -> mx.array:
        """An array for mlx-lm to tie to."""
        return mx.zeros(1)

    @keys.setter
    def keys(self, tied: mx.array) -> None:
        self.sent = tied

    @property
    def state(self) -> list[mx.array]:
        """What must be computed for the rows to be sent."""
        return [self.sent]


def _relayed(model: Any) -> None:
    make = getattr(model, "make_cache", None)
    n = len(model.layers)
    model.make_cache = lambda: [*(make() if make else (KVCache() for _ in range(n))), Relay()]


def check_split(model: Any, facts: ModelFacts, split: Split, n: int) -> None:
    """Raise UnsupportedModelError where mlx-lm has no such way for the architecture, or not so many."""
    can = {
        "tensor": hasattr(model, "shard"),
        "pipeline": hasattr(getattr(model, "model", None), "pipeline"),
    }
    if not can.get(split):
        ways = " or ".join(f"--split {name}" for name in (*can, "chunks") if can.get(name, True))
        raise UnsupportedModelError(f"mlx-lm has no {split} split for {facts.architecture}; use {ways}.")
    if split == "tensor" and (facts.n_heads % n or facts.n_kv_heads % n):
        raise UnsupportedModelError(
            f"the {facts.n_heads} heads ({facts.n_kv_heads} of keys and values) of {facts.name} are no whole "
            f"shares of {n} ranks; use another number of ranks."
        )


def whole_kinds(facts: ModelFacts, *, trust_remote_code: bool = False) -> tuple[LayerKind, ...]:
    """What each cache layer of the model keeps, before it is split; no weight is read."""
    from mqf_tui.fidelity.caches import layer_kinds
    from mqf_tui.fidelity.model.loading import lazy_model

    return layer_kinds(lazy_model(facts, trust_remote_code))
