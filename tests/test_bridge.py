"""The queue of the MLX thread: what comes first, what is cancelled, and that all of it ends in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from mqf_tui import api
from mqf_tui.app.bridge import Bridge
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import OutOfMemoryError
from mqf_tui.fidelity.events import Loading, Stopped, Swept
from mqf_tui.fidelity.rescoring import Rescorer
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.library.runs import SavedRun, save_run
from tests import makers


@dataclass(frozen=True)
class Found:
    """What the last event of scoring again carries."""

    tops: tuple[int, ...]


class Engine:
    """Stands in for the engine: each measurement and each request waits until it may go on."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.go = threading.Event()
        self.rescorers: set[Rescorer] = set()

    def sweep_events(self, settings: SweepSettings, control: Control) -> Iterator[Any]:
        self.began.append(f"{settings.first.kv_bits} bits")
        yield Loading("loading the weights", 0.5)
        while not self.go.is_set() and not control.stopped:
            time.sleep(0.01)
        yield Stopped(None, makers.positions(n_chunks=0))
        yield Swept(settings.sweep_id, 0, 0, 0.0, stopped=True)

    def rescore(
        self,
        run: SavedRun,
        chunk: int,
        depths: tuple[int, ...],
        k: int,
        control: Control,
        *,
        rescorer: Rescorer,
    ) -> Iterator[Any]:
        del run, k
        self.rescorers.add(rescorer)
        self.began.append(f"chunk {chunk}")
        yield Loading("loading the weights", 0.5)
        if chunk == 13:
            raise OutOfMemoryError("memory ran out; take less.")
        if chunk == 14:
            return
        if not control.stopped:
            yield Found(depths)


@contextmanager
def bridged(monkeypatch: pytest.MonkeyPatch) -> Generator[tuple[Bridge, Engine]]:
    engine = Engine()
    monkeypatch.setattr(api, "sweep_events", engine.sweep_events)
    monkeypatch.setattr(api, "rescore", engine.rescore, raising=False)
    bridge = Bridge()
    try:
        yield bridge, engine
    finally:
        bridge.close()
    assert not bridge.busy


def until(condition: Callable[[], object]) -> None:
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("never came true")


def settings(bits: int) -> KVSettings:
    return KVSettings("demo", kv_bits=bits)


def saved() -> SavedRun:
    return save_run(makers.report(), makers.positions())


def test_measurements_wait_their_turn_and_requests_go_before_them(monkeypatch: pytest.MonkeyPatch) -> None:
    with bridged(monkeypatch) as (bridge, engine):
        assert bridge.current is None
        first = bridge.start(settings(8))
        until(lambda: first.snapshot().state == "loading")
        second, third = bridge.start(settings(4)), bridge.start(settings(2))
        request = bridge.tops(saved(), 3, [1, 2])
        assert bridge.current is first
        assert bridge.waiting == (second, third)
        assert bridge.measurements == (first, second, third)
        assert (second.snapshot().running, request.snapshot().state) == (True, "waiting")
        second.stop()
        assert second.snapshot().state == "stopped"
        assert bridge.waiting == (third,)
        engine.go.set()
        until(lambda: not bridge.busy)
        assert engine.began == ["8 bits", "chunk 3", "2 bits"]
        assert request.snapshot().state == "done"
        assert request.snapshot().tops == (1, 2)
        assert bridge.current is third


def test_the_next_in_turn_is_current_where_none_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    with bridged(monkeypatch) as (bridge, _):
        first, second = bridge.start(settings(8)), bridge.start(settings(4))
        first.stop()
        until(lambda: second.snapshot().state == "loading")
        assert bridge.current is second


def test_closing_stops_what_runs_and_begins_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    with bridged(monkeypatch) as (bridge, engine):
        first = bridge.start(settings(8))
        until(lambda: first.snapshot().state == "loading")
        second, request = bridge.start(settings(4)), bridge.tops(saved(), 3, [1])
    assert engine.began == ["8 bits"]
    assert [one.snapshot().state for one in (first, second)] == ["stopped", "stopped"]
    assert [one.snapshot().exit_code for one in (first, second)] == [130, 130]
    assert request.snapshot().state == "cancelled"


def test_requests_that_fail_say_why_and_the_thread_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with bridged(monkeypatch) as (bridge, engine):
        measurement = bridge.start(settings(8))
        until(lambda: measurement.snapshot().state == "loading")
        run = saved()
        failing, empty, unwanted, good = (bridge.tops(run, chunk, [0]) for chunk in (13, 14, 15, 16))
        unwanted.cancel()
        engine.go.set()
        until(lambda: good.snapshot().ended)
        assert engine.began[1:] == ["chunk 13", "chunk 14", "chunk 16"]
        assert failing.snapshot().problem == "memory ran out; take less."
        assert "without a result" in (empty.snapshot().problem or "")
        assert [one.snapshot().state for one in (failing, empty, unwanted, good)] == [
            "failed",
            "failed",
            "cancelled",
            "done",
        ]
