"""Any Gymnasium environment with continuous actions as a family: say how it is made and how it is told its task."""

from __future__ import annotations

import inspect
from abc import abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

from nacre.errors import NacreError
from nacre.families.blame import failure, short
from nacre.families.family import Family

if TYPE_CHECKING:
    import gymnasium

    from nacre.families.checked_environment import CheckedEnvironment
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

    task_can_change: ClassVar[bool] = False
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
        """Tells an environment its task before a reset, for environments that have a setter.

        `env` is what `make_env` made; an attribute that is set on it, as in `env.goal = ...`, is set on whichever
        environment below its wrappers has it, or on `env.unwrapped`.
        """

    def checked_env(self, task: dict[str, Any] | None, render_mode: str | None = None) -> CheckedEnvironment:
        """`make_env`, with actions in [-1, 1] and flat observations. Raises NacreError where that cannot be."""
        import gymnasium

        from nacre.families.checked_environment import CheckedEnvironment

        if render_mode is not None and "render_mode" not in inspect.signature(self.make_env).parameters:
            raise NacreError(
                f"{self.name} cannot be rendered, because its make_env takes no render_mode; add that argument, and "
                "make the environment with it."
            )
        try:
            env = self.make_env(task) if render_mode is None else self.make_env(task, render_mode=render_mode)
            if not isinstance(env, gymnasium.Env):
                raise NacreError(f"{self.name}'s make_env returned {short(env)}, but must return a gymnasium.Env.")
        except (Exception, SystemExit) as error:
            raise failure(self.name, "make_env", error) from error
        return CheckedEnvironment(env, self)


def task_of_lane(task: Tasks, lane: int) -> dict[str, Any]:
    """One task: plain numbers, or new arrays for parameters that have several, so that an environment may edit them."""
    return {name: values[lane].item() if values.ndim == 1 else values[lane].copy() for name, values in task.items()}
