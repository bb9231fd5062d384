"""Every screen as it looks on made-up runs: the same on every machine, at any time of day.

Nothing is measured here, since measured numbers differ in their last digits from one processor to the next.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from textual.pilot import Pilot
from textual.widgets import Static

from mqf_tui.app import bridge as bridges
from mqf_tui.app.app import MqfTuiApp
from mqf_tui.app.measurement import Measurement
from mqf_tui.app.screens import live as live_screen
from mqf_tui.app.widgets import text_flow
from mqf_tui.fidelity import memory, timing
from mqf_tui.fidelity.device import Device
from mqf_tui.fidelity.events import ChunkFinished, Plan, Started, StepScored
from mqf_tui.fidelity.positions import Positions
from mqf_tui.fidelity.recipes import Recipe
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.spreading import spread
from mqf_tui.fidelity.watchdog import Reading
from mqf_tui.library.runs import SavedRun, list_runs, save_run
from mqf_tui.reports.schema import CorpusProvenance, KVBytes
from tests import made_hub, made_sweeps, makers
from tests.test_app import screen_text

GB = 10**9
PASSAGE = (
    "The night train left the coast a little after nine, and for the first hour there was nothing to see but "
    "the lamps of small stations. A woman in the corner read aloud from a letter: the mill had been sold, "
    "the river was higher than anyone remembered, and the bridge at the ford would not last another winter. "
    "Nobody answered. Outside, the fields were white under the moon, and a dog ran beside the carriage until "
    "it could not keep up. "
)
WORDS = [f" {word}" for word in PASSAGE.split()]
TEXTS = dict(enumerate(dict.fromkeys(WORDS)))
IDS = {text: number for number, text in TEXTS.items()}
CHUNKS, PER_CHUNK = 4, 120

Prepare = Callable[[Pilot[None]], Awaitable[None]]


def text_positions(scale: float = 1.0, seed: int = 11) -> Positions:
    """Positions over PASSAGE, again and again; larger ``scale``, larger KL and more flips."""
    rng = np.random.default_rng(5)
    n = CHUNKS * PER_CHUNK
    token = np.array([IDS[WORDS[i % len(WORDS)]] for i in range(n)], np.int32)
    prob = rng.uniform(0.25, 0.97, n)
    base = rng.lognormal(-5.2, 1.6, n)
    own = np.random.default_rng(seed)
    flip = own.random(n) < 0.02 * scale
    top = np.where(rng.random(n) < 0.6, token, (token + 7) % len(TEXTS)).astype(np.int32)
    nll = -np.log(np.where(top == token, prob, 0.3 * (1 - prob) + 0.001))
    kl = (base * scale * own.lognormal(0, 0.3, n) + flip * own.exponential(0.4, n)).astype(np.float32)
    return Positions.of(
        {
            "chunk": np.repeat(np.arange(CHUNKS), PER_CHUNK),
            "depth": np.tile(np.arange(PER_CHUNK), CHUNKS),
            "part": np.repeat(np.arange(CHUNKS) % 2, PER_CHUNK),
            "token": token,
            "kl": kl,
            "nll_ref": nll,
            "nll_quant": nll + own.normal(0.01 * scale, 0.05, n),
            "top1_ref": top,
            "top1_quant": np.where(flip, (top + 3) % len(TEXTS), top),
            "prob_ref": prob,
            "prob_quant": np.clip(prob - own.exponential(0.02 * scale, n), 0.01, 1),
            "entropy": rng.exponential(1.5, n),
            "margin": prob * rng.random(n),
            "in_top5": own.random(n) < 0.995,
            "token_class": np.array([0 if len(TEXTS[int(t)]) > 4 else 1 for t in token]),
        },
        ("prose", "letters"),
        TEXTS,
    )


RUNS = (
    # bits, group, KL, flips, verdict, minutes
    (8, 64, 0.0021, 0.004, "good", 7),
    (6, 64, 0.0064, 0.009, "good", 6),
    (4, 64, 0.0436, 0.031, "marginal", 5),
    (3, 64, 0.2130, 0.094, "bad", 4),
    (2, 64, 1.8700, 0.410, "bad", 3),
)


def saved_runs() -> list[SavedRun]:
    """Five runs of one model over the same text, newest first."""
    for bits, group, mean, flips, verdict, minute in RUNS:
        size = 512.0 * (bits / 16 + 2 / group)
        report = makers.report(
            created=f"2026-03-04T05:0{minute}:00+00:00",
            kv_bits=bits,
            kv_group_size=group,
            kl={**makers.report_data()["kl"], **_figures(mean)},
            flip_rate=flips,
            flip_ci_low=0.8 * flips,
            flip_ci_high=1.2 * flips,
            verdict=verdict,
            n_positions=CHUNKS * PER_CHUNK,
            n_chunks=CHUNKS,
            n_chunks_planned=CHUNKS,
            kv_bytes_per_token={
                **makers.report_data()["kv_bytes_per_token"],
                "variant": 2 * size,
                "variant_16bit": size,
            },
            command=f"mqf-tui kv org/tiny-llama --kv-bits {bits}",
        )
        save_run(report, text_positions(mean / 0.02))
    return list_runs()


def _figures(mean: float) -> dict[str, float]:
    return {
        "mean": mean,
        "median": mean / 2,
        "p90": 2.5 * mean,
        "p95": 4 * mean,
        "p99": 9 * mean,
        "max": 60 * mean,
        "ci_low": 0.85 * mean,
        "ci_high": 1.15 * mean,
    }


def plan(settings: KVSettings) -> Plan:
    size = 512.0 * (settings.kv_bits / 16 + 2 / settings.kv_group_size)
    return Plan(
        settings=settings,
        model="demo",
        architecture="llama",
        corpus=CorpusProvenance(name="builtin", chunk_length=PER_CHUNK + 1),
        n_chunks=10,
        positions_per_chunk=PER_CHUNK,
        device="CPU (2 cores)",
        compute="float32",
        cache="QuantizedKVCache of mlx-lm",
        kv_bytes=KVBytes(
            reference=1024, variant=2 * size, number_bytes=4, reference_16bit=512, variant_16bit=size
        ),
        recipe=Recipe.uniform(2, settings.quantizers),
        kinds=("full", "full"),
        kernel="dequantized",
        memory_bytes=16 * GB,
    )


def under_way(bits: tuple[int, ...]) -> Measurement:
    """A measurement of these bits, four of its ten chunks scored."""
    base = KVSettings("demo", chunk_length=PER_CHUNK + 1, max_chunks=10)
    measurement = Measurement(SweepSettings(spread(base, bits=bits), sweep_id="20260304-050607-demo"))
    measurement.begin()
    measurement.take(Started(tuple(plan(one) for one in measurement.snapshot().settings.variants)))
    scored = [text_positions(0.2 * 4.0**i, seed=20 + i) for i in range(len(bits))]
    seconds = 0.0
    for chunk in range(CHUNKS):
        for variant, whole in enumerate(scored):
            seconds += 0.25
            here = whole.where(whole.chunk == chunk)
            here = replace(here, texts=TEXTS)
            measurement.take(StepScored(chunk, 0, here, (chunk + 1) * PER_CHUNK, seconds, variant))
            measurement.take(ChunkFinished(chunk, 10, None, variant))
    measurement.weigh(Reading(used=int(1.2 * GB), spare=0, free=8 * GB))
    return measurement


async def shown(pilot: Pilot[None], title: str) -> None:
    """Wait until a screen is there and has come to rest."""
    for _ in range(200):
        await pilot.pause(0.02)
        if title == pilot.app.screen.TITLE:
            break
    else:
        raise AssertionError(f"{pilot.app.screen} is shown, not {title}")
    seen, same = "", 0
    while same < 4:
        await pilot.app.workers.wait_for_complete()
        await pilot.pause(0.05)
        before, seen = seen, screen_text(_app(pilot))
        same = same + 1 if seen == before else 0


def _app(pilot: Pilot[None]) -> MqfTuiApp:
    assert isinstance(pilot.app, MqfTuiApp)
    return pilot.app


async def models(pilot: Pilot[None]) -> None:
    await shown(pilot, "Models")


async def hub(pilot: Pilot[None]) -> None:
    """One download that failed, one that runs, one that waits."""
    from mqf_tui.app.screens.hub import HubScreen

    await models(pilot)
    app = _app(pilot)
    for model in (made_hub.MODELS[3], made_hub.MODELS[1], made_hub.MODELS[4]):
        app.downloads.start(model.name)
    app.push_screen(HubScreen())
    await shown(pilot, "Hub")
    for _ in range(600):
        if "43 %" in screen_text(app) and "own-finetune" in screen_text(app):
            break
        await pilot.pause(0.05)
    await pilot.press("slash", "enter")
    await shown(pilot, "Hub")
    await pilot.press("down")
    await shown(pilot, "Hub")


async def setup(pilot: Pilot[None]) -> None:
    await models(pilot)
    await pilot.press("enter")
    await shown(pilot, "Set-up")
    await _looked(pilot, "#preview")


async def text(pilot: Pilot[None]) -> None:
    await setup(pilot)
    await pilot.press("t")
    await shown(pilot, "Text")
    await _looked(pilot, "#sight")


async def _looked(pilot: Pilot[None], line: str) -> None:
    """Wait until a thread has counted the chunks of a text."""
    for _ in range(600):
        if "chunks of" in str(pilot.app.screen.query_one(line, Static).render()):
            break
        await pilot.pause(0.05)
    await pilot.pause()


async def _live(pilot: Pilot[None], bits: tuple[int, ...]) -> None:
    from mqf_tui.app.screens.live import LiveScreen

    await models(pilot)
    _app(pilot).push_screen(LiveScreen(under_way(bits)))
    await shown(pilot, "Live")


async def live(pilot: Pilot[None]) -> None:
    await _live(pilot, (4,))


async def race(pilot: Pilot[None]) -> None:
    await _live(pilot, (8, 6, 4, 3))


async def runs(pilot: Pilot[None]) -> None:
    saved_runs()
    await models(pilot)
    await pilot.press("r")
    await shown(pilot, "Runs")


async def result(pilot: Pilot[None]) -> None:
    await models(pilot)
    _app(pilot).show_run(saved_runs()[2])
    await shown(pilot, "Result")


async def sweep(pilot: Pilot[None]) -> None:
    await models(pilot)
    _app(pilot).open_sweep(made_sweeps.summary(made_sweeps.six()), {})
    await shown(pilot, "Sweep")


async def compare(pilot: Pilot[None]) -> None:
    await models(pilot)
    _app(pilot).compare(saved_runs()[:3])
    await shown(pilot, "Compare")
    told = pilot.app.screen.query_one("#told", Static)
    # The thread that compares begins some time after the first frame.
    for _ in range(600):
        if str(told.render()) not in ("", "comparing …"):
            break
        await pilot.pause(0.05)
    await shown(pilot, "Compare")


async def explore(pilot: Pilot[None]) -> None:
    await models(pilot)
    _app(pilot).explore(saved_runs()[2])
    await shown(pilot, "Explore")
    await pilot.press("n", "n")
    await shown(pilot, "Explore")


async def report(pilot: Pilot[None]) -> None:
    from mqf_tui.app.documents import run_document

    await models(pilot)
    saved = saved_runs()[2]
    _app(pilot).report(run_document(saved.report, saved.positions, saved.id))
    await shown(pilot, "Report")


SCENES: dict[str, Prepare] = {
    scene.__name__: scene
    for scene in (models, hub, setup, text, live, race, runs, result, sweep, compare, explore, report)
}


def still(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hold what differs from one moment and machine to the next."""
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("LANG", "C.UTF-8")
    monkeypatch.setenv("COLORTERM", "truecolor")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("HF_HUB_CACHE", os.devnull)
    time.tzset()
    monkeypatch.setattr("mqf_tui.library.hub.search.search_hub", made_hub.search)
    monkeypatch.setattr("mqf_tui.library.hub.download.download_model", made_hub.download)
    monkeypatch.setattr(secrets, "token_hex", lambda n=32: "ab" * n)
    monkeypatch.setattr(memory, "free_memory", lambda: 8 * GB)
    monkeypatch.setattr(timing, "measured_flops", lambda: 5e10)
    monkeypatch.setattr(bridges, "SECONDS_TO_START", 3600.0)
    monkeypatch.setattr(text_flow, "SECONDS_A_LINE", 3600.0)
    monkeypatch.setattr(live_screen, "SECONDS_A_FRAME", 0.02)
    begin = bridges.Bridge.__init__

    def known(self: bridges.Bridge) -> None:
        begin(self)
        self.device, self.flops, self.looked = Device("CPU (2 cores)", False, None, 16 * GB), 5e10, True

    monkeypatch.setattr(bridges.Bridge, "__init__", known)
    yield
    monkeypatch.undo()
    time.tzset()
