"""The walker and the hopper, on their feet: forward with another body, or under another gravity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from nacre.families.distributions import Gravities, ModelFactors
from nacre.families.family import MujocoFamily, Physics

if TYPE_CHECKING:
    from nacre.types import Tasks


@dataclass(frozen=True)
class Legged(MujocoFamily):
    """What the two robots share: observation, reset, and a reward for forward speed, 1 a step for not having fallen."""

    horizon: ClassVar[int] = 200
    can_terminate: ClassVar[bool] = True
    frame_skip: ClassVar[int] = 4
    model_timestep: ClassVar[float] = 0.004
    """The randomised models of the reference use 0.004 s; the standard files 0.002 s."""

    def reset_state(
        self, qpos: np.ndarray, qvel: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        return qpos + rng.uniform(-0.005, 0.005, qpos.shape), qvel + rng.uniform(-0.005, 0.005, qvel.shape)

    def observe(self, physics: Physics) -> Any:
        """qpos without the root's x, qvel clipped to [-10, 10]."""
        return np.concatenate([physics.qpos[:, 1:], np.clip(physics.qvel, -10.0, 10.0)], axis=-1)

    def rewards(self, before: Physics, after: Physics, action: Any, task: Tasks) -> tuple[Any, Any]:
        """(reward, training reward) of a control step, for clipped actions: forward velocity (m/s), 1, control cost."""
        velocity = (after.qpos[:, 0] - before.qpos[:, 0]) / (self.frame_skip * self.model_timestep)
        reward = velocity + 1.0 - 1e-3 * (action**2).sum(-1)
        return reward, reward


@dataclass(frozen=True)
class Walker(Legged):
    """The two-legged walker; it falls by its height or its angle."""

    obs_dim: ClassVar[int] = 17
    action_dim: ClassVar[int] = 6
    model_file: ClassVar[str] = "walker2d.xml"

    def terminated(self, after: Physics) -> np.ndarray:
        height, angle = after.qpos[:, 1], after.qpos[:, 2]
        return np.asarray(~((height > 0.8) & (height < 2.0) & (np.abs(angle) < 1.0)))


@dataclass(frozen=True)
class Hopper(Legged):
    """The one-legged hopper; it falls by its height, its angle, or where any other number is out of all bounds."""

    obs_dim: ClassVar[int] = 11
    action_dim: ClassVar[int] = 3
    model_file: ClassVar[str] = "hopper.xml"

    def terminated(self, after: Physics) -> np.ndarray:
        height, angle = after.qpos[:, 1], after.qpos[:, 2]
        state = np.concatenate([after.qpos, after.qvel], axis=-1)
        sane = np.isfinite(state).all(-1) & (np.abs(state[:, 2:]) < 100.0).all(-1)
        return np.asarray(~(sane & (height > 0.7) & (np.abs(angle) < 0.2)))


@dataclass(frozen=True)
class WalkerParams(ModelFactors, Walker):
    """Walk with another body: masses, inertias, dampings and frictions times random factors."""

    name: ClassVar[str] = "walker-params"
    field_sizes: ClassVar[tuple[int, ...]] = (8, 24, 9, 24)
    parameters: ClassVar[dict[str, int]] = {"exponents": 65}


@dataclass(frozen=True)
class HopperParams(ModelFactors, Hopper):
    """Hop with another body: masses, inertias, dampings and frictions times random factors."""

    name: ClassVar[str] = "hopper-params"
    field_sizes: ClassVar[tuple[int, ...]] = (5, 15, 6, 15)
    parameters: ClassVar[dict[str, int]] = {"exponents": 41}


@dataclass(frozen=True)
class WalkerGravity(Gravities, Walker):
    """Walk forward under another gravity."""

    name: ClassVar[str] = "walker-gravity"


@dataclass(frozen=True)
class HopperGravity(Gravities, Hopper):
    """Hop forward under another gravity."""

    name: ClassVar[str] = "hopper-gravity"
