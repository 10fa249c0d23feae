"""Lanes of a pure-JAX family: its one-lane functions over a leading axis [lane], to be called inside compiled code."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from nacre.families.family import JaxFamily, JaxStep
from nacre.types import Key


def reset(family: JaxFamily, num_lanes: int, key: Key) -> tuple[Any, jax.Array]:
    """(states, observations [lane, obs_dim]) at the start of an episode in every lane."""
    return jax.vmap(family.reset)(jax.random.split(key, num_lanes))


def step(family: JaxFamily, state: Any, action: jax.Array, task: Any) -> JaxStep:
    """One control step of every lane; actions [lane, action_dim] are clipped to [-1, 1]."""
    return jax.vmap(family.step)(state, jnp.clip(action, -1.0, 1.0), task)
