"""What a session was shown is what counts, whatever the environment does with its arrays afterwards."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import wrappers

import nacre
from nacre.simulation.mujoco import MujocoLanes

STEPS = [(np.array([0.1 * t, -0.2]), -0.5 * t) for t in range(5)]


@pytest.fixture(scope="module")
def agent(smoke_run: Callable[[str], Path]) -> nacre.TrainedAgent:
    return nacre.load(smoke_run("point-robot"))


class Reusing:
    """It writes every observation into one array, and its reward into another."""

    observation_space = action_space = None
    seen = np.zeros(2)

    def __init__(self, reuses: bool):
        self.reuses = reuses

    def _obs(self) -> np.ndarray:
        if not self.reuses:
            return self.position.copy()
        self.seen[:] = self.position
        return self.seen

    def reset(self, *, seed: int | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        self.position = np.array([0.3, 0.1])
        return self._obs(), {}

    def step(self, action: np.ndarray) -> tuple[Any, ...]:
        self.position = self.position + 0.1 * action
        action[:] = 9.0  # it may do with the action what it likes
        return self._obs(), -float(np.abs(self.position).sum()), False, False, {}


def test_an_environment_that_reuses_its_array_gives_the_trial_of_one_that_does_not(agent: nacre.TrainedAgent) -> None:
    assert agent.adapt(Reusing(True), episodes=2) == agent.adapt(Reusing(False), episodes=2)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_observation_overwritten_after_act_leaves_the_belief_as_it_was(
    agent: nacre.TrainedAgent, dtype: type
) -> None:
    reused, copied = agent.session(seed=1), agent.session(seed=1)
    buffer = np.zeros(2, dtype)
    for obs, reward in STEPS:
        buffer[:] = obs
        reused.act(buffer)
        copied.act(obs.astype(dtype))
        buffer[:] = obs + 1.0
        reused.observe(buffer, reward)
        buffer[:] = 99.0
        copied.observe((obs + 1.0).astype(dtype), reward)
    for session in (reused, copied):
        session.end_episode()
    assert agent.report_episode(0, 0.0, 5, reused.memory) == agent.report_episode(0, 0.0, 5, copied.memory)


@pytest.mark.parametrize("reward", [np.array([1.0]), [1.0], "1.0", None, 1j], ids=repr)
def test_a_reward_that_is_not_one_number_is_refused(agent: nacre.TrainedAgent, reward: Any) -> None:
    session = agent.session()
    session.act(np.zeros(2))
    with pytest.raises(nacre.NacreError, match=r"the reward at step 1 is .* not one number"):
        session.observe(np.zeros(2), reward)
    session.observe(np.zeros(2), np.float64(1.0))


class Diverging(Reusing):
    """Its physics diverge at step 4."""

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        self.time = 0
        return super().reset(**options)

    def step(self, action: np.ndarray) -> tuple[Any, ...]:
        self.time += 1
        obs, reward, *_ = super().step(action)
        return obs, reward, False, self.time == 4, {"diverged": self.time == 4}


def test_a_step_in_which_the_physics_diverged_is_left_out_of_the_trial(agent: nacre.TrainedAgent) -> None:
    whole, cut = (agent.adapt(kind(False)).episodes[0] for kind in (Reusing, Diverging))
    assert cut.length == 3 < whole.length and cut.ended_by == "truncated"
    assert cut.episode_return > whole.episode_return


def test_a_simulated_episode_that_the_physics_ended_is_said_to_be_truncated(
    smoke_run: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, step, count = nacre.load(smoke_run("cheetah-vel")), MujocoLanes.step, [0]

    def diverging(lanes: MujocoLanes, action: Any, task: Any, which: Any = None) -> Any:
        count[0] += 1
        result = step(lanes, action, task, which)
        return result._replace(diverged=np.full(len(action), count[0] == 4))

    monkeypatch.setattr(MujocoLanes, "step", diverging)
    first, *others = agent.meet("velocity=1.3").episodes
    assert (first.length, first.ended_by) == (3, "truncated")
    assert others and all(one.ended_by == "horizon" and one.length == agent.family.horizon for one in others)


def test_an_environment_with_running_statistics_is_refused(agent: nacre.TrainedAgent) -> None:
    env = wrappers.NormalizeObservation(gymnasium.make("nacre/PointRobot-v0"))
    with pytest.raises(nacre.NacreError, match="wrapped in NormalizeObservation"):
        agent.adapt(env)
