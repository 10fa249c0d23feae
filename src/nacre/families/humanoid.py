"""The humanoid: run in any direction of the plane, or forward under another gravity."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nacre.families.distributions import Gravities, Headings
from nacre.families.family import MujocoFamily, Physics

if TYPE_CHECKING:
    from nacre.types import Tasks

HEIGHT_RANGE = (1.0, 2.0)
"""Heights of the torso, in metres, between which the humanoid stands."""
CONTROL_RANGE = 0.4
"""The actuators take controls in [-0.4, 0.4]: that times the action."""
MODEL_TIMESTEP = 0.003


@dataclass(frozen=True)
class Humanoid(MujocoFamily):
    """The robot that the families of this file share. The reward: speed in a direction, and 5 a step for standing."""

    obs_dim: ClassVar[int] = 376
    action_dim: ClassVar[int] = 17
    horizon: ClassVar[int] = 200
    can_terminate: ClassVar[bool] = True
    model_file: ClassVar[str] = "humanoid.xml"
    frame_skip: ClassVar[int] = 5
    physics_fields: ClassVar[tuple[str, ...]] = (
        "qpos", "qvel", "cinert", "cvel", "qfrc_actuator", "cfrc_ext", "subtree_com",
    )  # fmt: skip
    needs_contact_forces: ClassVar[bool] = True

    def reset_state(
        self, qpos: np.ndarray, qvel: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        return qpos + rng.uniform(-0.01, 0.01, qpos.shape), qvel + rng.uniform(-0.01, 0.01, qvel.shape)

    def observe(self, physics: Physics) -> Any:
        """qpos without x and y (22), qvel (23), cinert (140), cvel (84), qfrc_actuator (23), cfrc_ext (84)."""
        parts = (
            physics.qpos[:, 2:], physics.qvel, physics.cinert, physics.cvel, physics.qfrc_actuator, physics.cfrc_ext,
        )  # fmt: skip
        return np.concatenate([np.reshape(part, (len(physics.qpos), -1)) for part in parts], axis=-1)

    def rewards(self, before: Physics, after: Physics, action: Any, task: Tasks) -> tuple[Any, Any]:
        """(reward, training reward) of a control step, for clipped actions [lane, 17].

        The displacement of the centre of mass over a control step is divided by the time of one model step, as in the
        reference: five times its velocity.
        """
        moved = (after.subtree_com[:, 0, :2] - before.subtree_com[:, 0, :2]) / MODEL_TIMESTEP
        control = 0.1 * ((CONTROL_RANGE * action) ** 2).sum(-1)
        contact = np.minimum(5e-7 * (after.cfrc_ext**2).sum((-2, -1)), 10.0)
        reward = 0.25 * self.progress(moved, task) - control - contact + 5.0
        return reward, reward

    def terminated(self, after: Physics) -> np.ndarray:
        """Fallen."""
        height = after.qpos[:, 2]
        return np.asarray(~((height >= HEIGHT_RANGE[0]) & (height <= HEIGHT_RANGE[1])))

    @abstractmethod
    def progress(self, moved: Any, task: Tasks) -> Any:
        """The task's share of the reward, from the displacement over the model's time step [lane, 2]."""


@dataclass(frozen=True)
class HumanoidDir(Headings, Humanoid):
    """Run in any direction."""

    name: ClassVar[str] = "humanoid-dir"


@dataclass(frozen=True)
class HumanoidGravity(Gravities, Humanoid):
    """Run forward under another gravity."""

    name: ClassVar[str] = "humanoid-gravity"
