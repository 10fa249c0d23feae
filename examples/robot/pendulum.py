"""A pendulum of unknown mass, as nacre trains on it: the family `pendulum-mass`, and the equations that the plant has.

    nacre train pearl pendulum-mass --plugin pendulum --preset fast

plant.py imports the equations and needs NumPy alone.
"""

from __future__ import annotations

import math
from typing import Any

HORIZON, PERIOD = 100, 0.01
"""Control steps of an episode, and the seconds of each: 100 Hz."""
TARGET, MOST_TORQUE, GRAVITY, LENGTH, FRICTION, SUBSTEPS = 1.0, 12.0, 9.81, 0.5, 0.1, 2
"""The angle to hold, in rad from hanging down; N m; m/s^2; m; N m s; steps of integration in a control step."""


def advance(angle: Any, speed: Any, action: Any, mass: Any, sin: Any = math.sin) -> tuple[Any, Any]:
    """Angle and speed after a control step, semi-implicit Euler; `action` in [-1, 1] is a share of the torque."""
    for _ in range(SUBSTEPS):
        torque = MOST_TORQUE * action - FRICTION * speed - mass * GRAVITY * LENGTH * sin(angle)
        speed = speed + PERIOD / SUBSTEPS * torque / (mass * LENGTH**2)
        angle = angle + PERIOD / SUBSTEPS * speed
    return angle, speed


def reward(angle: Any, speed: Any) -> Any:
    """For being at the target and at rest there."""
    return -((angle - TARGET) ** 2) - 0.01 * speed**2


try:
    import jax.numpy as jnp
    import numpy as np

    import nacre
    from nacre.families.family import JaxStep
except ImportError:  # on the robot
    pass
else:

    @nacre.register_family
    class PendulumMass(nacre.JaxFamily):
        """Hold a pendulum at an angle; the mass at its end differs between tasks."""

        name = "pendulum-mass"
        obs_dim, action_dim, horizon = 3, 1, HORIZON
        observation_names, action_names, control_period = ("sin", "cos", "speed / 10"), ("torque",), PERIOD
        parameters = {"mass": 0}  # noqa: RUF012
        task_range = "mass in [0.5, 2] kg"

        def sample_tasks(self, rng: np.random.Generator, num: int) -> dict[str, np.ndarray]:
            return {"mass": rng.uniform(0.5, 2.0, num)}

        def in_range(self, task: dict[str, np.ndarray]) -> np.ndarray:
            return np.asarray((task["mass"] >= 0.5) & (task["mass"] <= 2.0))

        def reset(self, key: Any) -> tuple[Any, Any]:
            state = jnp.zeros(2)
            return state, self._observed(state)

        def step(self, state: Any, action: Any, task: Any) -> JaxStep:
            after = jnp.stack(advance(state[0], state[1], action[0], task["mass"], jnp.sin))
            earned = reward(after[0], after[1])
            return JaxStep(after, self._observed(after), earned, earned, terminated=jnp.zeros((), bool))

        @staticmethod
        def _observed(state: Any) -> Any:
            return jnp.stack([jnp.sin(state[0]), jnp.cos(state[0]), state[1] / 10])
