"""Robots of a family side by side, and whose they are: the protocol of lanes, who makes them, and who may use them."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol, TypeGuard, cast

import numpy as np

from nacre.errors import NacreError
from nacre.families.family import Family, JaxFamily, MujocoFamily
from nacre.families.gymnasium import GymnasiumFamily
from nacre.simulation.lane_step import LaneStep
from nacre.simulation.look import Look
from nacre.types import Tasks

MAX_IDLE = 16
"""Sets of lanes that are kept for the next episodes; the one that has waited longest is closed first."""


class Lanes(Protocol):
    """Robots of a family, one a lane. They hold physics only: the task is an argument of every use.

    Whoever has lanes is the only one who uses them. Lanes may be used by any thread, but by one at a time.
    """

    def reset(self, task: Tasks, *rngs: np.random.Generator, lanes: np.ndarray | None = None) -> np.ndarray:
        """Starts an episode in all lanes, or in those listed; observations [lane, obs_dim], float32.

        `task` has a task for every lane. Each generator serves an equal share of the lanes that start. The other lanes
        continue where they were; their rows of the observations mean nothing.
        """

    def step(self, action: np.ndarray, task: Tasks, lanes: np.ndarray | None = None) -> LaneStep:
        """One control step with actions [lane, action_dim], which are clipped to [-1, 1], of all lanes or of those
        listed (the others stand still and their rows mean nothing)."""

    def change(self, task: Tasks) -> None:
        """The physics of all lanes becomes that of these tasks, in mid-episode: states stay. NacreError where the
        environments are told their task at a reset only."""

    def close(self) -> None:
        """Frees threads, windows, environments and processes. What is closed is not used again."""


class DrawnLane(Lanes, Protocol):
    """One lane in this process, which can be drawn."""

    frames_per_second: float
    """Control steps of the robot's second."""

    look: Look
    """How its pictures are drawn, to be set before the first; a Gymnasium environment's are its own."""

    def render(self, task: Tasks, mode: str) -> Any:
        """A frame [height, width, 3] of uint8 ('rgb_array'), or a window ('human'). NacreError where that cannot be."""

    def reading(self, task: Tasks) -> str:
        """How the robot does what the task asks for, in words; '' where nothing is known of it."""


def is_compiled(family: Family) -> TypeGuard[JaxFamily]:
    """Whether whole episodes of the family run inside compiled code, without lanes."""
    return isinstance(family, JaxFamily)


def make_lanes(family: Family, num_lanes: int) -> Lanes:
    """New lanes, which belong to the caller, who closes them."""
    return cast(Lanes, _simulator(family).make_lanes(family, num_lanes))


def make_drawn_lane(family: Family, render_mode: str | None) -> DrawnLane:
    """One new lane in this process, which belongs to the caller. `render_mode`: Gymnasium's."""
    return cast(DrawnLane, _simulator(family).make_drawn_lane(family, render_mode))


def _simulator(family: Family) -> Any:
    """The module that steps the family, imported when it is needed: a family in JAX needs no MuJoCo."""
    kinds = {JaxFamily: "jax", MujocoFamily: "mujoco", GymnasiumFamily: "gymnasium"}
    for kind, module in kinds.items():
        if isinstance(family, kind):
            return importlib.import_module(f"nacre.simulation.{module}")
    raise TypeError(f"{type(family).__name__} is neither a JaxFamily nor a MujocoFamily nor a GymnasiumFamily")


# ----------------------------------------------------------------------------------------------------------------------
# Lanes for an episode. To make them takes longer than many an episode, so those that nobody uses wait for the next.

_idle: list[tuple[tuple[Family, int], Lanes]] = []  # the one that waits longest first
_lock = threading.Lock()


@contextmanager
def lent_lanes(family: Family, num_lanes: int) -> Iterator[Lanes]:
    """Lanes for the time of a `with` block: idle ones of this family and number, or new ones. Begin with a reset.

    Between taking and giving back they are nobody else's: two threads that play one family at once have lanes of their
    own. After an exception they are closed, so that nobody is lent what failed.
    """
    key = (family, 0 if isinstance(family, GymnasiumFamily) else num_lanes)  # environments are made as a reset needs
    with _lock:
        place = next((place for place in reversed(range(len(_idle))) if _idle[place][0] == key), None)
        lanes = None if place is None else _idle.pop(place)[1]
    if lanes is None:
        lanes = make_lanes(family, num_lanes)
    try:
        yield lanes
    except BaseException:
        with suppress(NacreError):  # what failed first is what is told
            lanes.close()
        raise
    with _lock:
        _idle.append((key, lanes))
        surplus = [_idle.pop(0)[1] for _ in range(len(_idle) - MAX_IDLE)]
    for waited_longest in surplus:
        waited_longest.close()


def close_idle_lanes() -> None:
    """Closes the lanes that wait for a next use."""
    with _lock:
        waiting = [lanes for _, lanes in _idle]
        _idle.clear()
    for lanes in waiting:
        lanes.close()
