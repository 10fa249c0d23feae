"""Any Gymnasium environment with continuous actions as a family: say how it is made and how it is told its task."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np

from nacre.errors import NacreError
from nacre.families.family import Family

if TYPE_CHECKING:
    from nacre.types import Tasks


class GymnasiumFamily(Family):
    """A distribution over tasks of one Gymnasium environment. One environment a lane, stepped one after another.

    A subclass gives `make_env`, `sample_tasks` and `in_range`, the class variables of a family, and whichever of these
    three fits how the environment takes a task:

    - keyword arguments of its constructor: `make_env` uses them, and `remake_for_task` is True;
    - `reset(options=...)`: `reset_options`;
    - a setter: `set_task`.

    Actions of agents lie in [-1, 1] and are scaled to the environment's box; observations are flattened. The reward of
    the task is the environment's; what a critic learns from is `info["training_reward"]` where there is one.
    """

    num_workers: ClassVar[int] = 0
    """Processes that step the lanes; 0: this one. For environments that take a millisecond a step or more."""
    remake_for_task: ClassVar[bool] = False
    """Whether an environment is made anew for every task, `make_env` being given the task."""
    reports_success: ClassVar[bool] = False
    """Whether `info["success"]` tells at every step if the task is solved; an episode succeeds if one step does."""

    @abstractmethod
    def make_env(self, task: dict[str, Any] | None, render_mode: str | None = None) -> gymnasium.Env:
        """An environment; `task` (its parameters by name, numbers or arrays) only with `remake_for_task`.

        `render_mode`, Gymnasium's, is given only where the environment is to be rendered: leave the argument out where
        it cannot be.
        """

    def reset_options(self, task: dict[str, Any]) -> dict[str, Any] | None:
        """The `options` of an environment's reset, for environments that take their task so."""
        return None

    def set_task(self, env: gymnasium.Env, task: dict[str, Any]) -> None:
        """Tells an environment its task before a reset, for environments that have a setter."""

    def checked_env(self, task: dict[str, Any] | None, render_mode: str | None = None) -> gymnasium.Env:
        """`make_env`, with actions in [-1, 1] and flat observations. Raises NacreError where that cannot be."""
        if render_mode is not None and "render_mode" not in inspect.signature(self.make_env).parameters:
            raise NacreError(
                f"{self.name} cannot be rendered, because its make_env takes no render_mode; add that argument, and "
                "make the environment with it."
            )
        env: Any = self.make_env(task) if render_mode is None else self.make_env(task, render_mode=render_mode)
        actions = env.action_space
        if not isinstance(actions, gymnasium.spaces.Box) or not np.issubdtype(actions.dtype, np.floating):
            raise NacreError(
                f"{self.name}'s actions are {actions}, but an agent of nacre acts with numbers in a box; "
                "wrap the environment so that it takes continuous actions."
            )
        if not actions.is_bounded():
            raise NacreError(
                f"{self.name}'s actions are {actions}, without bounds; wrap the environment in ClipAction."
            )
        env = gymnasium.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))
        env = gymnasium.wrappers.FlattenObservation(env)
        sizes = (int(np.prod(env.observation_space.shape)), int(np.prod(actions.shape)))
        if sizes != (self.obs_dim, self.action_dim):
            raise NacreError(
                f"{self.name} declares obs_dim {self.obs_dim} and action_dim {self.action_dim}, but its environment "
                f"has {sizes[0]} and {sizes[1]}; declare these."
            )
        return env


def task_of_lane(task: Tasks, lane: int) -> dict[str, Any]:
    """One task: plain numbers, or arrays for parameters that have several."""
    return {name: values[lane].item() if values.ndim == 1 else values[lane] for name, values in task.items()}
