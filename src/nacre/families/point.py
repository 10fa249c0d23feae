"""Point robots in the plane: reach a goal (dense), or find one with a reward only nearby (sparse). Pure JAX."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nacre.errors import NacreError
from nacre.families.family import JaxFamily, JaxStep, TaskSet, take

if TYPE_CHECKING:
    from jaxtyping import Array, Float

    from nacre.types import Key, Tasks, Transition

STEP_SIZE = 0.1
"""Distance per axis and control step of a full action."""


@dataclass(frozen=True)
class PointRobot(JaxFamily):
    """Move to a goal in the square; the reward is minus the distance to it."""

    name: ClassVar[str] = "point-robot"
    obs_dim: ClassVar[int] = 2
    action_dim: ClassVar[int] = 2
    horizon: ClassVar[int] = 20
    observation_names: ClassVar[tuple[str, ...]] = ("x", "y")
    action_names: ClassVar[tuple[str, ...]] = ("x", "y")
    in_plane: ClassVar[bool] = True
    parameters: ClassVar[dict[str, int]] = {"goal": 2}
    task_range: ClassVar[str] = "goal=x,y with both in [-1, 1]"

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        return {"goal": rng.uniform(-1.0, 1.0, (num, 2))}

    def task_set(self, task_seed: int, num_train: int, num_test: int) -> TaskSet:
        goals = {"goal": np.random.RandomState(task_seed).uniform(-1.0, 1.0, (num_train + num_test, 2))}
        return TaskSet(take(goals, slice(num_train)), take(goals, slice(num_train, None)), task_seed)

    def in_range(self, task: Tasks) -> np.ndarray:
        return np.asarray((np.abs(task["goal"]) <= 1.0).all(axis=-1))

    def reset(self, key: Key) -> tuple[Any, Float[Array, 2]]:
        """The start of an episode: uniform in the square. The state is the position, which is also the observation."""
        import jax

        position = jax.random.uniform(key, (2,), minval=-1.0, maxval=1.0)
        return position, position

    def rewards(self, obs: Any, task: Tasks) -> tuple[Any, Any]:
        """(reward, training reward) at positions obs [..., 2]."""
        reward = -distance(obs, task["goal"])
        return reward, reward

    def rewards_under(self, transition: Transition, was: Any, task: Any) -> tuple[Any, Any]:
        return self.rewards(transition.next_obs, task)

    def step(self, state: Any, action: Float[Array, 2], task: Any) -> JaxStep:
        """Position control without walls; the reward is that of the position reached."""
        import jax.numpy as jnp

        position = state + STEP_SIZE * action
        return JaxStep(position, position, *self.rewards(position, task), terminated=jnp.zeros((), bool))


@dataclass(frozen=True)
class PointRobotHalfCircle(PointRobot):
    """Move from the origin to a goal on the half circle; the reward is minus the distance to it.

    The point robot of CSRO's benchmark and of many offline methods. The first observations of all tasks are alike.
    """

    name: ClassVar[str] = "point-robot-half-circle"
    task_range: ClassVar[str] = "goal=x,y on the half circle of radius 1 with y >= 0"

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        return {"goal": half_circle(rng.uniform(0.0, np.pi, num))}

    def task_set(self, task_seed: int, num_train: int, num_test: int) -> TaskSet:
        goals = half_circle(np.linspace(0.0, np.pi, num_train + num_test))
        np.random.RandomState(task_seed).shuffle(goals)
        return TaskSet({"goal": goals[:num_train]}, {"goal": goals[num_train:]}, task_seed)

    def in_range(self, task: Tasks) -> np.ndarray:
        goal = task["goal"]
        on_circle = np.abs(np.linalg.norm(goal, axis=-1) - 1.0) < 1e-6
        return np.asarray(on_circle & (goal[..., 1] >= -1e-6))

    def reset(self, key: Key) -> tuple[Any, Float[Array, 2]]:
        """The start of an episode: the origin."""
        import jax.numpy as jnp

        del key
        return jnp.zeros(2), jnp.zeros(2)


@dataclass(frozen=True)
class SparsePointRobot(PointRobotHalfCircle):
    """Find a goal on the half circle from the origin; the reward is 1 - distance within its radius, else 0.

    The critic learns from the dense reward, minus the distance; the context and the score are sparse.
    """

    goal_radius: float = 0.2
    """Distance from the goal within which the robot is rewarded (the paper also uses 0.8)."""

    name: ClassVar[str] = "sparse-point-robot"
    sparse: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 < self.goal_radius <= 1:
            raise NacreError(
                f"goal_radius is {self.goal_radius}, but must be above 0 and at most 1; change --goal-radius."
            )

    def rewards(self, obs: Any, task: Tasks) -> tuple[Any, Any]:
        gap = distance(obs, task["goal"])
        return (1.0 - gap) * (gap <= self.goal_radius), -gap


@dataclass(frozen=True)
class PointWind(JaxFamily):
    """Reach the goal (0, 1) from the origin against a wind that differs between tasks; the wind is all that does."""

    name: ClassVar[str] = "point-wind"
    obs_dim: ClassVar[int] = 2
    action_dim: ClassVar[int] = 2
    horizon: ClassVar[int] = 20
    in_plane: ClassVar[bool] = True
    parameters: ClassVar[dict[str, int]] = {"wind": 2}
    task_range: ClassVar[str] = "wind=x,y with both in [-0.05, 0.05] (metres a step)"

    @property
    def goal(self) -> tuple[float, float]:
        return (0.0, 1.0)

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        return {"wind": rng.uniform(-0.05, 0.05, (num, 2))}

    def sample_ood_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        """Winds of which one component is stronger than any in training, up to 0.08."""
        wind = rng.uniform(-0.05, 0.05, (num, 2))
        strong = rng.uniform(0.05, 0.08, num) * rng.choice([-1.0, 1.0], num)
        wind[np.arange(num), rng.integers(2, size=num)] = strong
        return {"wind": wind}

    def in_range(self, task: Tasks) -> np.ndarray:
        return np.asarray((np.abs(task["wind"]) <= 0.05).all(axis=-1))

    def reset(self, key: Key) -> tuple[Any, Float[Array, 2]]:
        """The start of an episode: the origin."""
        import jax.numpy as jnp

        del key
        return jnp.zeros(2), jnp.zeros(2)

    def step(self, state: Any, action: Float[Array, 2], task: Any) -> JaxStep:
        """As the point robot's, with the wind's drift added."""
        import jax.numpy as jnp

        position = state + STEP_SIZE * action + task["wind"]
        reward = -distance(position, jnp.asarray(self.goal))
        return JaxStep(position, position, reward, reward, terminated=jnp.zeros((), bool))


def distance(a: Any, b: Any) -> Any:
    """Euclidean distance over the last axis."""
    return ((a - b) ** 2).sum(-1) ** 0.5


def half_circle(angle: np.ndarray) -> np.ndarray:
    """Goals [goal, 2] at these angles on the circle of radius 1."""
    return np.stack([np.cos(angle), np.sin(angle)], axis=1)
