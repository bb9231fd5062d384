"""Write docs/models.md: every architecture of the installed mlx-lm, and how it can be measured.

    python tools/make_models_table.py

Each row comes from building a tiny model of that architecture and measuring it (tests/tiny_measuring.py). It
takes some minutes, and a machine without an Apple GPU.
"""

from __future__ import annotations

import importlib.metadata
import re
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "models.md"
sys.path.insert(0, str(ROOT))

if TYPE_CHECKING:
    from tests.tiny_measuring import Outcome

INTRO = """\
# Models

What can be measured of which architecture, with mlx-lm {version}. Before it loads a model, mqf-tui reads the
configuration and says what will be quantized; afterwards the report says what was.

Each line was made by building a tiny model of that architecture with random weights and measuring it; what
mqf-tui reads from a configuration was held against the caches of the built model. So the tables say what
runs; what a quantization costs a real model is what you measure. This file is written by
`python tools/make_models_table.py`.

- **Attention**: what the layers keep of the context. *Full*: keys and values of every token. *Sliding
  window*, *chunked*: of the last tokens only. *Recurrent*: a state of fixed size (Mamba, linear attention,
  convolutions). *Latent (MLA)*: a compressed row in place of keys and values.
- **Kernel**: `--kernel quantized` is mlx-lm's own attention over a quantized cache. `dequantized` stores the
  cache quantized and attends in full precision. `emulated` rounds what goes into the model's own cache. All
  three store the same numbers: where one does not run, another still says what the quantizer costs.
- Names in brackets are other model types that mlx-lm loads the same way.
"""


@dataclass(frozen=True)
class Group:
    """One table. ``why``: whether its rows give a reason."""

    title: str
    words: str
    why: bool = False


GROUPS: Mapping[str, Group] = {
    "all": Group(
        "Everything works",
        "All layers are quantized, with every kernel. This is what mlx-lm does with `--kv-bits`.",
    ),
    "some": Group(
        "The full-attention layers",
        "They are quantized, with every kernel. The other layers keep a bounded context and stay in full\n"
        "precision; `--layers all --kernel emulated` quantizes windows and chunks too, never recurrent\n"
        "states.",
    ),
    "dequantized": Group(
        "Not with mlx-lm's quantized attention",
        "`--kernel dequantized` and `--kernel emulated` work, and on a CPU the first is what runs unless\n"
        "you say otherwise. mlx-lm itself fails on these with `--kv-bits`.",
        why=True,
    ),
    "emulated": Group(
        "Emulated only",
        "`--kernel emulated` works. No quantized cache of mlx-lm can hold what these models keep.",
        why=True,
    ),
    "none": Group("Not measured", "These are refused before anything is scored.", why=True),
}
METAL = "its kernels need an Apple GPU, and this was made without one"


def row(name: str, found: Outcome) -> tuple[str, str]:
    """The table that an architecture belongs to, and its line there."""
    from mlx_lm.utils import MODEL_REMAPPING

    from tests.tiny_models import TINY

    group = group_of(found)
    others = sorted(kind for kind, module in MODEL_REMAPPING.items() if module == name)
    aliases = f" ({', '.join(f'`{kind}`' for kind in others)})" if others else ""
    cells = [f"`{name}`{aliases}", TINY[name].example, found.attention]
    if GROUPS[group].why:
        cells.append(reason(found))
    return group, f"| {' | '.join(cells)} |"


def group_of(found: Outcome) -> str:
    """The key of the table for what came out of measuring."""
    if not found.reports:
        return "none"
    if "quantized" in found.reports:
        return "all" if set(found.kinds) == {"full"} else "some"
    return "dequantized" if "dequantized" in found.reports else "emulated"


def reason(found: Outcome) -> str:
    """Why not in a better way, in a few words."""
    said = str(found.errors[-1])
    if not found.reports:
        if "Apple GPUs" in said:
            return METAL
        words = re.sub(
            r"^(this \S+ model|mlx-lm cannot run this model, )", "", said.partition(";")[0]
        ).strip()
        return f"mlx-lm cannot run it, {words}" if words.startswith("whatever") else words
    if "dequantized" in found.reports:
        if "attention sinks" in str(found.errors[0]):
            return "attention sinks"
        why = re.search(r"\((.*)\);", str(found.errors[0]))
        if why and why[1].startswith("the model computes"):
            return "the model computes attention itself"
        return (
            "keys and values of different sizes" if why and "reshape" in why[1] else why[1] if why else said
        )
    kinds = set(found.kinds)
    if "latent" in kinds:
        return "quantized attention has no use for latents"
    return "several caches in each layer" if "composite" in kinds else "no full-attention layer"


def page(rows: Sequence[tuple[str, str]]) -> str:
    """The whole file."""
    parts = [INTRO.format(version=version())]
    for key, group in GROUPS.items():
        lines = [line for of, line in rows if of == key]
        heads = ["Architecture", "Models", "Attention", *(["Why"] if group.why else [])]
        table = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads), *lines]
        parts.append("\n".join((f"## {group.title}", "", group.words, "", *table, "")))
    return "\n".join(parts)


def rows_of(text: str) -> list[tuple[str, str]]:
    """The lines of a page that was written before, each with the table that it is in."""
    titles = {group.title: key for key, group in GROUPS.items()}
    found: list[tuple[str, str]] = []
    key = ""
    for line in text.splitlines():
        if line.startswith("## "):
            key = titles[line[3:]]
        elif line.startswith("| `"):
            found.append((key, line))
    return found


def version() -> str:
    """The installed mlx-lm."""
    return importlib.metadata.version("mlx-lm")


def main() -> int:
    """Measure all of them and write the file."""
    from mqf_tui.fidelity import device

    device.prepare()
    import mlx.core as mx

    if mx.metal.is_available():
        print(
            "this table is made on a machine without Metal, so that it is the same everywhere",
            file=sys.stderr,
        )
        return 2
    from tests.tiny_measuring import outcome
    from tests.tiny_models import modules

    rows: list[tuple[str, str]] = []
    with tempfile.TemporaryDirectory() as home:
        for name in sorted(modules(), key=str.lower):
            rows.append(row(name, outcome(name, Path(home))))
            print(rows[-1][1])
    PAGE.write_text(page(rows), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
