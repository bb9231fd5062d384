"""The reference's work on the first layers, used again by variants that leave those layers alone (mlx).

A variant whose layers 0..k-1 are not quantized computes there, in every step, what the reference has
just computed. So the reference's pass records what its layers return, and a variant's pass gets that
back in place of running them.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Generator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
from mlx.utils import tree_map
from mlx_lm.models.cache import CacheList, ChunkedKVCache, make_prompt_cache

Cache = list[Any]
TRIED = ((0, 5), (5, 9))  # positions of the steps with which a model is tried


class Replay:
    """Records and replays the layers of one model, in steps that the caller runs.

    In each step: the reference's pass in ``with replay.recording(cache, firsts)``, then the pass of each
    variant whose first quantized cache layer is k in ``with replay.replaying(k)``, with the cache
    ``replay.cache(own, k)``. What was recorded is dropped when the next recording begins, or by ``drop``.
    """

    def __init__(self, model: Any) -> None:
        """Raises ValueError where the model's layers cannot be told apart or do not have a cache each."""
        layers: Sequence[Any] = list(model.layers)
        self._order = {id(layer): i for i, layer in enumerate(layers)}
        self._lists = [
            value
            for module in model.modules()
            for value in module.values()
            if isinstance(value, list) and any(id(entry) in self._order for entry in value)
        ]
        if len(self._order) != len(layers) or not self._lists:
            raise ValueError("the model's layers are not a list of its own")
        self._outputs: dict[int, Any] = {}
        self._passed: Cache = []
        self._layer_of = self._trace(model)

    @classmethod
    def of(cls, model: Any, vocab_size: int) -> Replay | None:
        """A replay of this model; None where a few tokens do not come out bit for bit as in a whole pass."""
        try:
            replay = cls(model)
            works = replay._try(model, vocab_size)
        except Exception:  # whatever a model does that this module does not expect, whole passes do not mind
            return None
        replay.drop()
        return replay if works else None

    @contextmanager
    def recording(self, cache: Sequence[Any], firsts: Collection[int]) -> Generator[None]:
        """Record one pass of the reference with ``cache``, for variants whose first quantized layer is one
        of ``firsts`` (0: nothing to replay). Memory: one step's hidden states for each of them.
        """
        self.drop()
        self._passed = [passed(entry) for entry in cache[: max(firsts, default=0)]]
        last = {self._layer_of[k] - 1 for k in firsts if k}
        end = max(last, default=-1)

        def run(index: int, layer: Any, args: Any, kwargs: Any) -> Any:
            out = layer(*args, **kwargs)
            # Layers that hand more than the hidden states on may be asked for it by any later one.
            if index in last or (index < end and not isinstance(out, mx.array)):
                self._outputs[index] = _copies(out)
            return out

        with self._around(run):
            yield

    @contextmanager
    def replaying(self, first: int) -> Generator[None]:
        """Pass over the layers before that of cache entry ``first``; what was recorded stands in for them."""
        end = self._layer_of[first] if first else 0

        def run(index: int, layer: Any, args: Any, kwargs: Any) -> Any:
            if index >= end:
                return layer(*args, **kwargs)
            # Of plain hidden states only the last replayed layer's count.
            return _copies(self._outputs[index] if index in self._outputs else self._outputs[end - 1])

        with self._around(run):
            yield

    def cache(self, own: Sequence[Any], first: int) -> Cache:
        """A variant's cache in a step: ``own`` from entry ``first`` on; before it, entries that hold nothing
        and know the recorded pass's place in the text, which masks are made from."""
        return [*self._passed[:first], *own[first:]]

    def drop(self) -> None:
        """Let go of what was recorded."""
        self._outputs, self._passed = {}, []

    @contextmanager
    def _around(self, run: Any) -> Generator[None]:
        """Call ``run`` in place of each layer of the model."""
        before = [list(entries) for entries in self._lists]
        for entries in self._lists:
            entries[:] = [
                _Shim(self._order[id(entry)], entry, run) if id(entry) in self._order else entry
                for entry in entries
            ]
        try:
            yield
        finally:
            for entries, old in zip(self._lists, before, strict=True):
                entries[:] = old

    def _trace(self, model: Any) -> list[int]:
        """The layer that each cache entry goes to, found by watching a pass over one token."""
        cache = make_prompt_cache(model)
        found: dict[int, list[int]] = {i: [] for i in range(len(cache))}

        def run(index: int, layer: Any, args: Any, kwargs: Any) -> Any:
            for i, entry in enumerate(cache):
                if any(entry is given for given in (*args, *kwargs.values())):
                    found[i].append(index)
            return layer(*args, **kwargs)

        with self._around(run):
            model(mx.array([[0]]), cache=cache)  # never evaluated
        order = [index for indices in found.values() for index in indices]
        if any(len(indices) != 1 for indices in found.values()) or order != sorted(set(order)):
            raise ValueError("cache entries and layers do not go together one by one")
        return order

    def _try(self, model: Any, vocab_size: int) -> bool:
        """Whether passes that begin at the second, a middle and the last layer give the same bits."""
        n = len(self._layer_of)
        firsts = sorted({1, n // 2, n - 1} & set(range(1, n)))
        tokens = mx.arange(TRIED[-1][1])[None] * 7 % vocab_size
        reference, others = make_prompt_cache(model), {k: make_prompt_cache(model) for k in firsts}
        for a, b in TRIED:
            with self.recording(reference, firsts):
                expected = model(tokens[:, a:b], cache=reference)
            for k, own in others.items():
                with self.replaying(k):
                    found = model(tokens[:, a:b], cache=self.cache(own, k))
                if not mx.array_equal(found, expected):
                    return False
        return bool(firsts)


class _Shim:
    """Stands in a model's list for a layer; what else a model asks of the layer, the layer answers."""

    def __init__(self, index: int, layer: Any, run: Any) -> None:
        self.__dict__.update(_index=index, _layer=layer, _run=run)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._run(self._index, self._layer, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._layer, name)


class _PassedChunkedKVCache(ChunkedKVCache):
    """The stock class looks at its keys to see whether there is anything to trim."""

    def maybe_trim_front(self) -> None:
        self.start_position = max(self.start_position, self.offset - self.chunk_size)


def passed(entry: Any) -> Any:
    """A cache entry with ``entry``'s place in the text (offset, window, …) and without what it holds."""
    if isinstance(entry, CacheList):
        return CacheList(*map(passed, entry.caches))
    twin = copy.copy(entry)
    if type(entry) is ChunkedKVCache:
        twin.__class__ = _PassedChunkedKVCache
    for name, value in vars(entry).items():
        setattr(twin, name, tree_map(lambda x: None if isinstance(x, mx.array) else x, value))
    twin.update_and_fetch = _refuse
    return twin


def _refuse(*_: Any) -> Any:
    raise ValueError("the cache of a replayed layer was used")


def _copies(tree: Any) -> Any:
    """The same values in array objects of their own: ``x *= 2`` changes an array for all who hold it."""
    return tree_map(lambda x: copy.copy(x) if isinstance(x, mx.array) else x, tree)
