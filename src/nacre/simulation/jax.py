"""Lanes of a pure-JAX family: its one-lane functions over a leading axis [lane], to be called inside compiled code."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from nacre.families.family import JaxFamily, JaxStep
from nacre.types import Key, split


def reset(family: JaxFamily, num_lanes: int, key: Key) -> tuple[Any, jax.Array]:
    """(states, observations [lane, obs_dim]) at the start of an episode in every lane.

    `key` may be an array of keys: each then starts an equal share of the lanes.
    """
    keys = split(key, num_lanes // key.size)
    return jax.vmap(family.reset)(keys.T.reshape(num_lanes))


def step(family: JaxFamily, state: Any, action: jax.Array, task: Any) -> JaxStep:
    """One control step of every lane; actions [lane, action_dim] are clipped to [-1, 1]."""
    return jax.vmap(family.step)(state, jnp.clip(action, -1.0, 1.0), task)
