"""What tests of pictures share: run directories with evaluations that were never run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from nacre.report import evaluated_runs
from nacre.runs.directory import RunDirectory
from nacre.runs.tables import EVAL_COLUMNS, eval_rows

SHAPE = (2, 3, 3)  # repeat, task, episode of an evaluation in `make_run`


MAGIC = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}


MakeRun = Callable[..., Path]


def returns_of(index: int, seed: int) -> np.ndarray:
    """Made-up returns [repeat, task, episode] of an evaluation."""
    return np.round(np.random.default_rng([index, seed]).normal(index, 1.0, SHAPE), 3)


def add_evaluation(
    run: RunDirectory, index: int, split: str, seed: int, steps: int = 100, seconds: float = 1.0
) -> None:
    shape = evaluated_runs._shapes(run)[split]
    returns = returns_of(index, seed) if shape == SHAPE else np.full(shape, float(index))
    run.append("eval.csv", EVAL_COLUMNS, eval_rows(returns, split, steps * index, 10 * index, seconds * index))
