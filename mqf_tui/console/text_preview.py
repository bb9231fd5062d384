"""``mqf-tui text``: what of a text would be scored, before anything is loaded."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from mqf_tui.console.output import say
from mqf_tui.reports.text import counted, inert, percent

if TYPE_CHECKING:
    from mqf_tui.fidelity.settings import KVSettings
    from mqf_tui.fidelity.text.chunk_preview import ChunkPreview

SHOWN = 1200  # characters of the first chunk


def run(options: argparse.Namespace) -> int:
    """Print tokens, chunks, the first one's text, and what is to be noticed."""
    from mqf_tui.api import facts_of
    from mqf_tui.fidelity.text.chunk_preview import chunk_preview
    from mqf_tui.library.corpora_file import with_mixture
    from mqf_tui.library.tokens import FileTokens

    settings = with_mixture(settings_from(options))
    settings.check()
    facts = facts_of(settings)
    found = chunk_preview(settings, facts, FileTokens(facts.folder))
    say("\n".join(lines_of(found, settings)) + "\n")
    for warning in found.warnings:
        sys.stderr.write(f"mqf-tui: {inert(warning)}\n")
    return 0


def settings_from(options: argparse.Namespace) -> KVSettings:
    """The settings that say how a text is read and cut."""
    from mqf_tui.console.text_arguments import corpus_of, text_of
    from mqf_tui.fidelity.settings import KVSettings

    return KVSettings(
        options.model,
        chunk_length=options.chunk_length,
        corpus=corpus_of(options),
        trust_remote_code=options.trust_remote_code,
        text=text_of(options),
    )


def lines_of(found: ChunkPreview, settings: KVSettings) -> list[str]:
    """The preview in words."""
    text, fit = found.provenance, found.fit
    least = "" if found.whole else "at least "
    per = fit.tokens_per_character
    split = f", split {inert(text.split)}" if text.split else ""
    rows = [
        ("text", f"{inert(text.name)} ({inert(text.version)}{split})"),
        ("chunks", f"{least}{found.n_chunks:,} of {settings.chunk_length:,} tokens"),
        ("tokens", f"{least}{found.n_tokens:,}" + (f", {1 / per:.2f} characters each" if per else "")),
        ("scored", f"{least}{counted(found.n_scored, 'position')}"),
        *([("parts", _parts(found))] if len(found.parts) > 1 else []),
        ("BOS", text.bos_policy),
        ("joined", text.join),
        ("rest", text.final_chunk_policy),
        *([("unknown", percent(fit.unknown))] if fit.unknown >= 5e-5 else []),
        *(
            [("pieces", f"{percent(fit.pieces)} of the tokens are no whole character")]
            if fit.pieces >= 5e-5
            else []
        ),
        ("hash", f"text {text.content_hash}, tokens {text.token_hash}" if found.whole else "of a part only"),
    ]
    first = [inert(line) for line in found.first_text[:SHOWN].splitlines()]
    more = ["…"] if len(found.first_text) > SHOWN else []
    return [*(f"{name:8} {value}" for name, value in rows), "", "The first chunk:", "", *first, *more]


def _parts(found: ChunkPreview) -> str:
    return ", ".join(f"{inert(name)} {n:,}" for name, n in found.parts)
