"""Options that say what is quantized, for ``kv`` and for ``sweep``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

from mqf_tui.fidelity.errors import FidelityError
from mqf_tui.fidelity.quantizers import KERNELS

T = TypeVar("T")
FORMAT = "such as 4, k8v4, k8v4g32, k16v4 (16: full precision), mxfp4, mxfp8 or nvfp4"


def add_one(command: argparse.ArgumentParser) -> None:
    """One setting: bits and group, or keys and values apart."""
    what = command.add_argument_group("what is quantized")
    what.add_argument("--kv-bits", type=int, metavar="N", help="2, 3, 4, 5, 6 or 8 (default: 8)")
    what.add_argument(
        "--kv-group-size", type=int, default=64, metavar="N", help="32, 64 or 128 (default: 64)"
    )
    what.add_argument("--kv", metavar="FORMAT", help=FORMAT)
    what.add_argument("--k-bits", type=int, metavar="N", help="bits of the keys (16: full precision)")
    what.add_argument("--v-bits", type=int, metavar="N", help="bits of the values (16: full precision)")
    _add_layers(what)


def add_several(command: argparse.ArgumentParser) -> None:
    """Several settings, which one sweep measures."""
    what = command.add_argument_group("what is quantized")
    what.add_argument(
        "--kv-bits",
        dest="sweep_bits",
        type=several(whole),
        default=(),
        metavar="N,…",
        help="bits, each with every group (default: 8,6,4)",
    )
    what.add_argument(
        "--kv-group-size",
        dest="sweep_groups",
        type=several(whole),
        default=(),
        metavar="N,…",
        help="groups (default: 64)",
    )
    what.add_argument("--kv", dest="formats", type=several(str), default=(), metavar="FORMAT,…", help=FORMAT)
    for side, word in (("k", "keys"), ("v", "values")):
        what.add_argument(
            f"--{side}-bits",
            type=several(whole),
            default=(),
            metavar="N,…",
            help=f"bits of the {word}, each with all of the other's: a grid (16: full precision)",
        )
    _add_layers(what)


def _add_layers(what: argparse._ArgumentGroup) -> None:  # pyright: ignore[reportPrivateUsage]
    what.add_argument(
        "--layers",
        metavar="LAYERS",
        help="full-attention, all, or sets such as 0-3:8,4-:k8v4 (default: all, or the full-attention ones "
        "where there are others)",
    )
    what.add_argument(
        "--recipe", metavar="FILE", help="each layer's own setting, as `mqf-tui tune` writes it"
    )
    what.add_argument(
        "--kernel",
        choices=KERNELS,
        default="auto",
        help="how attention reads the cache: quantized (as mlx-lm), dequantized (same numbers, standard "
        "attention), emulated (any cache; what the quantizer would cost); auto: the first, on a CPU the "
        "second",
    )
    what.add_argument(
        "--control", action="store_true", help="measure both kernels, to tell their errors apart"
    )


def several(kind: Callable[[str], T]) -> Callable[[str], tuple[T, ...]]:
    """An option's type: values with commas between them."""

    def read(text: str) -> tuple[T, ...]:
        words = [word.strip() for word in text.split(",") if word.strip()]
        if not words:
            raise argparse.ArgumentTypeError("nothing is named; use values with commas, or leave it out")
        return tuple(map(kind, words))

    return read


def whole(text: str) -> int:
    """A whole number; argparse prints the complaint."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no whole number; use numbers with commas, such as 8,6,4"
        ) from None


def sized(read: str) -> Callable[[str], int]:
    """An option's type: ``tokens`` (32k) or ``memory`` (8GB), as ``fidelity.budget`` reads them."""

    def parse(text: str) -> int:
        from mqf_tui.fidelity import budget

        try:
            return budget.parse_tokens(text) if read == "tokens" else budget.parse_bytes(text)
        except FidelityError as error:
            raise argparse.ArgumentTypeError(str(error).rstrip(".")) from None

    return parse
