"""Meta-World (Yu et al. 2019): a Sawyer arm's manipulation tasks, as the benchmarks ML1 and ML10 define them.

Needs the extra `metaworld`, in an environment of its own: Meta-World 3.1 pins MuJoCo 3.3.
"""

from __future__ import annotations

import collections
import functools
import os
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import gymnasium
import numpy as np

from nacre.errors import NacreError, unknown
from nacre.families.family import TaskSet
from nacre.families.gymnasium import GymnasiumFamily

if TYPE_CHECKING:
    from nacre.types import Tasks

GOALS = 50
"""Tasks that a benchmark of Meta-World has for each of its environments, in training and in test."""
CAMERA = "corner"
"""Meta-World's camera by which frames are drawn."""
VECTOR_SIZE = 6
"""Numbers that place the object and the goal, at most; environments that need 3 have zeros behind them."""


class _MetaWorld(GymnasiumFamily):
    """Environments of Meta-World with the goal hidden. The reward, 0 to 10 a step, and success are Meta-World's."""

    obs_dim: ClassVar[int] = 39
    action_dim: ClassVar[int] = 4
    horizon: ClassVar[int] = 500
    reports_success: ClassVar[bool] = True
    num_workers: ClassVar[int] = min(8, os.cpu_count() or 1)
    parameters: ClassVar[dict[str, int]] = {"environment": 0, "rand_vec": VECTOR_SIZE}

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
        return {"environment": np.array([float(_names().index(name)) for name in names]), "rand_vec": vectors}

    def in_range(self, task: Tasks) -> np.ndarray:
        names, known = _names(), {*self.environments("train"), *self.environments("test")}
        return np.array([
            index in range(len(names)) and names[int(index)] in known and _holds(names[int(index)], vector)
            for index, vector in zip(task["environment"], task["rand_vec"], strict=True)
        ])  # fmt: skip

    def make_env(self, task: dict[str, Any] | None, render_mode: str | None = None) -> gymnasium.Env:
        return Sawyer(render_mode)

    def set_task(self, env: gymnasium.Env, task: dict[str, Any]) -> None:
        sawyer: Any = env.unwrapped
        sawyer.set_task(_names()[int(task["environment"])], task["rand_vec"])


@dataclass(frozen=True)
class ML1(_MetaWorld):
    """One environment, other goals: 50 in training, 50 in test."""

    name: ClassVar[str] = "ml1"
    task_range: ClassVar[str] = "object and goal within the environment's bounds"

    environment: str = "reach-v3"
    """The environment, by Meta-World's name: reach-v3, push-v3, pick-place-v3, ..."""

    def __post_init__(self) -> None:
        if self.environment not in _names():
            raise unknown("environment", self.environment, _names())

    def benchmark(self, seed: int) -> Any:
        return _metaworld().ML1(self.environment, seed=seed)

    def environments(self, split: str) -> list[str]:
        return [self.environment]


@dataclass(frozen=True)
class ML10(_MetaWorld):
    """Ten environments in training, five others in test, 50 goals of each."""

    name: ClassVar[str] = "ml10"
    task_range: ClassVar[str] = "object and goal within the bounds of one of the 15 environments"

    def benchmark(self, seed: int) -> Any:
        return _metaworld().ML10(seed=seed)

    def environments(self, split: str) -> list[str]:
        return list(_metaworld().env_dict.ML10_V3[split])


class Sawyer(gymnasium.Env):
    """Any environment of Meta-World, told which before a reset."""

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"], "render_fps": 80}  # noqa: RUF012

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (_MetaWorld.obs_dim,), np.float64)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (_MetaWorld.action_dim,), np.float32)
        self._name = ""
        self._env: Any = None

    def set_task(self, name: str, vector: np.ndarray) -> None:
        """The environment of this name with object and goal placed by `vector`, the goal hidden."""
        if name != self._name:
            self.close()
            if self.render_mode is None:
                env = _idle_or_new(name)
            else:
                env = _environments()[name](render_mode=self.render_mode, camera_name=CAMERA)
            self._name, self._env = name, env
        # What Meta-World's set_task does with its pickled tasks; the goal is hidden unless it is told otherwise.
        self._env._set_task_called = self._env._freeze_rand_vec = True
        self._env._last_rand_vec = np.asarray(vector, np.float64)[: _bounds(name).shape[1]]

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
            _IDLE[self._name].append(self._env)
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


_IDLE: collections.defaultdict[str, list[Any]] = collections.defaultdict(list)
"""Environments of this process that no lane uses at the moment, by name: one takes 0.15 s to make."""


def _idle_or_new(name: str) -> Any:
    return _IDLE[name].pop() if _IDLE[name] else _environments()[name]()


def _metaworld() -> Any:
    try:
        import metaworld
    except ImportError as error:
        raise NacreError(
            "Meta-World is not installed; it pins an older MuJoCo, so give it an environment of its own: "
            "pip install 'nacre[metaworld]'."
        ) from error
    return metaworld


def _environments() -> dict[str, Any]:
    """Meta-World's classes by name. A task's number is the place in this order."""
    return _metaworld().env_dict.ALL_V3_ENVIRONMENTS


@functools.cache
def _names() -> list[str]:
    return list(_environments())


@functools.cache
def _bounds(name: str) -> np.ndarray:
    """Lowest and highest values of an environment's vector, [2, its size]."""
    env = _environments()[name]()
    space = env._random_reset_space
    env.close()
    return np.stack([space.low, space.high])


def _holds(name: str, vector: np.ndarray) -> bool:
    low, high = _bounds(name)
    own, rest = vector[: len(low)], vector[len(low) :]
    return bool((own >= low - 1e-6).all() and (own <= high + 1e-6).all() and not rest.any())


def _new_vector(name: str, seed: int) -> np.ndarray:
    """Where object and goal of an environment of this name come to be, drawn by the environment itself."""
    env = _idle_or_new(name)
    env._set_task_called, env._freeze_rand_vec, env.seeded_rand_vec = True, False, True
    env.seed(seed)
    env.reset()
    _IDLE[name].append(env)
    return np.array(env._last_rand_vec)


def _as_data(tasks: list[Any]) -> Tasks:
    """Tasks of Meta-World as arrays."""
    names = {name: index for index, name in enumerate(_names())}
    vectors = np.zeros((len(tasks), VECTOR_SIZE))
    made: dict[str, Any] = {}
    for row, task in zip(vectors, tasks, strict=True):
        if task.env_name not in made:
            made[task.env_name] = _environments()[task.env_name]()
        env = made[task.env_name]
        env.set_task(task)
        row[: len(env._last_rand_vec)] = env._last_rand_vec
    for env in made.values():
        env.close()
    return {"environment": np.array([float(names[task.env_name]) for task in tasks]), "rand_vec": vectors}
