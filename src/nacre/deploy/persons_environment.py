"""A person's environment, looked at before an agent meets a task in it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from nacre.errors import NacreError
from nacre.families.family import Family


def check_spaces(env: Any, family: Family) -> None:
    """Raises NacreError where observations or actions are not those of the family, as far as the environment tells."""
    wanted = (("observation_space", (family.obs_dim,)), ("action_space", (family.action_dim,)))
    for name, shape in wanted:
        space = getattr(env, name, None)
        if space is not None and getattr(space, "shape", None) != shape:
            raise NacreError(
                f"the environment's {name} is {space}, but an agent of {family.name} needs shape {shape}; wrap the "
                "environment, or load an agent that was trained for it."
            )
    actions = getattr(env, "action_space", None)
    bounds = (getattr(actions, "low", np.nan), getattr(actions, "high", np.nan))
    if actions is not None and not (np.allclose(bounds[0], -1.0) and np.allclose(bounds[1], 1.0)):
        raise NacreError("the environment's actions are not in [-1, 1]; wrap it in gymnasium.wrappers.RescaleAction.")


def warn_of_cut_episodes(env: Any, family: Family) -> None:
    """Warns where the environment's episodes may be longer than the family's horizon."""
    limit, horizon = getattr(getattr(env, "spec", None), "max_episode_steps", None), family.horizon
    if limit is not None and limit > horizon:
        warnings.warn(
            f"the environment's episodes may take {limit} steps, but are cut after {horizon}, the horizon of "
            f"{family.name}: returns are of {horizon} steps.",
            stacklevel=3,
        )
