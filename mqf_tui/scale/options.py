"""The options of the command line that spread a sweep over ranks."""

from __future__ import annotations

import argparse

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.scale.hosts import BACKENDS, SPLITS, Fleet, fleet_of

NAMES = ("hosts", "ranks", "hostfile", "backend", "split", "host_python", "starting_port")
WHERE = NAMES[:3]


def add_scale(command: argparse.ArgumentParser) -> None:
    """Add the options to a command."""
    group = command.add_argument_group("more than one process or machine (docs/scale.md)")
    group.add_argument("--hosts", metavar="A,B", help="machines that score; mlx.launch starts ranks by ssh")
    group.add_argument("--ranks", type=int, metavar="N", help="processes on each (without --hosts: here)")
    group.add_argument("--hostfile", metavar="FILE", help="hosts in mlx.launch's own form")
    group.add_argument("--backend", choices=BACKENDS, help="of MLX's distributed engine (default: ring)")
    group.add_argument(
        "--split",
        choices=SPLITS,
        help="chunks: each rank holds the model and scores its own chunks (default); tensor, pipeline: each "
        "holds a share of a model that is too large for one",
    )
    group.add_argument(
        "--host-python", metavar="PATH", help="Python on the hosts (default: the path of this)"
    )
    group.add_argument("--starting-port", type=int, metavar="N", help="first port of MLX's ring")


def fleet_from(options: argparse.Namespace) -> Fleet | None:
    """The ranks that the options ask for; None where one process is to do it all. Raises FidelityError."""
    if all(getattr(options, name, None) is None for name in WHERE):
        for name in NAMES:
            if getattr(options, name, None) is not None:
                word = name.replace("_", "-")
                raise BadSettingError(f"--{word} is about ranks; name some with --ranks or --hosts.")
        return None
    return fleet_of(
        options.hosts,
        options.ranks,
        backend=options.backend or "ring",
        split=options.split or "chunks",
        hostfile=options.hostfile,
        python=options.host_python,
        starting_port=options.starting_port,
    )


def resume_on(options: argparse.Namespace, now: argparse.Namespace) -> None:
    """A sweep may be resumed on other ranks: where ``now`` names any, they go before those of ``options``."""
    if any(getattr(now, name) is not None for name in NAMES):
        for name in NAMES:
            setattr(options, name, getattr(now, name))
