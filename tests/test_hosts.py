"""Hosts, the mlx.launch line, messages, and who gets which chunk: without any rank."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import BadSettingError, FidelityError
from mqf_tui.fidelity.positions import ARRAYS, Positions
from mqf_tui.fidelity.quantizers import parsed
from mqf_tui.fidelity.recipes import Recipe
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.verdict import limited
from mqf_tui.scale.crew import Crew
from mqf_tui.scale.dealing import Dealer
from mqf_tui.scale.desk import Desk, Said
from mqf_tui.scale.errors import HostError
from mqf_tui.scale.hosts import Fleet, Host, check_logins, fleet_of
from mqf_tui.scale.launching import launch_line, printed
from mqf_tui.scale.messages import packed, settings_from_json, settings_to_json, unpacked
from mqf_tui.scale.wire import Line, Message
from tests.makers import positions


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ranks": 0}, "0 ranks cannot be"),
        ({"ranks": 100_000}, "ranks cannot be"),
        ({"hosts": "127.0.0.1,,127.0.0.1"}, "is no host"),
        ({"hosts": ""}, "is no host"),
        ({"hosts": "-oProxyCommand=touch x"}, "is no host"),
        ({"hosts": "no-such-host.invalid"}, "no-such-host.invalid has no address"),
        ({"ranks": 2, "backend": "carrier-pigeon"}, "does not exist; choose one of ring, mpi"),
        ({"ranks": 2, "split": "heads"}, "does not exist; choose one of chunks, tensor, pipeline"),
        ({"hostfile": "nowhere.json"}, "the hostfile nowhere.json cannot be used (No such file"),
        ({"hostfile": "nowhere.json", "ranks": 2}, "leave out --hosts and --ranks"),
    ],
)
def test_what_cannot_be_is_said(options: dict[str, object], words: str) -> None:
    with pytest.raises(FidelityError) as caught:
        fleet_of(**options)  # type: ignore[arg-type]
    assert words in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "content", ["", "{}", "[]", "[1]", '[{"ips": ["1.2.3.4"]}]', '{"hosts": 3}', "[" * 9999]
)
def test_a_bad_hostfile_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "hosts.json"
    file.write_text(content)
    with pytest.raises(HostError, match="hostfile"):
        fleet_of(hostfile=str(file))


def test_ranks_of_this_machine_are_started_without_ssh(tmp_path: Path) -> None:
    fleet = fleet_of(ranks=3)
    assert fleet.is_local
    assert [fleet.name(rank) for rank in range(3)] == ["rank 0", "rank 1", "rank 2"]
    line = launch_line(fleet, "127.0.0.1:5", "secret", tmp_path)
    assert line[0].endswith("mlx.launch")
    assert line[1:5] == ["--backend", "ring", "-n", "3"]
    assert line[-3:] == ["-m", "mqf_tui.scale.rank", "127.0.0.1:5"]
    assert "MQF_TUI_RANK_KEY=secret" in line
    assert "secret" not in printed(line, "secret")
    check_logins(fleet)


def test_hosts_get_a_hostfile_with_addresses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = fleet_of(hosts=f"127.0.0.1,{socket.gethostbyname('localhost')}", ranks=2)
    assert own.is_local
    assert len(own) == 4
    away = Fleet((Host("mac1", "127.0.0.1", "10.0.0.1"), Host("mac2", "me@mac2", "10.0.0.2")), backend="mpi")
    assert not away.is_local
    assert away.name(1) == "rank 1 on mac2"
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(HostError, match="no mpirun on this machine"):
        launch_line(away, "10.0.0.1:7", "k", tmp_path)
    (tmp_path / "mpirun").write_text("#!/bin/sh\n")
    (tmp_path / "mpirun").chmod(0o755)
    line = launch_line(away, "10.0.0.1:7", "k", tmp_path)
    content = json.loads(Path(line[line.index("--hostfile") + 1]).read_text())
    assert content == [{"ssh": "127.0.0.1", "ips": ["10.0.0.1"]}, {"ssh": "me@mac2", "ips": ["10.0.0.2"]}]
    assert "--starting-port" not in line, "mpi has none"


def test_mlx_launch_reads_the_hostfile(tmp_path: Path) -> None:
    from mlx._distributed_utils.common import Hostfile

    fleet = Fleet((Host("mac1", "127.0.0.1", "10.0.0.1"), Host("mac2", "mac2", "10.0.0.2")))
    line = launch_line(fleet, "10.0.0.1:7", "k", tmp_path)
    found = Hostfile.from_file(line[line.index("--hostfile") + 1]).hosts
    assert [(host.rank, host.ssh_hostname, host.ips) for host in found] == [
        (0, "127.0.0.1", ["10.0.0.1"]),
        (1, "mac2", ["10.0.0.2"]),
    ]


def test_a_host_that_wants_a_password_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = Fleet((Host("mac1", "mac1", "10.0.0.1"),))
    ssh = tmp_path / "ssh"
    ssh.write_text("#!/bin/sh\necho 'mac1: Permission denied (publickey).' >&2\nexit 255\n")
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(HostError, match=r"mac1 lets no rank be started \(mac1: Permission denied"):
        check_logins(fleet)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(HostError, match="no ssh on this machine"):
        check_logins(fleet)


def test_only_who_knows_the_key_is_heard() -> None:
    desk = Desk("127.0.0.1", 2)

    def caller(key: str) -> Line:
        host, port = desk.address.split(":")
        line = Line(socket.create_connection((host, int(port)), 5))
        line.raw_out(key.encode())
        return line

    try:
        stranger = caller("0" * len(desk.key))
        stranger.send("hello", rank=1)
        with pytest.raises((EOFError, OSError)):
            stranger.receive()
        rank = caller(desk.key)
        rank.send("hello", rank=1, pid=3)
        said = desk.hear(5)
        assert said is not None
        assert (said.rank, said.message.word, said.message.fields["pid"]) == (1, "hello", 3)
        twin = caller(desk.key)
        twin.send("hello", rank=1)
        with pytest.raises((EOFError, OSError)):
            twin.receive()
        rank.send("step", b"\x00\x01", chunk=4)
        said = desk.hear(5)
        assert said is not None
        assert said.message.payload == b"\x00\x01"
        desk.tell(1, "score", chunk=5)
        assert rank.receive().fields == {"chunk": 5}
        rank.close()
        said = desk.hear(5)
        assert said is not None
        assert said.message.word == "lost"
    finally:
        desk.close()


def test_positions_travel_bit_for_bit() -> None:
    sent = positions(3, 50)
    sent.kl[4], sent.nll_ref[5] = np.inf, np.nan
    got = unpacked(packed(sent), sent.part_names)
    for name in ARRAYS:
        left, right = getattr(sent, name), getattr(got, name)
        assert left.dtype == right.dtype
        assert left.tobytes() == right.tobytes()
    assert got.part_names == sent.part_names
    with pytest.raises(ValueError, match="no positions"):
        unpacked(packed(sent)[:-1])


def test_settings_travel_whole() -> None:
    shared = {
        "precision": 1 / 14,
        "thresholds": limited(KVSettings("m").policy, 0.02, None),
        "corpus": "a b.txt",
    }
    variants = (
        KVSettings("m", kv=parsed("k8v4g32"), **shared),  # type: ignore[arg-type]
        KVSettings("m", recipe=Recipe.uniform(3, parsed("mxfp4")), kernel="emulated", **shared),  # type: ignore[arg-type]
        KVSettings("m", kv_bits=5, layers="0-3:8,4-:4", **shared),  # type: ignore[arg-type]
    )
    sweep = SweepSettings(variants, race=True, memory_limit=3, sweep_id="x")
    assert settings_from_json(settings_to_json(sweep)) == sweep


@given(
    n_chunks=st.integers(0, 12),
    moves=st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["deal", "score", "die"])), max_size=60),
)
def test_every_chunk_is_dealt_until_it_is_scored(n_chunks: int, moves: list[tuple[int, str]]) -> None:
    dealer, held, scored = Dealer(range(n_chunks)), dict[int, int](), list[int]()
    for rank, move in moves:
        if move == "deal":
            chunk = dealer.deal(rank)
            waiting = set(range(n_chunks)) - set(scored) - set(held.values())
            assert chunk == (None if rank in held else min(waiting, default=None))
            if chunk is not None:
                held[rank] = chunk
        elif rank in held:
            chunk = held.pop(rank)
            if move == "die":
                assert dealer.lost(rank) == chunk
                assert chunk not in dealer.results
            else:
                assert dealer.step(rank, chunk, 0, 0, positions(1, 3))
                assert dealer.scored(rank, chunk, {0: 1.0}, {}) is not None
                scored.append(chunk)
        else:
            assert dealer.lost(rank) is None
            assert dealer.scored(rank, 0, {}, {}) is None
    assert {chunk for chunk, result in dealer.results.items() if result.whole} == set(scored)


def test_options_about_ranks_need_ranks() -> None:
    from mqf_tui.console.arguments import parser
    from mqf_tui.scale.options import fleet_from, resume_on

    parsed_options = parser().parse_args(["sweep", "demo", "--split", "tensor"])
    with pytest.raises(BadSettingError, match="--split is about ranks; name some with --ranks"):
        fleet_from(parsed_options)
    assert fleet_from(parser().parse_args(["sweep", "demo"])) is None
    began = parser().parse_args(["sweep", "demo", "--ranks", "3", "--backend", "ring"])
    resume_on(began, parser().parse_args(["sweep", "--resume", "last", "--ranks", "2"]))
    fleet = fleet_from(began)
    assert fleet is not None
    assert len(fleet) == 2


class Script:
    """In place of desk and launcher: what ranks say, one after another."""

    first_death = None

    def __init__(self, said: list[Said]) -> None:
        self._said = said

    def hear(self, _seconds: float) -> Said:
        return self._said.pop(0)

    def tell(self, *_said: object, **_fields: object) -> None: ...

    def drop(self, _rank: int) -> None: ...


@pytest.mark.parametrize("devices", [("M2", "M4"), ("M2", "M2")])
def test_a_chunk_that_is_dealt_anew_counts_once(devices: tuple[str, str]) -> None:
    """Ranks of two kinds find other numbers: none of those of the dead one may stand beside the other's."""
    found = [positions(1, 3, seed=devices.index(device)) for device in devices]

    def step(rank: int, number: int) -> Said:
        where = {"chunk": 0, "variant": 0, "step": number}
        return Said(rank, Message("step", where, packed(found[rank])))

    end = {"chunk": 0, "variants": {"0": [1.0, None]}, "references": 1, "peak": 0}
    said = [step(0, 0), step(0, 1), Said(0, Message("lost", {"why": "killed"}))]
    said += [step(1, 0), step(1, 1), step(1, 2), Said(1, Message("scored", end))]
    notices, kept = list[str](), dict[int, Positions]()
    crew = Crew(fleet_of(ranks=2), Control(), notices.append, lambda i, whole: kept.update({i: whole[0]}))
    crew.devices, crew.dealer = devices, Dealer([0])
    crew._desk = crew._launcher = Script(said)  # type: ignore[assignment]
    events = list(crew.steps(0, [0]))
    assert [number for _, number, _ in events] == [0, 1, 2]
    for told in (Positions.concatenate([one for *_, one in events]), kept[0]):
        np.testing.assert_array_equal(told.kl, np.tile(found[1].kl, 3))
    assert notices == ["rank 0 died (killed) after 0 chunks; the others take its chunks over."]
