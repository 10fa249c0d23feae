"""Lanes of a pure-JAX family: its one-lane functions over a leading axis [lane], to be called inside compiled code."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from nacre.families.blame import check_array, failure
from nacre.families.family import JaxFamily, JaxStep
from nacre.types import Key, split


def reset(family: JaxFamily, num_lanes: int, key: Key) -> tuple[Any, jax.Array]:
    """(states, observations [lane, obs_dim]) at the start of an episode in every lane.

    `key` may be an array of keys: each then starts an equal share of the lanes.
    """
    keys = split(key, num_lanes // key.size)
    try:
        state, obs = jax.vmap(family.reset)(keys.T.reshape(num_lanes))
    except (Exception, SystemExit) as error:
        raise failure(family.name, "reset", error) from error
    check_array(family.name, "reset (observation)", obs, (num_lanes, family.obs_dim), float)
    return state, obs


def step(family: JaxFamily, state: Any, action: jax.Array, task: Any) -> JaxStep:
    """One control step of every lane; actions [lane, action_dim] are clipped to [-1, 1]."""
    try:
        result = jax.vmap(family.step)(state, jnp.clip(action, -1.0, 1.0), task)
        obs, reward, training_reward, terminated = result[1:]
    except (Exception, SystemExit) as error:
        raise failure(family.name, "step", error) from error
    num_lanes = len(action)
    check_array(family.name, "step (obs)", obs, (num_lanes, family.obs_dim), float)
    check_array(family.name, "step (reward)", reward, (num_lanes,), float)
    check_array(family.name, "step (training_reward)", training_reward, (num_lanes,), float)
    check_array(family.name, "step (terminated)", terminated, (num_lanes,), bool)
    return result
