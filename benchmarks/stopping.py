"""How many chunks --until-sure and --precision save: saved runs, replayed chunk by chunk.

    python benchmarks/stopping.py [RUN_FOLDER…]

The rule looks after each chunk and a measurement ends at the end of a round of the corpus's parts, as in the
engine. Without a run's folder the demo model is measured with 2 and 8 bits on the built-in corpus.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mqf_tui.fidelity.positions import ARRAYS, Positions
from mqf_tui.fidelity.stopping import Sureness
from mqf_tui.fidelity.verdict import KV_POLICY, limited

Run = tuple[str, str, Positions]
RULES = {
    "verdict": (KV_POLICY, None),
    "verdict, --max-flips 2%": (limited(KV_POLICY, None, 0.02), None),
    "--precision 10%": (KV_POLICY, 0.10),
    "--precision 20%": (KV_POLICY, 0.20),
    "--precision 30%": (KV_POLICY, 0.30),
}


def saved(folder: Path) -> Run:
    report = json.loads((folder / "report.json").read_text())
    with np.load(folder / "positions.npz", allow_pickle=False) as stored:
        positions = Positions.of({name: stored[name] for name in ARRAYS if name in stored})
    return (
        f"{report['model']}, {report['kv_bits']}-bit, {report['corpus']['name']}",
        report["verdict"],
        positions,
    )


def measured() -> Iterator[Run]:
    from mqf_tui.api import events
    from mqf_tui.fidelity.events import Finished
    from mqf_tui.fidelity.settings import KVSettings

    for bits in (8, 2):
        for event in events(KVSettings("demo", kv_bits=bits, max_chunks=40)):
            if isinstance(event, Finished):
                report = event.report
                yield f"{report.model}, {bits}-bit, {report.corpus.name}", report.verdict, event.positions


def replayed(positions: Positions, rule: Sureness) -> tuple[int, bool]:
    """After how many chunks it ends, and whether because it was sure."""
    chunks = np.unique(positions.chunk)
    parts = [int(positions.part[positions.chunk == chunk][0]) for chunk in chunks]
    for index, chunk in enumerate(chunks):
        rule.add(positions.where(positions.chunk == chunk))
        last_of_round = index + 1 == len(chunks) or parts[index + 1] <= parts[index]
        if rule.settled and last_of_round:
            return index + 1, True
    return len(chunks), False


def main() -> None:
    runs = [saved(Path(folder)) for folder in sys.argv[1:]] or list(measured())
    for name, said, positions in runs:
        n_chunks = len(np.unique(positions.chunk))
        print(f"{name}: {n_chunks} chunks, {said}")
        for words, (policy, precision) in RULES.items():
            rule = Sureness(policy, precision)
            needed, sure = replayed(positions, rule)
            low, high = rule.kl_interval or (0.0, np.inf)
            if not sure:
                left = "" if precision else f"; left: {', '.join(rule.possible)}"
                print(f"  {words}: not settled by all {n_chunks}; mean KL {low:.3g} to {high:.3g}{left}")
                continue
            verdict = "" if precision else f": {rule.verdict}"
            print(
                f"  {words}: {needed} of {n_chunks} ({1 - needed / n_chunks:.0%} saved){verdict}; "
                f"mean KL {low:.3g} to {high:.3g}, of the whole run {positions.kl.mean(dtype=np.float64):.3g}"
            )


if __name__ == "__main__":
    main()
