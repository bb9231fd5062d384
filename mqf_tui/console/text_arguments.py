"""Options that say which text is scored, how it is read, and how it is cut. Imports nothing heavy."""

from __future__ import annotations

import argparse
from dataclasses import fields

from mqf_tui.fidelity.text.options import BOS, DOCUMENTS, REST, TextOptions


def add_text(command: argparse.ArgumentParser) -> None:
    """``--corpus`` and its choices."""
    text = command.add_argument_group("text")
    text.add_argument(
        "--corpus",
        action="append",
        metavar="TEXT",
        help="builtin (default), wikitext-2, hf:owner/name, a mixture of corpora.toml, a file, a folder, or "
        "- for standard input; more than once for several",
    )
    text.add_argument("--field", metavar="NAME", help="field of JSON lines that holds the text")
    text.add_argument("--glob", metavar="PATTERN", help="files of a folder, such as '**/*.md'")
    text.add_argument(
        "--documents",
        choices=DOCUMENTS,
        default="auto",
        help="join them, or begin each in a chunk of its own (default: only conversations apart)",
    )
    text.add_argument(
        "--bos",
        choices=BOS,
        default="auto",
        help="where the token that begins a text stands (default: in each chunk, as the tokenizer puts it)",
    )
    text.add_argument(
        "--stride",
        type=int,
        metavar="N",
        help="tokens from one chunk's start to the next one's; what overlaps is context (default: none does)",
    )
    text.add_argument(
        "--rest",
        choices=REST,
        default="auto",
        help="drop or pad what is left at an end (default: pad where documents are apart)",
    )
    text.add_argument(
        "--assistant-only",
        action="store_true",
        help="of conversations score the assistant's tokens only; the others are context",
    )
    text.add_argument(
        "--keep-text",
        action=argparse.BooleanOptionalAction,
        help="whether reports carry words of the text (default: of public texts only)",
    )
    text.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of what a mixture takes from its parts (default: 0)"
    )


def corpus_of(options: argparse.Namespace) -> str:
    """The text that the options name, as one word."""
    given = options.corpus
    if given is None:
        return "builtin"
    from mqf_tui.fidelity.text.corpora import AND

    return given if isinstance(given, str) else AND.join(given)


def text_of(options: argparse.Namespace) -> TextOptions:
    """The choices that the options name; the default ones where a command has no options for them."""
    if not hasattr(options, "documents"):
        return TextOptions()
    return TextOptions(**{one.name: getattr(options, one.name) for one in fields(TextOptions)})
