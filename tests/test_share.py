"""What one rank does, without mlx.launch: chunks dealt to it in this process."""

from __future__ import annotations

import queue
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mqf_tui import api
from mqf_tui.fidelity import device as devices
from mqf_tui.fidelity.control import Control
from mqf_tui.fidelity.errors import OutOfMemoryError
from mqf_tui.fidelity.events import Finished
from mqf_tui.fidelity.model import loading
from mqf_tui.fidelity.positions import ARRAYS, Positions
from mqf_tui.fidelity.settings import KVSettings, SweepSettings
from mqf_tui.fidelity.text import chunking, corpora
from mqf_tui.fidelity.text.chunking import Chunks
from mqf_tui.scale.messages import unpacked
from mqf_tui.scale.share import Share
from mqf_tui.scale.wire import Message
from tests.makers import model_folder, words

LENGTH = 300  # two steps of 128, and 43 positions


class Heard:
    """In place of the connection."""

    def __init__(self) -> None:
        self.messages: list[Message] = []

    def send(self, word: str, payload: bytes = b"", **fields: Any) -> None:
        self.messages.append(Message(word, fields, payload))

    def positions(self, chunk: int, variant: int) -> Positions:
        steps = (m for m in self.messages if m.word == "step" and m.fields["chunk"] == chunk)
        return Positions.concatenate([unpacked(m.payload) for m in steps if m.fields["variant"] == variant])


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> SweepSettings:
    """Two settings on chunks of which all but the third begin with the same 200 tokens."""
    home = tmp_path_factory.mktemp("share")
    folder = model_folder(home / "model")
    corpus = home / "text.txt"
    corpus.write_text(words(2000))
    variants = (KVSettings(str(folder), kv_bits=b, chunk_length=LENGTH, corpus=str(corpus)) for b in (8, 3))
    return SweepSettings(tuple(variants))


@pytest.fixture
def chunks(asked: SweepSettings, monkeypatch: pytest.MonkeyPatch) -> Chunks:
    facts = api.facts_of(asked.first)
    made = chunking.make_chunks(
        corpora.read_corpus(asked.first.corpus), loading.load_tokenizer(facts), LENGTH, 6, tokenizer_id="x"
    )
    for index in (1, 3, 4, 5):
        made.tokens[index, :200] = made.tokens[0, :200]
    monkeypatch.setattr(chunking, "make_chunks", lambda *_args, **_more: made)
    return made


def dealt(
    asked: SweepSettings, text: Chunks, deals: list[tuple[int, list[int]]], free: int = 0, beside: int = 1
) -> tuple[Heard, Share]:
    heard, inbox = Heard(), queue.SimpleQueue[Message]()
    for chunk, variants in deals:
        inbox.put(Message("score", {"chunk": chunk, "variants": variants}))
    inbox.put(Message("end"))
    share = Share(asked, api.facts_of(asked.first), Control(), text, heard, beside=beside)  # type: ignore[arg-type]
    device = devices.prepare()
    share.work(inbox, replace(device, memory_bytes=free or device.memory_bytes))
    return heard, share


def test_any_deal_of_chunks_gives_the_numbers_of_one_process(asked: SweepSettings, chunks: Chunks) -> None:
    whole = {e.variant: e.positions for e in api.sweep_events(asked) if isinstance(e, Finished)}
    for deals in ([0, 2, 3], [1, 4, 5], [5, 2, 0]):
        heard, share = dealt(asked, chunks, [(chunk, [0, 1]) for chunk in deals])
        assert share.reference_passes == 3
        for chunk in deals:
            for variant, positions in whole.items():
                expected = positions.where(positions.chunk == chunk)
                for name in ARRAYS:
                    np.testing.assert_array_equal(
                        getattr(heard.positions(chunk, variant), name), getattr(expected, name), err_msg=name
                    )


def test_what_chunks_share_goes_through_the_model_once_a_rank(
    asked: SweepSettings, chunks: Chunks, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlx_lm.models import llama

    seen: list[int] = []
    call = llama.Model.__call__

    def counted(self: Any, inputs: Any, *rest: Any, **more: Any) -> Any:
        seen.append(inputs.shape[1])
        return call(self, inputs, *rest, **more)

    monkeypatch.setattr(llama.Model, "__call__", counted)
    dealt(asked, chunks, [])
    tried = sum(seen)
    seen.clear()
    dealt(asked, chunks, [(1, [0, 1]), (2, [0, 1]), (5, [0, 1])])
    passes = 3  # the reference and two settings
    assert sum(seen) - tried == passes * (2 * (LENGTH - 1) + (LENGTH - 1 - 128))


def test_a_setting_that_is_out_is_not_scored(asked: SweepSettings, chunks: Chunks, tmp_path: Path) -> None:
    heard, share = dealt(asked, chunks, [(0, [0, 1]), (2, [1])])
    assert len(heard.positions(0, 0)) == len(heard.positions(2, 1)) == LENGTH - 1
    assert not len(heard.positions(2, 0))
    assert share.variant_passes == 3
    scored = [message.fields["variants"].keys() for message in heard.messages if message.word == "scored"]
    assert [list(variants) for variants in scored] == [[0, 1], [1]]


def test_ranks_on_one_machine_share_what_is_free(asked: SweepSettings, chunks: Chunks) -> None:
    free = 500 * 10**6  # a tiny model: next to all that it takes is the process
    dealt(asked, chunks, [], free)
    for limit in (None, 40 * 10**9):
        with pytest.raises(OutOfMemoryError, match=r"the limit is 125 MB.*or use fewer ranks"):
            dealt(replace(asked, memory_limit=limit), chunks, [], free, beside=4)
