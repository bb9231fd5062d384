"""Options of ``sensitivity`` and ``tune``. Imports nothing heavy."""

from __future__ import annotations

import argparse

from mqf_tui.console.text_arguments import add_text
from mqf_tui.console.variant_arguments import several, sized, whole
from mqf_tui.fidelity.quantizers import KERNELS
from mqf_tui.scale.options import add_scale

MODEL = "a model folder, 'demo', or a name from the local hub cache"


def add_sensitivity(command: argparse.ArgumentParser) -> None:
    """What each layer alone costs."""
    command.add_argument("model", metavar="MODEL", help=MODEL)
    command.add_argument(
        "--kv-bits", type=int, default=4, metavar="N", help="of the layer that is quantized (default: 4)"
    )
    _add_common(command)
    command.add_argument("--max-chunks", type=int, default=4, metavar="N", help="chunks (default: 4)")
    _add_output(command, ("md", "json", "html", "csv"))


def add_tune(command: argparse.ArgumentParser) -> None:
    """A mixed recipe for a goal."""
    command.add_argument("model", metavar="MODEL", help=MODEL)
    goal = command.add_argument_group("the goal: one of these")
    goal.add_argument(
        "--max-kv-bytes-per-token",
        type=float,
        metavar="B",
        help="at most so many, counted for a 16-bit cache",
    )
    goal.add_argument("--max-kl", type=float, metavar="X", help="at most so much mean KL (nats), as measured")
    goal.add_argument("--context", type=sized("tokens"), metavar="N", help="tokens, such as 32k, which …")
    goal.add_argument(
        "--memory", type=sized("memory"), metavar="SIZE", help="… must fit into this, such as 8GB"
    )
    choice = command.add_argument_group("what may be chosen")
    choice.add_argument(
        "--bits", type=several(whole), default=(8, 6, 4, 3, 2), metavar="N,…", help="default: 8,6,4,3,2"
    )
    choice.add_argument(
        "--sense-bits",
        type=several(whole),
        default=(),
        metavar="N,…",
        help="measure each layer alone at these, and predict the others (default: 4 and the fewest)",
    )
    choice.add_argument(
        "--sense-chunks", type=int, default=4, metavar="N", help="chunks for each layer alone (default: 4)"
    )
    _add_common(command)
    command.add_argument(
        "--max-chunks", type=int, metavar="N", help="chunks for the whole recipe (default: all)"
    )
    command.add_argument("--save-recipe", metavar="FILE", help="write the recipe there (TOML)")
    _add_output(command, ("md", "json"))


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--kv-group-size", type=int, default=64, metavar="N", help="32, 64 or 128 (default: 64)"
    )
    command.add_argument(
        "--together", action="store_true", help="keys and values alike, so that mlx-lm's own class holds them"
    )
    command.add_argument(
        "--kernel", choices=KERNELS, default="auto", help="how attention reads the cache (default: auto)"
    )
    add_text(command)
    command.add_argument(
        "--trust-remote-code", action="store_true", help="run Python code that the model folder carries"
    )
    command.add_argument("--chunk-length", type=int, default=512, metavar="L", help="tokens (default: 512)")
    command.add_argument(
        "--quantize-start",
        type=int,
        default=0,
        metavar="N",
        help="0: stress (default); N > 0: the first N positions in full precision",
    )
    add_scale(command)
    command.add_argument(
        "--memory-limit", type=sized("memory"), metavar="SIZE", help="use at most so much memory, such as 8GB"
    )


def _add_output(command: argparse.ArgumentParser, formats: tuple[str, ...]) -> None:
    command.add_argument("--format", choices=formats, help="default: by how --output ends; else md")
    command.add_argument("--output", metavar="FILE", help="write the report there instead of printing it")
    command.add_argument("--no-save", action="store_true", help="keep nothing")
