"""Robot descriptions from Gymnasium's assets, without the noise that loading them makes."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nacre.families.load_mujoco import mujoco

_SENSOR = "nacre_contact_forces"


@contextmanager
def quietly() -> Iterator[None]:
    """What the loader warns of (settotalmass) is neither shown nor written to a log file."""
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        mujoco.set_mju_user_warning(None)


def load_spec(model_file: str) -> mujoco.MjSpec:
    """The description of a robot, which can be changed before it is compiled."""
    from gymnasium.envs.mujoco import mujoco_env

    with quietly():
        return mujoco.MjSpec.from_file(str(Path(mujoco_env.__file__).parent / "assets" / model_file))


def compile_spec(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """The model that a description stands for."""
    with quietly():
        return spec.compile()


def load_model(model_file: str, timestep: float | None = None, contact_forces: bool = False) -> mujoco.MjModel:
    """A robot among Gymnasium's assets.

    `timestep` in place of the file's, in seconds. `contact_forces`: MuJoCo computes cfrc_ext only where an acceleration
    is measured, so the robot's first body gets an accelerometer.
    """
    spec = load_spec(model_file)
    if contact_forces:
        spec.bodies[1].add_site(name=_SENSOR)
        spec.add_sensor(
            name=_SENSOR, type=mujoco.mjtSensor.mjSENS_ACCELEROMETER, objtype=mujoco.mjtObj.mjOBJ_SITE, objname=_SENSOR
        )
    model = compile_spec(spec)
    if timestep is not None:
        model.opt.timestep = timestep
    return model
