"""Lanes of a MuJoCo family: stepped in C on all cores, closed loop, one control step a call."""

from __future__ import annotations

import copy
from typing import Any, Protocol, cast

import numpy as np

from nacre.errors import NacreError
from nacre.families.blame import BrokenContract, array_of, check_finite_values, failure, short
from nacre.families.family import MujocoFamily, Physics
from nacre.families.load_mujoco import mujoco
from nacre.families.robots import load_model
from nacre.simulation.lane_step import LaneStep
from nacre.simulation.look import GOAL_RADIUS, Look
from nacre.simulation.rendering import MujocoPicture
from nacre.types import Tasks

try:
    from mujoco.batch import Batch
except ImportError:  # MuJoCo before 3.17
    Batch = None


TOO_LARGE = 1e10
"""Positions and velocities that MuJoCo takes for the end of a simulation (its mjMAXVAL)."""

START = 1.0
"""Where MuJoCo's clocks begin, in seconds: its own resets put them to 0, which tells in the first step too."""


class PhysicsEngine(Protocol):
    """Many copies of one model. The two engines below agree bit for bit.

    Made from (model, number of lanes, fields of `Physics` to show, whether they are to be those of the new state).
    """

    def set_parameters(self, parameters: dict[str, np.ndarray], lanes: np.ndarray) -> None:
        """Gives fields of the listed lanes' models values of their own; what MuJoCo derives from them follows.

        The values are those of all lanes [lane, ...]. States stay as they are, also in mid-episode."""

    def reset(self, qpos: np.ndarray, qvel: np.ndarray, lanes: np.ndarray | None = None) -> None:
        """All lanes, or the listed ones, to their defaults, then to these positions and velocities [lane, ...], with
        derived fields current."""

    def step(self, ctrl: np.ndarray, num_steps: int, lanes: np.ndarray | None) -> None:
        """`num_steps` model steps with these controls [lane, nu] held, in all lanes (None) or the ones listed."""

    def physics(self) -> Physics:
        """The lanes now. The arrays may be live: copy what must outlast the next step."""

    def time(self) -> np.ndarray:
        """Simulated seconds of every lane since its reset [lane], fewer where MuJoCo reset it unasked."""


class BatchEngine:
    """`mujoco.batch`: a thread pool in C."""

    def __init__(self, model: mujoco.MjModel, num_lanes: int, fields: tuple[str, ...], current: bool):
        self._batch = Batch(model, num_lanes)
        self._state = Physics(**{field: self._batch.bind(field) for field in fields})
        self._ctrl, self._time = self._batch.bind("ctrl"), self._batch.bind("time")
        # Forward passes at the new state change nothing for the steps to come: the warm start stays the last step's.
        self._stage = mujoco.mjtStage.mjSTAGE_ACC if current else mujoco.mjtStage.mjSTAGE_NONE

    def set_parameters(self, parameters: dict[str, np.ndarray], lanes: np.ndarray) -> None:
        for field, values in parameters.items():
            self._batch.expand(field)[lanes] = values[lanes]
        self._batch.set_const(lanes)

    def reset(self, qpos: np.ndarray, qvel: np.ndarray, lanes: np.ndarray | None = None) -> None:
        self._batch.reset(lanes, stage=mujoco.mjtStage.mjSTAGE_NONE)
        rows = slice(None) if lanes is None else lanes
        self._state.qpos[rows], self._state.qvel[rows], self._time[rows] = qpos, qvel, START
        self._batch.forward(lanes)

    def step(self, ctrl: np.ndarray, num_steps: int, lanes: np.ndarray | None) -> None:
        self._ctrl[:] = ctrl
        self._batch.step(lanes, nstep=num_steps, stage=self._stage)

    def physics(self) -> Physics:
        return self._state

    def time(self) -> np.ndarray:
        return self._time - START


class SerialEngine:
    """One MjData a lane and a Python loop of mj_step, for MuJoCo before 3.17."""

    def __init__(self, model: mujoco.MjModel, num_lanes: int, fields: tuple[str, ...], current: bool):
        self._models = [copy.copy(model) for _ in range(num_lanes)]
        self._data = [mujoco.MjData(model) for model in self._models]
        self._scratch = mujoco.MjData(model)  # what MuJoCo derives constants in
        self._fields = fields
        self._current = current

    def lane(self, index: int) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """The model and data of one lane, for rendering. They stay the same objects."""
        return self._models[index], self._data[index]

    def set_parameters(self, parameters: dict[str, np.ndarray], lanes: np.ndarray) -> None:
        for lane in lanes.tolist():
            model = self._models[lane]
            for field, values in parameters.items():
                owner, _, name = field.rpartition(".")  # "opt.gravity" is a field of model.opt
                place = getattr(model, owner) if owner else model
                if values.ndim == 1:
                    setattr(place, name, values[lane].item())
                else:
                    getattr(place, name)[:] = values[lane]
            mujoco.mj_setConst(model, self._scratch)

    def reset(self, qpos: np.ndarray, qvel: np.ndarray, lanes: np.ndarray | None = None) -> None:
        starting = range(len(self._data)) if lanes is None else lanes.tolist()
        for lane, position, velocity in zip(starting, qpos, qvel, strict=True):
            model, data = self.lane(lane)
            mujoco.mj_resetData(model, data)
            data.qpos[:], data.qvel[:], data.time = position, velocity, START
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
        return np.array([data.time for data in self._data]) - START


class MujocoLanes:
    """`num_lanes` copies of a family's robot. Holds physics only: the task is an argument of every use."""

    def __init__(
        self, family: MujocoFamily, num_lanes: int, engine: type[BatchEngine] | type[SerialEngine] | None = None
    ):
        self.model = load_model(type(family).model_file, family.model_timestep, family.needs_contact_forces)
        engine = engine or (SerialEngine if Batch is None else BatchEngine)
        self.family = family
        self.num_lanes = num_lanes
        fields = family.physics_fields
        self.engine: PhysicsEngine = engine(self.model, num_lanes, fields, family.needs_contact_forces)
        self._qpos, self._qvel = self.model.qpos0.copy(), np.zeros(self.model.nv)
        low, high = self.model.actuator_ctrlrange.T
        if self.model.nu != family.action_dim:
            raise NacreError(
                f"{family.name} declares action_dim {family.action_dim}, but its robot has {self.model.nu} actuators; "
                "declare these."
            )
        if not (low < high).all():  # every action would be the same
            name = self.model.actuator(int(np.argmin(low < high))).name
            raise NacreError(f"the actuator '{name}' of {family.name}'s robot has no ctrlrange; give it one.")
        self._ctrl_middle, self._ctrl_half = (high + low) / 2, (high - low) / 2
        self.frames_per_second = round(1 / (self.model.opt.timestep * family.frame_skip), 3)
        self.look = Look()
        self._picture: MujocoPicture | None = None
        self._shortest = (family.frame_skip - 0.5) * self.model.opt.timestep

    def reset(self, task: Tasks, *rngs: np.random.Generator, lanes: np.ndarray | None = None) -> np.ndarray:
        """As `Lanes.reset`. A lane's start does not depend on how many there are."""
        family, what = self.family, "model_parameters"
        if self._picture is not None:
            self._picture.restart()
        starting = np.arange(self.num_lanes) if lanes is None else lanes
        each = len(starting) // len(rngs)
        qpos, qvel = self._qpos[None], self._qvel[None]
        try:
            self._set_parameters(task, starting)
            what = "reset_state"
            starts = [family.reset_state(qpos, qvel, own) for rng in rngs for own in rng.spawn(each)]
            start_qpos, start_qvel = (
                array_of(family.name, what, np.concatenate(part), (len(starting), size), np.float64)
                for part, size in zip(zip(*starts, strict=True), (self.model.nq, self.model.nv), strict=True)
            )
            self.engine.reset(start_qpos, start_qvel, starting)
            what = "observe"
            obs = family.observe(self.engine.physics())
            return array_of(family.name, what, obs, (self.num_lanes, family.obs_dim), np.float32)
        except (Exception, SystemExit) as error:
            raise failure(family.name, what, error) from error

    def _set_parameters(self, task: Tasks, lanes: np.ndarray) -> None:
        parameters = self.family.model_parameters(self.model, task)
        if parameters:
            checked = {field: self._values_of(field, values) for field, values in parameters.items()}
            self.engine.set_parameters(checked, lanes)

    def _values_of(self, field: str, values: Any) -> np.ndarray:
        """A field of the model in all lanes [lane, ...], as the family gives it, checked."""
        name, what = self.family.name, f"model_parameters ({field})"
        own: Any = self.model
        for part in field.split("."):  # "opt.gravity" is a field of model.opt
            own = getattr(own, part, None)
        own = np.asarray(own)
        if own.dtype.kind not in "biuf":
            raise BrokenContract(
                f"{name}'s model_parameters gives '{field}', which is no number or array of MuJoCo's model; mend that "
                "name.",
                "declarations",
            )
        array = array_of(name, what, values, (self.num_lanes, *own.shape), np.float64)
        check_finite_values(name, what, array)
        exact = array.astype(own.dtype)
        if not (exact == array).all() and own.dtype.kind != "f":
            raise BrokenContract(
                f"{name}'s {what} gives {short(array[exact != array][0])}, but that field is of {own.dtype}; mend that "
                "function.",
                "shapes",
            )
        return exact

    def change(self, task: Tasks) -> None:
        """As `Lanes.change`."""
        try:
            self._set_parameters(task, np.arange(self.num_lanes))
        except (Exception, SystemExit) as error:
            raise failure(self.family.name, "model_parameters", error) from error

    def step(self, action: np.ndarray, task: Tasks, lanes: np.ndarray | None = None) -> LaneStep:
        """One control step of all lanes, or of those listed (the others stand still and their rows mean nothing).

        Where the numbers of a state grow beyond use, the lane has diverged: its row means nothing.
        """
        family, num_lanes = self.family, self.num_lanes
        action = np.clip(action.astype(np.float64), -1.0, 1.0)
        before = Physics._make(None if field is None else field.copy() for field in self.engine.physics())
        started = self.engine.time()
        self.engine.step(self._ctrl_middle + self._ctrl_half * action, family.frame_skip, lanes)
        after = self.engine.physics()
        diverged = self._diverged(after, started)
        if lanes is not None:
            diverged &= np.isin(np.arange(num_lanes), lanes)
        what = "rewards"
        try:
            reward, training_reward = (
                array_of(family.name, what, rewards, (num_lanes,), np.float32)
                for rewards in family.rewards(before, after, action, task)
            )
            what = "observe"
            obs = array_of(family.name, what, family.observe(after), (num_lanes, family.obs_dim), np.float32)
            what = "terminated"
            terminated = array_of(family.name, what, family.terminated(after), (num_lanes,), bool)
        except (Exception, SystemExit) as error:
            raise failure(family.name, what, error) from error
        if diverged.any():
            obs[diverged], reward[diverged], training_reward[diverged], terminated[diverged] = 0.0, 0.0, 0.0, False
        return LaneStep(obs, reward, training_reward, terminated, diverged=diverged)

    def _diverged(self, after: Physics, started: np.ndarray) -> np.ndarray:
        """Whether the numbers of each lane's state grew beyond use [lane].

        MuJoCo then puts the lane back to its defaults, time included, and tells its log only; what the last model step
        did it would find out in the next.
        """
        diverged = self.engine.time() - started < self._shortest
        qpos, qvel = after.qpos, after.qvel
        if not (np.vdot(qpos, qpos) < TOO_LARGE**2 and np.vdot(qvel, qvel) < TOO_LARGE**2):  # or not a number
            diverged |= ~((np.abs(qpos) < TOO_LARGE).all(axis=-1) & (np.abs(qvel) < TOO_LARGE).all(axis=-1))
        return np.asarray(diverged)

    def render(self, task: Tasks, mode: str) -> Any:
        """As `DrawnLane.render`."""
        return self._drawn(mode).render(task, mode)

    def reading(self, task: Tasks) -> str:
        """As `DrawnLane.reading`."""
        return self._drawn("rgb_array").reading(task)

    def _drawn(self, mode: str) -> MujocoPicture:
        if self._picture is None:
            model, data = cast(SerialEngine, self.engine).lane(0)
            radius = self.family.goal_radius or GOAL_RADIUS
            self._picture = MujocoPicture(model, data, mode, self.look, radius)
        return self._picture

    def close(self) -> None:
        """Closes the window. Threads and states go with the lanes."""
        if self._picture is not None:
            self._picture.close()
            self._picture = None


def make_lanes(family: MujocoFamily, num_lanes: int) -> MujocoLanes:
    """As `lanes.make_lanes`."""
    return MujocoLanes(family, num_lanes)


def make_drawn_lane(family: MujocoFamily, render_mode: str | None) -> MujocoLanes:
    """As `lanes.make_drawn_lane`."""
    return MujocoLanes(family, 1, SerialEngine)
