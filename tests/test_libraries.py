"""Two threads that need the same large libraries at once: one that measures, one that looks at a text."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.makers import model_folder

# Only in a process of its own is anything still to be imported. The second thread begins in the middle of
# the first one's import.
SCRIPT = """
import sys, threading
from pathlib import Path

from mqf_tui.app.measurement import Measurement
from mqf_tui.fidelity.text.chunk_preview import chunk_preview
from mqf_tui.fidelity.model.facts import read_facts
from mqf_tui.fidelity.settings import KVSettings, SweepSettings

settings = KVSettings(sys.argv[1], max_chunks=1, chunk_length=128)
facts = read_facts(Path(sys.argv[1]))
said = []


def preview():
    said.append(chunk_preview(settings, facts).n_tokens > 0)


def measure():
    from mqf_tui.app.jobs import Worker

    job = Measurement(SweepSettings((settings,)))
    job.begin()
    worker = Worker()
    worker.do(job)
    worker.close()
    said.append(job.snapshot().problem or job.snapshot().reports[0].warnings)
    import mlx.core as mx

    mx.clear_streams()


first, second = (preview, measure) if sys.argv[2] == "preview" else (measure, preview)
streams = sys.stdout, sys.stderr
threads = [threading.Thread(target=first), threading.Thread(target=second)]
threads[0].start()
while threads[0].is_alive() and not {"transformers", "mlx.core"} & sys.modules.keys():
    pass
threads[1].start()
for thread in threads:
    thread.join()
assert (sys.stdout, sys.stderr) == streams
print(said)
"""


@pytest.mark.parametrize("first", ["preview", "measurement"])
def test_a_text_is_looked_at_while_a_measurement_begins(tmp_path: Path, first: str) -> None:
    folder = model_folder(tmp_path / "tiny")
    ran = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), first], capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert "True" in ran.stdout
    assert "has no attribute" not in ran.stdout
    assert "import" not in ran.stdout  # neither one that failed nor one that came too late
