"""What lies beside a model's weights: its chat template, its licence. Small files, or their beginnings."""

from __future__ import annotations

import os
import re
from pathlib import Path

from mqf_tui.fidelity.model.bounded import open_plain
from mqf_tui.fidelity.model.trust import MAX_TOKENIZER_CONFIG, TOKENIZER_CONFIG

TEMPLATES = ("chat_template.jinja", "chat_template.json", "additional_chat_templates")
CARD = "README.md"
LICENCES = ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE")
CARD_BYTES, LICENCE_BYTES = 16_384, 4096
LONGEST = 60  # characters of a licence's name
_TEMPLATE = re.compile(rb'"chat_template"\s*:\s*(?:"[^"]|\[\s*\{)')
_KINDS = (
    (re.compile(r"Apache License\s+Version 2\.0"), "apache-2.0"),
    (re.compile(r"LLAMA ([\d.]+) COMMUNITY LICENSE", re.IGNORECASE), "llama{0}"),
    (re.compile(r"Gemma Terms of Use", re.IGNORECASE), "gemma"),
    (re.compile(r"Permission is hereby granted, free of charge, to any person"), "mit"),
    (re.compile(r"GNU (AFFERO |LESSER )?GENERAL PUBLIC LICENSE\s+Version (\d)"), "{0}gpl-{1}.0"),
    (re.compile(r"Redistribution and use in source and binary forms"), "bsd"),
)
_PREFIXES = {"AFFERO ": "a", "LESSER ": "l"}


def has_chat_template(folder: Path) -> bool:
    """Whether the model brings a template for conversations."""
    if any(os.path.exists(folder / name) for name in TEMPLATES):
        return True
    return _TEMPLATE.search(_beginning(folder / TOKENIZER_CONFIG, MAX_TOKENIZER_CONFIG)) is not None


def licence_of(folder: Path) -> str:
    """The licence as the model's card names it, or as the text of its licence begins; empty: not told."""
    card = _beginning(folder / CARD, CARD_BYTES).decode("utf-8", "replace")
    named = _front_matter(card)
    licence = named.get("license", "")
    if licence in ("other", "") and named.get("license_name"):
        licence = named["license_name"]
    if licence in ("other", "unknown", ""):
        licence = _by_text(folder) or licence
    return licence[:LONGEST]


def _front_matter(card: str) -> dict[str, str]:
    """The simple values between the first two lines of ---; of a list its first."""
    lines = card.replace("\r\n", "\n").removeprefix("\ufeff").split("\n")
    if lines[0].strip() != "---":
        return {}
    found: dict[str, str] = {}
    last = ""
    for line in lines[1:]:
        if line.strip() == "---":
            return found
        key, colon, value = line.partition(":")
        if colon and key == key.strip() and key and not key.startswith("-"):
            last = key
            found[key] = _plain(value)
        elif line.strip().startswith("- ") and last and not found[last]:
            found[last] = _plain(line.strip()[2:])
    return {}


def _plain(value: str) -> str:
    """Without quotes, brackets and a comment."""
    return value.partition(" #")[0].strip().strip("[]").split(",")[0].strip().strip("'\"").strip()


def _by_text(folder: Path) -> str:
    for name in LICENCES:
        text = _beginning(folder / name, LICENCE_BYTES).decode("utf-8", "replace")
        for form, word in _KINDS:
            if found := form.search(text):
                return word.format(*(_PREFIXES.get(part, part or "") for part in found.groups()))
    return ""


def _beginning(path: Path, limit: int) -> bytes:
    """At most ``limit`` bytes; none of what is no file or cannot be read."""
    try:
        with open_plain(path) as file:
            return file.read(limit)
    except (OSError, ValueError):
        return b""
