"""A folder of data sets for each test, with the made-up one in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import made_up_data as made_up
from nacre.data.dataset import DataSet, open_data_set


@pytest.fixture(scope="session")
def written_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data-sets")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(root))
        made_up.write()
    return root


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where data sets lie in this test: nothing is there yet."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "sets"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield tmp_path / "sets"


@pytest.fixture
def data_set(root: Path, written_once: Path) -> DataSet:
    """The made-up data set, a test's own copy without a cache."""
    shutil.copytree(written_once, root)
    return open_data_set(made_up.ID)
