"""Searching a hub on loopback."""

from __future__ import annotations

import json

import pytest

from mqf_tui.fidelity.errors import BadSettingError
from mqf_tui.library.hub.search import HubModel, search_hub
from tests.hub_models import FILES, NAME, WEIGHTS, Watched, fetch
from tests.hub_server import Fault, LocalHub


def names(*found: HubModel) -> list[str]:
    return [model.name for model in found]


def test_a_model_with_all_that_is_known_of_it(hub: LocalHub) -> None:
    facts = {"downloads": 1234, "likes": 5, "updated": "2026-11-03T08:00:00.000Z"}
    hub.add_model(NAME, FILES, gated="auto", safetensors={"BF16": 1000, "U32": 500, "F8_E4M3": 7}, **facts)
    size = 2 * 1000 + 4 * 500 + 7
    assert search_hub("tiny") == (HubModel(NAME, 1234, 5, "2026-11-03", True, False, size, False),)


def test_the_most_downloaded_come_first_of_one_author_or_of_all(hub: LocalHub) -> None:
    for number, name in enumerate(("mlx-community/a-tiny", "someone/b-tiny", "mlx-community/c-tiny-2")):
        hub.add_model(name, FILES, downloads=number)
    assert names(*search_hub("tiny")) == ["mlx-community/c-tiny-2", "mlx-community/a-tiny"]
    assert names(*search_hub("TINY", None, 2)) == ["mlx-community/c-tiny-2", "someone/b-tiny"]
    assert names(*search_hub("b", "someone")) == ["someone/b-tiny"]
    assert names(*search_hub(" tiny 2 ")) == ["mlx-community/c-tiny-2"]
    assert len(search_hub("")) == 2
    assert search_hub("other") == ()


def test_private_models_are_there_for_who_may_see_them(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add_model(NAME, FILES, private=True)
    assert search_hub("tiny") == ()
    hub.add_token("hf_mine")
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    (model,) = search_hub("tiny")
    assert model.private


def test_here_means_whole(hub: LocalHub) -> None:
    hub.add_model(NAME, FILES)
    hub.fault("/cdn/*", Fault(cut_after=len(WEIGHTS) // 2), times=1)
    watched = Watched(lambda progress: "cut" in progress.waiting)
    with pytest.raises(Exception, match="cancelled"):
        watched.fetch()
    assert [model.here for model in search_hub("tiny")] == [False]
    fetch()
    assert [model.here for model in search_hub("tiny")] == [True]


@pytest.mark.parametrize(
    "safetensors",
    [None, {}, {"parameters": {}}, {"parameters": {"X9": 5}}, {"parameters": {"BF16": "many"}}, [1], "x"],
)
def test_a_size_that_cannot_be_told_is_none(hub: LocalHub, safetensors: object) -> None:
    rows = [{"id": NAME, "safetensors": safetensors, "downloads": "many", "lastModified": 5, "likes": None}]
    hub.fault("/api/models", Fault(200, body=json.dumps(rows).encode()))
    assert search_hub("tiny") == (HubModel(NAME, 0, 0, "", False, False, None, False),)


def test_names_that_the_hub_cannot_have_are_left_out(hub: LocalHub) -> None:
    odd = ["../../x", "a/b\x1b[31m", "", None, 7, "a/b/c", "a b"]
    rows = [*({"id": name} for name in odd), {}, None, 3, {"id": "good/name"}]
    hub.fault("/api/models", Fault(200, body=json.dumps(rows).encode()))
    assert names(*search_hub("x")) == ["good/name"]


def test_no_more_than_was_asked_for(hub: LocalHub) -> None:
    rows = [{"id": f"a/b{number}"} for number in range(50)]
    hub.fault("/api/models", Fault(200, body=json.dumps(rows).encode()))
    assert len(search_hub("b", None, 7)) == 7


@pytest.mark.parametrize("limit", [0, -1, 101])
def test_an_impossible_limit(hub: LocalHub, limit: int) -> None:
    with pytest.raises(BadSettingError, match="from 1 to 100 models"):
        search_hub("tiny", limit=limit)
    assert not hub.requests
