"""Runs that the tests of this folder share."""

from __future__ import annotations

import pytest
from small_runs import BLOCK, SMALL

import nacre
from nacre.learning import off_policy


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(off_policy, "UPDATES_PER_CALL", BLOCK)


@pytest.fixture(scope="session")
def uninterrupted_run(tmp_path_factory: pytest.TempPathFactory) -> nacre.RunDirectory:
    """A run that nothing disturbed. It saves after every block, which must not change a number."""
    path = tmp_path_factory.mktemp("uninterrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(off_policy, "UPDATES_PER_CALL", BLOCK)
        return nacre.train("pearl", "point-robot", **SMALL, checkpoint_minutes=0.0, out=path)


@pytest.fixture
def uninterrupted(uninterrupted_run: nacre.RunDirectory, small_blocks: None) -> nacre.RunDirectory:
    """The same, with blocks of its length for the test that compares another run with it."""
    return uninterrupted_run
