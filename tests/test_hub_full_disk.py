"""A disk that fills up in the middle of a download: a real one, in memory, where one may be mounted."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.hub_models import FILES, NAME, WEIGHTS
from tests.hub_server import Fault, LocalHub
from tests.makers import environment

IN_A_SMALL_DISK = """
import os, sys
from pathlib import Path
from mqf_tui.fidelity.errors import HubError
from mqf_tui.library.hub.download import download_model

home, name = Path(sys.argv[1]), sys.argv[2]
filler = home / "filler"
def fill(progress):
    if progress.bytes_done > 200_000 and not filler.exists():
        with open(filler, "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                print("filled", flush=True)
try:
    download_model(name, on_progress=fill)
except HubError as error:
    print(error)
(partial,) = home.rglob("*.incomplete")
print("kept", partial.stat().st_size)
filler.unlink()
print(download_model(name, on_progress=lambda _: None).joinpath("model.safetensors").stat().st_size)
"""


def _can_mount() -> bool:
    if not sys.platform.startswith("linux") or shutil.which("unshare") is None:
        return False
    tried = ["unshare", "-rm", "sh", "-c", "mount -t tmpfs -o size=1m tmpfs /mnt"]
    return subprocess.run(tried, capture_output=True, timeout=60).returncode == 0


@pytest.mark.skipif(not _can_mount(), reason="may not mount a disk of its own")
def test_what_was_fetched_stays_and_is_gone_on_with(hub: LocalHub, tmp_path: Path) -> None:
    hub.add_model(NAME, FILES)
    hub.fault("/cdn/*", Fault(hold_after=300_000), times=1)
    home = tmp_path / "disk"
    home.mkdir()
    mount = f'mount -t tmpfs -o size=1m tmpfs {home} && exec {sys.executable} -c "$0" {home} {NAME}'
    with subprocess.Popen(
        ["unshare", "-rm", "sh", "-c", mount, IN_A_SMALL_DISK],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(HF_HOME=str(home), HF_HUB_CACHE=str(home / "hub")),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "filled\n"
        hub.let_go()
        said, kept, size = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert f"the disk with {home / 'hub'} is full" in said
    n_kept = int(kept.removeprefix("kept "))
    assert n_kept > 100_000
    assert hub.asked("/cdn/*")[-1].part == f"bytes={n_kept}-"
    assert int(size) == len(WEIGHTS)
