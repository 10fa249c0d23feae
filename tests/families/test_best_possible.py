"""The best possible returns that the documents name, from the point robots' rules: the nearest place to the goal that
can be reached is on the straight way along either axis."""

from __future__ import annotations

import numpy as np
import pytest

from nacre.families.point import STEP_SIZE, PointRobot, SparsePointRobot, distance
from nacre.presets.pearl_presets import PAPER
from nacre.runs.experiment import resolve


def path_to(goals: np.ndarray, starts: np.ndarray, horizon: int) -> np.ndarray:
    """Positions [start, goal, step, 2] after every step at full speed."""
    reach = STEP_SIZE * np.arange(1, horizon + 1)[:, None]
    return starts[:, None, None] + np.clip(goals[:, None] - starts[:, None, None], -reach, reach)


def test_the_best_possible_on_point_robot_is_that_of_the_results() -> None:
    goals = resolve("pearl", "point-robot", **PAPER["point-robot"]).draw_tasks().test["goal"]
    starts = np.random.default_rng(0).uniform(-1.0, 1.0, (4000, 2))
    returns = -distance(path_to(goals, starts, PointRobot.horizon), goals[:, None]).sum(axis=-1)
    assert len(goals) == 20 and returns.mean() == pytest.approx(-4.6, abs=0.05)


def test_the_best_possible_on_sparse_goals_is_that_of_the_results() -> None:
    goals = resolve("pearl", "sparse-point-robot").draw_tasks().test["goal"]
    path = path_to(goals, np.zeros((1, 2)), SparsePointRobot.horizon)
    rewards, _ = SparsePointRobot().rewards(path, {"goal": goals[:, None]})
    assert len(goals) == 20 and rewards.sum(axis=-1).mean() == pytest.approx(13.4, abs=0.05)
