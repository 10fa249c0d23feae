"""Lanes of a MuJoCo family: stepped in C on all cores, closed loop, one control step a call."""

from __future__ import annotations

import copy
import functools
from typing import NamedTuple, Protocol

import numpy as np

from nacre.families.family import MujocoFamily, Physics
from nacre.families.load_mujoco import mujoco
from nacre.families.robots import load_model
from nacre.types import Tasks

try:
    from mujoco.batch import Batch
except ImportError:  # MuJoCo before 3.17
    Batch = None


class LaneStep(NamedTuple):
    """What one control step gives, side by side; float32 but for the flags."""

    obs: np.ndarray  # [lane, obs_dim]
    reward: np.ndarray  # [lane]
    training_reward: np.ndarray  # [lane]
    terminated: np.ndarray  # [lane] of bool
    success: np.ndarray | None = None  # [lane] of bool, where the family reports it


class PhysicsEngine(Protocol):
    """Many copies of one model. The two engines below agree bit for bit.

    Made from (model, number of lanes, fields of `Physics` to show, whether they are to be those of the new state).
    """

    def set_parameters(self, parameters: dict[str, np.ndarray]) -> None:
        """Gives fields of the model values of each lane's own [lane, ...]; what MuJoCo derives from them follows."""

    def reset(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        """Every lane to its defaults, then to these positions and velocities, with derived fields current."""

    def step(self, ctrl: np.ndarray, num_steps: int, lanes: np.ndarray | None) -> None:
        """`num_steps` model steps with these controls [lane, nu] held, in all lanes (None) or the ones listed."""

    def physics(self) -> Physics:
        """The lanes now. The arrays may be live: copy what must outlast the next step."""

    def time(self) -> np.ndarray:
        """Simulated seconds of every lane since its reset [lane], also one that MuJoCo made unasked; a copy."""


class BatchEngine:
    """`mujoco.batch`: a thread pool in C."""

    def __init__(self, model: mujoco.MjModel, num_lanes: int, fields: tuple[str, ...], current: bool):
        self._batch = Batch(model, num_lanes)
        self._state = Physics(**{field: self._batch.bind(field) for field in fields})
        self._ctrl, self._time = self._batch.bind("ctrl"), self._batch.bind("time")
        # Forward passes at the new state change nothing for the steps to come: the warm start stays the last step's.
        self._stage = mujoco.mjtStage.mjSTAGE_ACC if current else mujoco.mjtStage.mjSTAGE_NONE

    def set_parameters(self, parameters: dict[str, np.ndarray]) -> None:
        for field, values in parameters.items():
            self._batch.expand(field)[:] = values
        self._batch.set_const()

    def reset(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        self._batch.reset(stage=mujoco.mjtStage.mjSTAGE_NONE)
        self._state.qpos[:], self._state.qvel[:] = qpos, qvel
        self._batch.forward()

    def step(self, ctrl: np.ndarray, num_steps: int, lanes: np.ndarray | None) -> None:
        self._ctrl[:] = ctrl
        self._batch.step(lanes, nstep=num_steps, stage=self._stage)

    def physics(self) -> Physics:
        return self._state

    def time(self) -> np.ndarray:
        return self._time.copy()


class SerialEngine:
    """One MjData a lane and a Python loop of mj_step, for MuJoCo before 3.17."""

    def __init__(self, model: mujoco.MjModel, num_lanes: int, fields: tuple[str, ...], current: bool):
        self._models = [copy.copy(model) for _ in range(num_lanes)]
        self._data = [mujoco.MjData(model) for model in self._models]
        self._fields = fields
        self._current = current

    def lane(self, index: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The model and data of one lane, for rendering. They stay the same objects."""
        return self._models[index], self._data[index]

    def set_parameters(self, parameters: dict[str, np.ndarray]) -> None:
        for lane, (model, data) in enumerate(zip(self._models, self._data, strict=True)):
            for field, values in parameters.items():
                owner, _, name = field.rpartition(".")  # "opt.gravity" is a field of model.opt
                getattr(getattr(model, owner) if owner else model, name)[:] = values[lane]
            mujoco.mj_setConst(model, data)

    def reset(self, qpos: np.ndarray, qvel: np.ndarray) -> None:
        for model, data, position, velocity in zip(self._models, self._data, qpos, qvel, strict=True):
            mujoco.mj_resetData(model, data)
            data.qpos[:], data.qvel[:] = position, velocity
            mujoco.mj_forward(model, data)

    def step(self, ctrl: np.ndarray, num_steps: int, lanes: np.ndarray | None) -> None:
        for lane in range(len(self._data)) if lanes is None else lanes:
            model, data = self._models[lane], self._data[lane]
            data.ctrl[:] = ctrl[lane]
            mujoco.mj_step(model, data, num_steps)
            if self._current:  # as above
                warm_start = data.qacc_warmstart.copy()
                mujoco.mj_forward(model, data)
                data.qacc_warmstart[:] = warm_start

    def physics(self) -> Physics:
        return Physics(**{field: np.stack([getattr(data, field) for data in self._data]) for field in self._fields})

    def time(self) -> np.ndarray:
        return np.array([data.time for data in self._data])


class MujocoLanes:
    """`num_lanes` copies of a family's robot. Holds physics only: the task is an argument of every use."""

    def __init__(
        self, family: MujocoFamily, num_lanes: int, engine: type[BatchEngine] | type[SerialEngine] | None = None
    ):
        self.model = load_model(family.model_file, family.model_timestep, family.needs_contact_forces)
        engine = engine or (SerialEngine if Batch is None else BatchEngine)
        self.family = family
        self.num_lanes = num_lanes
        fields = family.physics_fields
        self.engine: PhysicsEngine = engine(self.model, num_lanes, fields, family.needs_contact_forces)
        self._qpos, self._qvel = self.model.qpos0.copy(), np.zeros(self.model.nv)
        low, high = self.model.actuator_ctrlrange.T
        self._ctrl_middle, self._ctrl_half = (high + low) / 2, (high - low) / 2
        self._shortest = (family.frame_skip - 0.5) * self.model.opt.timestep

    def reset(self, task: Tasks, *rngs: np.random.Generator) -> np.ndarray:
        """Starts an episode in every lane; observations [lane, obs_dim], float32.

        Each generator serves an equal share of the lanes; a lane's start does not depend on how many there are.
        """
        parameters = self.family.model_parameters(self.model, task)
        if parameters:
            self.engine.set_parameters(parameters)
        each = self.num_lanes // len(rngs)
        qpos, qvel = self._qpos[None], self._qvel[None]
        starts = [self.family.reset_state(qpos, qvel, own) for rng in rngs for own in rng.spawn(each)]
        self.engine.reset(*(np.concatenate(part) for part in zip(*starts, strict=True)))
        return np.asarray(self.family.observe(self.engine.physics()), dtype=np.float32)

    def step(self, action: np.ndarray, task: Tasks, lanes: np.ndarray | None = None) -> LaneStep:
        """One control step of all lanes, or of those listed (the others stand still and their rows mean nothing).

        Where the numbers of a state grow beyond use, MuJoCo puts the lane back to its defaults, time included, and
        tells its log only. Such a step, whose distances mean nothing, earns nothing, and ends the episode of a robot
        whose episodes may end.
        """
        action = np.clip(action.astype(np.float64), -1.0, 1.0)
        before = Physics._make(None if field is None else field.copy() for field in self.engine.physics())
        started = self.engine.time()
        self.engine.step(self._ctrl_middle + self._ctrl_half * action, self.family.frame_skip, lanes)
        after = self.engine.physics()
        short = self.engine.time() - started < self._shortest
        diverged = short if lanes is None else short & np.isin(np.arange(self.num_lanes), lanes)
        reward, training_reward = self.family.rewards(before, after, action, task)
        return LaneStep(
            obs=np.asarray(self.family.observe(after), dtype=np.float32),
            reward=np.where(diverged, 0, reward).astype(np.float32),
            training_reward=np.where(diverged, 0, training_reward).astype(np.float32),
            terminated=self.family.terminated(after) | (diverged & self.family.can_terminate),
        )


@functools.lru_cache(maxsize=16)
def mujoco_lanes(family: MujocoFamily, num_lanes: int) -> MujocoLanes:
    """The lanes of this family and number, made once: every use starts with a reset."""
    return MujocoLanes(family, num_lanes)
