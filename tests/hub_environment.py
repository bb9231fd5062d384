"""Where ``huggingface_hub`` and ``datasets`` look in a test: both read the environment once, at import."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

# Proxies of the machine, and tokens of whoever runs the tests.
FOREIGN = (
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH", "HF_OIDC_RESOURCE"),
    *("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"),
)


def point_at(endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make ``endpoint`` the hub and ``home`` HF_HOME, for this process and those it starts; online."""
    import huggingface_hub.hf_api
    from huggingface_hub import HfFileSystem, constants
    from huggingface_hub.utils import _cache_manager, close_session

    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    cache = home / "hub"
    for name, value in {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "HF_HUB_CACHE": str(cache)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    template = endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HOME", str(home))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(constants, "HF_STORED_TOKENS_PATH", str(home / "stored_tokens"))
    monkeypatch.setattr(huggingface_hub.hf_api.api, "endpoint", endpoint)
    for module in (constants, _cache_manager):
        monkeypatch.setattr(module, "HF_HUB_CACHE", str(cache))
    if "datasets" in sys.modules:
        _point_datasets(endpoint, home, monkeypatch)
    HfFileSystem.clear_instance_cache()
    close_session()  # its client knows the proxies of when it was made


def _point_datasets(endpoint: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from datasets import config

    monkeypatch.setattr(config, "HF_ENDPOINT", endpoint)
    monkeypatch.setattr(
        config, "HUB_DATASETS_URL", endpoint + "/datasets/{repo_id}/resolve/{revision}/{path}"
    )
    monkeypatch.setattr(config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(config, "HF_DATASETS_OFFLINE", False)
    monkeypatch.setattr(config, "HF_CACHE_HOME", str(home))
    monkeypatch.setattr(config, "HF_DATASETS_CACHE", home / "datasets")
    monkeypatch.setattr(config, "DOWNLOADED_DATASETS_PATH", home / "datasets" / "downloads")
    monkeypatch.setattr(config, "HF_MODULES_CACHE", home / "modules")
