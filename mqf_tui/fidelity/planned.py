"""The plan of one variant, once the model is there to be asked (mlx)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mqf_tui.fidelity import caches
from mqf_tui.fidelity.errors import UnsupportedModelError
from mqf_tui.fidelity.events import Plan
from mqf_tui.fidelity.model import loading
from mqf_tui.fidelity.model.facts import ModelFacts, kv_bytes
from mqf_tui.fidelity.planning import kernel_of, number_bytes
from mqf_tui.fidelity.quantizers import Kernel
from mqf_tui.fidelity.recipes import LayerKind, Recipe, check, layers_words, resolve
from mqf_tui.fidelity.settings import KVSettings

if TYPE_CHECKING:
    from mqf_tui.fidelity.device import Device
    from mqf_tui.fidelity.model.shapes import Shape
    from mqf_tui.fidelity.text.chunking import Chunks


@dataclass(frozen=True)
class Here:
    """What all variants of a sweep have in common. ``shape``: what the configuration tells of the model,
    ``kinds`` what its own caches do. ``order``: the chunks that are scored, and when.
    ``try_cache`` raises UnsupportedModelError."""

    facts: ModelFacts
    model: Any
    kinds: Sequence[LayerKind]
    device: Device
    chunks: Chunks
    order: Sequence[int]
    shape: Shape
    try_cache: Callable[[Recipe, Kernel], None]


def planned(settings: KVSettings, here: Here, sweep_id: str = "") -> Plan:
    """What will be scored for one variant; ``here.try_cache`` runs a few tokens through its caches.

    Raises UnsupportedModelError where they do not work, BadSettingError where layers or recipe do not fit.
    """
    facts, device = here.facts, here.device
    kernel = kernel_of(settings, device.is_cpu)
    emulated = kernel == "emulated"
    recipe = settings.recipe or resolve(
        here.kinds,
        settings.quantizers,
        settings.layers,
        group_size=settings.kv_group_size,
        emulated=emulated,
    )
    check(recipe, here.kinds, emulated=emulated)
    here.try_cache(recipe, kernel)
    return Plan(
        settings=settings,
        model=facts.name,
        model_hash=facts.content_hash,
        architecture=facts.architecture,
        corpus=here.chunks.provenance,
        n_chunks=len(here.order),
        positions_per_chunk=settings.chunk_length - 1 - settings.first_scored,
        uneven=_uneven(settings, here),
        text_kept=_text_kept(settings, here),
        device=device.name,
        compute=loading.compute_words(facts, device),
        cache=caches.cache_name(recipe, kernel),
        kv_bytes=kv_bytes(facts, recipe, here.kinds, number_bytes(facts, device.is_cpu), shape=here.shape),
        recipe=recipe,
        kinds=tuple(here.kinds),
        kernel=kernel,
        layers=layers_words(recipe, here.kinds),
        sweep_id=sweep_id,
        memory_bytes=device.all_memory_bytes,
        warnings=(*device.warnings, *here.chunks.warnings, *_stock(here, recipe, kernel)),
    )


def _text_kept(settings: KVSettings, here: Here) -> bool:
    """As was asked for, or else of texts that anyone can have."""
    asked = settings.text.keep_text
    return bool(here.chunks.provenance.public) if asked is None else asked


def _uneven(settings: KVSettings, here: Here) -> tuple[int, ...]:
    """The positions of each chunk, where not all that are scored have as many."""
    counts = here.chunks.positions(settings.first_scored)
    every = settings.chunk_length - 1 - settings.first_scored
    if all(counts[i] == every for i in here.order):
        return ()
    wanted = {*here.order}
    return tuple(n if i in wanted else 0 for i, n in enumerate(counts.tolist()))


def _stock(here: Here, recipe: Recipe, kernel: Kernel) -> tuple[str, ...]:
    """A warning where mlx-lm's own quantized attention does not run with such a cache."""
    if kernel != "dequantized":
        return ()
    try:
        here.try_cache(recipe, "quantized")
    except UnsupportedModelError as error:
        if error.__cause__ is None:
            return ()
        why = caches.why(error.__cause__)
        return (
            f"mlx-lm's quantized attention does not run with this model ({why}), so this is what the "
            "quantizer would cost",
        )
    return ()
