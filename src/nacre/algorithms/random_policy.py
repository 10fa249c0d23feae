"""Uniformly random actions: what a return is worth that nobody has learnt. Settings: presets/random_policy.py."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nacre.families.family import Family, TaskSet
from nacre.presets.random_policy import RandomSettings
from nacre.types import Agent, Key, with_fixed_memory


@functools.cache
def make_agent(family: Family, config: RandomSettings) -> Agent:
    """Actions U(-scale, scale), in every episode."""

    def act(params: Any, memory: Any, obs: Any, key: Key, explore: bool) -> Any:
        drawn = jax.random.uniform(key, (len(obs), family.action_dim), minval=-1.0, maxval=1.0)
        return config.action_scale * drawn

    return with_fixed_memory(act, explores=True)


class State(NamedTuple):
    """What a run of something that does not learn consists of."""

    key: Key
    env_steps: np.int64
    grad_steps: np.int64
    meta_iterations: np.int64


def init(family: Family, config: RandomSettings, seed: int) -> State:
    """The state at the beginning."""
    return State(jax.random.key(seed), np.int64(0), np.int64(0), np.int64(0))


def agent_params(state: State) -> Any:
    """Nothing that acting needs."""
    return jnp.zeros(())


def meta_train(
    family: Family, config: RandomSettings, tasks: TaskSet, states: Sequence[State]
) -> Iterator[tuple[list[State], list[dict[str, Any]]]]:
    """One empty update an iteration."""
    states = list(states)
    while states[0].meta_iterations < config.iterations:
        states = [
            state._replace(grad_steps=state.grad_steps + 1, meta_iterations=state.meta_iterations + 1)
            for state in states
        ]
        yield states, [{} for _ in states]
