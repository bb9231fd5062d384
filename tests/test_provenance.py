"""Where a report's numbers come from: revision, hashes, software, system, chip and memory."""

from __future__ import annotations

import hashlib
import platform
import shutil
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import transformers

from mqf_tui import __version__, measure_kv_fidelity
from mqf_tui.fidelity import provenance
from mqf_tui.fidelity.model.facts import read_facts
from mqf_tui.fidelity.model.headers import revision
from tests import makers

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return makers.model_folder(tmp_path_factory.mktemp("provenance") / "tiny-llama")


@pytest.mark.parametrize(
    ("folder", "found"),
    [
        (f"/x/models--org--tiny/snapshots/{COMMIT}", COMMIT),
        (f"/x/models--org--tiny/snapshots/{COMMIT}/", COMMIT),
        ("/x/models--org--tiny/snapshots/main", ""),
        (f"/x/models--org--tiny/snapshots/{COMMIT}0", ""),
        (f"/x/models--org--tiny/snapshots/{COMMIT.upper()}", ""),
        (f"/x/models--org--tiny/other/{COMMIT}", ""),
        (f"/home/user/snapshots/{COMMIT}", ""),
        ("/x/tiny", ""),
    ],
)
def test_the_revision_is_a_snapshots_name(folder: str, found: str) -> None:
    assert revision(Path(folder)) == found


def test_a_report_of_a_model_in_the_hubs_cache(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = makers.hub_cache(tmp_path / "hub", {"org/tiny": tiny})
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(home))
    corpus = makers.text_file(tmp_path / "notes.txt")
    report = measure_kv_fidelity("org/tiny", kv_bits=4, chunk_length=64, max_chunks=2, corpus=corpus)
    assert report.model == "org/tiny"
    # The makers name a snapshot by the SHA-1 of the model's name.
    assert report.model_revision == hashlib.sha1(b"org/tiny").hexdigest()
    assert report.config_hash == hashlib.sha256((tiny / "config.json").read_bytes()).hexdigest()[:16]
    assert report.weights_bytes == (tiny / "model.safetensors").stat().st_size
    versions = report.versions
    assert (versions.mqf_tui, versions.numpy, versions.transformers) == (
        __version__,
        np.__version__,
        transformers.__version__,
    )
    assert (versions.mlx, versions.mlx_lm, versions.python) == (
        version("mlx"),
        version("mlx-lm"),
        platform.python_version(),
    )
    assert versions.system.endswith(platform.machine())
    if report.device.startswith("CPU"):
        assert report.memory_bytes == psutil.virtual_memory().total


def test_a_folder_of_ones_own_has_no_revision(tiny: Path) -> None:
    assert read_facts(tiny).revision == ""


def test_hashes_tell_models_apart_by_what_is_in_them(tiny: Path, tmp_path: Path) -> None:
    first = read_facts(tiny)
    same = read_facts(Path(shutil.copytree(tiny, tmp_path / "another-name")))
    assert (same.config_hash, same.weights_hash) == (first.config_hash, first.weights_hash)
    assert len(first.weights_hash) == len(first.config_hash) == 16
    other = Path(shutil.copytree(tiny, tmp_path / "other-weights"))
    makers.spoil_weights(other, "model.norm.weight", (0,), 1.5)
    tuned = read_facts(other)
    assert tuned.config_hash == first.config_hash
    assert tuned.weights_hash != first.weights_hash
    config = read_facts(makers.rewrite_config(Path(shutil.copytree(tiny, tmp_path / "c")), rope_theta=5e5))
    assert config.config_hash != first.config_hash
    assert config.weights_hash == first.weights_hash
    indexed = Path(shutil.copytree(tiny, tmp_path / "indexed"))
    (indexed / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.safetensors"}}')
    assert read_facts(indexed).weights_hash != first.weights_hash


CPUINFO = """processor\t: 0
vendor_id\t: X
model\t\t: 167
model name\t: Chip  One\x1b[31m (R) @ 3GHz

model name\t: Chip Two
"""


@pytest.mark.parametrize(
    ("content", "name"),
    [(CPUINFO, "Chip One[31m (R) @ 3GHz"), ("Features : fp asimd\n", None), ("", None), (None, None)],
)
def test_the_chip_of_a_linux_machine(
    content: str | None, name: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cpuinfo"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(provenance, "CPUINFO", path)
    assert provenance.chip() == (name or platform.machine())


def test_the_chip_of_a_mac(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def answer(words: Any, **_: Any) -> subprocess.CompletedProcess[str]:
        asked.append(words)
        return subprocess.CompletedProcess(words, 0, "Apple M9 Ultra\n", "")

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", answer)
    assert provenance.chip() == "Apple M9 Ultra"
    assert asked == [("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string")]


@pytest.mark.parametrize(
    "error",
    [
        FileNotFoundError("sysctl"),
        subprocess.CalledProcessError(1, "sysctl"),
        subprocess.TimeoutExpired("sysctl", 5),
    ],
)
def test_a_mac_that_does_not_tell(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(subprocess, "run", refuse)
    assert provenance.chip() == platform.machine()


def test_the_system_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("26.1", ("", "", ""), "arm64"))
    monkeypatch.setattr(sys, "platform", "darwin")
    assert provenance.system() == "macOS 26.1, arm64"
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"PRETTY_NAME": "An OS\x1b]0;x\x07 12"})
    assert provenance.system() == "An OS]0;x 12, arm64"

    def refuse() -> dict[str, str]:
        raise OSError("no os-release")

    monkeypatch.setattr(platform, "freedesktop_os_release", refuse)
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    assert provenance.system() == "Linux, arm64"


def test_software_that_is_not_installed_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> str:
        if name == "transformers":
            raise PackageNotFoundError(name)
        return "1.2"

    monkeypatch.setattr(provenance, "version", find)
    found = provenance.versions()
    assert (found.mlx, found.transformers) == ("1.2", "")
