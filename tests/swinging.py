"""Families of Gymnasium environments that take their task in three ways; a module, as worker processes import it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import gymnasium
import numpy as np

from nacre.families.gymnasium import GymnasiumFamily
from nacre.types import Tasks


class Ball(gymnasium.Env):
    """A ball on a line that is pushed, actions in [0, 4]; it is paid for being at a place, and lost beyond 3 m."""

    metadata = {"render_modes": ["rgb_array", "human"], "render_fps": 20}  # noqa: RUF012
    observation_space = gymnasium.spaces.Dict(
        {"where": gymnasium.spaces.Box(-9, 9, (1,)), "speed": gymnasium.spaces.Box(-9, 9, (1,))}
    )
    action_space = gymnasium.spaces.Box(np.float32(0.0), np.float32(4.0), (1,))
    place = 0.0
    made = 0

    def __init__(self, place: float = 0.0, render_mode: str | None = None):
        self.place, self.render_mode = place, render_mode
        Ball.made += 1

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.place = (options or {}).get("place", self.place)
        self.x, self.v = float(self.np_random.uniform(-0.1, 0.1)), 0.0
        return self._obs(), {}

    def _obs(self) -> dict[str, np.ndarray]:
        return {"where": np.array([self.x], np.float32), "speed": np.array([self.v], np.float32)}

    def step(self, action: np.ndarray):
        self.v += 0.1 * (float(action[0]) - 2.0)
        self.x += 0.1 * self.v
        lost = abs(self.x) > 3.0
        reward = -abs(self.x - self.place)
        return self._obs(), reward, lost, False, {"training_reward": reward - 1.0}

    def render(self) -> np.ndarray:
        """The line from -3 to 3 m, a pixel a decimetre: the place is green, the ball blue."""
        frame = np.full((20, 61, 3), 255, np.uint8)
        for x, colour in ((self.place, (0, 255, 0)), (self.x, (0, 0, 255))):
            frame[5:15, int(np.clip(round(10 * x), -30, 30)) + 30] = colour
        return frame


@dataclass(frozen=True)
class Balls(GymnasiumFamily):
    """The ball, told its place by a setter."""

    name: ClassVar[str] = "balls"
    obs_dim: ClassVar[int] = 2
    action_dim: ClassVar[int] = 1
    horizon: ClassVar[int] = 50
    can_terminate: ClassVar[bool] = True
    parameters: ClassVar[dict[str, int]] = {"place": 0}
    task_range: ClassVar[str] = "place in [-1, 1]"

    def make_env(self, task: dict[str, Any] | None, render_mode: str | None = None) -> gymnasium.Env:
        return Ball(render_mode=render_mode)

    def set_task(self, env: gymnasium.Env, task: dict[str, Any]) -> None:
        env.unwrapped.place = task["place"]

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        return {"place": rng.uniform(-1.0, 1.0, num)}

    def in_range(self, task: Tasks) -> np.ndarray:
        return np.abs(task["place"]) <= 1.0


@dataclass(frozen=True)
class BallsByOptions(Balls):
    """The ball, told its place by the options of a reset."""

    name: ClassVar[str] = "balls-by-options"

    def set_task(self, env: gymnasium.Env, task: dict[str, Any]) -> None: ...

    def reset_options(self, task: dict[str, Any]) -> dict[str, Any]:
        return {"place": task["place"]}


@dataclass(frozen=True)
class BallsByArguments(BallsByOptions):
    """The ball, told its place when it is made."""

    name: ClassVar[str] = "balls-by-arguments"
    remake_for_task: ClassVar[bool] = True

    def make_env(self, task: dict[str, Any] | None, render_mode: str | None = None) -> gymnasium.Env:
        assert task is not None
        return Ball(task["place"], render_mode)

    def reset_options(self, task: dict[str, Any]) -> dict[str, Any]:
        return {}


@dataclass(frozen=True)
class BallsInWorkers(Balls):
    """The same in two processes."""

    name: ClassVar[str] = "balls-in-workers"
    num_workers: ClassVar[int] = 2


class Solved(Balls):
    """It says whether the ball is at its place."""

    name: ClassVar[str] = "solved"
    reports_success: ClassVar[bool] = True

    def make_env(self, task, render_mode=None):
        return SolvedBall(render_mode=render_mode)


class SolvedBall(Ball):
    def step(self, action):
        obs, reward, terminated, truncated, info = super().step(action)
        return obs, reward, terminated, truncated, info | {"success": -reward < 0.5}
