"""The ant: run forward or backward, in any direction, to a goal, or forward under another gravity."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nacre.errors import NacreError
from nacre.families import beyond
from nacre.families.distributions import Gravities, Headings
from nacre.families.family import MujocoFamily, Physics, TaskSet

if TYPE_CHECKING:
    from nacre.types import Tasks, Transition

HEIGHT_RANGE = (0.2, 1.0)
"""Heights of the torso, in metres, between which a running ant has not fallen over."""
CONTACT_COST = 0.0005
GOAL_RADIUS = 3.0


def contact_forces(physics: Physics) -> Any:
    """cfrc_ext of all 14 bodies, the world's among them, clipped to [-1, 1]: [lane, 84]."""
    return np.clip(physics.cfrc_ext, -1.0, 1.0).reshape(len(physics.cfrc_ext), -1)


@dataclass(frozen=True)
class Ant(MujocoFamily):
    """The robot that the families of this file share: reset, costs and, for those that run, falling."""

    action_dim: ClassVar[int] = 8
    horizon: ClassVar[int] = 200
    model_file: ClassVar[str] = "ant.xml"
    frame_skip: ClassVar[int] = 5
    time_step: ClassVar[float] = 0.05
    """Seconds a control step: frame_skip times the model's 0.01 s."""
    physics_fields: ClassVar[tuple[str, ...]] = ("qpos", "qvel", "cfrc_ext")
    needs_contact_forces: ClassVar[bool] = True
    control_cost: ClassVar[float]

    def reset_state(
        self, qpos: np.ndarray, qvel: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        return qpos + rng.uniform(-0.1, 0.1, qpos.shape), qvel + 0.1 * rng.standard_normal(qvel.shape)

    def costs(self, after: Physics, action: Any) -> Any:
        """What control and contacts cost a step, [lane]."""
        contact = CONTACT_COST * (contact_forces(after) ** 2).sum(-1)
        return self.control_cost * (action**2).sum(-1) + contact


@dataclass(frozen=True)
class RunningAnt(Ant):
    """An ant with a reward for its speed in a direction, and for not falling over."""

    obs_dim: ClassVar[int] = 27
    can_terminate: ClassVar[bool] = True
    must_balance: ClassVar[bool] = False
    control_cost: ClassVar[float] = 0.5

    def observe(self, physics: Physics) -> Any:
        """qpos without x and y (13), qvel (14): [lane, 27]."""
        return np.concatenate([physics.qpos[:, 2:], physics.qvel], axis=-1)

    def rewards(self, before: Physics, after: Physics, action: Any, task: Tasks) -> tuple[Any, Any]:
        """(reward, training reward) of a control step, for clipped actions [lane, 8]; 1 for being alive."""
        velocity = (after.qpos[:, :2] - before.qpos[:, :2]) / self.time_step
        reward = self.progress(velocity, task) - self.costs(after, action) + 1.0
        return reward, reward

    def terminated(self, after: Physics) -> np.ndarray:
        """Fallen over, flown off, or no longer a number."""
        finite = np.isfinite(after.qpos).all(-1) & np.isfinite(after.qvel).all(-1)
        height = after.qpos[:, 2]
        return np.asarray(~(finite & (height >= HEIGHT_RANGE[0]) & (height <= HEIGHT_RANGE[1])))

    @abstractmethod
    def progress(self, velocity: Any, task: Tasks) -> Any:
        """The task's share of the reward, from the velocity [lane, 2] in m/s."""


@dataclass(frozen=True)
class AntDir360(Headings, RunningAnt):
    """Run in any direction: the ant-dir of most papers since."""

    name: ClassVar[str] = "ant-dir-360"


@dataclass(frozen=True)
class AntDir(Headings, RunningAnt):
    """Run forward (angle 0) or backward (angle pi)."""

    name: ClassVar[str] = "ant-dir"
    disjoint: ClassVar[bool] = False
    task_range: ClassVar[str] = "angle=0 or angle=3.1416 (forward, backward)"

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        return {"angle": rng.choice([0.0, np.pi], num)}

    def task_set(self, task_seed: int, num_train: int, num_test: int) -> TaskSet:
        if (num_train, num_test) != (2, 2):
            raise NacreError(
                f"ant-dir has 2 tasks, but {num_train} train and {num_test} test tasks were asked for; "
                "leave --num-train-tasks and --num-test-tasks at 2."
            )
        both = {"angle": np.array([0.0, np.pi])}
        return TaskSet(both, both, task_seed)

    def in_range(self, task: Tasks) -> np.ndarray:
        return np.asarray((np.abs(task["angle"]) < 1e-4) | (np.abs(task["angle"] - np.pi) < 1e-4))

    def tasks_beyond(self, rng: np.random.Generator, distance: np.ndarray) -> Tasks:
        """Headings between forward and backward."""
        return beyond.tasks_beyond(self, rng, distance)


@dataclass(frozen=True)
class AntGravity(Gravities, RunningAnt):
    """Run forward under another gravity."""

    name: ClassVar[str] = "ant-gravity"


@dataclass(frozen=True)
class AntGoal(Ant):
    """Reach a goal on the disc of radius 3; the cost is the L1 distance to it."""

    name: ClassVar[str] = "ant-goal"
    obs_dim: ClassVar[int] = 113
    control_cost: ClassVar[float] = 0.1
    in_plane: ClassVar[bool] = True
    parameters: ClassVar[dict[str, int]] = {"goal": 2}
    task_range: ClassVar[str] = "goal=x,y at most 3 m from the origin"

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        """Uniform over the disc: angle U(0, 2 pi), radius 3 sqrt(U)."""
        angle, radius = rng.uniform(0.0, 2 * np.pi, num), GOAL_RADIUS * np.sqrt(rng.uniform(size=num))
        return {"goal": radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)}

    def in_range(self, task: Tasks) -> np.ndarray:
        return np.asarray(np.linalg.norm(task["goal"], axis=-1) <= GOAL_RADIUS + 1e-9)

    def observe(self, physics: Physics) -> Any:
        """qpos (15), qvel (14), clipped contact forces (84): [lane, 113]."""
        return np.concatenate([physics.qpos, physics.qvel, contact_forces(physics)], axis=-1)

    def rewards(self, before: Physics, after: Physics, action: Any, task: Tasks) -> tuple[Any, Any]:
        """(reward, training reward) of a control step, for clipped actions [lane, 8]."""
        reward = -np.abs(after.qpos[:, :2] - task["goal"]).sum(-1) - self.costs(after, action)
        return reward, reward

    def rewards_under(self, transition: Transition, was: Any, task: Any) -> tuple[Any, Any]:
        position = transition.next_obs[..., :2]
        change = abs(position - was["goal"]).sum(-1) - abs(position - task["goal"]).sum(-1)
        return transition.reward + change, transition.training_reward + change

    def terminated(self, after: Physics) -> np.ndarray:
        """Never: the episode of an ant on its back continues."""
        return np.zeros(len(after.qpos), dtype=bool)
