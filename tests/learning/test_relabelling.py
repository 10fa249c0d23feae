"""Relabelling: the rewards of fresh tasks for what was collected in others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import numpy as np
import pytest

from nacre import NacreError, check_family
from nacre.families.half_cheetah import CheetahVel
from nacre.families.point import PointRobot, SparsePointRobot
from nacre.learning.relabelling import NUM_FRESH, relabel, relabelling_tasks
from nacre.runs.experiment import resolve
from nacre.types import Transition

FAMILY = SparsePointRobot()
TASKS = FAMILY.task_set(0, 6, 2)


def made(num_tasks: int, seed: int) -> Transition:
    """Random positions [task, 50], with rewards that no task gives."""
    obs = jax.random.uniform(jax.random.key(seed), (num_tasks, 50, 2), minval=-1.0, maxval=1.0)
    nothing = np.full((num_tasks, 50), 7.0, np.float32)
    return Transition(obs, obs, nothing, nothing, nothing, obs[:, ::-1])


def test_the_last_tasks_get_the_rewards_of_fresh_tasks_and_the_first_keep_theirs() -> None:
    tasks = relabelling_tasks(FAMILY, TASKS)
    before = made(4, 0), made(4, 1)
    after = relabel(FAMILY, tasks, np.array([5, 0, 3, 3]), 3, jax.random.key(2), *map(as_jax, before))
    goals = []
    for told, was in zip(after, before, strict=True):
        np.testing.assert_array_equal(told.reward[0], was.reward[0])
        np.testing.assert_array_equal(told.next_obs, was.next_obs)
        for index in (1, 2, 3):
            gap = -np.asarray(told.training_reward[index])
            position = np.asarray(told.next_obs[index], np.float64)
            squares = gap**2 - (position**2).sum(-1)  # |goal|^2 - 2 position . goal
            found = np.linalg.lstsq(np.c_[-2 * position, np.ones(50)], squares, rcond=None)[0][:2]
            goals.append(found)
            near = gap <= FAMILY.goal_radius
            np.testing.assert_allclose(told.reward[index], np.where(near, 1.0 - gap, 0.0), atol=1e-6)
    np.testing.assert_allclose(goals[:3], goals[3:], atol=1e-4)  # batch and context: one fresh task
    np.testing.assert_allclose(np.linalg.norm(goals, axis=1), 1.0, atol=1e-4)  # on the half circle
    known = np.concatenate([TASKS.train["goal"], TASKS.test["goal"]])
    assert min(np.linalg.norm(known - goal, axis=1).min() for goal in goals) > 1e-3
    assert len(np.unique(np.round(goals[:3], 3), axis=0)) == 3


def as_jax(transitions: Transition) -> Transition:
    return jax.tree.map(jax.numpy.asarray, transitions)


def test_fresh_tasks_follow_from_the_seed_of_the_task_set() -> None:
    first, again = relabelling_tasks(FAMILY, TASKS), relabelling_tasks(FAMILY, FAMILY.task_set(0, 6, 2))
    other = relabelling_tasks(FAMILY, FAMILY.task_set(1, 6, 2))
    assert first.fresh["goal"].shape == (NUM_FRESH, 2)
    np.testing.assert_array_equal(first.fresh["goal"], again.fresh["goal"])
    assert not np.array_equal(first.fresh["goal"], other.fresh["goal"])


@dataclass(frozen=True)
class WrongPoint(PointRobot):
    """Forgets the square root."""

    name: ClassVar[str] = "wrong-point"

    def rewards_under(self, transition: Transition, was: Any, task: Any) -> tuple[Any, Any]:
        reward = -((transition.next_obs - task["goal"]) ** 2).sum(-1)
        return reward, reward


def test_a_family_that_tells_other_rewards_than_it_pays_is_told_so() -> None:
    report = check_family(WrongPoint())
    assert [line.line for line in report.faults] == ["relabelling"]
    assert "wrong-point's rewards_under says that step" in str(report.faults[0].fault)


@pytest.mark.parametrize("family", ["ant-goal", "cheetah-vel", "point-robot"])
def test_what_nacres_families_tell_is_what_they_pay(family: str) -> None:
    report = check_family(family)
    assert report.ok and any(line.line == "relabelling" and line.checked for line in report.lines)


def test_a_cheetahs_velocity_is_told_to_the_last_model_step() -> None:
    """The torso that an observation shows is one model step old; the rewards of other tasks are exact all the same."""
    obs = np.zeros((1, 20), np.float32)
    next_obs = obs.copy()
    next_obs[0, 17], next_obs[0, 8] = 0.04, 2.0  # four of five model steps at 1 m/s, the last at 2 m/s
    velocity = (0.04 + 0.01 * 2.0) / 0.05
    was, task = {"velocity": np.float32(velocity - 0.5)}, {"velocity": np.float32(3.0)}
    reward = np.array([-0.5], np.float32)
    told, _ = CheetahVel().rewards_under(
        Transition(obs, np.zeros((1, 6)), reward, reward, np.ones(1), next_obs), was, task
    )
    np.testing.assert_allclose(told, velocity - 3.0, rtol=1e-6)


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(NacreError, match="walker-params does not say what a transition of one task earns in another"):
        resolve("pearl", "walker-params", "fast", num_relabelled_tasks=4)
    with pytest.raises(NacreError, match=r"an update has 8 tasks \(meta_batch\)"):
        resolve("pearl", "cheetah-vel", "fast", num_relabelled_tasks=9)
