"""Online fine-tuning of methods that adapt to logged transitions: a task's replay, and the updates of a round.

A method says by `FineTuning` how a task's networks begin, act and learn. All functions of a replay and of updates are
of several tasks at once, each with networks, replay and key of its own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from nacre.learning import advantage_weighting
from nacre.learning.advantage_weighting import act_and_features, adam_step, with_noise
from nacre.learning.replay import pack, row_width, uniform_index, unpack
from nacre.learning.weight_transform import Weights
from nacre.presets.fine_tuning import FineTuneSettings
from nacre.types import Episode, Key, Logged, fold_in, split

# ----------------------------------------------------------------------------------------------------------------------
# What a method says


class Networks(NamedTuple):
    """The networks of a task, in the form in which fine-tuning changes them."""

    value: Any
    policy: Any


class FineTuning(NamedTuple):
    """How a method is fine-tuned in a task. Equal functions must be the same objects at every call, or code compiles
    anew."""

    adapt: Callable[..., Networks]  # (params, logged [row], num_steps) -> networks after so many steps on all rows
    act: Callable[..., Array]  # (policy, obs [lane, obs_dim], key, explore) -> action [lane, action_dim]
    value_loss: Callable[..., Array]  # (value, logged [row]) -> what an update of the value network descends
    policy_loss: Callable[..., Array]  # (policy, value, logged [row]) -> what an update of the policy descends


def advantage_weighted(
    adapt: Callable[..., Networks], config: Any, see: Callable[[Array], Array] = lambda obs: obs
) -> FineTuning:
    """Advantage-weighted regression: V is fitted to Monte-Carlo returns, without what is expected after the last step
    of an episode; it counts in advantages as `config.bootstrap` says.

    `see`: what the networks are shown of an observation.
    """

    def seen(logged: Logged) -> Logged:
        transition = logged.transition._replace(obs=see(logged.transition.obs))
        return logged._replace(transition=transition, last_obs=see(logged.last_obs))

    def act(policy: Weights, obs: Array, key: Key, explore: bool) -> Array:
        mean, _ = act_and_features(policy, see(obs))
        return with_noise(mean, key, config) if explore else mean

    def value_loss(value: Weights, logged: Logged) -> Array:
        return advantage_weighting.value_loss(value, seen(logged), logged.return_to_go)

    def policy_loss(policy: Weights, value: Weights, logged: Logged) -> Array:
        shown = seen(logged)
        gain = advantage_weighting.advantage(value, shown, config)
        mean, _ = act_and_features(policy, shown.transition.obs)
        weight = advantage_weighting.action_weights(gain, config)
        return advantage_weighting.policy_loss(mean, shown, weight, config)

    return FineTuning(adapt, act, value_loss, policy_loss)


# ----------------------------------------------------------------------------------------------------------------------
# Replay


class Replay(NamedTuple):
    """All that updates of each task may learn from, in the order in which it came."""

    rows: Float[Array, "task capacity width"]  # as `packed` makes them
    size: Int[Array, " task"]


def width(obs_dim: int, action_dim: int) -> int:
    """Floats in a row."""
    return row_width(obs_dim, action_dim) + 3 + obs_dim


def packed(logged: Logged) -> Float[Array, "*rows width"]:
    """A logged transition as one row of floats: the transition, then what lies ahead of it."""
    ahead = jnp.stack([logged.return_to_go, logged.steps_to_end, logged.last_discount], axis=-1)
    return jnp.concatenate([pack(logged.transition), ahead, logged.last_obs], axis=-1)


def unpacked(rows: Float[Array, "*rows width"], obs_dim: int) -> Logged:
    """The inverse of `packed`."""
    end = rows.shape[-1] - obs_dim - 3
    transition, ahead, last_obs = jnp.split(rows, [end, end + 3], axis=-1)
    return Logged(unpack(transition, obs_dim), ahead[..., 0], ahead[..., 1], last_obs, ahead[..., 2])


def replay_of(logged: Logged, capacity: int) -> Replay:
    """The replay of tasks whose logged transitions [task, row] are all that there is; room for `capacity` rows each."""
    rows = packed(jax.tree.map(jnp.asarray, logged))
    number, size = rows.shape[:2]
    return Replay(jnp.pad(rows, [(0, 0), (0, capacity - size), (0, 0)]), jnp.full(number, size, jnp.int32))


def with_what_follows(played: Episode, discount: float) -> Logged:
    """The transitions [lane, time] of whole episodes with their discounted returns to go; padding stays padding."""
    steps = played.transitions
    num_lanes, horizon = steps.reward.shape
    length = jnp.asarray(played.length)
    real = jnp.arange(horizon) < length[:, None]

    def back(ahead: Array, reward: Array) -> tuple[Array, Array]:
        ahead = reward + discount * ahead
        return ahead, ahead

    rewards = jnp.where(real, steps.training_reward, 0.0)
    _, to_go = jax.lax.scan(back, jnp.zeros(num_lanes), rewards.T, reverse=True)
    last = jnp.maximum(length - 1, 0)
    last_obs = jnp.take_along_axis(steps.next_obs, last[:, None, None], axis=1)
    last_discount = jnp.take_along_axis(steps.discount, last[:, None], axis=1)
    return Logged(
        steps, to_go.T, (length[:, None] - jnp.arange(horizon)).astype(jnp.float32),
        jnp.broadcast_to(last_obs, steps.next_obs.shape), jnp.broadcast_to(last_discount, steps.discount.shape),
    )  # fmt: skip


@functools.partial(jax.jit, static_argnames="discount", donate_argnums=0)
def insert(replay: Replay, played: Episode, discount: float) -> Replay:
    """The replay with the episode [task, time] of each task behind what it holds."""
    rows = packed(with_what_follows(jax.tree.map(jnp.asarray, played), discount))
    number, capacity = replay.rows.shape[:2]
    time = jnp.arange(rows.shape[1])
    at = jnp.where(time < played.length[:, None], replay.size[:, None] + time, capacity)  # out of bounds: dropped
    kept = replay.rows.at[jnp.arange(number)[:, None], at].set(rows, mode="drop")
    return Replay(kept, replay.size + played.length.astype(jnp.int32))


# ----------------------------------------------------------------------------------------------------------------------
# Updates


def adam(settings: FineTuneSettings) -> Any:
    """The optimiser of either network."""
    return optax.adam(settings.learning_rate)


@functools.partial(jax.jit, static_argnames=("method", "num_steps"))
def adapted(method: FineTuning, params: Any, logged: Logged, num_steps: int) -> Networks:
    """The networks of each task, [task, ...], after so many steps on its logged transitions [task, row]."""
    return jax.vmap(lambda own: method.adapt(params, own, num_steps))(logged)


@functools.partial(jax.jit, static_argnames="settings")
def optimisers(networks: Networks, settings: FineTuneSettings) -> Networks:
    """Adam's states before the first update."""
    return Networks(*(jax.vmap(adam(settings).init)(part) for part in networks))


@functools.partial(jax.jit, static_argnames=("method", "settings", "obs_dim"), donate_argnames=("networks", "states"))
def update(
    networks: Networks, states: Networks, replay: Replay, keys: Key, *, method: FineTuning, settings: FineTuneSettings,
    obs_dim: int,
) -> tuple[Networks, Networks]:  # fmt: skip
    """(networks, Adam's states) of each task after the updates of a round: all of the value network, then all of the
    policy. Every update draws its own batch from the task's replay. `keys` [task] are this round's."""

    def of_task(networks: Networks, states: Networks, own: Replay, key: Key) -> tuple[Networks, Networks]:
        def descend(loss: Any, part: Any, state: Any, key: Key, num_updates: int) -> tuple[Any, Any]:
            def step(carry: Any, number: Array) -> tuple[Any, None]:
                at = uniform_index(fold_in(key, number), (settings.batch_size,), jnp.maximum(own.size, 1))
                gradient = jax.grad(loss)(carry[0], unpacked(own.rows[at], obs_dim))
                return adam_step(adam(settings), gradient, carry[1], carry[0]), None

            after, _ = jax.lax.scan(step, (part, state), jnp.arange(num_updates))
            return after

        value_key, policy_key = split(key)
        value, value_state = descend(
            method.value_loss, networks.value, states.value, value_key, settings.value_updates_per_round
        )
        policy, policy_state = descend(
            lambda policy, batch: method.policy_loss(policy, value, batch),
            networks.policy, states.policy, policy_key, settings.policy_updates_per_round,
        )  # fmt: skip
        return Networks(value, policy), Networks(value_state, policy_state)

    return jax.vmap(of_task)(networks, states, replay, keys)
