"""Every family as a Gymnasium environment: one robot in one task, stepped by hand, rendered.

    import gymnasium, nacre
    env = gymnasium.make("nacre/CheetahVel-v0", task="velocity=1.3", render_mode="rgb_array")

`task` is written as for `nacre adapt`. Without it, every reset draws a task from the family's distribution; a reset
with `options={"task": "velocity=2"}` changes it. `info["task"]` says which it is, `info["training_reward"]` what a
critic would learn from, `info["success"]` whether the task is solved, where the family tells. Trainers step families in
other ways (`simulators/`); this is for all that speaks Gymnasium.
"""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from ctypes.util import find_library
from typing import Any, Protocol, cast

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np

from nacre.errors import NacreError
from nacre.families.blame import failure
from nacre.families.catalog import make_family
from nacre.families.family import Family, JaxFamily, MujocoFamily
from nacre.families.gymnasium import GymnasiumFamily, task_of_lane
from nacre.families.load_mujoco import mujoco
from nacre.simulation import jax as jax_lanes
from nacre.simulation.gymnasium import Environments
from nacre.simulation.mujoco import LaneStep, MujocoLanes, SerialEngine
from nacre.types import Tasks

SIZE = 480
"""Pixels along each side of a frame."""
POINT_FRAMES_PER_SECOND = 10
OTHER_FRAMES_PER_SECOND = 30
"""Of a Gymnasium environment whose metadata has no render_fps."""


class _Robot(Protocol):
    """One lane of a family; a step gives `obs`, `reward`, `training_reward` and `terminated`, each [1, ...]."""

    def reset(self, task: Tasks, rng: np.random.Generator) -> np.ndarray: ...

    def step(self, action: np.ndarray, task: Tasks) -> Any: ...

    def render(self, task: Tasks, mode: str) -> Any: ...

    def close(self) -> None: ...


class TaskEnvironment(gymnasium.Env[np.ndarray, np.ndarray]):
    """A family's robot in one task at a time. Actions lie in [-1, 1]; an episode's time limit is gymnasium.make's."""

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array"]}  # noqa: RUF012

    def __init__(
        self, family: str | Family, task: str | None = None, *, allow_ood: bool = False,
        render_mode: str | None = None, **options: Any,
    ):  # fmt: skip
        """`options` are the family's (`goal_radius`). Raises NacreError for a task that is none of the family's."""
        self.family = make_family(family, **options) if isinstance(family, str) else family
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise NacreError(f"render_mode is {render_mode!r}, but must be 'human' or 'rgb_array'.")
        self.render_mode = render_mode
        self._allow_ood = allow_ood
        self._wanted = None if task is None else self._parsed(task)
        self._robot, frames_per_second = _robot(self.family, render_mode)
        self.metadata = self.metadata | {"render_fps": frames_per_second}
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (self.family.obs_dim,), np.float32)
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (self.family.action_dim,), np.float32)
        self._task: Tasks | None = None

    @property
    def task(self) -> dict[str, Any]:
        """The task of the episode, as plain numbers."""
        return {} if self._task is None else {name: values[0].tolist() for name, values in self._task.items()}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Starts an episode; options={"task": "velocity=2"} sets the task from here on."""
        super().reset(seed=seed)
        if options and "task" in options:
            self._wanted = self._parsed(options["task"])
        self._task = self.family.sample_tasks(self.np_random, 1) if self._wanted is None else self._wanted
        obs = self._robot.reset(self._task, self.np_random)
        if self.render_mode == "human":
            self.render()
        return obs, {"task": self.task}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One control step; actions are clipped to [-1, 1]."""
        if self._task is None:
            raise gymnasium.error.ResetNeeded("call reset before the first step")
        result = self._robot.step(np.asarray(action, np.float32)[None], self._task)
        if self.render_mode == "human":
            self.render()
        info = {"task": self.task, "training_reward": float(result.training_reward[0])}
        if getattr(result, "success", None) is not None:
            info["success"] = bool(result.success[0])
        return np.array(result.obs[0]), float(result.reward[0]), bool(result.terminated[0]), False, info

    def render(self) -> Any:
        """A frame [height, width, 3] of uint8, or (human) a window."""
        if self.render_mode is None or self._task is None:
            return None
        return self._robot.render(self._task, self.render_mode)

    def close(self) -> None:
        """Closes the window and frees the renderer."""
        self._robot.close()

    def _parsed(self, task: str) -> Tasks:
        return self.family.parse_task(task, allow_ood=self._allow_ood)


def _robot(family: Family, render_mode: str | None) -> tuple[_Robot, int]:
    """One lane of the family, and how many control steps of it a second has."""
    if isinstance(family, GymnasiumFamily):
        wrapped = _GymnasiumRobot(family, render_mode)
        return wrapped, wrapped.frames_per_second
    if isinstance(family, MujocoFamily):
        robot = _MujocoRobot(family)
        return robot, robot.frames_per_second
    assert isinstance(family, JaxFamily)
    return _JaxRobot(family), POINT_FRAMES_PER_SECOND


class _MujocoRobot:
    def __init__(self, family: MujocoFamily):
        self._lanes = MujocoLanes(family, 1, SerialEngine)
        self._engine = cast(SerialEngine, self._lanes.engine)
        self._renderer: Any = None
        self.frames_per_second = round(1 / (self._lanes.model.opt.timestep * family.frame_skip))

    def reset(self, task: Tasks, rng: np.random.Generator) -> np.ndarray:
        return self._lanes.reset(task, rng)[0]

    def step(self, action: np.ndarray, task: Tasks) -> Any:
        return self._lanes.step(action, task)

    def render(self, task: Tasks, mode: str) -> Any:
        from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

        if self._renderer is None:
            prepare_mujoco_rendering(mode)
            model, data = self._engine.lane(0)
            # A camera that goes with the robot; Gymnasium's own choice stays where the robot was. The reacher has none.
            track = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
            of_windows = {"type": mujoco.mjtCamera.mjCAMERA_FIXED, "fixedcamid": track} if track >= 0 else None
            self._renderer = MujocoRenderer(model, data, of_windows, SIZE, SIZE, camera_id=track)
        elif self._renderer.viewer is not None:
            self._renderer.viewer.make_context_current()  # which another environment may have changed
        return self._renderer.render(mode)

    def close(self) -> None:
        if self._renderer is not None:
            if self._renderer.viewer is not None:  # in its own context, or what goes is another environment's
                self._renderer.viewer.make_context_current()
                self._renderer.viewer.con.free()
            self._renderer.close()
            self._renderer = None


def prepare_mujoco_rendering(mode: str) -> None:
    """Where no window can be opened, sets MUJOCO_GL to egl or osmesa, unless it is set.

    Raises NacreError where MuJoCo cannot render: its own ways to say so are a traceback or the end of the process.
    """
    display = _has_display()
    if mode == "human":
        if not display:
            raise _no_display()
        return
    if not display and sys.platform == "linux":
        only_osmesa = find_library("OSMesa") and not find_library("EGL")
        os.environ.setdefault("MUJOCO_GL", "osmesa" if only_osmesa else "egl")
    library = os.environ.get("MUJOCO_GL", "glfw")
    try:
        if library == "glfw" and not display:
            raise RuntimeError("there is no display")
        importlib.import_module(f"mujoco.{library}").GLContext(1, 1).free()
    except Exception as error:  # a missing library shows in many ways, an AttributeError among them
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise NacreError(
            f"MuJoCo cannot render by {library} on this machine ({reason}); install libegl1 or libosmesa6 (their names "
            "on Debian and Ubuntu), or set MUJOCO_GL to the one of egl, osmesa and glfw that is there."
        ) from error


def _has_display() -> bool:
    """Whether a window can be opened."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glfw warns of what it also returns
        try:
            return bool(importlib.import_module("glfw").init())
        except ImportError:  # without the libraries of a window system
            return False


def _no_display() -> NacreError:
    return NacreError(
        "there is no display to open a window on; make the environment with render_mode='rgb_array' instead of 'human'."
    )


class _GymnasiumRobot:
    """The family's own environment, in this process."""

    def __init__(self, family: GymnasiumFamily, render_mode: str | None):
        self._family = family
        self._environments = Environments(family, render_mode)
        # Made now, so that what is wrong with it is told now; with any task, where it cannot be made without.
        any_task = family.sample_tasks(np.random.default_rng(0), 1) if family.remake_for_task else {}
        env = self._environments.env(0, task_of_lane(any_task, 0))
        self.frames_per_second = round(env.metadata.get("render_fps") or OTHER_FRAMES_PER_SECOND)
        if render_mode is not None and hasattr(env.unwrapped, "mujoco_renderer"):
            prepare_mujoco_rendering(render_mode)

    def reset(self, task: Tasks, rng: np.random.Generator) -> np.ndarray:
        return self._environments.reset({0: task_of_lane(task, 0)}, {0: int(rng.integers(2**31))})[0]

    def step(self, action: np.ndarray, task: Tasks) -> LaneStep:
        results = self._environments.step({0: np.clip(action[0], -1.0, 1.0)})[0]
        step = LaneStep(*(np.array([value]) for value in results))
        return step if self._family.reports_success else step._replace(success=None)

    def render(self, task: Tasks, mode: str) -> Any:
        if mode == "human":
            return None  # it shows itself whenever it is reset or stepped
        try:
            frame = self._environments.env(0, task_of_lane(task, 0)).render()
        except gymnasium.error.DependencyNotInstalled as error:
            raise NacreError(f"{self._family.name} cannot be rendered here: {error}") from error
        except (Exception, SystemExit) as error:
            raise failure(self._family.name, "render", error) from error
        if not (isinstance(frame, np.ndarray) and frame.ndim == 3 and frame.dtype == np.uint8):
            raise NacreError(
                f"{self._family.name} cannot be rendered: its environment's render gives no picture [height, width, 3] "
                "of uint8 in the mode rgb_array."
            )
        return frame

    def close(self) -> None:
        self._environments.close()


class _JaxRobot:
    def __init__(self, family: JaxFamily):
        self._family = family
        self._reset = jax.jit(lambda key: jax_lanes.reset(family, 1, key))
        self._step = jax.jit(lambda state, action, task: jax_lanes.step(family, state, action, task))
        self._state: Any = None
        self._window: Any = None

    def reset(self, task: Tasks, rng: np.random.Generator) -> np.ndarray:
        self._state, obs = self._reset(jax.random.key(int(rng.integers(2**32))))
        return np.array(obs[0])

    def step(self, action: np.ndarray, task: Tasks) -> Any:
        result = self._step(self._state, jnp.asarray(action), task)
        self._state = result.state
        return jax.device_get(result)

    def render(self, task: Tasks, mode: str) -> Any:
        goal = task["goal"][0] if "goal" in task else getattr(self._family, "goal", np.full(2, np.nan))
        frame = _draw_point(np.asarray(self._state[0]), np.asarray(goal))
        if mode == "rgb_array":
            return frame
        from nacre.simulation import load_matplotlib  # noqa: F401  (before pyplot)

        # isort: split
        from matplotlib import pyplot

        if pyplot.get_backend().lower() == "agg":
            raise _no_display()
        if self._window is None:
            self._window = pyplot.subplots(figsize=(5, 5))
        figure, axes = self._window
        axes.clear()
        axes.imshow(frame)
        axes.set_axis_off()
        figure.canvas.draw_idle()
        pyplot.pause(1 / POINT_FRAMES_PER_SECOND)
        return None

    def close(self) -> None:
        if self._window is not None:
            from matplotlib import pyplot

            pyplot.close(self._window[0])
            self._window = None


def _draw_point(position: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """A point robot (blue) and its goal (green) in the square [-1.5, 1.5]^2, y upwards."""
    axis = np.linspace(-1.5, 1.5, SIZE)
    x, y = np.meshgrid(axis, -axis)
    frame = np.full((SIZE, SIZE, 3), 255, np.uint8)
    for centre, radius, colour in ((goal, 0.08, (0, 158, 115)), (position, 0.05, (0, 114, 178))):
        frame[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2] = colour
    return frame
