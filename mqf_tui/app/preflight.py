"""What a measurement will take and what it will be, in words, before it is started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mqf_tui.app.setup_options import ALIKE
from mqf_tui.fidelity import device as devices
from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.model.facts import ModelFacts, recipe_bytes_per_token
from mqf_tui.fidelity.model.shapes import Shape
from mqf_tui.fidelity.planning import MemoryPlan, plan_memory
from mqf_tui.fidelity.recipes import LayerKind, Recipe, layers_words, resolve
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.timing import BASIS_WORDS, TimeEstimate, estimate_time, likely_chunks
from mqf_tui.reports.schema import Report
from mqf_tui.reports.text import counted, duration, size

SURELY = 0.8  # of the corpus' likely length: so many chunks it will have


@dataclass(frozen=True)
class Preflight:
    """``n_positions`` and ``time`` are None where the number of chunks is not known before the text is read,
    ``time`` and ``memory`` while the device is not known. ``kv_bytes``: of one token in a 16-bit model, in
    full and for each setting. ``sure``: the text surely has so many chunks. ``counted``: the positions are
    just as many.
    """

    sweep: SweepSettings
    n_positions: int | None
    time: TimeEstimate | None
    memory: MemoryPlan | None
    kv_bytes: tuple[float, tuple[float, ...]]
    layers: str | None
    sure: bool
    counted: bool = False

    @property
    def positions(self) -> str:
        """How many positions, as far as that is known."""
        if self.n_positions is None:
            return "as many positions as the text has"
        early = self.sweep.first.stops_early or (self.sweep.first.corpus != "builtin" and not self.counted)
        about = "up to " if early else "" if self.sure else "about "
        each = " each" if len(self.sweep.variants) > 1 else ""
        return f"{about}{counted(self.n_positions, 'position')}{each}"

    @property
    def cost(self) -> str:
        """Time and memory."""
        parts: list[str] = []
        if self.time is not None:
            most = "at most " if self.sweep.first.stops_early or self.sweep.race else ""
            parts.append(f"{most}about {duration(self.time.seconds)} ({BASIS_WORDS[self.time.basis]})")
        if self.memory is not None:
            free = f" ({size(self.memory.limit_bytes)} free)" if self.memory.limit_bytes else ""
            parts.append(f"{size(self.memory.need_bytes)} of memory{free}")
        return ", ".join(parts)

    @property
    def passes(self) -> str:
        """``1 + 6 passes a chunk``."""
        references = self.memory.reference_passes if self.memory else 1
        return f"{references} + {len(self.sweep.variants)} passes a chunk"

    @property
    def cache(self) -> str:
        """KV bytes of a token, before and after."""
        full, packed = self.kv_bytes
        least, most = min(packed), max(packed)
        if least == most:
            words = f"{size(full)} → {size(least)} ({least / full:.0%})"
        else:
            words = f"{size(full)} → {size(least)} to {size(most)} ({least / full:.0%} to {most / full:.0%})"
        return f"KV cache per token {words} for a 16-bit model"


def preflight(
    facts: ModelFacts,
    shape: Shape,
    sweep: SweepSettings,
    reports: Sequence[Report],
    device: Device | None,
    flops: float | None = None,
    there: tuple[int, int] | None = None,
) -> Preflight:
    """Time, memory and bytes of a sweep of valid settings; ``reports``: earlier ones, newest first;
    ``there``: chunks and scored positions that the text has, where that is known.

    Raises FidelityError where no layer can be had.
    """
    kinds, first = shape.kinds, sweep.first
    recipes = [recipe_of(one, kinds) for one in sweep.variants]
    chunks = likely_chunks(facts, first)
    room = likely_chunks(facts, replace(first, max_chunks=None))
    each, counted = first.chunk_length - 1 - first.first_scored, False
    n_positions = None if chunks is None else chunks * each
    if there is not None:
        room = there[0]
        chunks = min(first.max_chunks or room, room)
        n_positions = round(there[1] * chunks / room)
        counted = chunks == room or there[1] == room * each
    memory = time = None
    if device is not None:
        if device.is_cpu:
            device = replace(device, memory_bytes=devices.free_memory())
        memory = plan_memory(facts, sweep, device, shape=shape, n_chunks=chunks)
        if chunks is not None:
            time = estimate_time(
                *(facts, sweep, memory, chunks, device.is_cpu),
                runs=reports,
                measured_flops=flops,
                shape=shape,
            )
    full = Recipe(tuple(replace(layer, keys=None, values=None) for layer in recipes[0].layers))
    return Preflight(
        sweep,
        n_positions,
        time,
        memory,
        (
            recipe_bytes_per_token(facts, full, kinds, 2, shape=shape),
            tuple(recipe_bytes_per_token(facts, recipe, kinds, 2, shape=shape) for recipe in recipes),
        ),
        layers_words(recipes[0], kinds),
        sure=counted or (chunks is not None and (room is None or chunks < SURELY * room)),
        counted=counted,
    )


def recipe_of(settings: KVSettings, kinds: Sequence[LayerKind]) -> Recipe:
    """What each layer would get, as far as the configuration tells; raises FidelityError."""
    emulated = settings.kernel == "emulated"
    try:
        return resolve(
            kinds,
            settings.quantizers,
            settings.layers,
            group_size=settings.kv_group_size,
            emulated=emulated,
        )
    except FidelityError:
        if "full" in kinds or emulated:
            raise
        # The configuration may be read wrong; the loaded model's own caches have the last word.
        return Recipe.uniform(len(kinds), settings.quantizers)


def choice_words(bits: Sequence[object], groups: Sequence[object], formats: Sequence[object], n: int) -> str:
    """``6 settings: 8/6/4 bits × groups 32/64; k8v4 × groups 32/64; mxfp4``."""
    grouped = f" × groups {_each(groups)}" if len(groups) > 1 else f", group {_each(groups)}"
    parts = [f"{_each(bits)} bits{grouped}"] if ALIKE in formats else []
    apart = [word for word in formats if word != ALIKE and str(word).startswith("k")]
    if apart:
        parts.append(f"{_each(apart)}{grouped}")
    parts += [str(word) for word in formats if word != ALIKE and word not in apart]
    return f"{counted(n, 'setting')}: {'; '.join(parts)}"


def _each(values: Sequence[object]) -> str:
    return "/".join(map(str, values))
