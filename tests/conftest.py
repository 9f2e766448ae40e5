"""Fixtures that several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import hubcache


@pytest.fixture(scope="session")
def hub_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for HF_HOME with all checkpoints and data sets. Shared: tests must not change it."""
    root = tmp_path_factory.mktemp("hf-home")
    hubcache.build_hub(root)
    return root


@pytest.fixture
def hub(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared cache, offline, as this process sees it until the test ends."""
    hubcache.use_hub(monkeypatch, hub_cache)
    return hub_cache
