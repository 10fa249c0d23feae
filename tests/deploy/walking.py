"""Somebody's environment with the spaces of point-robot."""

from __future__ import annotations

from typing import Any

import numpy as np
from gymnasium import spaces

import nacre
from nacre.algorithms import pearl
from nacre.types import Transition

GOAL = np.array([0.4, -0.7])


class Walk:
    """Somebody's environment with the spaces of point-robot, written without nacre and without gymnasium.Env."""

    observation_space: Any = spaces.Box(-np.inf, np.inf, (2,))
    action_space: Any = spaces.Box(-1.0, 1.0, (2,))

    def __init__(self, terminates_at: int | None = None, truncates_at: int | None = None):
        self.terminates_at, self.truncates_at = terminates_at, truncates_at
        self.rng = np.random.default_rng(0)
        self.episodes: list[list[Transition]] = []
        self.seeds: list[int | None] = []

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict[str, Any]]:
        if seed is not None:
            self.rng = np.random.default_rng(seed)
        self.seeds.append(seed)
        self.position = self.rng.uniform(-1.0, 1.0, 2)
        self.episodes.append([])
        return self.position.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        before, self.position = self.position, self.position + 0.1 * action
        reward = -float(np.linalg.norm(self.position - GOAL))
        self.episodes[-1].append(Transition(before, action, reward, reward, 1.0, self.position))
        time = len(self.episodes[-1])
        return self.position.copy(), reward, time == self.terminates_at, time == self.truncates_at, {}

    def returns(self) -> list[float]:
        return [sum(step.reward for step in episode) for episode in self.episodes]

    def actions(self) -> np.ndarray:
        return np.array([step.action for episode in self.episodes for step in episode])


def believed(agent: nacre.TrainedAgent, memory: Any) -> tuple[np.ndarray, np.ndarray]:
    belief = pearl.belief(memory, agent.experiment.settings)
    return np.asarray(belief.mean[0]), np.asarray(belief.variance[0])
