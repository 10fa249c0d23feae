"""What tests of families share: a few lanes played."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from nacre.families.family import Family, num_tasks
from nacre.simulation import rollout
from nacre.types import Agent, Episode, Tasks

LANES = 3


@functools.cache
def flailing(action_dim: int) -> Agent:
    """An agent of random actions, uniform in [-2, 2] and then within +-params; it remembers nothing."""

    def act(params, memory, obs, key, explore):
        action = jax.random.uniform(key, (obs.shape[0], action_dim), minval=-2.0, maxval=2.0)
        return jnp.clip(action, -params, params), memory

    return Agent(
        begin=lambda params, task, key: jnp.zeros(num_tasks(task)),
        act=act,
        observe=lambda params, memory, transition: memory,
        end_episode=lambda params, memory, key: memory,
        explores=lambda episode, scored_episode: True,
    )


def play(family: Family, tasks: Tasks, key: int = 0, bound: float = 2.0) -> Episode:
    """One episode of random actions in each of these tasks."""
    memory, agent = jnp.zeros(num_tasks(tasks)), flailing(family.action_dim)
    _, result = rollout.episode(family, agent, np.float32(bound), memory, tasks, jax.random.key(key), explore=True)
    return jax.device_get(result)
