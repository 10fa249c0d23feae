"""Runs that were never run, and figures in place of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_runs import MakeRun, add_evaluation
from matplotlib.figure import Figure

from nacre.report import picture
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import resolve


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """A run directory with evaluations that were never run: 3 on test tasks, at 100, 200 and 300 steps."""

    def make(
        name: str = "run",
        *,
        family: str = "point-robot",
        seed: int = 0,
        evaluations: int = 3,
        train: int = 0,
        steps: int = 100,
        seconds: float = 1.0,
        **fields: Any,
    ) -> Path:
        settings = (
            dict(num_evaluation_repeats=2, num_test_tasks=3, num_train_tasks=3) if family == "point-robot" else {}
        )
        run = RunDirectory.create(tmp_path / name, resolve("pearl", family, "smoke", seed=seed, **settings, **fields))
        for index in range(1, evaluations + 1):
            add_evaluation(run, index, "test", seed, steps, seconds)
            if index <= train:
                add_evaluation(run, index, "train", seed, steps, seconds)
        return run.path

    return make


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn, in place of files."""
    figures: list[Figure] = []
    monkeypatch.setattr(picture, "_save", lambda figure, out: figures.append(figure))
    return figures
