"""The variants that the options of a sweep mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.fidelity.quantizers import LayerQuantizers, parsed, quantizer
from mqf_tui.fidelity.recipes import names_all_formats
from mqf_tui.fidelity.settings import KVSettings


def spread(
    base: KVSettings,
    *,
    bits: Sequence[int] = (),
    groups: Sequence[int] = (64,),
    formats: Sequence[str] = (),
    k_bits: Sequence[int] = (),
    v_bits: Sequence[int] = (),
) -> tuple[KVSettings, ...]:
    """Settings like ``base`` for each of: ``bits`` × ``groups``; ``formats`` (``k8v4``, ``mxfp4``, … each
    with every group that it does not name); ``k_bits`` × ``v_bits`` × ``groups``, 16 being full precision.

    Each comes once, in this order. Raises BadSettingError.
    """
    if bool(k_bits) != bool(v_bits):
        raise BadSettingError(
            f"bits are given for {'keys' if k_bits else 'values'} alone; name both, 16 being full precision, "
            "as in --k-bits 8 --v-bits 16."
        )
    if names_all_formats(base.layers):
        if bits or formats or k_bits or v_bits:
            raise BadSettingError(
                f"the layers {base.layers!r} name their formats already; leave out the bits, or name layers "
                "alone, such as 0-3."
            )
        return (base,)
    found = dict.fromkeys(_formats(bits, groups, formats, k_bits, v_bits))
    if not found and (bits or formats or k_bits or v_bits):
        raise BadSettingError("16 bits for keys and values quantize nothing; use fewer for one of them.")
    return tuple(with_quantizers(base, layer) for layer in found)


def with_control(variants: Sequence[KVSettings]) -> tuple[KVSettings, ...]:
    """Each variant twice: read from the packed numbers as mlx-lm does it, and from the same numbers by
    standard attention. Raises BadSettingError for an emulated one."""
    if any(one.kernel == "emulated" for one in variants):
        raise BadSettingError(
            "the control compares two ways to read a packed cache, and an emulated one is not packed; leave "
            "out one of the two."
        )
    kernels = ("quantized", "dequantized")
    return tuple(replace(one, kernel=kernel) for one in variants for kernel in kernels)


def with_quantizers(base: KVSettings, layer: LayerQuantizers) -> KVSettings:
    """``base`` with these quantizers for keys and values."""
    one = layer.keys
    if one is not None and one == layer.values and one.mode == "affine":
        return replace(base, kv_bits=one.bits, kv_group_size=one.group_size, kv=None)
    return replace(base, kv=layer)


def _formats(
    bits: Sequence[int],
    groups: Sequence[int],
    formats: Sequence[str],
    k_bits: Sequence[int],
    v_bits: Sequence[int],
) -> Iterator[LayerQuantizers]:
    for b in bits:
        for group in groups:
            yield LayerQuantizers(quantizer(b, group), quantizer(b, group))
    for word in formats:
        for group in groups:
            yield parsed(word, group)
    for k in k_bits:
        for v in v_bits:
            for group in groups:
                layer = LayerQuantizers(quantizer(k, group), quantizer(v, group))
                if not layer.full:
                    yield layer
