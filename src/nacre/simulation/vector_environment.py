"""Every family as a Gymnasium vector environment: many robots, each in a task of its own, stepped side by side.

    import gymnasium, nacre
    envs = gymnasium.make_vec("nacre/CheetahVel-v0", num_envs=8, vectorization_mode="vector_entry_point")

It gives what Gymnasium's own vector of `TaskEnvironment`s gives with the same seeds and actions; robots of MuJoCo are
stepped in C on all cores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector.utils import batch_space

from nacre.errors import NacreError
from nacre.families.blame import check_finite, undeclared_end
from nacre.families.catalog import make_family
from nacre.families.family import Family, take
from nacre.simulation.environment import checked_actions
from nacre.simulation.lanes import make_lanes
from nacre.types import Tasks


class TaskVectorEnv(gymnasium.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Robots of a family, actions in [-1, 1]. A robot whose episode has ended starts a new one at the next step.

    Infos: `task` (parameter -> values [env, ...]) and, after a step, `training_reward` [env] and, where the family
    tells, `success` [env]. `_training_reward` [env] of bool says which environments took the step.
    """

    metadata: dict[str, Any] = {  # noqa: RUF012
        "render_modes": [], "autoreset_mode": gymnasium.vector.AutoresetMode.NEXT_STEP,
    }  # fmt: skip

    def __init__(
        self, family: str | Family, num_envs: int = 1, task: str | Sequence[str] | None = None, *,
        allow_ood: bool = False, max_episode_steps: int | None = None, render_mode: str | None = None, **options: Any,
    ):  # fmt: skip
        """`task`: as `TaskEnvironment`'s, for all robots or one each; without it every reset draws tasks.

        `max_episode_steps` None: the family's horizon; -1: no limit, as in gymnasium.make. Raises NacreError for a task
        that is none of the family's.
        """
        self.family = make_family(family, **options) if isinstance(family, str) else family
        if num_envs < 1:
            raise NacreError(f"num_envs is {num_envs}, but must be at least 1.")
        if max_episode_steps is not None and max_episode_steps < 1 and max_episode_steps != -1:
            raise NacreError(f"max_episode_steps is {max_episode_steps}, but must be at least 1, or -1 for no limit.")
        if render_mode is not None:
            raise NacreError("a vector environment is not rendered; leave render_mode out, or use gymnasium.make.")
        self.num_envs = num_envs
        self.single_observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self.family.obs_dim,), np.float32)
        self.single_action_space = gymnasium.spaces.Box(-1.0, 1.0, (self.family.action_dim,), np.float32)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self._allow_ood = allow_ood
        self._max_steps = self.family.horizon if max_episode_steps is None else max_episode_steps
        self._wanted = None if task is None else self._parsed(task)
        self._lanes = make_lanes(self.family, num_envs)
        self._rngs: list[np.random.Generator | None] = [None] * num_envs
        self._task: Tasks = {}
        self._obs = np.zeros(self.observation_space.shape or (), np.float32)
        self._num_steps = np.zeros(num_envs, int)
        self._ended = np.zeros(num_envs, bool)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode in every environment.

        `seed`: of the first, the others' follow; or one each. options={"task": "velocity=2"} sets the tasks from here
        on, and `reset_mask` [env] of bool restricts the reset to some environments.
        """
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        if seeds is not None and len(seeds) != self.num_envs:
            raise NacreError(f"there are {len(seeds)} seeds for {self.num_envs} environments; give one each.")
        if options and "task" in options:
            self._wanted = self._parsed(options["task"])
        mask = np.ones(self.num_envs, bool) if not options else options.get("reset_mask", np.ones(self.num_envs, bool))
        if np.shape(mask) != (self.num_envs,) or not np.any(mask):
            raise NacreError(f"reset_mask must name some of the {self.num_envs} environments, [env] of bool.")
        if not self._task and not np.all(mask):
            raise gymnasium.error.ResetNeeded("reset all environments before some of them")
        for env, own in enumerate(seeds or [None] * self.num_envs):
            if mask[env] and (own is not None or self._rngs[env] is None):
                self._rngs[env] = seeding.np_random(own)[0]
        self._start(np.flatnonzero(mask))
        return self._obs.copy(), self._info()

    def step(self, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """One control step of every environment, or a reset (reward 0) where the step before ended an episode."""
        if not self._task:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        actions = checked_actions(actions, self.action_space)
        goes = ~self._ended
        reward, training_reward = np.zeros((2, self.num_envs))
        terminated, truncated, success, diverged = np.zeros((4, self.num_envs), bool)
        reports_success = False
        if goes.any():
            result = self._lanes.step(actions, self._task, None if goes.all() else np.flatnonzero(goes))
            self._num_steps += 1
            truncated[goes] = (self._num_steps[goes] >= self._max_steps) & (self._max_steps > 0)
            took = goes
            if result.diverged is not None:  # there is no successor: the last observation stands for it
                diverged = goes & result.diverged
                took = goes & ~diverged
                truncated |= diverged
            self._obs[took], reward[took] = result.obs[took], result.reward[took]
            training_reward[took], terminated[took] = result.training_reward[took], result.terminated[took]
            self._check(took, reward, training_reward, terminated)
            if result.success is not None:
                success[goes], reports_success = result.success[goes], True
        if not goes.all():
            self._start(np.flatnonzero(~goes))
        self._ended = terminated | truncated
        told = {"training_reward": training_reward} | ({"success": success} if reports_success else {})
        info = self._info() | told | {f"_{name}": goes for name in told}
        if diverged.any():
            info |= {"diverged": diverged, "_diverged": diverged}
        return self._obs.copy(), reward, terminated, truncated, info

    def _check(self, took: np.ndarray, reward: np.ndarray, training_reward: np.ndarray, terminated: np.ndarray) -> None:
        """Raises NacreError where a robot gave a number that is not finite, or ended an episode undeclared."""
        for env in np.flatnonzero(took):
            step = int(self._num_steps[env])
            check_finite(self.family.name, "obs", self._obs[env], step)
            check_finite(self.family.name, "reward", reward[env], step)
            check_finite(self.family.name, "training reward", training_reward[env], step)
            if terminated[env] and not self.family.can_terminate:
                raise undeclared_end(self.family.name, step)

    def close_extras(self, **kwargs: Any) -> None:
        """Closes the robots."""
        self._lanes.close()

    def _start(self, starting: np.ndarray) -> None:
        """Starts an episode in these environments, in drawn or wanted tasks."""
        rngs = [rng for env in starting if (rng := self._rngs[env]) is not None]
        if self._wanted is not None:
            drawn = take(self._wanted, starting)
        else:
            each = [self.family.sample_tasks(rng, 1) for rng in rngs]
            drawn = {name: np.concatenate([task[name] for task in each]) for name in each[0]}
        if len(starting) == self.num_envs:
            self._task = drawn
        else:
            self._task = {name: values.copy() for name, values in self._task.items()}
            for name, values in drawn.items():
                self._task[name][starting] = values
        self._obs[starting] = self._lanes.reset(self._task, *rngs, lanes=starting)[starting]
        check_finite(self.family.name, "first observation", self._obs[starting], 0)
        self._num_steps[starting], self._ended[starting] = 0, False

    def _info(self) -> dict[str, Any]:
        everyone = np.ones(self.num_envs, bool)
        return {"task": {name: values.copy() for name, values in self._task.items()}, "_task": everyone}

    def _parsed(self, task: str | Sequence[str]) -> Tasks:
        texts = [task] * self.num_envs if isinstance(task, str) else task
        if len(texts) != self.num_envs:
            raise NacreError(f"there are {len(texts)} tasks for {self.num_envs} environments; give one each.")
        each = [self.family.parse_task(text, allow_ood=self._allow_ood) for text in texts]
        return {name: np.concatenate([one[name] for one in each]) for name in each[0]}
