"""Task distributions that several robots share, as parts of a family: headings in the plane, gravity, model factors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nacre.errors import NacreError
from nacre.families.family import MujocoFamily

if TYPE_CHECKING:
    from nacre.types import Tasks


class Headings(MujocoFamily):
    """A direction to run in, uniform over the circle."""

    parameters: ClassVar[dict[str, int]] = {"angle": 0}
    task_range: ClassVar[str] = "angle in [0, 6.2832] rad"

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        return {"angle": rng.uniform(0.0, 2 * np.pi, num)}

    def in_range(self, task: Tasks) -> np.ndarray:
        return np.asarray((task["angle"] >= 0.0) & (task["angle"] <= 2 * np.pi + 1e-4))

    def tasks_beyond(self, rng: np.random.Generator, distance: np.ndarray) -> Tasks:
        raise NacreError(f"{self.name} has no out-of-distribution tasks: its headings are all there are.")

    def progress(self, velocity: Any, task: Tasks) -> Any:
        """The component of velocities [lane, 2] along each task's heading."""
        return velocity[:, 0] * np.cos(task["angle"]) + velocity[:, 1] * np.sin(task["angle"])


class Gravities(MujocoFamily):
    """Another gravity, 1.5^U(-3, 3) times the earth's; the way to run is forward."""

    parameters: ClassVar[dict[str, int]] = {"gravity_scale": 0}
    task_range: ClassVar[str] = "gravity_scale in [0.2963, 3.375]"

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        return {"gravity_scale": 1.5 ** rng.uniform(-3.0, 3.0, num)}

    def in_range(self, task: Tasks) -> np.ndarray:
        return np.asarray((task["gravity_scale"] >= 1.5**-3 - 1e-4) & (task["gravity_scale"] <= 1.5**3))

    def model_parameters(self, model: Any, task: Tasks) -> dict[str, np.ndarray]:
        return {"opt.gravity": model.opt.gravity * np.asarray(task["gravity_scale"])[:, None]}

    def progress(self, velocity: Any, task: Tasks) -> Any:
        """Forward velocity, of velocities [lane, 2]."""
        return velocity[:, 0]


FACTOR_FIELDS = (("body_mass", 1.5), ("body_inertia", 1.5), ("dof_damping", 1.3), ("geom_friction", 1.5))
"""Fields of the model that a task multiplies, element by element, by base^U(-3, 3)."""


class ModelFactors(MujocoFamily):
    """Another body: every mass, inertia, damping and friction times a factor of its own, independently.

    A task is the exponents, in the order of `FACTOR_FIELDS`, one for each element of the field. MuJoCo derives other
    constants from these (masses of subtrees, inverse inertias at rest that scale the constraints, actuators' lengths);
    they are computed anew, as they would be for a robot that was described that way.
    """

    field_sizes: ClassVar[tuple[int, ...]]
    """Elements of each of `FACTOR_FIELDS` in this robot's model."""
    task_range: ClassVar[str] = "exponents of the factors in [-3, 3]"

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks:
        return {"exponents": rng.uniform(-3.0, 3.0, (num, sum(self.field_sizes)))}

    def in_range(self, task: Tasks) -> np.ndarray:
        return np.asarray((np.abs(task["exponents"]) <= 3.0).all(axis=-1))

    def model_parameters(self, model: Any, task: Tasks) -> dict[str, np.ndarray]:
        parts = np.split(np.asarray(task["exponents"]), np.cumsum(self.field_sizes)[:-1], axis=-1)
        values = {}
        for (field, base), exponents in zip(FACTOR_FIELDS, parts, strict=True):
            standard = getattr(model, field)
            values[field] = standard * (base**exponents).reshape(-1, *standard.shape)
        return values
