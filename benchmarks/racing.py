"""What --until-sure and --race save in a sweep, and whether the same settings win.

    python benchmarks/racing.py [RUN_FOLDER…]      saved runs of one sweep, replayed chunk by chunk
    python benchmarks/racing.py --simulate [RUNS]  simulated sweeps whose truth is known (minutes)

Without a run's folder the demo model is measured with 8, 6 and 4 bits, groups 32 and 64, on the built-in
corpus. A replay looks at the end of a round of the corpus's parts, as the engine does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from stopping import saved

from mqf_tui.fidelity.measured import round_ends
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.racing import SETTLED, Race, words
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.stopping import Sureness
from mqf_tui.fidelity.verdict import KV_POLICY, limited, verdict
from mqf_tui.reports.schema import VERDICTS, Thresholds, Verdict

RULES = {"--until-sure": (True, False), "--race": (False, True), "--race --until-sure": (True, True)}
POLICIES = {"kv-1": KV_POLICY, "kv-1 with --max-flips 2%": limited(KV_POLICY, None, 0.02)}


@dataclass(frozen=True)
class Run:
    """A variant with all its positions; ``kv_bytes`` a token."""

    settings: KVSettings
    kv_bytes: float
    positions: Positions

    @cached_property
    def chunks(self) -> list[Positions]:
        """Its chunks in order."""
        return [self.positions.where(self.positions.chunk == c) for c in np.unique(self.positions.chunk)]

    def verdict(self, n_chunks: int, policy: Thresholds) -> Verdict:
        """What its first chunks say."""
        p = Positions.concatenate(self.chunks[:n_chunks])
        mean, tail = float(np.mean(p.kl, dtype=np.float64)), float(np.quantile(p.kl, 0.99))
        return verdict(mean, tail, float(p.flip.mean()), policy)


def measured() -> list[Run]:
    from mqf_tui.api import sweep_events
    from mqf_tui.fidelity.events import Finished

    variants = tuple(KVSettings("demo", b, g, max_chunks=40) for b in (8, 6, 4) for g in (32, 64))
    found: list[Run] = []
    for event in sweep_events(SweepSettings(variants)):
        if isinstance(event, Finished) and event.report.kv_bytes_per_token is not None:
            kv_bytes = event.report.kv_bytes_per_token.variant
            found.append(Run(variants[event.variant], kv_bytes, event.positions))
    return found


def read(folder: Path) -> Run:
    report = json.loads((folder / "report.json").read_text())
    settings = KVSettings(report["model"], report["kv_bits"], report["kv_group_size"])
    return Run(settings, report["kv_bytes_per_token"]["variant"], saved(folder)[2])


def replayed(
    runs: list[Run], policy: Thresholds, until_sure: bool, race: bool
) -> tuple[list[int], dict[int, str]]:
    """How many chunks each got, and why each left that did."""
    settings = [replace(run.settings, thresholds=policy) for run in runs]
    racing, rules = Race(settings, [run.kv_bytes for run in runs]), [Sureness(policy) for _ in runs]
    part = np.array([chunk.part[0] for chunk in runs[0].chunks], np.int16)
    got, why = [0] * len(runs), dict[int, str]()
    for k in range(len(part)):
        still = {i: run.chunks[k] for i, run in enumerate(runs) if i not in why}
        racing.add(still)
        for i, chunk in still.items():
            rules[i].add(chunk)
            got[i] = k + 1
        if round_ends(part, k) and k + 1 < len(part):
            why |= {i: SETTLED for i in still if until_sure and rules[i].settled}
            why |= {i: said for i, said in racing.out().items() if race and i not in why}
        if len(why) == len(runs):
            break
    return got, why


def winners(runs: list[Run], got: list[int], policy: Thresholds) -> Mapping[Verdict, str]:
    """The cheapest setting that is good, and that is marginal or better, by the chunks that each got."""
    found = dict.fromkeys(VERDICTS[:2], "none")
    for run, n in sorted(zip(runs, got, strict=True), key=lambda pair: -pair[0].kv_bytes):
        for least in VERDICTS[VERDICTS.index(run.verdict(n, policy)) : 2]:
            found[least] = words(run.settings)
    return found


def compare(runs: list[Run]) -> None:
    """Print what each rule saves against scoring all."""
    n = len(runs[0].chunks)
    for name, policy in POLICIES.items():
        whole = winners(runs, [n] * len(runs), policy)
        print(f"{runs[0].settings.model}, {len(runs)} settings, {n} chunks, {name}: all scored: {whole}")
        for rule, (until_sure, race) in RULES.items():
            got, why = replayed(runs, policy, until_sure, race)
            found = winners(runs, got, policy)
            saved_share, of_reference = 1 - sum(got) / (n * len(runs)), 1 - max(got) / n
            print(
                f"  {rule}: {saved_share:.0%} of positions saved, {of_reference:.0%} of the reference's; "
                f"winners {'the same' if found == whole else found}"
            )
            for i, run in enumerate(runs):
                said = why.get(i, "to the end")
                print(f"    {words(run.settings)}: {got[i]} chunks, {run.verdict(got[i], policy)}; {said}")


def simulate(n_runs: int) -> None:
    """Print how often one leaves wrongly, what a race saves, and how often the winners are the same."""
    from tests.simulated_sweep import SMOLLM2, SMOLLM2_HEAVY, Sweep
    from tests.test_racing import ALIKE, HARD, TWINS, shape

    worse = Sweep(tuple(shape(0.005 * 1.2**k, 0.03) for k in range(6)), TWINS, ALIKE)
    sweeps = {"SmolLM2": SMOLLM2, "SmolLM2, heavy": SMOLLM2_HEAVY, "each 20 % worse": worse, **HARD}
    for name, sweep in sweeps.items():
        for n_chunks in (40, 100):
            n, wrong, used, same, over = len(sweep.shapes), 0, 0, 0, 0
            for run in sweep.runs(n_runs, n_chunks, seed=5):
                raced = sweep.race(run, every=5)
                everything = dict.fromkeys(range(n), n_chunks)
                wrong += bool(sweep.wrong(raced))
                used += sum(raced.after.values())
                over += len(raced.why) == n
                same += all(
                    sweep.winner(run, raced.after, least) == sweep.winner(run, everything, least)
                    for least in (0, 1)
                )
            print(
                f"{name}, {n_chunks} chunks, {n_runs} times: one left wrongly {wrong / n_runs:.1%}, "
                f"positions saved {1 - used / (n_runs * n_chunks * n):.1%}, all decided {over / n_runs:.0%}, "
                f"same winners {same / n_runs:.1%}"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--simulate"]:
        simulate(int(sys.argv[2]) if len(sys.argv) > 2 else 200)
    else:
        compare([read(Path(folder)) for folder in sys.argv[1:]] or measured())
