"""What tests of families share: a few lanes played."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from nacre.families.family import Family
from nacre.simulation import rollout
from nacre.types import Agent, Episode, Tasks, with_fixed_memory

LANES = 3


@functools.cache
def flailing(action_dim: int) -> Agent:
    """An agent of random actions, uniform in [-2, 2] and then within +-params; it remembers nothing."""

    def act(params, memory, obs, key, explore):
        action = jax.random.uniform(key, (obs.shape[0], action_dim), minval=-2.0, maxval=2.0)
        return jnp.clip(action, -params, params)

    return with_fixed_memory(act, explores=True)


def play(family: Family, tasks: Tasks, key: int = 0, bound: float = 2.0) -> Episode:
    """One episode of random actions in each of these tasks."""
    agent = flailing(family.action_dim)
    _, result = rollout.episode(family, agent, np.float32(bound), (), tasks, jax.random.key(key), explore=True)
    return jax.device_get(result)
