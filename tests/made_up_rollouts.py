"""Rollouts and steps of an iteration, made up, for the tests of gradient-based methods."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nacre.algorithms import maml
from nacre.learning.networks import GaussianPolicy
from nacre.learning.on_policy import Rollouts

SMALL: dict[str, Any] = dict(
    num_train_tasks=3, num_test_tasks=2, tasks_per_iteration=3, rollouts_per_task=4, hidden_dim=5, iterations=3
)


@functools.partial(jax.jit, static_argnames=("seed", "hidden_dim"))
def a_policy(seed: int = 0, hidden_dim: int = 5) -> GaussianPolicy:
    policy = GaussianPolicy(2, 2, hidden_dim, 2, key=jax.random.key(seed))
    return jax.tree.map(lambda x: x.astype(jnp.result_type(float)), policy)


def some_rollouts(seed: int, *axes: int) -> Rollouts:
    rng = np.random.default_rng(seed)
    length = rng.integers(4, axes[-1] + 1, axes[:-1])
    real = np.arange(axes[-1]) < length[..., None]
    return jax.tree.map(jnp.asarray, Rollouts(
        rng.normal(size=(*axes, 2)), rng.normal(size=(*axes, 2)), rng.normal(size=axes), real
    ))  # fmt: skip


def some_steps(config: Any, num_tasks: int = 3, policy: GaussianPolicy | None = None) -> list[maml.Step]:
    """Data of every inner step and of the adapted policies, as an iteration gathers it."""
    rollouts = [some_rollouts(inner, num_tasks, 4, 9) for inner in range(config.num_inner_steps + 1)]
    return gathered(a_policy() if policy is None else policy, rollouts, config)


@functools.partial(jax.jit, static_argnames="config")
def gathered(policy: GaussianPolicy, rollouts: list[Rollouts], config: Any) -> list[maml.Step]:
    policies = jax.tree.map(lambda x: jnp.stack([x] * len(rollouts[0].reward)), policy)
    steps = []
    for one in rollouts:
        steps.append(jax.vmap(functools.partial(maml.assess, config=config))(policies, one))
        policies = jax.vmap(functools.partial(maml.adapt, config=config))(policies, steps[-1])
    return steps
