"""Options of ``models`` and its actions. Imports nothing heavy."""

from __future__ import annotations

import argparse

from mqf_tui.library.hub.names import AUTHOR

FORMATS = ("table", "json")


def add_models(models: argparse.ArgumentParser) -> None:
    """What is here; with an action, what is on the hub."""
    models.add_argument("--format", choices=FORMATS, default="table")
    actions = models.add_subparsers(dest="action", metavar="ACTION")

    show = actions.add_parser("show", help="everything that is known of a model on this machine")
    show.add_argument("name", metavar="NAME[@REVISION]", help="one that `mqf-tui models` lists, or a folder")
    show.add_argument("--format", choices=FORMATS, default=argparse.SUPPRESS, help="default: table")

    search = actions.add_parser("search", help="find models on the Hugging Face hub")
    search.add_argument("text", nargs="+", metavar="TEXT", help="a part of the name, such as 'llama 3.2 1b'")
    whose = search.add_mutually_exclusive_group()
    whose.add_argument("--author", default=AUTHOR, metavar="A", help=f"whose models (default: {AUTHOR})")
    whose.add_argument("--any-author", action="store_true", help="anybody's")
    search.add_argument(
        "--limit", type=int, default=30, metavar="N", help="at most so many, up to 100 (default: 30)"
    )
    # Left alone where it is not given: `models --format json search …` says it before.
    search.add_argument("--format", choices=FORMATS, default=argparse.SUPPRESS, help="default: table")

    download = actions.add_parser(
        "download",
        help="fetch a model from the hub",
        epilog="stopped by Ctrl+C or broken off, the same command goes on where it was",
    )
    download.add_argument("name", metavar="NAME[@REVISION]", help="such as mlx-community/Llama-3.2-1B-4bit")
