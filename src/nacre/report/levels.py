"""Returns without any learning, of random actions and of doing nothing: the lower baselines of a chart."""

from __future__ import annotations

import jax
import numpy as np

from nacre.algorithms.random_policy import make_agent
from nacre.families.family import Family
from nacre.presets.random_policy import RandomSettings
from nacre.simulation import rollout
from nacre.types import Tasks

NAMES = {"random actions": 1.0, "doing nothing": 0.0}
"""Name of the baseline -> its actions are uniform within plus or minus this number."""


def lower_levels(family: Family, tasks: Tasks, seed: int = 0) -> dict[str, float]:
    """The mean return over the tasks, for an episode of random actions and for an episode with all actions 0.

    Does not depend on a run: the same family, tasks and seed give the same numbers.
    """
    levels = {}
    for name, scale in NAMES.items():
        agent = make_agent(family, RandomSettings(action_scale=scale))
        (played,) = rollout.trial(family, agent, np.zeros(()), tasks, jax.random.key(seed), 1)
        levels[name] = float(played.episode.returns().mean())
    return levels
