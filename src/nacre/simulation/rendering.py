"""What a robot looks like: frames and windows, and the set-up of OpenGL that MuJoCo needs for them."""

from __future__ import annotations

import importlib
import os
import sys
import warnings
from ctypes.util import find_library
from typing import Any

import numpy as np

from nacre.errors import NacreError

SIZE = 480
"""Pixels along each side of a frame."""


class MujocoPicture:
    """Draws one MjData, whose model and data stay the same objects."""

    def __init__(self, model: Any, data: Any, mode: str):
        from gymnasium.envs.mujoco.mujoco_rendering import MujocoRenderer

        from nacre.families.load_mujoco import mujoco

        prepare_mujoco_rendering(mode)
        # A camera that goes with the robot; Gymnasium's own choice stays where the robot was. Some robots have none.
        track = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, "track")
        of_windows = {"type": mujoco.mjtCamera.mjCAMERA_FIXED, "fixedcamid": track} if track >= 0 else None
        self._renderer = MujocoRenderer(model, data, of_windows, SIZE, SIZE, camera_id=track)

    def render(self, mode: str) -> Any:
        """A frame, or (human) a window."""
        self._make_current()  # which another environment may have changed
        return self._renderer.render(mode)

    def close(self) -> None:
        """Closes the window and frees the renderer."""
        if self._renderer.viewer is not None:  # in its own context, or what goes is another environment's
            self._make_current()
            self._renderer.viewer.con.free()
        self._renderer.close()

    def _make_current(self) -> None:
        if self._renderer.viewer is not None:
            self._renderer.viewer.make_context_current()


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


class PointPicture:
    """Draws a point robot and its goal."""

    frames_per_second = 10

    def __init__(self) -> None:
        self._window: Any = None

    def render(self, position: np.ndarray, goal: np.ndarray, mode: str) -> Any:
        """A frame, or (human) a window."""
        frame = draw_point(position, goal)
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
        pyplot.pause(1 / self.frames_per_second)
        return None

    def close(self) -> None:
        """Closes the window."""
        if self._window is not None:
            from matplotlib import pyplot

            pyplot.close(self._window[0])
            self._window = None


def draw_point(position: np.ndarray, goal: np.ndarray) -> np.ndarray:
    """A point robot (blue) and its goal (green) in the square [-1.5, 1.5]^2, y upwards."""
    axis = np.linspace(-1.5, 1.5, SIZE)
    x, y = np.meshgrid(axis, -axis)
    frame = np.full((SIZE, SIZE, 3), 255, np.uint8)
    for centre, radius, colour in ((goal, 0.08, (0, 158, 115)), (position, 0.05, (0, 114, 178))):
        frame[(x - centre[0]) ** 2 + (y - centre[1]) ** 2 <= radius**2] = colour
    return frame
