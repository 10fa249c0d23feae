"""What a task family is: observation and action spaces that its tasks share, a task distribution, task sets."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np

from nacre.errors import NacreError
from nacre.families import beyond

if TYPE_CHECKING:
    from jaxtyping import Array, Bool, Float

    from nacre.types import ArrayLike, Key, Tasks, Transition

TASK_SET_VERSION = 1
"""Rises when the same task_seed would give other tasks; saved with every run."""


def num_tasks(tasks: Tasks) -> int:
    """How many tasks the parameter arrays describe."""
    return len(next(iter(tasks.values())))


def take(tasks: Tasks, index: Any) -> Tasks:
    """The tasks at these indices (integers, a slice or an integer array)."""
    return {name: values[index] for name, values in tasks.items()}


def describe(tasks: Tasks, index: int) -> dict[str, Any]:
    """One task as plain numbers and lists."""
    return {name: value.tolist() for name, value in take(tasks, index).items()}


def as_lists(tasks: Tasks) -> dict[str, Any]:
    """All tasks as JSON has them; numbers survive to the last bit."""
    return {name: np.asarray(values).tolist() for name, values in tasks.items()}


def task_text(tasks: Tasks, index: int = 0) -> str:
    """A task as `Family.parse_task` reads it, exactly: 'velocity=1.3', 'goal=0.6,0.8'."""
    values = take(tasks, index)
    return " ".join(f"{name}={','.join(repr(float(v)) for v in np.ravel(value))}" for name, value in values.items())


MOST_BEYOND = 0.5
"""Out-of-distribution tasks lie beyond the range by at most this share of its radius."""


class TaskSet(NamedTuple):
    """The tasks a run trains and is scored on. Drawn once from a seed of its own and saved with the run."""

    train: Tasks
    test: Tasks
    task_seed: int
    version: int = TASK_SET_VERSION


@dataclass(frozen=True)
class Family(ABC):
    """A distribution over tasks that share spaces and horizon. Immutable; a task is an argument, never inside it.

    A family is a `JaxFamily`, a `MujocoFamily` or a `GymnasiumFamily`, which says who steps its lanes. Public
    fields are options, settable from the command line.
    """

    name: ClassVar[str]
    obs_dim: ClassVar[int]
    action_dim: ClassVar[int]
    horizon: ClassVar[int]
    can_terminate: ClassVar[bool] = False
    """Whether an episode may end before its horizon."""
    must_balance: ClassVar[bool | None] = None
    """Whether falls end the episodes of a robot that has learnt nothing; None where that is so if they may end."""
    sparse: ClassVar[bool] = False
    """Whether there is a reward near the goal only, so that most episodes of random actions have none."""
    disjoint: ClassVar[bool] = True
    """Whether train and test tasks are different tasks."""
    observation_names: ClassVar[tuple[str, ...]] = ()
    """What each number of an observation is, for who acts on a robot; () where nobody says."""
    action_names: ClassVar[tuple[str, ...]] = ()
    """What each number of an action drives; () where nobody says: a MuJoCo robot's actuators then."""
    control_period: ClassVar[float | None] = None
    """Seconds between two actions; None where nobody says: a MuJoCo robot's then."""
    in_plane: ClassVar[bool] = False
    """Whether the first two numbers of an observation are where the robot is, in the plane of its goal."""
    task_can_change: ClassVar[bool] = True
    """Whether its simulator can give an episode another task before the episode's end."""
    parameters: ClassVar[dict[str, int]]
    """Task parameter -> number of its components (0: a plain number)."""
    task_range: ClassVar[str]
    """The task distribution in words, for listings and errors."""

    @property
    def task_dim(self) -> int:
        """Numbers that describe a task."""
        return sum(max(1, size) for size in self.parameters.values())

    @property
    def goal(self) -> tuple[float, float] | None:
        """The place that all tasks share, as (x, y); None where there is none, or where it is a task's parameter."""
        return None

    @property
    def goal_radius(self) -> float | None:
        """Distance from the goal within which the robot is rewarded; None where that is everywhere, or has no goal."""
        return None

    @abstractmethod
    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        """`num` independent tasks from the distribution."""

    def task_set(self, task_seed: int, num_train: int, num_test: int) -> TaskSet:
        """The seeded train and test tasks; drawn as in the paper's reference where that has a way of its own."""
        tasks = self.sample_tasks(np.random.default_rng(task_seed), num_train + num_test)
        return TaskSet(take(tasks, slice(num_train)), take(tasks, slice(num_train, None)), task_seed)

    def sample_ood_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        """`num` tasks from outside the distribution: up to MOST_BEYOND beyond its range, unless the family has tasks of
        its own. NacreError where the range has no outside."""
        return self.tasks_beyond(rng, MOST_BEYOND * (1.0 - rng.uniform(size=num)))

    def tasks_beyond(self, rng: np.random.Generator, distance: np.ndarray) -> Tasks:
        """Tasks at these distances [task] from the range, in units of its radius (docs/families.md); at 0,
        tasks of the distribution. NacreError where the range has no outside."""
        return beyond.tasks_beyond(self, rng, distance)

    def rewards_under(self, transition: Transition, was: Any, task: Any) -> tuple[Any, Any]:
        """(reward, training reward), each [time], that transitions [time, ...] of the task `was` would have had in
        another; in JAX, both tasks without the leading axis. For families whose tasks differ in their rewards alone."""
        raise NacreError(f"{self.name} does not say what a transition of one task earns in another.")

    @property
    def can_relabel(self) -> bool:
        """Whether it says what transitions earn in other tasks."""
        return type(self).rewards_under is not Family.rewards_under

    @abstractmethod
    def in_range(self, task: Tasks) -> np.ndarray:
        """For every task, whether it could come from the distribution, [task] of bool."""

    def parse_task(self, text: str, *, allow_ood: bool = False) -> Tasks:
        """One task from text such as 'velocity=1.3', 'goal=0.6,0.8' or 'mass=1 length=2'."""
        expected = " ".join(f"{n}={','.join(['NUMBER'] * max(1, size))}" for n, size in self.parameters.items())
        task: Tasks = {}
        for part in text.split():
            name, _, value = part.partition("=")
            try:
                numbers = np.array([float(number) for number in value.split(",")], dtype=np.float64)
            except ValueError:
                numbers = np.array([np.nan])
            size = self.parameters.get(name)
            if size is None or name in task or len(numbers) != max(1, size) or not np.isfinite(numbers).all():
                task.clear()
                break
            task[name] = numbers[None] if size else numbers
        if set(task) != set(self.parameters):
            raise NacreError(f"'{text}' is not a task of {self.name}; write {expected}.")
        self.check_tasks(task, allow_ood=allow_ood)
        return task

    def check_tasks(self, task: Tasks, *, allow_ood: bool = False) -> None:
        """Raises NacreError when a task lies outside the family's distribution."""
        if not allow_ood and not self.in_range(task).all():
            bad = {name: values[~self.in_range(task)][0].tolist() for name, values in task.items()}
            raise NacreError(
                f"the task {bad} is outside {self.name}'s range, {self.task_range}; add --allow-ood, or in Python "
                "allow_ood=True, to try it."
            )


class JaxStep(NamedTuple):
    """What one control step of one lane of a pure-JAX family gives."""

    state: Any
    obs: Float[Array, " obs_dim"]
    reward: Float[Array, ""]
    training_reward: Float[Array, ""]
    terminated: Bool[Array, ""]


class JaxFamily(Family):
    """A family written in JAX for one lane; whole episodes of many lanes run inside one compiled scan."""

    @abstractmethod
    def reset(self, key: Key) -> tuple[Any, Float[Array, " obs_dim"]]:
        """(state, observation) at the start of an episode."""

    @abstractmethod
    def step(self, state: Any, action: Float[Array, " action_dim"], task: Any) -> JaxStep:
        """One control step with a clipped action; task is one task of `Tasks`, without the leading axis."""


class Physics(NamedTuple):
    """What a MuJoCo family sees of the lanes at one moment; each [lane, ...], float64. None where it did not ask.

    Fields of MuJoCo's MjData by their names. After a step, fields other than qpos and qvel are as the step leaves them,
    one substep behind; for a family with `needs_contact_forces` they are those of the new state.
    """

    qpos: ArrayLike
    qvel: ArrayLike
    xpos: Any = None  # [lane, body, 3] positions of the bodies
    cfrc_ext: Any = None  # [lane, body, 6] torque and force by contacts, about the centre of mass of the body's tree
    cinert: Any = None  # [lane, body, 10] inertia about the same point, and mass
    cvel: Any = None  # [lane, body, 6] angular and linear velocity
    qfrc_actuator: Any = None  # [lane, dof] force of the actuators
    subtree_com: Any = None  # [lane, body, 3] centre of mass of everything below a body; of body 0: of the robot


class MujocoFamily(Family):
    """A family on a MuJoCo robot: array functions of the physics before and after a control step, [lane, ...]."""

    model_file: ClassVar[Any]
    """Robot description: the path of an MJCF file, absolute, as in `Path(__file__).parent / "robot.xml"`; a
    `mujoco.MjSpec`, or a function without arguments that gives one; or the bare name of one of Gymnasium's files."""
    model_timestep: ClassVar[float | None] = None
    """Seconds of a model step, where the description's is not the family's."""
    frame_skip: ClassVar[int]
    """Model steps in a control step."""
    physics_fields: ClassVar[tuple[str, ...]] = ("qpos", "qvel")
    """The fields of `Physics` that it reads."""
    needs_contact_forces: ClassVar[bool] = False
    """Whether it reads `cfrc_ext`, which MuJoCo leaves at zero unless it is asked for."""

    def model_parameters(self, model: Any, task: Tasks) -> dict[str, np.ndarray]:
        """Fields of MjModel that differ between tasks, by name: values [lane, ...], given the robot's own `model`."""
        return {}

    @abstractmethod
    def reset_state(
        self, qpos: np.ndarray, qvel: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Start positions and velocities, given the model's own of every lane [lane, ...]."""

    @abstractmethod
    def observe(self, physics: Physics) -> Any:
        """Observations [lane, obs_dim]."""

    @abstractmethod
    def rewards(self, before: Physics, after: Physics, action: Any, task: Any) -> tuple[Any, Any]:
        """(reward, training reward), each [lane], of a control step with clipped actions [lane, action_dim]."""

    @abstractmethod
    def terminated(self, after: Physics) -> Any:
        """Whether the episode ends here for a reason of the task's own (a fall), [lane] of bool."""
