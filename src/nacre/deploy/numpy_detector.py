"""A detector of changes for an exported agent, in NumPy alone: learning/change_detection.py; a part of session.py."""

from __future__ import annotations

from typing import Any

import numpy as np

from nacre.deploy.numpy_agents import BeliefAgent
from nacre.deploy.numpy_networks import Layers


class WatchingAgent(BeliefAgent):
    """PEARL, begun anew once the critics are more wrong about its rewards than they are while a task stays."""

    def __init__(self, about: dict[str, Any], arrays: dict[str, np.ndarray]):
        super().__init__(about, arrays)
        self.detector = about["detector"]
        self.critics = [Layers(critic, arrays) for critic in self.detector["critics"]]
        self.total = np.zeros(1, np.float32)  # the cumulative sum
        self.watch = np.zeros(3, np.int64)  # whether it fired, whether it waits for the next episode, how often
        self.state |= {"detector.total": self.total, "detector.watch": self.watch}
        self._scale, self._discount, self._usual, self._threshold = (
            np.float32(self.detector[name]) for name in ("reward_scale", "discount", "wrong", "threshold")
        )

    @property
    def has_fired(self) -> bool:
        return bool(self.watch[0])

    @property
    def num_fired(self) -> int:
        return int(self.watch[2])

    def restart(self, key: np.ndarray, task: np.ndarray) -> None:
        _, waits, num_fired = self.watch
        super().restart(key, task)
        self.watch[1:] = waits, num_fired

    def observe(self, obs: np.ndarray, action: np.ndarray, reward: float, next_obs: np.ndarray) -> None:
        more = self._wrong(obs, action, reward, next_obs) - self._usual
        listens = self.counts[1] >= self.detector["first_episode"] and not self.watch[1]
        self.total[0] = max(self.total[0] + more, np.float32(0)) if listens else 0
        super().observe(obs, action, reward, next_obs)
        if self.total[0] > self._threshold:
            self.total[:], self.watch[:] = 0, (1, 1, self.num_fired + 1)

    def end_episode(self, key: np.ndarray) -> None:
        super().end_episode(key)
        self.watch[1] = 0

    def _wrong(self, obs: np.ndarray, action: np.ndarray, reward: float, next_obs: np.ndarray) -> np.float32:
        """The size of the critics' Bellman error by the belief's mean before the step."""
        now, mean = self.z.copy(), self.belief()[0]
        self.obs[:], self.z[:] = next_obs, mean
        next_action = self.policy.act(None)
        after = np.float32(0) if self.is_last else self._value(next_obs, next_action, mean)
        self.z[:] = now
        error = self._scale * np.float32(reward) + self._discount * after - self._value(obs, action, mean)
        return np.float32(abs(error))

    def _value(self, obs: np.ndarray, action: np.ndarray, z: np.ndarray) -> np.float32:
        """What the least of the critics expects."""
        values = []
        for critic in self.critics:
            np.concatenate((obs, action, z), out=critic.input)
            values.append(critic.run()[0])
        return np.float32(min(values))
