"""A recipe as the Python that applies it with mlx-lm alone (no mlx here)."""

from __future__ import annotations

from collections.abc import Sequence

from mqf_tui.fidelity.errors import UnsupportedModelError
from mqf_tui.fidelity.quantizers import LayerQuantizers, Quantizer
from mqf_tui.fidelity.recipes import KIND_WORDS, LayerKind, Recipe
from mqf_tui.reports.text import inert

WHY = """\
# mlx-lm's QuantizedKVCache has one width for keys and values, not every width, and no attention sinks;
# a small class of this file holds the layers that it cannot."""

PACKED = '''
class PackedKVCache(KVCache):
    """Keys and values stored packed, each in a format of its own (None: as they are).

    They are unpacked before standard attention, which needs their full size while one layer runs.
    """

    def __init__(self, keys, values):
        super().__init__()
        self.formats = keys, values
        self.parts = None

    def update_and_fetch(self, keys, values):
        new = [self._pack(x, how) for x, how in zip((keys, values), self.formats)]
        end = self.offset + keys.shape[-2]
        if self.parts is None or end > self.parts[0][0].shape[-2]:
            self._grow(new, keys.shape[-2])
        for part, more in zip(self.parts, new):
            for stored, x in zip(part, more):
                stored[..., self.offset : end, :] = x
        self.offset = end
        return tuple(
            self._unpack([stored[..., :end, :] for stored in part], how, keys.dtype)
            for part, how in zip(self.parts, self.formats)
        )

    def _grow(self, new, n):
        # By whole blocks of ``step`` tokens, as mlx-lm does: else every token would copy all before it.
        size = (n + self.step - 1) // self.step * self.step
        room = [[mx.zeros((*x.shape[:-2], size, x.shape[-1]), x.dtype) for x in part] for part in new]
        if self.parts is not None:
            room = [
                [mx.concatenate([a[..., : self.offset, :], b], axis=-2) for a, b in zip(old, more)]
                for old, more in zip(self.parts, room)
            ]
        self.parts = room

    @staticmethod
    def _pack(x, how):
        return list(mx.quantize(x, **how)) if how else [x]

    @staticmethod
    def _unpack(part, how, dtype):
        return mx.dequantize(*part, **how).astype(dtype) if how else part[0]

    @property
    def state(self):
        return self.parts, self.offset, self.formats

    @state.setter
    def state(self, saved):
        self.parts, self.offset, self.formats = saved

    def empty(self):
        return self.parts is None

    @property
    def nbytes(self):
        return sum(a.nbytes for part in self.parts or [] for a in part)

    def to_quantized(self, *args, **kwargs):
        raise NotImplementedError("this cache is quantized already")


# load_prompt_cache looks there for the class of a cache that save_prompt_cache wrote.
stock.PackedKVCache = PackedKVCache

'''

ROUNDED = '''
def rounded(cache, keys, values):
    """The model's own cache, with everything rounded as the quantizer would before it goes in.

    No class of mlx-lm can hold this layer quantized: this shows what it would cost and saves no memory.
    After load_prompt_cache it must be applied again: a file has what was stored, not this.
    """
    store = cache.update_and_fetch

    def through(x, how):
        return mx.dequantize(*mx.quantize(x, **how), **how).astype(x.dtype) if how else x

    cache.update_and_fetch = lambda k, v: store(through(k, keys), through(v, values))
    return cache

'''


def mlx_lm_code(
    recipe: Recipe, *, model: str = "MODEL", kinds: Sequence[LayerKind] | None = None, sinks: bool = False
) -> str:
    """A Python script with ``make_cache(model)``, the prompt cache of the recipe for ``mlx_lm.generate``.

    mlx-lm's own QuantizedKVCache where it can hold a layer; a small class that the script defines where
    keys and values differ, where the stock class cannot hold the width, and where attention has ``sinks``,
    with which stock quantized attention does not work. ``kinds`` None: all full attention.

    Raises UnsupportedModelError where a composite layer is quantized, for which there is no such code.
    """
    kinds = kinds or ("full",) * len(recipe.layers)
    lines: dict[str, list[int]] = {}
    for index, (layer, kind) in enumerate(zip(recipe.layers, kinds, strict=True)):
        if not layer.full:
            lines.setdefault(_made(layer, kind, sinks), []).append(index)
    body = "".join(
        f"    for i in {_numbers(found)}:\n        cache[i] = {how}\n" for how, found in lines.items()
    )
    used = "\n".join(lines)
    stock, packed, around = (f"{name}(" in used for name in ("QuantizedKVCache", "PackedKVCache", "rounded"))
    names = ["KVCache"] * packed + ["QuantizedKVCache"] * stock + ["make_prompt_cache"]
    on_hub = "/" in model
    where = f"sys.argv[1] if sys.argv[1:] else {model!r}" if on_hub else "sys.argv[1]"
    head = [f"# The KV cache of a recipe for {inert(model)}, for mlx-lm's own generation."]
    head += [
        "# Its argument is the model's folder" + (", if it is not to come from the hub." if on_hub else ".")
    ]
    head += [WHY] * packed
    head += ["import sys"]
    head += ["import mlx.core as mx"] * (packed or around)
    head += ["from mlx_lm import generate, load"]
    head += ["from mlx_lm.models import cache as stock"] * packed
    head += [f"from mlx_lm.models.cache import {', '.join(names)}"]
    parts = ["\n".join(head)] + [PACKED] * packed + [ROUNDED] * around
    parts.append(
        'def make_cache(model):\n    """The prompt cache of one conversation."""\n'
        f"    cache = make_prompt_cache(model)\n{body}    return cache"
    )
    parts.append(
        'if __name__ == "__main__":\n'
        f"    model, tokenizer = load({where})\n"
        '    print(generate(model, tokenizer, prompt="Hello", prompt_cache=make_cache(model)))'
    )
    return "\n\n\n".join(part.strip("\n") for part in parts) + "\n"


def _made(layer: LayerQuantizers, kind: LayerKind, sinks: bool) -> str:
    """The expression that makes the cache of one layer."""
    both = f"{_format(layer.keys)}, {_format(layer.values)}"
    if kind == "full":
        q = layer.keys
        if q is not None and q == layer.values and _stock(q) and not sinks:
            return f"QuantizedKVCache(group_size={q.group_size}, bits={q.bits})"
        return f"PackedKVCache({both})"
    if kind in ("composite", "recurrent", "other"):
        raise UnsupportedModelError(
            f"mlx-lm has no cache for quantized {KIND_WORDS[kind]} layers, so no code can apply this recipe; "
            "it can be measured only."
        )
    return f"rounded(cache[i], {both})"


def _stock(q: Quantizer) -> bool:
    """Whether mlx-lm's own class allocates the right room for it, at every head size."""
    return q.mode == "affine" and 32 % q.bits == 0


def _format(q: Quantizer | None) -> str:
    if q is None:
        return "None"
    mode = "" if q.mode == "affine" else f', "mode": "{q.mode}"'
    return f'{{"bits": {q.bits}, "group_size": {q.group_size}{mode}}}'


def _numbers(layers: list[int]) -> str:
    """Layer numbers as Python that can be looped over."""
    if len(layers) > 2 and layers == list(range(layers[0], layers[-1] + 1)):
        return f"range({layers[0]}, {layers[-1] + 1})" if layers[0] else f"range({layers[-1] + 1})"
    return f"({', '.join(map(str, layers))},)" if len(layers) == 1 else f"({', '.join(map(str, layers))})"
