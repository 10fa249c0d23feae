"""Robots whose limbs have another length and whose actuators may work the other way round."""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nacre.errors import NacreError
from nacre.families.family import MujocoFamily, Physics
from nacre.families.half_cheetah import HalfCheetah

if TYPE_CHECKING:
    import mujoco

    from nacre.types import Tasks

TRAINING_LENGTHS = (0.8, 1.2)
LENGTHS = (0.4, 1.6)
"""Out of distribution: what of this range lies outside the training lengths."""
SCALED_FIELDS = (
    "body_pos", "body_ipos", "body_iquat", "body_mass", "body_inertia", "geom_pos", "geom_size", "geom_rbound",
    "geom_aabb", "bvh_aabb",
)  # fmt: skip
"""What the compiler makes of the lengths: places, shapes, masses and inertias, bounds for collisions."""


class Inversion(MujocoFamily):
    """A task is a robot: [factor on the length of its limbs, 1 or -1 on all its actuators]."""

    parameters: ClassVar[dict[str, int]] = {"robot": 2}
    task_range: ClassVar[str] = "robot=length,sign with length in [0.8, 1.2] and sign 1 or -1"

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        return self._tasks(rng.uniform(*TRAINING_LENGTHS, num), rng)

    def sample_ood_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        """Lengths in [0.4, 0.8) and (1.2, 1.6], as many shorter as longer."""
        beyond = rng.uniform(0.0, 0.4, num)
        shorter, longer = TRAINING_LENGTHS[0] - 0.4 + beyond, LENGTHS[1] - beyond
        return self._tasks(np.where(rng.integers(2, size=num) == 0, shorter, longer), rng)

    def tasks_beyond(self, rng: np.random.Generator, distance: np.ndarray) -> Tasks:
        """Limbs shorter or longer by so many times 0.2."""
        inside = rng.uniform(*TRAINING_LENGTHS, len(distance))
        further = 1.0 + 0.2 * (1.0 + distance) * rng.choice([-1.0, 1.0], len(distance))
        return self._tasks(np.where(distance > 0, further, inside), rng)

    def _tasks(self, lengths: np.ndarray, rng: np.random.Generator) -> Tasks:
        return {"robot": np.stack([lengths, rng.choice([-1.0, 1.0], len(lengths))], axis=1)}

    def in_range(self, task: Tasks) -> np.ndarray:
        length, sign = np.moveaxis(task["robot"], -1, 0)
        return np.asarray((length >= TRAINING_LENGTHS[0]) & (length <= TRAINING_LENGTHS[1]) & (np.abs(sign) == 1.0))

    def check_tasks(self, task: Tasks, *, allow_ood: bool = False) -> None:
        """No robot has limbs without length, also out of distribution."""
        if not (task["robot"][:, 0] > 0).all():
            raise NacreError(f"the length of {self.name}'s limbs is {task['robot'][0, 0]:g}, but must be above 0.")
        super().check_tasks(task, allow_ood=allow_ood)

    def model_parameters(self, model: Any, task: Tasks) -> dict[str, np.ndarray]:
        robots = [_compiled(type(self), float(length)) for length in task["robot"][:, 0]]
        values = {field: np.stack([robot[field] for robot in robots]) for field in SCALED_FIELDS}
        return values | {"actuator_gear": model.actuator_gear * task["robot"][:, 1, None, None]}

    @staticmethod
    @abstractmethod
    def scale_limbs(spec: mujoco.MjSpec, length: float) -> None:
        """Changes the description of the robot to limbs of this length."""


@functools.lru_cache(maxsize=4096)
def _compiled(family: type[Inversion], length: float) -> dict[str, np.ndarray]:
    """The scaled fields of the robot with limbs of this length; compiled once a length, not once an episode."""
    from nacre.families.robots import compile_spec, load_spec  # loads MuJoCo, which a list of families does not need

    spec = load_spec(family.model_file)
    family.scale_limbs(spec, length)
    model = compile_spec(spec)
    return {field: np.array(getattr(model, field)) for field in SCALED_FIELDS}


HIP_TO_SOLE = 0.577
"""Metres from the half-cheetah's hip down to its lower foot's end at rest, but for the limb's radius."""


@dataclass(frozen=True)
class CheetahInversion(Inversion, HalfCheetah):
    """Run forward with shorter or longer legs, actuators as ever or the other way round."""

    name: ClassVar[str] = "cheetah-inversion"

    @staticmethod
    def scale_limbs(spec: mujoco.MjSpec, length: float) -> None:
        """Thighs, shins and feet; the torso starts as much higher. The robot weighs 14 kg whatever its legs."""
        for side in "bf":
            for part in ("thigh", "shin", "foot"):
                body, geom = spec.body(side + part), spec.geom(side + part)
                geom.pos, geom.size = geom.pos * length, geom.size * [1.0, length, 1.0]
                if part != "thigh":
                    body.pos = body.pos * length
        spec.body("torso").pos = np.add(spec.body("torso").pos, [0.0, 0.0, HIP_TO_SOLE * (length - 1.0)])

    def progress(self, velocity: Any, task: Tasks) -> Any:
        return velocity


FINGERTIP, TARGET = 3, 4
"""Body indices in Gymnasium's reacher.xml."""


@dataclass(frozen=True)
class ReacherInversion(Inversion):
    """Reach a target with a shorter or longer arm, actuators as ever or the other way round."""

    name: ClassVar[str] = "reacher-inversion"
    obs_dim: ClassVar[int] = 10
    action_dim: ClassVar[int] = 2
    horizon: ClassVar[int] = 50
    model_file: ClassVar[str] = "reacher.xml"
    frame_skip: ClassVar[int] = 2
    physics_fields: ClassVar[tuple[str, ...]] = ("qpos", "qvel", "xpos")

    @staticmethod
    def scale_limbs(spec: mujoco.MjSpec, length: float) -> None:
        """Both links of the arm."""
        for link in ("link0", "link1"):
            geom = spec.geom(link)
            geom.fromto = geom.fromto * length
        for body in ("body1", "fingertip"):
            spec.body(body).pos = spec.body(body).pos * length

    def reset_state(
        self, qpos: np.ndarray, qvel: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """The arm nearly straight; the target uniform over a disc of 0.2 m."""
        qpos, qvel = qpos + rng.uniform(-0.1, 0.1, qpos.shape), qvel + rng.uniform(-0.005, 0.005, qvel.shape)
        angle, radius = rng.uniform(0.0, 2 * np.pi, len(qpos)), 0.2 * np.sqrt(rng.uniform(size=len(qpos)))
        qpos[:, 2:], qvel[:, 2:] = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1), 0.0
        return qpos, qvel

    def observe(self, physics: Physics) -> Any:
        """cos, sin of both angles (4), target (2), angular velocities (2), target to fingertip (2): [lane, 10]."""
        angles = physics.qpos[:, :2]
        parts = np.cos(angles), np.sin(angles), physics.qpos[:, 2:], physics.qvel[:, :2], _gap(physics)[:, :2]
        return np.concatenate(parts, axis=-1)

    def rewards(self, before: Physics, after: Physics, action: Any, task: Tasks) -> tuple[Any, Any]:
        """(reward, training reward) of a control step, for clipped actions [lane, 2]: minus distance and effort."""
        reward = -np.linalg.norm(_gap(after), axis=-1) - (action**2).sum(-1)
        return reward, reward

    def terminated(self, after: Physics) -> np.ndarray:
        """Never."""
        return np.zeros(len(after.qpos), dtype=bool)


def _gap(physics: Physics) -> Any:
    """From the target to the fingertip, [lane, 3]."""
    return physics.xpos[:, FINGERTIP] - physics.xpos[:, TARGET]
