"""A soft actor-critic that is conditioned on z: its networks, its losses, one update. Where z comes from is a method's
own choice (`Objective.infer`): PEARL draws it from a belief, the oracle is told the task.

Losses follow the paper's reference (Haarnoja et al. 2018, 1801.01290). A batch is [task, batch, ...].
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from nacre.learning.networks import MLP, Scale, TanhGaussianPolicy, TaskScale, sample_action
from nacre.learning.replay import Replay, moments
from nacre.presets.soft_actor_critic import SoftActorCriticSettings
from nacre.types import Key, Transition

Metrics = dict[str, Float[Array, ""]]
REWARDS = 5
"""Folded into the key of fresh networks for the one that predicts rewards: the others, which have keys 0 to 4, are as
without it."""

# ----------------------------------------------------------------------------------------------------------------------
# Networks and optimisers


class Networks(NamedTuple):
    """Everything that is learnt. Critics start different. None stands where the settings do without."""

    encoder: Any  # what z is inferred by, trained by the critics' loss; None where z is known
    policy: TanhGaussianPolicy
    critics: tuple[MLP, ...]
    value: MLP | None
    target_value: MLP | None
    target_critics: tuple[MLP, ...] | None = None  # instead of V and its target
    log_temperature: Float[Array, ""] | None = None  # where it is learnt
    rewards: MLP | None = None  # what (obs, action, z) earns, where trials go by it


class Optimisers(NamedTuple):
    """Adam's state, for the losses in the order of their steps."""

    critic: Any  # encoder and critics
    policy: Any
    value: Any
    temperature: Any = None
    rewards: Any = None


def adam(config: SoftActorCriticSettings) -> optax.GradientTransformation:
    """Adam with the configured learning rate, perhaps falling."""
    if config.learning_rate_decay == 1.0:  # without a schedule's counter, as in the paper
        return optax.adam(config.learning_rate)
    last = config.learning_rate * config.learning_rate_decay
    return optax.adam(optax.linear_schedule(config.learning_rate, last, config.num_updates))


def init_networks(
    obs_dim: int, action_dim: int, z_dim: int, config: SoftActorCriticSettings, key: Key,
    make_encoder: Callable[[Key], Any] | None = None,
) -> Networks:  # fmt: skip
    """Fresh networks, with the encoder that `make_encoder` makes of a key; V's target starts as V."""
    encoder_key, policy_key, q1_key, q2_key, value_key = jax.random.split(key, 5)
    c, hidden = config, (config.hidden_dim, config.num_hidden_layers)
    scaled_z = z_dim * c.normalise_task
    critic = functools.partial(
        MLP, obs_dim + action_dim + z_dim, *hidden, 1, 3e-3, scaled=(obs_dim + action_dim) * c.normalise_transitions,
        scaled_z=scaled_z, precision=c.precision,
    )  # fmt: skip
    policy = TanhGaussianPolicy(
        obs_dim, z_dim, action_dim, *hidden, scaled=c.normalise_transitions, scaled_z=c.normalise_task,
        precision=c.precision, key=policy_key,
    )  # fmt: skip
    networks = Networks(
        encoder=None if make_encoder is None else make_encoder(encoder_key),
        policy=policy,
        critics=tuple(critic(normalised=c.normalise_critics, key=key) for key in (q1_key, q2_key)[: c.num_critics]),
        value=None,
        target_value=None,
        log_temperature=jnp.zeros(()) if c.automatic_temperature else None,
        rewards=critic(key=jax.random.fold_in(key, REWARDS)) if c.predict_rewards else None,
    )
    if not c.use_value_network:
        return networks._replace(target_critics=jax.tree.map(jnp.copy, networks.critics))
    value = MLP(
        obs_dim + z_dim, *hidden, 1, 3e-3, scaled=obs_dim * c.normalise_transitions, scaled_z=scaled_z,
        precision=c.precision, key=value_key,
    )  # fmt: skip
    return networks._replace(value=value, target_value=jax.tree.map(jnp.copy, value))


def init_optimisers(networks: Networks, config: SoftActorCriticSettings) -> Optimisers:
    """Adam before its first step."""
    begin = adam(config).init
    value, log_temperature, rewards = networks.value, networks.log_temperature, networks.rewards
    return Optimisers(
        critic=begin((networks.encoder, networks.critics)),
        policy=begin(networks.policy),
        value=None if value is None else begin(value),
        temperature=None if log_temperature is None else begin(log_temperature),
        rewards=None if rewards is None else begin(rewards),
    )


def with_scales(networks: Networks, mean: Transition, std: Transition, config: SoftActorCriticSettings) -> Networks:
    """The networks with these moments of a transition as the scale of their inputs, where they have one."""

    def scaled(network: Any, *inputs: str) -> Any:
        if not inputs:
            return network
        scale = [jnp.concatenate([jnp.atleast_1d(getattr(one, name)) for name in inputs]) for one in (mean, std)]

        def with_scale(node: Any) -> Any:  # a copy in every network, because updates use their networks up
            return Scale(*map(jnp.array, scale)) if isinstance(node, Scale) else node

        return jax.tree.map(with_scale, network, is_leaf=lambda node: isinstance(node, Scale))

    return networks._replace(
        encoder=scaled(networks.encoder, *config.encoder_inputs),
        policy=scaled(networks.policy, "obs"),
        critics=scaled(networks.critics, "obs", "action"),
        target_critics=scaled(networks.target_critics, "obs", "action"),
        value=scaled(networks.value, "obs"),
        target_value=scaled(networks.target_value, "obs"),
        rewards=scaled(networks.rewards, "obs", "action"),
    )


def with_task_scale(networks: Networks, tasks: Float[Array, "task task_dim"]) -> Networks:
    """The networks with a scale of z, where they have one, that gives these tasks mean 0 and variances that sum to 1.

    So many parameters weigh as much as few beside the observation. A parameter that does not vary becomes 0. A scale
    that was set before stays: the weights behind it were trained with it.
    """
    values = np.asarray(tasks, np.float64)
    mean, std = values.mean(axis=0), values.std(axis=0)
    varies = std > 1e-6 * np.abs(values).max(axis=0)
    std = np.where(varies, std * math.sqrt(max(1, varies.sum())), 1.0)

    def with_scale(node: Any) -> Any:  # a copy in every network, because updates use their networks up
        is_fresh = isinstance(node, TaskScale) and not np.any(node.mean) and np.all(np.asarray(node.std) == 1.0)
        return TaskScale(jnp.array(mean), jnp.array(std)) if is_fresh else node

    return jax.tree.map(with_scale, networks, is_leaf=lambda node: isinstance(node, TaskScale))


def rescaled(networks: Networks, replay: Replay, obs_dim: int, config: SoftActorCriticSettings) -> Networks:
    """The networks with their inputs scaled by all that the critics learn from so far, where the settings say so."""
    if config.normalise_inputs == "none":
        return networks
    mean, std = moments(replay, obs_dim)
    return with_scales(networks, mean, std, config)


# ----------------------------------------------------------------------------------------------------------------------
# Losses (PEARL's paper, Eq. 3 and 4, and Algorithm 1)


class Noise(NamedTuple):
    """All the randomness of an update, standard normal."""

    z: Float[Array, "task latent_dim"]
    action: Float[Array, "task batch action_dim"]
    next_action: Float[Array, "task batch action_dim"] | None = None  # where there is no V


class Inferred(NamedTuple):
    """What a method says of the tasks of a batch."""

    z: Float[Array, "task 1 latent_dim"]
    loss: Float[Array, ""]  # joins the Bellman error and trains the encoder, such as PEARL's weighted KL
    metrics: Metrics


def q_values(critics: tuple[MLP, ...], obs: Array, action: Array, z: Array) -> list[Array]:
    """Every critic's Q(s, a, z), each [task, batch]."""
    x = jnp.concatenate([obs, action], axis=-1)
    return [critic(x, z)[..., 0] for critic in critics]


def min_q_value(critics: tuple[MLP, ...], obs: Array, action: Array, z: Array) -> Array:
    """The smallest of the critics' Q(s, a, z), [task, batch]."""
    return functools.reduce(jnp.minimum, q_values(critics, obs, action, z))


def temperature(networks: Networks) -> Array | float:
    """What the policy's entropy is worth against return."""
    return 1.0 if networks.log_temperature is None else jnp.exp(networks.log_temperature)


def next_value(networks: Networks, next_obs: Array, z: Array, noise: Noise) -> Array:
    """The value [task, batch] that the critics' target bootstraps from."""
    if networks.target_value is not None:
        return networks.target_value(next_obs, z)[..., 0]
    assert networks.target_critics is not None and noise.next_action is not None
    action, log_pi = sample_action(networks.policy(next_obs, z), noise.next_action)
    return min_q_value(networks.target_critics, next_obs, action, z) - temperature(networks) * log_pi


def squared_error(q: Array, target: Array) -> Array:
    """The mean squared Bellman error of a critic, over [task, batch]."""
    return jnp.mean((q - target) ** 2)


def critic_loss(
    trained: tuple[Any, tuple[MLP, ...]], networks: Networks, batch: Transition, context: Any, noise: Noise,
    config: Any, objective: Objective,
) -> tuple[Array, tuple[Array, Metrics]]:  # fmt: skip
    """Eq. 3, the Bellman error of the critics, plus the loss of inference; the only loss that trains the encoder.

    Also returns z, without gradient, for the other losses.
    """
    encoder, critics = trained
    inferred = objective.infer(encoder, context, noise, config)
    z = inferred.z
    bootstrap = objective.next_value(networks, batch.next_obs, jax.lax.stop_gradient(z), noise)
    target = config.reward_scale * batch.training_reward + batch.discount * config.discount * bootstrap
    target = jax.lax.stop_gradient(target)
    q = q_values(critics, batch.obs, batch.action, z)
    bellman_error = functools.reduce(jnp.add, [objective.critic_error(values, target) for values in q])
    metrics = {"critic_loss": bellman_error, "q_mean": jnp.mean(q[0]), "q_target_mean": jnp.mean(target)}
    return bellman_error + inferred.loss, (jax.lax.stop_gradient(z), metrics | inferred.metrics)


def policy_loss(
    policy: TanhGaussianPolicy, critics: tuple[MLP, ...], obs: Array, z: Array, action_noise: Array,
    config: SoftActorCriticSettings, temperature: Array | float = 1.0,
) -> tuple[Array, tuple[Array, Metrics]]:  # fmt: skip
    """Eq. 4: log pi - min Q of a fresh action, with the reference's two regularisers; z is data. Also V's target."""
    output = policy(obs, z)
    action, log_pi = sample_action(output, action_noise)
    min_q = min_q_value(critics, obs, action, z)
    mean_penalty = config.policy_mean_reg_weight * jnp.mean(output.mean**2)
    std_penalty = config.policy_std_reg_weight * jnp.mean(output.log_std**2)
    loss = jnp.mean(temperature * log_pi - min_q) + mean_penalty + std_penalty
    metrics = {"policy_loss": loss, "log_pi": jnp.mean(log_pi), "policy_std": jnp.mean(jnp.exp(output.log_std))}
    return loss, (jax.lax.stop_gradient(min_q - temperature * log_pi), metrics)


def value_loss(value: MLP, target: Array, obs: Array, z: Array) -> tuple[Array, Metrics]:
    """V against min Q - log pi of the fresh action; z is data."""
    loss = jnp.mean((value(obs, z)[..., 0] - target) ** 2)
    return loss, {"value_loss": loss}


def temperature_loss(log_temperature: Array, log_pi: Array, action_dim: int) -> tuple[Array, Metrics]:
    """Raises the temperature while the policy's entropy is below its target, -action_dim nats."""
    loss = -log_temperature * jax.lax.stop_gradient(log_pi - action_dim)
    return loss, {"temperature": jnp.exp(log_temperature)}


def rewards_loss(rewards: MLP, batch: Transition, z: Array) -> tuple[Array, Metrics]:
    """The mean squared error of predicted rewards, those that an agent is told, unscaled; z is data."""
    predicted = rewards(jnp.concatenate([batch.obs, batch.action], axis=-1), z)[..., 0]
    loss = jnp.mean((predicted - batch.reward) ** 2)
    return loss, {"rewards_loss": loss}


class Objective(NamedTuple):
    """The losses of an update, and where z comes from.

    A variant of a method replaces a part and keeps the rest: `OBJECTIVE._replace(critic_error=huber)`.
    """

    infer: Callable[[Any, Any, Noise, Any], Inferred]  # (encoder, context, noise, settings)
    critic_error: Callable[[Array, Array], Array] = squared_error  # (Q, target) [task, batch] -> scalar
    next_value: Callable[[Networks, Array, Array, Noise], Array] = next_value
    policy_loss: Callable[..., tuple[Array, tuple[Array, Metrics]]] = policy_loss
    value_loss: Callable[..., tuple[Array, Metrics]] = value_loss
    temperature_loss: Callable[..., tuple[Array, Metrics]] = temperature_loss


# ----------------------------------------------------------------------------------------------------------------------
# One update


def update(
    networks: Networks, optimisers: Optimisers, batch: Transition, context: Any, noise: Noise, config: Any,
    objective: Objective,
) -> tuple[Networks, Optimisers, Metrics]:  # fmt: skip
    """One training step: encoder and critics first; then policy and V against the new critics; then V's target, or
    the slow critics; then the temperature and what predicts rewards, where they are learnt."""
    optimiser = adam(config)

    def step(loss: Any, params: Any, state: Any, *args: Any) -> tuple[Any, Any, Any]:
        (_, extra), gradient = jax.value_and_grad(loss, has_aux=True)(params, *args)
        change, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, change), state, extra

    trained, obs, alpha = (networks.encoder, networks.critics), batch.obs, temperature(networks)
    (encoder, critics), critic_state, (z, metrics) = step(
        critic_loss, trained, optimisers.critic, networks, batch, context, noise, config, objective
    )
    policy, policy_state, (v_target, policy_metrics) = step(
        objective.policy_loss, networks.policy, optimisers.policy, critics, obs, z, noise.action, config, alpha
    )
    after = networks._replace(encoder=encoder, critics=critics, policy=policy)
    states = optimisers._replace(critic=critic_state, policy=policy_state)
    metrics |= policy_metrics

    tau = config.soft_target_tau
    if networks.value is not None:
        value, state, more = step(objective.value_loss, networks.value, optimisers.value, v_target, obs, z)
        after = after._replace(value=value, target_value=optax.incremental_update(value, networks.target_value, tau))
        states, metrics = states._replace(value=state), metrics | more
    else:
        after = after._replace(target_critics=optax.incremental_update(critics, networks.target_critics, tau))
    if networks.log_temperature is not None:
        log_pi, action_dim = metrics["log_pi"], batch.action.shape[-1]
        log_alpha, state, more = step(
            objective.temperature_loss, networks.log_temperature, optimisers.temperature, log_pi, action_dim
        )
        after = after._replace(log_temperature=log_alpha)
        states, metrics = states._replace(temperature=state), metrics | more
    if networks.rewards is not None:
        rewards, state, more = step(rewards_loss, networks.rewards, optimisers.rewards, batch, z)
        after = after._replace(rewards=rewards)
        states, metrics = states._replace(rewards=state), metrics | more
    return after, states, metrics
