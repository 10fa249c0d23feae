"""What a picture of a robot shows beside it: its task, how it does, and where it has been."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from nacre.types import Tasks

TASK_COLOUR, ROBOT_COLOUR, TRAIL_COLOUR = (0, 158, 115), (0, 114, 178), (86, 180, 233)
"""Of what the task asks for, of what the robot does, and of where it has been."""
GOAL_RADIUS = 0.25
"""Metres, of a goal that has none; a point robot's is smaller."""


class Look(NamedTuple):
    """How a picture is drawn: its size in pixels, and whether the robot leaves a trail."""

    width: int = 480
    height: int = 480
    trail: bool = False


def heading(task: Tasks) -> np.ndarray | None:
    """The direction in the plane that the (one) task asks for, of length 1; None of other tasks."""
    if "angle" in task:
        angle = float(task["angle"][0])
        return np.array([np.cos(angle), np.sin(angle)])
    if "direction" in task and task["direction"].size == 1:
        return np.array([float(np.sign(task["direction"].reshape(-1)[0])), 0.0])
    return None


def reading(task: Tasks, position: np.ndarray, velocity: np.ndarray) -> str:
    """How the robot does what the (one) task asks for, in words; '' where that is not of speed or place.

    `position` and `velocity`: of the robot in the plane, in m and m/s.
    """
    if "velocity" in task and task["velocity"].size == 1:
        return f"speed {velocity[0]:.2f} m/s (blue), target {float(task['velocity'].reshape(-1)[0]):.2f} (green)"
    direction = heading(task)
    if direction is not None:
        return f"speed along the green arrow {velocity @ direction:.2f} m/s"
    if "goal" in task and task["goal"].shape == (1, 2):
        return f"distance to the goal {np.linalg.norm(task['goal'][0] - position):.2f}"
    return ""
