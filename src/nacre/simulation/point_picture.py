"""What a point robot looks like: the plane with its goal, the wind, the robot and its trail."""

from __future__ import annotations

from typing import Any

import numpy as np

from nacre.simulation.look import ROBOT_COLOUR, TASK_COLOUR, TRAIL_COLOUR, Look, reading
from nacre.simulation.rendering import no_display
from nacre.types import Tasks

HALF_HEIGHT = 1.5
"""Of the plane that is drawn about the origin, in its units; it is as wide as the picture."""
GOAL_RADIUS, ROBOT_RADIUS = 0.08, 0.05
PALE = (214, 240, 231)
"""Colour of the disc in which a goal gives a reward."""


class PointPicture:
    """Draws a point robot and its task. `goal`: of a family whose goal is no part of the task."""

    frames_per_second = 10

    def __init__(self, look: Look, goal_radius: float | None = None, goal: np.ndarray | None = None) -> None:
        self._look, self._goal_radius, self._goal = look, goal_radius, goal
        self._trail: list[np.ndarray] = []
        self._window: Any = None

    def restart(self) -> None:
        """Forgets the trail."""
        self._trail = []

    def reading(self, task: Tasks, position: np.ndarray) -> str:
        """As `look.reading`."""
        return reading(self._with_goal(task), position, np.zeros(2))

    def render(self, task: Tasks, position: np.ndarray, mode: str) -> Any:
        """A frame, or (human) a window."""
        self._trail.append(np.array(position[:2]))
        frame = self._drawn(self._with_goal(task))
        if mode == "rgb_array":
            return frame
        from nacre.simulation import load_matplotlib  # noqa: F401  (before pyplot)

        # isort: split
        from matplotlib import pyplot

        if pyplot.get_backend().lower() == "agg":
            raise no_display()
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

    def _with_goal(self, task: Tasks) -> Tasks:
        return task if "goal" in task or self._goal is None else task | {"goal": self._goal[None]}

    def _drawn(self, task: Tasks) -> np.ndarray:
        """[height, width, 3] of uint8; y upwards."""
        from PIL import Image, ImageDraw

        width, height, _ = self._look
        scale = (height - 1) / (2 * HALF_HEIGHT)
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        image = Image.new("RGB", (width, height), (255, 255, 255))
        drawing = ImageDraw.Draw(image)

        def at(point: Any) -> tuple[float, float]:
            x, y = middle + scale * np.asarray(point) * (1, -1)
            return float(x), float(y)

        def disc(centre: Any, radius: float, colour: tuple[int, int, int], outline: Any = None) -> None:
            (x, y), r = at(centre), radius * scale
            drawing.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline=outline, width=2)

        for start, end in (((-9, 0), (9, 0)), ((0, -9), (0, 9))):
            drawing.line([at(start), at(end)], (230, 230, 230), 1)
        if "goal" in task and task["goal"].shape == (1, 2):
            goal = task["goal"][0]
            if self._goal_radius is not None:
                disc(goal, self._goal_radius, PALE, TASK_COLOUR)
            disc(goal, GOAL_RADIUS, TASK_COLOUR)
        if "wind" in task:
            _arrow(drawing, at((0, 0)), at(10 * task["wind"][0]), TASK_COLOUR)
        if self._look.trail and len(self._trail) > 1:
            drawing.line([at(point) for point in self._trail], TRAIL_COLOUR, 3)
        disc(self._trail[-1], ROBOT_RADIUS, ROBOT_COLOUR)
        return np.array(image)


def _arrow(drawing: Any, start: tuple[float, float], end: tuple[float, float], colour: tuple[int, int, int]) -> None:
    along = np.subtract(end, start)
    length = float(np.hypot(*along))
    if length < 1:
        return
    ahead = along / length
    aside = np.array([-ahead[1], ahead[0]])
    drawing.line([start, end], colour, 4)
    tip = [tuple(np.asarray(end) + part) for part in (10 * ahead, 6 * aside, -6 * aside)]
    drawing.polygon(tip, colour)
