"""What a robot looks like: frames and windows, and the set-up of OpenGL that MuJoCo needs for them."""

from __future__ import annotations

import importlib
import itertools
import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from ctypes.util import find_library
from typing import Any, Literal, NamedTuple

import numpy as np

from nacre.errors import NacreError
from nacre.simulation.look import GOAL_RADIUS, ROBOT_COLOUR, TASK_COLOUR, TRAIL_COLOUR, Look, heading, reading
from nacre.types import Tasks

MAX_GEOMS = 2_000
SECONDS_OF_ARROW = 0.5
"""An arrow of speed is as long as the robot goes in this time."""
HEADING_LENGTH = 1.2
"""Metres of the arrow of a direction."""
TRAIL_WIDTH, ARROW_WIDTH = 0.03, 0.05
TRAIL_STEP = 0.25
"""Metres from one point of the trail to the next: drawing its lines is slow without a graphics card."""
SLICES, STACKS = 16, 8
"""Of a round body, at most: about half of what MuJoCo draws by default, which looks the same at this size."""


class MujocoPicture:
    """Draws one MjData, whose model and data stay the same objects, with its task."""

    def __init__(self, model: Any, data: Any, mode: str, look: Look, goal_radius: float = GOAL_RADIUS):
        from nacre.families.load_mujoco import mujoco

        prepare_mujoco_rendering(mode)
        self._model, self._data, self._look, self._goal_radius = model, data, look, goal_radius
        self._trail: list[np.ndarray] = []
        self._window = self._frames = None
        # A camera that goes with the robot; others stay where the robot was. Some robots have none.
        track = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
        if mode == "human":
            from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

            camera = {"type": mujoco.mjtCamera.mjCAMERA_FIXED, "fixedcamid": track} if track >= 0 else None
            self._window = MujocoRenderer(model, data, camera, look.width, look.height, camera_id=track)
        else:
            self._frames = _Frames(model, track, look)

    def restart(self) -> None:
        """Forgets the trail."""
        self._trail = []

    def reading(self, task: Tasks) -> str:
        """As `look.reading`."""
        position, velocity = self._root()
        return reading(task, position[:2], velocity[:2])

    def render(self, task: Tasks, mode: str) -> Any:
        """A frame, or (human) a window."""
        if self._window is not None:
            self._make_current()  # which another environment may have changed
            return self._window.render(mode)
        assert self._frames is not None
        return self._frames.render(self._data, self._marks(task))

    def close(self) -> None:
        """Closes the window and frees the renderer."""
        if self._frames is not None:
            self._frames.close()
        if self._window is not None:
            if self._window.viewer is not None:  # in its own context, or what goes is another environment's
                self._make_current()
                self._window.viewer.con.free()
            self._window.close()

    def _make_current(self) -> None:
        if self._window is not None and self._window.viewer is not None:
            self._window.viewer.make_context_current()

    def _root(self) -> tuple[np.ndarray, np.ndarray]:
        """(position, velocity) of the robot's first body in the world, [3] each."""
        from nacre.families.load_mujoco import mujoco

        velocity = np.zeros(6)
        mujoco.mj_objectVelocity(self._model, self._data, mujoco.mjtObj.mjOBJ_BODY, 1, velocity, 0)
        return np.array(self._data.xpos[1]), velocity[3:]

    def _marks(self, task: Tasks) -> list[_Mark]:
        """What the task asks for, beside what the robot does, and where it has been."""
        position, velocity = self._root()
        marks, up = list[_Mark](), np.array([0.0, 0.0, 1.0])
        if "goal" in task and task["goal"].shape == (1, 2):
            foot = np.append(task["goal"][0], 0.0)
            marks.append(_Mark("disc", foot, foot + 0.02 * up, self._goal_radius, TASK_COLOUR, 0.6))
        direction = heading(task)
        if direction is not None:
            start = position + 0.6 * up
            along = HEADING_LENGTH * np.append(direction, 0.0)
            marks.append(_Mark("arrow", start, start + along, ARROW_WIDTH, TASK_COLOUR))
        if "velocity" in task and task["velocity"].size == 1:
            for height, speed, colour in (
                (0.75, float(task["velocity"].reshape(-1)[0]), TASK_COLOUR), (0.6, velocity[0], ROBOT_COLOUR),
            ):  # fmt: skip
                start = position + height * up
                end = start + np.array([SECONDS_OF_ARROW * speed, 0.0, 0.0])
                marks.append(_Mark("arrow", start, end, ARROW_WIDTH, colour))
        if self._look.trail:
            here = np.append(position[:2], 0.02)
            places = itertools.pairwise([*self._trail, here])
            marks += [_Mark("line", start, end, TRAIL_WIDTH, TRAIL_COLOUR) for start, end in places]
            if not self._trail or np.linalg.norm(here - self._trail[-1]) >= TRAIL_STEP:
                self._trail.append(here)
        return marks


class _Mark(NamedTuple):
    """Something that is drawn in the scene beside the robot."""

    kind: Literal["disc", "arrow", "line"]
    start: np.ndarray  # [3]
    end: np.ndarray
    width: float  # metres: a radius
    colour: tuple[int, int, int]
    opacity: float = 1.0


class _Frames:
    """Draws into memory: without shadows and reflections, which are slow without a graphics card."""

    def __init__(self, model: Any, camera: int, look: Look):
        from nacre.families.load_mujoco import mujoco

        self._mujoco, self._model, self._closed = mujoco, model, False
        library = importlib.import_module(f"mujoco.{opengl_library()}")
        self._context = library.GLContext(look.width, look.height)
        self._context.make_current()
        extent = model.vis.global_
        extent.offwidth, extent.offheight = max(extent.offwidth, look.width), max(extent.offheight, look.height)
        quality = model.vis.quality
        quality.numslices, quality.numstacks = min(quality.numslices, SLICES), min(quality.numstacks, STACKS)
        self._scene, self._option = mujoco.MjvScene(model, MAX_GEOMS), mujoco.MjvOption()
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            self._scene.flags[flag] = 0
        self._camera = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, self._camera)
        self._camera.distance = model.stat.extent
        if camera >= 0:
            self._camera.type, self._camera.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, camera
        self._drawer = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._drawer)
        self._frame = mujoco.MjrRect(0, 0, look.width, look.height)

    def render(self, data: Any, marks: Sequence[_Mark]) -> np.ndarray:
        """[height, width, 3] of uint8."""
        mujoco = self._mujoco
        self._context.make_current()
        everything = mujoco.mjtCatBit.mjCAT_ALL
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._camera, everything, self._scene)
        for mark in marks[-(MAX_GEOMS - self._scene.ngeom) :]:
            self._add(mark)
        mujoco.mjr_render(self._frame, self._scene, self._drawer)
        pixels = np.empty((self._frame.height, self._frame.width, 3), np.uint8)
        mujoco.mjr_readPixels(pixels, None, self._frame, self._drawer)
        return pixels[::-1].copy()  # rows come from the bottom

    def close(self) -> None:
        """Frees the context, in itself, or what goes is another environment's."""
        if not self._closed:
            self._closed = True
            self._context.make_current()
            self._drawer.free()
            self._context.free()

    def __del__(self) -> None:
        """MuJoCo would free what it has in whichever context is current."""
        with suppress(Exception):  # at the end of the process, OpenGL may be gone, and not all may have been made
            self.close()

    def _add(self, mark: _Mark) -> None:
        mujoco = self._mujoco
        kinds = mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_ARROW, mujoco.mjtGeom.mjGEOM_CAPSULE
        kind = dict(zip(("disc", "arrow", "line"), kinds, strict=True))[mark.kind]
        geom = self._scene.geoms[self._scene.ngeom]
        colour = np.array([*(part / 255 for part in mark.colour), mark.opacity], np.float32)
        mujoco.mjv_initGeom(geom, kind, np.zeros(3), np.zeros(3), np.eye(3).reshape(-1), colour)
        mujoco.mjv_connector(geom, kind, mark.width, mark.start, mark.end)
        self._scene.ngeom += 1


def opengl_library() -> str:
    """The module of MuJoCo that MUJOCO_GL names, in any of MuJoCo's spellings; glfw where it names none."""
    named = os.environ.get("MUJOCO_GL", "").strip().lower()
    return "glfw" if named in ("", "enable", "enabled", "on", "true", "1", "glx", "wgl") else named


def prepare_mujoco_rendering(mode: str) -> None:
    """Where no window can be opened, sets MUJOCO_GL to egl or osmesa, unless it is set.

    Raises NacreError where MuJoCo cannot render: its own ways to say so are a traceback or the end of the process.
    """
    display = _has_display()
    if mode == "human":
        if not display:
            raise no_display()
        return
    if not display and sys.platform == "linux":
        only_osmesa = find_library("OSMesa") and not find_library("EGL")
        if not os.environ.get("MUJOCO_GL", "").strip():
            os.environ["MUJOCO_GL"] = "osmesa" if only_osmesa else "egl"
    library = opengl_library()
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


def no_display() -> NacreError:
    """What to say of a window that cannot be opened."""
    return NacreError(
        "there is no display to open a window on; make the environment with render_mode='rgb_array' instead of 'human'."
    )
