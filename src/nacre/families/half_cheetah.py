"""The half-cheetah: run forward or backward, or at a wanted speed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nacre.errors import NacreError
from nacre.families.distributions import Gravities
from nacre.families.family import MujocoFamily, Physics, TaskSet, take

if TYPE_CHECKING:
    from nacre.types import Tasks, Transition

TORSO = 1
"""Body index of the torso in Gymnasium's half_cheetah.xml."""
ROOT_SPEED, TORSO_X = 8, 17
"""Indices in an observation of the root's velocity and the torso's position along the way."""
CONTROL_COST = 0.05
JOINTS = ("bthigh", "bshin", "bfoot", "fthigh", "fshin", "ffoot")
"""The driven joints of half_cheetah.xml, in its order."""


@dataclass(frozen=True)
class HalfCheetah(MujocoFamily):
    """The robot that the families of this file share: observation, reset, speed and control cost."""

    obs_dim: ClassVar[int] = 20
    action_dim: ClassVar[int] = 6
    horizon: ClassVar[int] = 200
    observation_names: ClassVar[tuple[str, ...]] = (
        "rootz", "rooty", *JOINTS, "rootx velocity", "rootz velocity", "rooty velocity",
        *(f"{joint} velocity" for joint in JOINTS), "torso x", "torso y", "torso z",
    )  # fmt: skip
    model_file: ClassVar[str] = "half_cheetah.xml"
    frame_skip: ClassVar[int] = 5
    physics_fields: ClassVar[tuple[str, ...]] = ("qpos", "qvel", "xpos")
    time_step: ClassVar[float] = 0.05
    """Seconds a control step: frame_skip times the model's 0.01 s."""

    def reset_state(
        self, qpos: np.ndarray, qvel: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        return qpos + rng.uniform(-0.1, 0.1, qpos.shape), qvel + 0.1 * rng.standard_normal(qvel.shape)

    def observe(self, physics: Physics) -> Any:
        """qpos without the root's x (8), qvel (9), torso position (3): [lane, 20]."""
        xp = physics.qpos.__array_namespace__()
        return xp.concatenate([physics.qpos[..., 1:], physics.qvel, physics.xpos[..., TORSO, :]], axis=-1)

    def rewards(self, before: Physics, after: Physics, action: Any, task: Tasks) -> tuple[Any, Any]:
        """(reward, training reward) of a control step, for clipped actions [lane, 6]."""
        velocity = (after.qpos[..., 0] - before.qpos[..., 0]) / self.time_step
        reward = self.progress(velocity, task) - CONTROL_COST * (action**2).sum(-1)
        return reward, reward

    def moved(self, transition: Transition) -> Any:
        """Metres that the root moved, out of observations, whose torso is that of one model step before."""
        change = transition.next_obs - transition.obs
        return change[..., TORSO_X] + change[..., ROOT_SPEED] * self.time_step / self.frame_skip

    def terminated(self, after: Physics) -> np.ndarray:
        """The half-cheetah cannot fall out of an episode."""
        return np.zeros(after.qpos.shape[:-1], dtype=bool)

    @abstractmethod
    def progress(self, velocity: Any, task: Tasks) -> Any:
        """The task's share of the reward, from the forward velocity in m/s."""


def retold(transition: Transition, velocity: Callable[[Any], Any], progress: Callable[[Any], Any]) -> tuple[Any, Any]:
    """(reward, training reward) with another task's `progress` at the `velocity` that the task's own progress tells."""
    control = CONTROL_COST * (clipped(transition.action) ** 2).sum(-1)
    reward = progress(velocity(transition.reward + control)) - control
    return reward, reward


def clipped(action: Any) -> Any:
    """Actions as the robot carries them out."""
    return action.clip(-1.0, 1.0)


@dataclass(frozen=True)
class CheetahDir(HalfCheetah):
    """Run as fast as possible, forward (direction 1) or backward (-1)."""

    name: ClassVar[str] = "cheetah-dir"
    disjoint: ClassVar[bool] = False
    parameters: ClassVar[dict[str, int]] = {"direction": 0}
    task_range: ClassVar[str] = "direction=1 or direction=-1"

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        return {"direction": rng.choice([-1.0, 1.0], num)}

    def task_set(self, task_seed: int, num_train: int, num_test: int) -> TaskSet:
        if (num_train, num_test) != (2, 2):
            raise NacreError(
                f"cheetah-dir has 2 tasks, but {num_train} train and {num_test} test tasks were asked for; "
                "leave --num-train-tasks and --num-test-tasks at 2."
            )
        both = {"direction": np.array([-1.0, 1.0])}
        return TaskSet(both, both, task_seed)

    def in_range(self, task: Tasks) -> np.ndarray:
        return np.asarray(np.abs(task["direction"]) == 1.0)

    def progress(self, velocity: Any, task: Tasks) -> Any:
        return task["direction"] * velocity

    def rewards_under(self, transition: Transition, was: Any, task: Any) -> tuple[Any, Any]:
        return retold(transition, lambda progress: was["direction"] * progress, lambda v: self.progress(v, task))


@dataclass(frozen=True)
class CheetahVel(HalfCheetah):
    """Run forward at a wanted velocity."""

    name: ClassVar[str] = "cheetah-vel"
    max_velocity: ClassVar[float] = 3.0
    parameters: ClassVar[dict[str, int]] = {"velocity": 0}
    task_range: ClassVar[str] = "velocity in [0, 3] m/s"

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        return {"velocity": rng.uniform(0.0, self.max_velocity, num)}

    def task_set(self, task_seed: int, num_train: int, num_test: int) -> TaskSet:
        tasks = {"velocity": np.random.RandomState(task_seed).uniform(0.0, self.max_velocity, num_train + num_test)}
        return TaskSet(take(tasks, slice(num_train)), take(tasks, slice(num_train, None)), task_seed)

    def in_range(self, task: Tasks) -> np.ndarray:
        return np.asarray((task["velocity"] >= 0.0) & (task["velocity"] <= self.max_velocity))

    def progress(self, velocity: Any, task: Tasks) -> Any:
        return -abs(velocity - task["velocity"])

    def rewards_under(self, transition: Transition, was: Any, task: Any) -> tuple[Any, Any]:
        """The reward tells how far the velocity was from the wanted one; the torso's positions, to which side."""
        side = 1.0 - 2.0 * (self.moved(transition) < was["velocity"] * self.time_step)
        return retold(transition, lambda progress: was["velocity"] - side * progress, lambda v: self.progress(v, task))


@dataclass(frozen=True)
class CheetahVelWide(CheetahVel):
    """Run forward at a wanted velocity, from a wider range."""

    name: ClassVar[str] = "cheetah-vel-wide"
    max_velocity: ClassVar[float] = 7.0
    task_range: ClassVar[str] = "velocity in [0, 7] m/s"


@dataclass(frozen=True)
class CheetahGravity(Gravities, HalfCheetah):
    """Run forward under another gravity."""

    name: ClassVar[str] = "cheetah-gravity"

    def progress(self, velocity: Any, task: Tasks) -> Any:
        return velocity
