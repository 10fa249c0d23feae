"""Meta-World (Yu et al. 2019): a Sawyer arm's manipulation tasks, as the benchmarks ML1 and ML10 define them.

Needs the extra `metaworld`, in an environment of its own: Meta-World 3.1 pins MuJoCo 3.3.
"""

from __future__ import annotations

import os
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nacre.errors import NacreError, unknown
from nacre.families.family import TaskSet
from nacre.families.gymnasium import GymnasiumFamily
from nacre.families.metaworld_environments import (
    ACTION_DIM,
    OBS_DIM,
    environment_classes,
    environment_names,
    give_back,
    idle_or_new,
    metaworld,
    vector_bounds,
)  # fmt: skip

if TYPE_CHECKING:
    import gymnasium

    from nacre.types import Tasks

GOALS = 50
"""Tasks that a benchmark of Meta-World has for each of its environments, in training and in test."""
VECTOR_SIZE = 6
"""Numbers that place the object and the goal, at most; environments that need 3 have zeros behind them."""


class _MetaWorld(GymnasiumFamily):
    """Environments of Meta-World with the goal hidden. The reward, 0 to 10 a step, and success are Meta-World's."""

    obs_dim: ClassVar[int] = OBS_DIM
    action_dim: ClassVar[int] = ACTION_DIM
    horizon: ClassVar[int] = 500
    reports_success: ClassVar[bool] = True
    num_workers: ClassVar[int] = min(8, os.cpu_count() or 1)
    parameters: ClassVar[dict[str, int]] = {"environment": 0, "rand_vec": VECTOR_SIZE}

    def tasks_beyond(self, rng: np.random.Generator, distance: np.ndarray) -> Tasks:
        raise NacreError(f"{self.name} has no out-of-distribution tasks; choose test, train or fresh:N.")

    @abstractmethod
    def benchmark(self, seed: int) -> Any:
        """Meta-World's own object, with its train and test tasks drawn from this seed."""

    @abstractmethod
    def environments(self, split: str) -> list[str]:
        """Names of the environments that tasks of 'train' or 'test' are drawn from."""

    def task_set(self, task_seed: int, num_train: int, num_test: int) -> TaskSet:
        """Meta-World's split: the first goals of every environment, as many of each."""
        drawn = self.benchmark(task_seed)
        train = self._first(drawn.train_tasks, "train", num_train)
        return TaskSet(train, self._first(drawn.test_tasks, "test", num_test), task_seed)

    def _first(self, tasks: list[Any], split: str, num: int) -> Tasks:
        each, rest = divmod(num, len(self.environments(split)))
        if rest or not 0 < each <= GOALS:
            kinds = len(self.environments(split))
            raise NacreError(
                f"num_{split}_tasks is {num}, but {self.name} has up to {GOALS} in each of {kinds} {split} "
                f"environment{'s' * (kinds > 1)}, as many of each; change --num-{split}-tasks."
            )
        return _as_data([task for index, task in enumerate(tasks) if index % GOALS < each])

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        """New goals in the train environments, of which each is as likely."""
        names, vectors = list(rng.choice(self.environments("train"), num)), np.zeros((num, VECTOR_SIZE))
        for name, row in zip(names, vectors, strict=True):
            vector = _new_vector(name, int(rng.integers(2**31)))
            row[: len(vector)] = vector
        return {
            "environment": np.array([float(environment_names().index(name)) for name in names]),
            "rand_vec": vectors,
        }

    def in_range(self, task: Tasks) -> np.ndarray:
        names, known = environment_names(), {*self.environments("train"), *self.environments("test")}
        return np.array([
            index in range(len(names)) and names[int(index)] in known and _holds(names[int(index)], vector)
            for index, vector in zip(task["environment"], task["rand_vec"], strict=True)
        ])  # fmt: skip

    def make_env(self, task: dict[str, Any] | None, render_mode: str | None = None) -> gymnasium.Env:
        from nacre.families.sawyer import Sawyer

        return Sawyer(render_mode)

    def set_task(self, env: gymnasium.Env, task: dict[str, Any]) -> None:
        sawyer: Any = env.unwrapped
        sawyer.set_task(environment_names()[int(task["environment"])], task["rand_vec"])


@dataclass(frozen=True)
class ML1(_MetaWorld):
    """One environment, other goals: 50 in training, 50 in test."""

    name: ClassVar[str] = "ml1"
    task_range: ClassVar[str] = "object and goal within the environment's bounds"

    environment: str = "reach-v3"
    """The environment, by Meta-World's name: reach-v3, push-v3, pick-place-v3, ..."""

    def __post_init__(self) -> None:
        if self.environment not in environment_names():
            raise unknown("environment", self.environment, environment_names())

    def benchmark(self, seed: int) -> Any:
        return metaworld().ML1(self.environment, seed=seed)

    def environments(self, split: str) -> list[str]:
        return [self.environment]


@dataclass(frozen=True)
class ML10(_MetaWorld):
    """Ten environments in training, five others in test, 50 goals of each."""

    name: ClassVar[str] = "ml10"
    task_range: ClassVar[str] = "object and goal within the bounds of one of the 15 environments"

    def benchmark(self, seed: int) -> Any:
        return metaworld().ML10(seed=seed)

    def environments(self, split: str) -> list[str]:
        return list(metaworld().env_dict.ML10_V3[split])


def _holds(name: str, vector: np.ndarray) -> bool:
    low, high = vector_bounds(name)
    own, rest = vector[: len(low)], vector[len(low) :]
    return bool((own >= low - 1e-6).all() and (own <= high + 1e-6).all() and not rest.any())


def _new_vector(name: str, seed: int) -> np.ndarray:
    """Where object and goal of an environment of this name come to be, drawn by the environment itself."""
    env = idle_or_new(name)
    env._set_task_called, env._freeze_rand_vec, env.seeded_rand_vec = True, False, True
    env.seed(seed)
    env.reset()
    give_back(name, env)
    return np.array(env._last_rand_vec)


def _as_data(tasks: list[Any]) -> Tasks:
    """Tasks of Meta-World as arrays."""
    names = {name: index for index, name in enumerate(environment_names())}
    vectors = np.zeros((len(tasks), VECTOR_SIZE))
    made: dict[str, Any] = {}
    for row, task in zip(vectors, tasks, strict=True):
        if task.env_name not in made:
            made[task.env_name] = environment_classes()[task.env_name]()
        env = made[task.env_name]
        env.set_task(task)
        row[: len(env._last_rand_vec)] = env._last_rand_vec
    for env in made.values():
        env.close()
    return {"environment": np.array([float(names[task.env_name]) for task in tasks]), "rand_vec": vectors}
