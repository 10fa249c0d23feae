"""Robot descriptions, Gymnasium's and anybody's, without the noise that loading them makes."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

from nacre.errors import NacreError
from nacre.families.load_mujoco import mujoco

_lock = threading.RLock()  # warnings and MuJoCo's handler of them belong to the process
ModelFile: TypeAlias = str | Path | mujoco.MjSpec | Callable[[], mujoco.MjSpec]
"""How a robot's description is given: see `MujocoFamily.model_file`."""
_SENSOR = "nacre_contact_forces"


@contextmanager
def quietly() -> Iterator[None]:
    """What the loader warns of (settotalmass) is neither shown nor written to a log file. One thread at a time."""
    with _lock, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        mujoco.set_mju_user_warning(lambda message: None)
        try:
            yield
        finally:
            mujoco.set_mju_user_warning(None)


def load_spec(model_file: ModelFile) -> mujoco.MjSpec:
    """The description of a robot, a new one that can be changed before it is compiled.

    `model_file` as `MujocoFamily.model_file`. Raises NacreError where it is no robot.
    """
    if isinstance(model_file, mujoco.MjSpec):
        return model_file.copy()
    if callable(model_file):
        spec = model_file()
        if not isinstance(spec, mujoco.MjSpec):
            raise NacreError(f"the function model_file gave {type(spec).__name__}; return a mujoco.MjSpec.")
        return spec.copy()
    path = Path(model_file)
    if not path.is_absolute():
        if path.name != str(model_file):
            raise NacreError(
                f"model_file is the relative path {path}, which depends on where a command is started; write an "
                "absolute one, as in Path(__file__).parent / 'robot.xml', or the name of one of Gymnasium's files."
            )
        from gymnasium.envs.mujoco import mujoco_env

        path = Path(mujoco_env.__file__).parent / "assets" / path
    if not path.is_file():
        raise NacreError(f"there is no robot description {path}; correct the family's model_file.")
    try:
        with quietly():
            return mujoco.MjSpec.from_file(str(path))
    except ValueError as error:
        raise _unreadable(str(path), error) from error


def _unreadable(what: str, error: Exception) -> NacreError:
    return NacreError(f"MuJoCo cannot read the robot description {what}: {' '.join(str(error).split())}")


def compile_spec(spec: mujoco.MjSpec) -> mujoco.MjModel:
    """The model that a description stands for."""
    try:
        with quietly():
            return spec.compile()
    except ValueError as error:  # a mesh that is not there, for one
        raise _unreadable(spec.modelname, error) from error


def load_model(model_file: ModelFile, timestep: float | None = None, contact_forces: bool = False) -> mujoco.MjModel:
    """A robot: its description compiled.

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
