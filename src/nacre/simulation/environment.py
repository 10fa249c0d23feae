"""Every family as a Gymnasium environment: one robot in one task, stepped by hand, rendered.

    import gymnasium, nacre
    env = gymnasium.make("nacre/CheetahVel-v0", task="velocity=1.3", render_mode="rgb_array")

`task` is written as for `nacre adapt`. Without it, every reset draws a task from the family's distribution; a reset
with `options={"task": "velocity=2"}` changes it. `info["task"]` says which it is, `info["training_reward"]` what a
critic would learn from, `info["success"]` whether the task is solved, where the family tells. Trainers step families in
other ways (`simulation/`); this is for all that speaks Gymnasium.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np

from nacre.errors import NacreError
from nacre.families.blame import check_finite, short, undeclared_end
from nacre.families.catalog import make_family
from nacre.families.family import Family
from nacre.simulation.lanes import make_drawn_lane
from nacre.simulation.look import Look
from nacre.types import Tasks


def checked_actions(actions: Any, space: gymnasium.Space[Any]) -> np.ndarray:
    """The actions as float32. Raises NacreError for another shape than the space's, which would be broadcast, and for
    what is no finite number."""
    try:
        array = np.asarray(actions, np.float32)
    except (TypeError, ValueError) as error:
        raise NacreError(f"the action must be {space.shape} numbers in [-1, 1], but is {short(actions)}.") from error
    if array.shape != space.shape:
        raise NacreError(f"the action has shape {array.shape}, but must have {space.shape}, as action_space says.")
    if not np.isfinite(array).all():
        raise NacreError(f"the action has a number that is not finite: {short(array)}.")
    return array


class TaskEnvironment(gymnasium.Env[np.ndarray, np.ndarray]):
    """A family's robot in one task at a time. Actions lie in [-1, 1]; an episode's time limit is gymnasium.make's."""

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012

    def __init__(
        self, family: str | Family, task: str | None = None, *, allow_ood: bool = False,
        render_mode: str | None = None, look: Look | None = None, **options: Any,
    ):  # fmt: skip
        """`look`: how pictures are drawn. `options` are the family's (`goal_radius`). Raises NacreError for a task that
        is none of the family's."""
        self.family = make_family(family, **options) if isinstance(family, str) else family
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise NacreError(f"render_mode is {render_mode!r}, but must be 'human' or 'rgb_array'.")
        self.render_mode = render_mode
        self._allow_ood = allow_ood
        self._wanted = None if task is None else self._parsed(task)
        self._lane = make_drawn_lane(self.family, render_mode)
        self._lane.look = look or Look()
        self.metadata = self.metadata | {"render_fps": self._lane.frames_per_second}
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self.family.obs_dim,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (self.family.action_dim,), np.float32)
        self._task: Tasks | None = None
        self._obs, self._steps = np.zeros(0, np.float32), 0  # the last observation, and steps since the reset

    @property
    def task(self) -> dict[str, Any]:
        """The task of the episode, as plain numbers."""
        return {} if self._task is None else {name: values[0].tolist() for name, values in self._task.items()}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode; options={"task": "velocity=2"} sets the task from here on."""
        super().reset(seed=seed)
        if options and "task" in options:
            self._wanted = self._parsed(options["task"])
        self._task = self.family.sample_tasks(self.np_random, 1) if self._wanted is None else self._wanted
        self._steps = 0
        self._obs = self._checked("first observation", self._lane.reset(self._task, self.np_random)[0])
        if self.render_mode == "human":
            self.render()
        return self._obs.copy(), {"task": self.task}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One control step; actions are clipped to [-1, 1]. Where the physics diverged, the episode is cut off."""
        if self._task is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        result = self._lane.step(checked_actions(action, self.action_space)[None], self._task)
        if self.render_mode == "human":
            self.render()
        info: dict[str, Any] = {"task": self.task, "training_reward": 0.0}
        if result.success is not None:
            info["success"] = bool(result.success[0])
        self._steps += 1
        diverged = result.diverged is not None and bool(result.diverged[0])
        if diverged:  # there is no successor: the last observation stands for it
            return self._obs.copy(), 0.0, False, True, info | {"diverged": True}
        self._obs = self._checked("obs", result.obs[0])
        reward, terminated = float(self._checked("reward", result.reward[0])), bool(result.terminated[0])
        info["training_reward"] = float(self._checked("training reward", result.training_reward[0]))
        if terminated and not self.family.can_terminate:
            raise undeclared_end(self.family.name, self._steps)
        return self._obs.copy(), reward, terminated, False, info

    def _checked(self, what: str, values: Any) -> np.ndarray:
        """A copy; NacreError where a number is not finite."""
        check_finite(self.family.name, what, values, self._steps)
        return np.array(values)

    def render(self) -> Any:
        """A frame [height, width, 3] of uint8, or (human) a window."""
        if self.render_mode is None or self._task is None:
            return None
        return self._lane.render(self._task, self.render_mode)

    def reading(self) -> str:
        """How the robot does what its task asks for, in words: its speed beside the target, the distance to a goal."""
        return "" if self._task is None else self._lane.reading(self._task)

    def close(self) -> None:
        """Closes the window and frees the renderer."""
        self._lane.close()

    def _parsed(self, task: str) -> Tasks:
        return self.family.parse_task(task, allow_ood=self._allow_ood)


def make_unseen(family: str, **arguments: Any) -> gymnasium.Env[np.ndarray, np.ndarray]:
    """The environment of a family that was known by its name alone; so its time limit is in here, not in its spec.
    Longer limits of gymnasium.make have no effect until the family is loaded, as by `nacre.make_family`."""
    env = TaskEnvironment(family, **arguments)
    return gymnasium.wrappers.TimeLimit(env, env.family.horizon)
