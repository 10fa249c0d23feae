"""Trials and their returns: what stands where, which episodes explore, and environments that return nonsense."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.algorithms import pearl
from nacre.errors import NacreError
from nacre.families.family import Family, JaxStep, num_tasks, take
from nacre.families.half_cheetah import CheetahVel
from nacre.families.point import PointRobot
from nacre.presets.pearl import PearlSettings
from nacre.simulation import rollout
from nacre.types import Agent, with_fixed_memory

FAMILY = PointRobot()
TASKS = {"goal": np.array([[0.9, 0.9], [-0.9, 0.0], [0.0, -0.4]])}
NUM_TASKS, NUM_REPEATS, NUM_EPISODES = 3, 2, 3

SEEKING = Agent(
    begin=lambda params, task, key: {"goal": jnp.asarray(task["goal"]), "episode": jnp.zeros(num_tasks(task))},
    # Towards the goal when it exploits; when it explores, to the right.
    act=lambda params, memory, obs, key, explore: (
        jnp.broadcast_to(jnp.array([1.0, 0.0]), obs.shape) if explore else 10 * (memory["goal"] - obs),
        memory,
    ),
    observe=lambda params, memory, transition: memory,
    end_episode=lambda params, memory, key: memory | {"episode": memory["episode"] + 1},
    explores=lambda episode, scored_episode: episode < scored_episode,
)
"""An oracle: it is told the goal. It explores before the scored episode."""


def test_returns_stand_by_repeat_task_and_episode_and_are_those_of_a_hand_loop_over_the_trial():
    config = PearlSettings(latent_dim=2, hidden_dim=8, num_hidden_layers=1, encoder_hidden_dim=8)
    networks = pearl.init_learner(2, 2, config, jax.random.key(0))[0]
    agent, params, key = (
        pearl.make_agent(FAMILY, config),
        pearl.Params(networks.encoder, networks.policy),
        jax.random.key(3),
    )

    returns = rollout.evaluate(FAMILY, TASKS, agent, params, key, NUM_EPISODES, NUM_REPEATS)

    assert returns.shape == (NUM_REPEATS, NUM_TASKS, NUM_EPISODES)
    lanes = take(TASKS, [0, 1, 2, 0, 1, 2])
    for index, played in enumerate(rollout.trial(FAMILY, agent, params, lanes, key, NUM_EPISODES)):
        positions = np.asarray(played.episode.transitions.next_obs, np.float64)
        for repeat in range(NUM_REPEATS):
            for task in range(NUM_TASKS):
                by_hand = 0.0
                for x, y in positions[repeat * NUM_TASKS + task]:
                    goal_x, goal_y = TASKS["goal"][task]
                    by_hand -= ((x - goal_x) ** 2 + (y - goal_y) ** 2) ** 0.5
                np.testing.assert_allclose(returns[repeat, task, index], by_hand, rtol=1e-5)
    assert len(np.unique(returns)) == returns.size, "every trial has its own random numbers"


@pytest.mark.parametrize("family", [FAMILY, CheetahVel()], ids=lambda family: family.name)
def test_agents_side_by_side_meet_what_each_meets_alone(family):
    """Each with its own parameters and its own key, in compiled episodes and in MuJoCo."""
    config = PearlSettings(latent_dim=2, hidden_dim=8, num_hidden_layers=1, encoder_hidden_dim=8)
    agent, tasks = pearl.make_agent(family, config), family.sample_tasks(np.random.default_rng(0), 2)
    keys, params = jax.random.split(jax.random.key(3), 3), []
    for seed in range(3):
        networks = pearl.init_learner(family.obs_dim, family.action_dim, config, jax.random.key(seed))[0]
        params.append(pearl.Params(networks.encoder, networks.policy))
    evaluations = rollout.evaluate_side_by_side(family, tasks, agent, params, keys, 2, NUM_REPEATS)
    together = np.stack([evaluation.returns for evaluation in evaluations])
    assert together.shape == (3, NUM_REPEATS, 2, 2)
    for ours, one, key in zip(together, params, keys, strict=True):
        alone = rollout.evaluate(family, tasks, agent, one, key, 2, NUM_REPEATS)
        np.testing.assert_allclose(ours, alone, rtol=1e-3)
    assert len(np.unique(together)) == together.size


def test_an_evaluation_follows_from_its_key():
    first, again, other = (
        rollout.evaluate(FAMILY, TASKS, SEEKING, {}, jax.random.key(key), NUM_EPISODES, NUM_REPEATS)
        for key in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_the_scored_episode_is_the_last_and_exploring_is_the_agents_choice():
    trial = list(rollout.trial(FAMILY, SEEKING, {}, take(TASKS, [0, 1, 2, 0, 1, 2]), jax.random.key(0), NUM_EPISODES))
    assert [np.asarray(played.memory_before["episode"]).tolist() for played in trial] == [
        [0.0] * 6,
        [1.0] * 6,
        [2.0] * 6,
    ]
    for played in trial[:2]:
        moved = np.diff(played.episode.transitions.obs, axis=1)
        np.testing.assert_allclose(moved, np.broadcast_to([0.1, 0.0], moved.shape), atol=1e-6)
    at_the_end = np.asarray(trial[2].episode.transitions.next_obs)[:, -1]
    np.testing.assert_allclose(at_the_end, np.tile(TASKS["goal"], (2, 1)), atol=1e-5)


def test_every_lane_begins_with_its_own_task_and_meets_it():
    """Straight to the goal: after k steps each axis is 0.1 k nearer, until it is there."""
    *_, scored = rollout.trial(FAMILY, SEEKING, {}, take(TASKS, [0, 1, 2, 0, 1, 2]), jax.random.key(0), NUM_EPISODES)
    start = np.asarray(scored.episode.transitions.obs, np.float64)[:, 0]
    gap = np.abs(np.tile(TASKS["goal"], (2, 1)) - start)
    steps = np.arange(1, FAMILY.horizon + 1)[:, None]
    expected = -np.linalg.norm(np.maximum(gap[:, None] - 0.1 * steps, 0.0), axis=-1)
    np.testing.assert_allclose(scored.episode.transitions.reward, expected, atol=1e-5)
    np.testing.assert_allclose(scored.episode.returns(), expected.sum(axis=1), atol=1e-4)


def test_score_is_the_mean_of_the_last_episode():
    returns = np.array([[[9.0, 9.0, 1.0], [9.0, 9.0, 2.0]], [[9.0, 9.0, 3.0], [9.0, 9.0, 6.0]]])
    assert rollout.score(returns) == 3.0


# ----------------------------------------------------------------------------------------------------------------------
# Environments that return nonsense, from their fifth step on in lane 1


class BrokenPoint(PointRobot):
    """Its state is (position, steps); goals with x above 0.5 break it."""

    name: ClassVar[str] = "broken-point"
    breaks: ClassVar[str] = "reward"

    def reset(self, key):
        position, obs = super().reset(key)
        return (position, 0), obs

    def step(self, state: Any, action: Any, task: Any) -> JaxStep:
        position, steps = state
        result = super().step(position, action, task)
        broken = (steps >= 4) & (task["goal"][0] > 0.5)
        spoiled = jnp.where(broken, jnp.nan, getattr(result, self.breaks))
        return result._replace(state=(result.state, steps + 1), **{self.breaks: spoiled})


class BrokenTrainingReward(BrokenPoint):
    breaks: ClassVar[str] = "training_reward"


class BrokenObservation(BrokenPoint):
    breaks: ClassVar[str] = "obs"


class BrokenAfterItsEnd(BrokenPoint):
    """Ends at its fourth step, before it breaks."""

    can_terminate: ClassVar[bool] = True

    def step(self, state: Any, action: Any, task: Any) -> JaxStep:
        return super().step(state, action, task)._replace(terminated=state[1] == 3)


class BrokenCheetah(CheetahVel):
    """Returns an infinite reward in lane 1 at its fifth step."""

    name: ClassVar[str] = "broken-cheetah"
    horizon: ClassVar[int] = 8
    steps: ClassVar[int] = 0

    def reset_state(self, qpos, qvel, rng):
        type(self).steps = 0
        return super().reset_state(qpos, qvel, rng)

    def rewards(self, before, after, action, task):
        type(self).steps += 1
        reward, training_reward = super().rewards(before, after, action, task)
        if self.steps == 5:
            reward = np.where(np.arange(len(reward)) == 1, np.inf, reward)
        return reward, training_reward


def resting(family: Family, tasks: dict[str, np.ndarray], action: float = 0.0) -> rollout.Episode:
    """An episode of an agent that does nothing, or the same all the time."""
    agent = with_fixed_memory(lambda params, memory, obs, key, explore: jnp.full((len(obs), family.action_dim), action))
    memory = rollout.begin(agent, {}, tasks, jax.random.key(0))
    return rollout.episode(family, agent, {}, memory, tasks, jax.random.key(0), explore=False)[1]


GOALS = {"goal": np.array([[0.1, 0.0], [0.9, 0.0], [0.2, 0.0]])}


@pytest.mark.parametrize(
    ("family", "field"),
    [(BrokenPoint(), "reward"), (BrokenTrainingReward(), "training_reward"), (BrokenObservation(), "next_obs")],
    ids=["reward", "training_reward", "next_obs"],
)
def test_a_jax_family_that_returns_nan_is_named_with_the_step(family, field):
    with pytest.raises(NacreError, match=rf"broken-point returned a {field} that is not finite at step 5 .*lane 1"):
        resting(family, GOALS)


def test_a_mujoco_family_that_returns_infinity_is_named_with_the_step():
    with pytest.raises(NacreError, match=r"broken-cheetah returned a reward that is not finite at step 5 .*lane 1"):
        resting(BrokenCheetah(), {"velocity": np.ones(3)})


def test_an_agent_that_diverged_is_named_rather_than_its_environment():
    with pytest.raises(NacreError, match="the agent's actions in point-robot are not finite"):
        resting(PointRobot(), GOALS, action=np.nan)


def test_what_an_environment_returns_after_its_end_does_not_matter():
    result = resting(BrokenAfterItsEnd(), GOALS)
    assert np.asarray(result.length).tolist() == [4, 4, 4]
    assert np.isfinite(result.returns()).all()
    assert np.isnan(np.asarray(result.transitions.reward)[1, 4:]).all()
