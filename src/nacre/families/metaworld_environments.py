"""Meta-World's environments by name: what its package has, and those of this process that no lane uses."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from nacre.errors import imported

OBS_DIM, ACTION_DIM = 39, 4
"""Of every environment."""

MAX_IDLE = 32
"""Environments of a process that wait for a next use. One takes 20 to 36 MB, and takes time to make."""
IDLE: list[tuple[str, Any]] = []
"""Environments of this process that no lane uses at the moment, with their names; those that wait longest first."""


def idle_or_new(name: str) -> Any:
    """An environment of this name that nobody uses."""
    place = next((place for place in reversed(range(len(IDLE))) if IDLE[place][0] == name), None)
    return environment_classes()[name]() if place is None else IDLE.pop(place)[1]


def give_back(name: str, env: Any) -> None:
    """Leaves an environment of this name to other lanes of this process; closes the ones that wait longest."""
    IDLE.append((name, env))
    while len(IDLE) > MAX_IDLE:
        IDLE.pop(0)[1].close()


def metaworld() -> Any:
    """Meta-World's package; NacreError where it is not installed."""
    return imported(
        "metaworld",
        "Meta-World is not installed; it pins an older MuJoCo, so install it in a separate environment: "
        "pip install 'nacre[metaworld]'.",
    )


def environment_classes() -> dict[str, Any]:
    """Meta-World's classes by name. A task's number is the place in this order."""
    return metaworld().env_dict.ALL_V3_ENVIRONMENTS


@functools.cache
def environment_names() -> list[str]:
    """Their names, in that order."""
    return list(environment_classes())


@functools.cache
def vector_bounds(name: str) -> np.ndarray:
    """Lowest and highest values of an environment's vector, [2, its size]."""
    env = environment_classes()[name]()
    space = env._random_reset_space
    env.close()
    return np.stack([space.low, space.high])
