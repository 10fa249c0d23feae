"""Meta-World's environments by name: what its package has, and those of this process that no lane uses."""

from __future__ import annotations

import collections
import functools
from typing import Any

import numpy as np

from nacre.errors import imported

OBS_DIM, ACTION_DIM = 39, 4
"""Of every environment."""

IDLE: collections.defaultdict[str, list[Any]] = collections.defaultdict(list)
"""Environments of this process that no lane uses at the moment, by name: one takes 0.15 s to make."""


def idle_or_new(name: str) -> Any:
    """An environment of this name that nobody uses."""
    return IDLE[name].pop() if IDLE[name] else environment_classes()[name]()


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
