"""What a measurement will take, worked out before anything is loaded (no mlx): memory and steps."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.model.facts import ModelFacts
from mqf_tui.fidelity.model.shapes import Shape, read_shape
from mqf_tui.fidelity.quantizers import Kernel, LayerQuantizers
from mqf_tui.fidelity.settings import MIN_CHUNK_LENGTH, STEP, KVSettings, SweepSettings
from mqf_tui.reports.text import counted, size

ROOM = 256  # tokens by which mlx-lm's caches grow
SCORES = 3  # copies of a step's attention scores: the scores, masked, and their softmax
SCORES_ROOM = 2 * 2**30  # the most that those may take on an accelerator before steps become shorter
LEAST_STEP = 16
COPIES = 2  # of a layer's cache while it grows: its old room and its new
ROWS = 5  # rows of a layer's width that one forward pass holds at a time
# Sets of a step's logits: the reference's and a variant's of the step whose numbers are still taken, and
# those of the passes that have begun.
CPU_LOGITS = 4
ONE_STEP = 2  # of those are not there where one step of one variant is all that there is
ACCELERATOR_LOGITS = 7  # half of those in 16 bits; exponentials and differences in float32
BLOCK = 2**20  # logits that NumPy reduces at a time (metrics.py), in so many arrays:
BLOCK_ARRAYS = 6
SCORES_BLOCK = 2**21  # attention scores held at a time (cpu_kernels.py)
KEPT = 48  # bytes of a position's numbers
SUMMARY = 125  # bytes a position that summing up takes, one variant after another
PROCESS = 160 * 10**6  # Python, the libraries, and buffers that MLX keeps for use again
MARGIN = 0.95  # of what is free; the rest is for what nobody counts


@dataclass(frozen=True)
class MemoryPlan:
    """How a measurement goes through memory. Sizes in bytes.

    ``step``: positions a forward pass. ``variants_per_pass``: variants whose caches lie beside one reference
    pass. ``parts``: what the peak is made of, in words, largest first. ``peak_bytes`` is MLX's own,
    ``host_bytes`` what the process takes beside it out of the same memory (0 where the device has its own).
    ``step_bytes`` is what one step needs for a while, beyond what is held. ``limit_bytes`` 0: not known.
    ``advice``: a smaller plan, in one sentence, where this one does not fit or pays the reference twice.
    """

    chunk_length: int
    n_variants: int
    step: int
    variants_per_pass: int
    parts: tuple[tuple[str, float], ...]
    peak_bytes: float
    host_bytes: float
    step_bytes: float
    limit_bytes: int
    advice: str | None = None

    @property
    def reference_passes(self) -> int:
        """How often the reference goes over each chunk."""
        return math.ceil(self.n_variants / self.variants_per_pass)

    @property
    def need_bytes(self) -> float:
        """All that has to be free."""
        return self.peak_bytes + self.host_bytes

    @property
    def fits(self) -> bool:
        """Whether it does, as far as is known."""
        return not self.limit_bytes or self.need_bytes <= MARGIN * self.limit_bytes


def plan_memory(
    facts: ModelFacts,
    sweep: SweepSettings,
    device: Device,
    *,
    shape: Shape | None = None,
    n_chunks: int | None = None,
    n_parts: int = 1,
) -> MemoryPlan:
    """The plan with as many variants beside one reference pass as fit, and at least one.

    The limit is what the device has free, or the sweep's own where that is less. ``n_parts``: processes
    that share weights and caches among them; the plan is for one of them. Whatever does not fit is in the
    plan's ``advice``; nothing is raised.
    """
    shape = shape or read_shape(facts)
    ask = _Asked(facts, shape, sweep, device, n_chunks or sweep.first.max_chunks or 1, n_parts)
    n = len(sweep.variants)
    plans = (ask.plan(m) for m in range(n, 0, -1))
    best = next((plan for plan in plans if plan.fits), None)
    if best is None:
        return replace(plan := ask.plan(1), advice=_smaller(ask, plan))
    if best.variants_per_pass < n:
        return replace(best, advice=_shared(best))
    return best


def step_size(facts: ModelFacts, chunk_length: int, is_cpu: bool) -> int:
    """Positions of one forward pass: 128, or fewer where the attention scores of a step would be large.

    From model, chunk length and kind of device alone, so that a measurement can be repeated.
    """
    step = STEP
    while step > LEAST_STEP and not is_cpu and _scores(facts, step, chunk_length) > SCORES_ROOM:
        step //= 2
    return step


def kernel_of(settings: KVSettings, is_cpu: bool) -> Kernel:
    """What "auto" comes to on this device."""
    if settings.kernel != "auto":
        return settings.kernel
    return "dequantized" if is_cpu else "quantized"


def number_bytes(facts: ModelFacts, is_cpu: bool) -> int:
    """Bytes of a floating-point number of the caches: all is float32 on a CPU device."""
    return 4 if is_cpu or facts.dtype in ("float32", "float64") else 2


def weights_bytes(facts: ModelFacts, is_cpu: bool) -> float:
    """Bytes of the weights as they are held."""
    return facts.n_parameters * 4 if is_cpu else facts.size_bytes


def quantizers_of(settings: KVSettings, shape: Shape) -> tuple[LayerQuantizers, ...]:
    """What each cache layer gets, before the model is there to be asked: the larger where it is not sure.

    Layers named in sets count as in full precision unless a recipe says what they get.
    """
    if settings.recipe is not None and len(settings.recipe.layers) == len(shape.cache):
        return settings.recipe.layers
    every = settings.kernel == "emulated" and settings.layers == "all"
    plain = settings.layers in (None, "all", "full-attention")
    return tuple(
        settings.quantizers if plain and (every or layer.kind == "full") else LayerQuantizers()
        for layer in shape.cache
    )


@dataclass(frozen=True)
class _Asked:
    """The question, and the sizes that do not depend on how many variants go together."""

    facts: ModelFacts
    shape: Shape
    sweep: SweepSettings
    device: Device
    n_chunks: int
    n_parts: int

    @property
    def limit(self) -> int:
        return min(filter(None, (self.sweep.memory_limit, self.device.memory_bytes)), default=0)

    @property
    def limit_words(self) -> str:
        own = self.limit == self.sweep.memory_limit
        return f"the limit is {size(self.limit)}" if own else f"{size(self.limit)} are free"

    def plan(self, together: int) -> MemoryPlan:
        first, cpu = self.sweep.first, self.device.is_cpu
        step = step_size(self.facts, first.chunk_length, cpu)
        held = self._held(together)
        passing = self._passing(min(step, first.chunk_length - 1))
        load = held["weights"] + _loading(self.facts, self.shape, cpu)
        parts = sorted((held | passing).items(), key=lambda part: -part[1])
        return MemoryPlan(
            chunk_length=first.chunk_length,
            n_variants=len(self.sweep.variants),
            step=step,
            variants_per_pass=together,
            parts=tuple(part for part in parts if part[1]),
            peak_bytes=max(sum(held.values()) + sum(passing.values()), load),
            host_bytes=self._host(step),
            step_bytes=sum(passing.values()),
            limit_bytes=self.limit,
        )

    def _held(self, together: int) -> dict[str, float]:
        """What stays from step to step."""
        cpu, tokens = self.device.is_cpu, self._tokens()
        bytes_each = number_bytes(self.facts, cpu)
        variants = sorted((self._cache(v, tokens, bytes_each) for v in self.sweep.variants), reverse=True)
        whole = {
            "weights": weights_bytes(self.facts, cpu),
            "the reference's cache": self.shape.cache_bytes(tokens, bytes_each),
            "the variants' caches": sum(variants[:together]),
        }
        return {name: size_bytes / self.n_parts for name, size_bytes in whole.items()}

    def _cache(self, settings: KVSettings, tokens: int, bytes_each: int) -> float:
        if kernel_of(settings, self.device.is_cpu) == "emulated":
            return self.shape.cache_bytes(tokens, bytes_each)
        return self.shape.cache_bytes(tokens, bytes_each, quantizers_of(settings, self.shape))

    def _passing(self, step: int) -> dict[str, float]:
        """What a step needs for a while: its logits, or a layer's work beside the reference's logits."""
        cpu, shape = self.device.is_cpu, self.shape
        bytes_each = number_bytes(self.facts, cpu)
        scored = self.sweep.first.chunk_length - 1 - self.sweep.first.first_scored
        single = scored <= step and len(self.sweep.variants) == 1
        one_set = min(step, scored) * shape.vocab_size * 4
        logits = one_set * ((CPU_LOGITS if cpu else ACCELERATOR_LOGITS) - single * ONE_STEP)
        layer = self._layer(step)
        rows: dict[str, float] = {"a layer's rows": ROWS * step * shape.inner * bytes_each}
        if one_set + sum(layer.values()) > logits:
            return rows | layer | {"the reference's logits": one_set}
        return rows | {"logits of a step": logits}

    def _layer(self, step: int) -> dict[str, float]:
        """What one layer's attention needs for a while."""
        cpu, tokens = self.device.is_cpu, self._tokens()
        bytes_each = number_bytes(self.facts, cpu)
        one = max((layer.bytes(tokens, bytes_each) for layer in self.shape.cache), default=0)
        kernels: set[Kernel] = {kernel_of(v, cpu) for v in self.sweep.variants}
        # MLX's own fused attention keeps no scores; the quantized one is made of separate products.
        separate = "quantized" in kernels and not cpu
        return {
            "a layer's cache while it grows": COPIES * one,
            "a layer's cache, dequantized": one if "dequantized" in kernels else 0,
            "attention scores": _scores(self.facts, step, tokens) if separate else 0,
        }

    def _tokens(self) -> int:
        """Tokens that a cache has room for at the end of a chunk."""
        return -(-(self.sweep.first.chunk_length - 1) // ROOM) * ROOM

    def _host(self, step: int) -> float:
        """What the process takes beside MLX: libraries, the numbers kept, and on a CPU NumPy's share."""
        if not self.device.is_cpu:
            return 0
        first, shape = self.sweep.first, self.shape
        positions = self.n_chunks * (first.chunk_length - 1 - first.first_scored)
        kept = positions * (len(self.sweep.variants) * KEPT + SUMMARY)
        logits = step * shape.vocab_size
        reductions = 4 * logits + 4 * BLOCK_ARRAYS * min(BLOCK, logits)
        shared = shape.n_heads // max(1, self.facts.n_kv_heads)
        scores = 4 * min(SCORES_BLOCK, shared * step * self._tokens())
        return PROCESS + kept + reductions + scores


def _scores(facts: ModelFacts, step: int, tokens: int) -> float:
    return SCORES * facts.n_heads * step * tokens * number_bytes(facts, False)


def _loading(facts: ModelFacts, shape: Shape, is_cpu: bool) -> float:
    """What the largest tensor takes in the format of its file while it is cast."""
    stored = facts.size_bytes / max(1, facts.n_parameters)
    return shape.head_parameters * stored if is_cpu else 0


def _shared(plan: MemoryPlan) -> str:
    return (
        f"{plan.variants_per_pass} of {counted(plan.n_variants, 'setting')} fit beside one reference pass in "
        f"{size(plan.limit_bytes)}, so the reference runs {plan.reference_passes} times; "
        "fewer settings or shorter chunks need it once."
    )


def _smaller(ask: _Asked, plan: MemoryPlan) -> str:
    """What would fit, where not even one variant does."""
    short = f"{plan.chunk_length:,} tokens need about {size(plan.need_bytes)} here and {ask.limit_words}"
    length = 1 << (plan.chunk_length - 1).bit_length() - 1
    while length >= MIN_CHUNK_LENGTH:
        if _shorter(ask, length).plan(1).fits:
            return f"{short}; --chunk-length {length} fits."
        length //= 2
    if ask.limit == ask.sweep.memory_limit:
        return f"{short}; --memory-limit {math.ceil(plan.need_bytes / MARGIN / 1e6)}MB or more would do."
    weights = size(weights_bytes(ask.facts, ask.device.is_cpu) / ask.n_parts)
    return (
        f"{short}, of which the weights alone take {weights}; close other programs or take a smaller model."
    )


def _shorter(ask: _Asked, chunk_length: int) -> _Asked:
    """The same question for shorter chunks."""
    first = ask.sweep.first
    start = min(first.quantize_start, chunk_length - 2)
    variants = tuple(replace(v, chunk_length=chunk_length, quantize_start=start) for v in ask.sweep.variants)
    return replace(ask, sweep=replace(ask.sweep, variants=variants))
