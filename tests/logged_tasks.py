"""Logs of two point robots for tests of offline methods: opposite goals, controllers from random to good."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nacre.families.family import TaskSet
from nacre.families.point import PointRobot
from nacre.learning import offline
from nacre.learning.offline import Logs
from nacre.learning.replay import pack
from nacre.simulation import rollout
from nacre.types import Tasks, Transition

FAMILY = PointRobot()
GOALS = np.array([[0.8, 0.0], [-0.8, 0.0]])
DISCOUNT = 0.9
TASKS = TaskSet({"goal": GOALS}, {"goal": GOALS}, 0)


def tasks_of(numbers: Sequence[int]) -> Tasks:
    """These of the two tasks."""
    return {"goal": GOALS[np.asarray(numbers)]}


def logs_of_two_tasks(num_episodes: int) -> Logs:
    """Episodes of each task by controllers that go for the goal with noise of 0 to 1, the worst first."""
    rng = np.random.default_rng(0)
    packed, returns = [], []
    for goal in GOALS:
        for share in np.linspace(0, 1, num_episodes):
            obs, rewards, steps = rng.uniform(-1, 1, 2), [], []
            for _ in range(FAMILY.horizon):
                wanted = np.clip((goal - obs) / 0.1, -1, 1)
                action = share * wanted + (1 - share) * rng.uniform(-1, 1, 2)
                after = obs + 0.1 * action
                reward = -np.linalg.norm(after - goal)
                steps.append(Transition(obs, action, reward, reward, np.float32(1), after))
                rewards.append(reward)
                obs = after
            packed += [np.asarray(pack(jax.tree.map(jnp.asarray, step)), np.float32) for step in steps]
            to_go = [0.0]
            for reward in reversed(rewards):
                to_go.append(reward + DISCOUNT * to_go[-1])
            returns += to_go[:0:-1]
    number = num_episodes * FAMILY.horizon
    last = np.arange(2 * number) // FAMILY.horizon * FAMILY.horizon + FAMILY.horizon - 1
    sizes = (last.astype(np.int32), np.array([0, number], np.int32), np.full(2, number, np.int32))
    return offline.placed(Logs(np.stack(packed), np.asarray(returns, np.float32), *sizes), 2**30)


def mean_returns(method: Any, config: Any, state: Any, logs: Logs, num_steps: int) -> np.ndarray:
    """Mean returns [task] of 20 trials each, an episode after so many gradient steps on logged transitions."""
    agent = method.make_agent(FAMILY, dataclasses.replace(config, protocol=f"gradient-steps:{num_steps}"))
    task, params = np.tile([0, 1], 20), method.agent_params(state)
    at = offline.uniform_rows(logs, jnp.asarray(task), config.num_context_transitions, jax.random.key(1))
    memory = agent.begin(params, tasks_of(task), jax.random.key(2))
    memory = jax.jit(agent.absorb)(params, memory, offline.logged(logs, at, FAMILY.obs_dim), jax.random.key(3))
    _, episode = rollout.episode(FAMILY, agent, params, memory, tasks_of(task), jax.random.key(4), explore=False)
    return episode.returns().reshape(20, 2).mean(axis=0)
