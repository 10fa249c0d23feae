"""A trained run for tests of commands, and a trainer that only takes note."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nacre.runs.trainer import Trained


@pytest.fixture
def point_run(smoke_run: Callable[[str], Path]) -> str:
    return str(smoke_run("point-robot"))


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, Path, dict[str, Any]]]:
    """Lets `nacre train` do everything but train: collects what it would have trained, and where."""
    asked: list[tuple[Any, Path, dict[str, Any]]] = []

    def train(experiments: list[Any], paths: list[Path], **options: Any) -> Trained:
        asked.extend((experiment, path, options) for experiment, path in zip(experiments, paths, strict=True))
        return Trained([], None)

    monkeypatch.setattr("nacre.runs.trainer.train", train)
    return asked
