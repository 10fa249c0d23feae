"""A task that changes inside an episode: from which step on, for whom, and what stays."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.errors import NacreError
from nacre.families.family import Family
from nacre.families.half_cheetah import CheetahGravity, CheetahVel
from nacre.families.point import PointRobot
from nacre.simulation import rollout
from nacre.simulation.change import Change, check_change
from nacre.simulation.lanes import make_lanes
from nacre.simulation.mujoco import BatchEngine, MujocoLanes, SerialEngine
from nacre.types import Agent, Episode, with_fixed_memory

AT = 3


class ShortCheetahVel(CheetahVel):
    horizon = 6


def moving(family: Family) -> Agent:
    """An agent that always does the same."""
    return with_fixed_memory(lambda params, memory, obs, key, explore: jnp.full((len(obs), family.action_dim), 0.5))


def played(family: Family, task: Any, change: Change | None = None) -> Episode:
    _, episode = rollout.episode(family, moving(family), (), (), task, jax.random.key(0), explore=False, change=change)
    return episode


def test_the_reward_is_that_of_the_new_task_from_the_step_of_the_change_on_and_not_before() -> None:
    old, new = {"goal": np.array([[1.0, 0.0], [0.0, 1.0]])}, {"goal": np.array([[0.0, 1.0], [-1.0, 0.0]])}
    episode = played(PointRobot(), old, Change(AT, new))
    positions, rewards = np.asarray(episode.transitions.next_obs), np.asarray(episode.transitions.reward)
    for lane in range(2):
        for time in range(PointRobot.horizon):
            goal = (old if time < AT else new)["goal"][lane]
            np.testing.assert_allclose(rewards[lane, time], -np.linalg.norm(positions[lane, time] - goal), rtol=1e-5)


def test_a_robot_in_mujoco_runs_on_and_its_reward_changes() -> None:
    family = ShortCheetahVel()
    old, new = {"velocity": np.array([0.5, 2.0])}, {"velocity": np.array([2.5, 1.0])}
    first, second = played(family, old).transitions, played(family, new).transitions
    changes = played(family, old, Change(AT, new)).transitions
    np.testing.assert_array_equal(changes.next_obs, first.next_obs)
    expected = np.where(np.arange(family.horizon) < AT, first.reward, second.reward)
    np.testing.assert_array_equal(changes.reward, expected)
    assert (first.reward != second.reward).all()


@pytest.mark.parametrize("engine", [BatchEngine, SerialEngine])
def test_another_gravity_in_mid_episode_leaves_the_state_and_both_engines_agree(engine: Any) -> None:
    family, steps = CheetahGravity(), 8
    old, new = {"gravity_scale": np.array([1.0, 0.5])}, {"gravity_scale": np.array([3.0, 0.5])}
    actions = np.random.default_rng(1).uniform(-1, 1, (steps, 2, family.action_dim)).astype(np.float32)

    def observed(change_to: Any, engine: Any = engine) -> np.ndarray:
        lanes, seen = MujocoLanes(family, 2, engine), []
        lanes.reset(old, np.random.default_rng(3))
        for time, action in enumerate(actions):
            if time == AT and change_to is not None:
                lanes.change(change_to)
            seen.append(lanes.step(action, old).obs.copy())
        return np.stack(seen)

    unchanged, same, other = observed(None), observed(old), observed(new)
    np.testing.assert_array_equal(same, unchanged)
    np.testing.assert_array_equal(other[:, 1], unchanged[:, 1])
    differs = (other[:, 0] != unchanged[:, 0]).any(axis=1)
    assert differs.tolist() == [time >= AT for time in range(steps)]
    np.testing.assert_array_equal(other, observed(new, BatchEngine))


COUNTING = Agent(
    begin=lambda params, task, key: jnp.zeros(len(next(iter(task.values())))),
    act=lambda params, memory, obs, key, explore: (jnp.zeros((len(obs), params)) + memory[:, None], memory),
    observe=lambda params, memory, transition: memory + 0.1,
    end_episode=lambda params, memory, key: memory,
    explores=lambda index, scored_episode: False,
)
"""Its actions tell how many steps it has seen since it began."""


@pytest.mark.parametrize(
    ("family", "task"),
    [(PointRobot(), {"goal": np.zeros((2, 2))}), (ShortCheetahVel(), {"velocity": np.ones(2)})],
    ids=["compiled", "stepped"],
)
def test_an_agent_that_is_told_begins_anew_before_its_first_action_in_the_new_task(family: Family, task: Any) -> None:
    def actions(restart: bool) -> Any:
        agent = COUNTING._replace(act=lambda p, m, o, k, e: COUNTING.act(family.action_dim, m, o, k, e))
        memory = rollout.begin(agent, (), task, jax.random.key(0))
        change = Change(AT, task, restart)
        memory, episode = rollout.episode(
            family, agent, (), memory, task, jax.random.key(1), explore=False, change=change
        )
        return np.asarray(episode.transitions.action)[:, :, 0], np.asarray(memory)

    steps = np.arange(family.horizon)
    told, memory = actions(True)
    np.testing.assert_allclose(told, np.tile(np.where(steps < AT, steps, steps - AT) / 10, (2, 1)), atol=1e-6)
    np.testing.assert_allclose(memory, (family.horizon - AT) / 10, atol=1e-6)
    np.testing.assert_allclose(actions(False)[0], np.tile(steps / 10, (2, 1)), atol=1e-6)


def test_environments_that_are_told_at_a_reset_only_are_refused() -> None:
    from swinging import Balls

    with pytest.raises(NacreError, match="at a reset only"):
        check_change(Balls())
    with pytest.raises(NacreError, match="at a reset only"):
        make_lanes(Balls(), 1).change({})
