"""Advantage-weighted regression on logged transitions (Peng et al. 2019): a policy imitates what was done, the more the
better it turned out against a value network.

Functions of a network's weights (learning/weight_transform.py) on logged transitions [row] of one task. `config`
carries `discount`, `bootstrap`, `temperature`, `normalise_advantages`, `max_weight`, `policy_std`.
"""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from nacre.learning.weight_transform import Weights, linear, mlp
from nacre.types import Key, Logged

SPREAD_FLOOR = 1e-6
"""Least standard deviation that advantages are divided by: where all are equal, all weigh 1."""


def value(weights: Weights, obs: Float[Array, "*rows obs_dim"]) -> Float[Array, "*rows"]:
    """V(s)."""
    return mlp(weights, obs)[..., 0]


def act_and_features(weights: Weights, obs: Array) -> tuple[Array, Array]:
    """The policy's mean action, and the features that it is linear in, before ReLU."""
    *hidden, first, last = weights
    for row in hidden:
        obs = jax.nn.relu(linear(row, obs))
    features = linear(first, obs)
    return jnp.tanh(linear(last, jax.nn.relu(features))), features


def with_noise(mean: Float[Array, "*rows action_dim"], key: Key, config: Any) -> Float[Array, "*rows action_dim"]:
    """An action of the Gaussian about the mean action."""
    return mean + config.policy_std * jax.random.normal(key, mean.shape)


def log_density(mean: Array, action: Float[Array, "*rows action_dim"], std: float) -> Float[Array, "*rows"]:
    """log pi(a | s) of a Gaussian about the mean action; actions beyond [-1, 1] are taken for what the task did."""
    off = (jnp.clip(action, -1.0, 1.0) - mean) / std
    return jnp.sum(-0.5 * off**2 - math.log(std) - 0.5 * math.log(2 * math.pi), axis=-1)


def expected_after_end(weights: Weights, logged: Logged, config: Any) -> Float[Array, " row"]:
    """gamma^(T - t) V(s_T): what is expected after the last step of an episode, seen from a step of it."""
    discount = jnp.power(config.discount, logged.steps_to_end)
    if config.bootstrap != "unmasked":
        discount = discount * logged.last_discount
    return discount * value(weights, logged.last_obs)


def value_loss(weights: Weights, logged: Logged, target: Float[Array, " row"]) -> Array:
    """L_V = E[(V(s) - target)^2]."""
    return jnp.mean((value(weights, logged.transition.obs) - target) ** 2)


def advantage(weights: Weights, logged: Logged, config: Any) -> Float[Array, " row"]:
    """A = R + gamma^(T - t) V(s_T) - V(s), R the return to go; without gradient."""
    returns = logged.return_to_go
    if config.bootstrap != "none":
        returns = returns + expected_after_end(weights, logged, config)
    return jax.lax.stop_gradient(returns - value(weights, logged.transition.obs))


def action_weights(advantage: Float[Array, " row"], config: Any) -> Float[Array, " row"]:
    """exp(A / T), at most `max_weight`: how much an action is to be imitated."""
    if config.normalise_advantages:
        spread = jnp.std(advantage, ddof=1) if advantage.shape[0] > 1 else jnp.ones(())
        advantage = (advantage - jnp.mean(advantage)) / jnp.maximum(spread, SPREAD_FLOOR)
    return jnp.exp(jnp.minimum(advantage / config.temperature, math.log(config.max_weight)))


def policy_loss(mean: Array, logged: Logged, weight: Float[Array, " row"], config: Any) -> Array:
    """L_AWR = E[-log pi(a | s) exp(A / T)]."""
    return -jnp.mean(weight * log_density(mean, logged.transition.action, config.policy_std))


def adam_step(adam: Any, gradient: Any, state: Any, part: Any) -> tuple[Any, Any]:
    """(parameters, state of the optimiser) after one step."""
    change, state = adam.update(gradient, state)
    return optax.apply_updates(part, change), state
