"""The arm of Meta-World as one Gymnasium environment: any of its environments, told which before a reset."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import gymnasium
import numpy as np

from nacre.errors import NacreError
from nacre.families.metaworld_environments import (
    ACTION_DIM,
    OBS_DIM,
    environment_classes,
    give_back,
    idle_or_new,
    vector_bounds,
)

CAMERA = "corner"
"""Meta-World's camera by which frames are drawn."""


class Sawyer(gymnasium.Env):
    """Any environment of Meta-World, told which before a reset."""

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"], "render_fps": 80}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (OBS_DIM,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (ACTION_DIM,), np.float32)
        self._name = ""
        self._env: Any = None

    def set_task(self, name: str, vector: np.ndarray) -> None:
        """The environment of this name with object and goal placed by `vector`, the goal hidden."""
        if name != self._name:
            self.close()
            if self.render_mode is None:
                env = idle_or_new(name)
            else:
                env = environment_classes()[name](render_mode=self.render_mode, camera_name=CAMERA)
            self._name, self._env = name, env
        # What Meta-World's set_task does with its pickled tasks; the goal is hidden unless it is told otherwise.
        self._env._set_task_called = self._env._freeze_rand_vec = True
        self._env._last_rand_vec = np.asarray(vector, np.float64)[: vector_bounds(name).shape[1]]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Starts an episode; the start is the task's, whatever the seed. NacreError where object and goal are too near
        each other for the environment."""
        self._env._get_state_rand_vec = functools.partial(next, _given(self._name, self._env._last_rand_vec))
        try:
            return self._env.reset()
        finally:
            del self._env._get_state_rand_vec

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """One control step, 0.0125 s."""
        result = self._env.step(action)
        if self.render_mode == "human":
            self.render()
        return result

    @property
    def mujoco_renderer(self) -> Any:
        """As MuJoCo environments of Gymnasium have one; None before there is a task."""
        return self._env and self._env.mujoco_renderer

    def render(self) -> Any:
        """A frame [480, 480, 3] of uint8, or (human) a window."""
        frame = self._env.render()
        return None if frame is None else np.ascontiguousarray(frame[::-1, ::-1])  # its cameras hang upside down

    def close(self) -> None:
        """Leaves what it has to other lanes of this process; closes what is rendered."""
        if self._env is not None and self.render_mode is None:
            give_back(self._name, self._env)
        elif self._env is not None:
            self._env.close()
        self._name, self._env = "", None


def _given(name: str, vector: np.ndarray) -> Iterator[np.ndarray]:
    """What an environment gets as often as it asks for a vector: twice a reset, or for ever if it wants another one."""
    yield from [vector] * 10
    raise NacreError(
        f"with rand_vec={','.join(f'{number:g}' for number in vector)} object and goal of {name} are too near each "
        "other; move them apart."
    )
