"""Actor-critics that learn from logged transitions, given the task variable z: what an offline method stands on.

Critics, their slow copies and the encoder's loss are the same in all. A backbone adds what the critics bootstrap from,
what trains the policy, and networks of its own: `BACKBONES`. A batch is [task, batch, ...], z is [task, 1, latent_dim].

    iql   implicit Q-learning, Kostrikov et al. 2022 (2110.06169)
    awac  advantage-weighted actor-critic, Nair et al. 2020 (2006.09359)
    sac   soft actor-critic, Haarnoja et al. 2018 (1801.01290)
    brac  the same with a penalty on the divergence from the log's policy, Wu et al. 2019 (1911.11361)
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from nacre.learning.networks import MLP, PolicyOutput, TanhGaussianPolicy, sample_action
from nacre.learning.soft_actor_critic import Inferred, Metrics, min_q_value, q_values, squared_error
from nacre.presets.offline_context import OfflineContextSettings
from nacre.types import Key, Transition

LOG_STD_LIMITS = (-5.0, 2.0)
"""Limits of log std in the Gaussian whose likelihood of logged actions is used."""
OUTPUT_PENALTY = 1e-3
"""Weight of the squared pre-tanh mean and log standard deviation in the losses of SAC and BRAC, as in PEARL."""
TINY = 1e-8

# ----------------------------------------------------------------------------------------------------------------------
# Networks and optimisers


class Networks(NamedTuple):
    """Everything that is learnt. None stands where the backbone does without."""

    encoder: Any  # what z is inferred by
    policy: TanhGaussianPolicy
    critics: tuple[MLP, ...]
    target_critics: tuple[MLP, ...]
    value: MLP | None  # IQL's V
    divergence: MLP | None  # BRAC's c
    divergence_weight: Float[Array, ""] | None  # BRAC's alpha
    reward_scale: Float[Array, ""]  # what rewards are multiplied by; data, not learnt


class Optimisers(NamedTuple):
    """Adam's state for every network that is trained."""

    encoder: Any
    critics: Any
    policy: Any
    value: Any
    divergence: Any


def init_networks(
    obs_dim: int, action_dim: int, config: OfflineContextSettings, key: Key, make_encoder: Callable[[Key], Any]
) -> Networks:
    """Fresh networks, with the encoder that `make_encoder` makes of a key."""
    encoder_key, policy_key, q1_key, q2_key, own_key = jax.random.split(key, 5)
    z_dim, size = config.latent_dim, (config.hidden_dim, config.num_hidden_layers)
    seen, precision = obs_dim + action_dim + z_dim, config.precision
    critics = tuple(
        MLP(seen, *size, 1, 3e-3, normalised=config.normalise_critics, precision=precision, key=k)
        for k in (q1_key, q2_key)
    )
    value = divergence = weight = None
    if config.backbone == "iql":
        value = MLP(obs_dim + z_dim, *size, 1, 3e-3, precision=precision, key=own_key)
    if config.backbone == "brac":
        divergence = MLP(seen, size[0], size[1] + 1, 1, 3e-3, precision=precision, key=own_key)
        weight = jnp.asarray(config.divergence_weight, jnp.float32)
    policy = TanhGaussianPolicy(obs_dim, z_dim, action_dim, *size, precision=precision, key=policy_key)
    targets = jax.tree.map(jnp.copy, critics)
    return Networks(make_encoder(encoder_key), policy, critics, targets, value, divergence, weight, jnp.ones(()))


def init_optimisers(networks: Networks) -> Optimisers:
    """Adam before its first step; its state does not depend on the learning rate."""
    begin = optax.adam(1.0).init
    trained = (networks.encoder, networks.critics, networks.policy, networks.value, networks.divergence)
    return Optimisers(*(None if network is None else begin(network) for network in trained))


def _stepped(rate: float, gradient: Any, params: Any, state: Any) -> tuple[Any, Any]:
    """(parameters, Adam's state) after one step along this gradient."""
    change, state = optax.adam(rate).update(gradient, state)
    return optax.apply_updates(params, change), state


# ----------------------------------------------------------------------------------------------------------------------
# Policies: SAC's is squashed by tanh; the one that is fitted to logged actions is a Gaussian around tanh(mean)


def gaussian(output: PolicyOutput) -> tuple[Array, Array]:
    """(mean, log standard deviation) of a Gaussian over actions: the mean tanh of the network's, the other kept softly
    within its limits, so that its gradient never dies."""
    low, high = LOG_STD_LIMITS
    return jnp.tanh(output.mean), low + 0.5 * (high - low) * (jnp.tanh(output.log_std) + 1.0)


def log_likelihood(output: PolicyOutput, action: Float[Array, "*rows action_dim"]) -> Float[Array, "*rows"]:
    """log N(a; tanh(mean), std) of logged actions, summed over their dimensions; finite at the bounds too."""
    mean, log_std = gaussian(output)
    error = (jnp.clip(action, -1.0, 1.0) - mean) / jnp.exp(log_std)
    return jnp.sum(-0.5 * error**2 - log_std - 0.5 * math.log(2 * math.pi), axis=-1)


def sample_clipped(output: PolicyOutput, noise: Float[Array, "*rows action_dim"]) -> Float[Array, "*rows action_dim"]:
    """An action of that Gaussian, clipped to the box."""
    mean, log_std = gaussian(output)
    return jnp.clip(mean + jnp.exp(log_std) * noise, -1.0, 1.0)


def sample(output: PolicyOutput, noise: Array, config: OfflineContextSettings) -> Array:
    """An action of the policy as its backbone has it."""
    if BACKBONES[config.backbone].squashed:
        return sample_action(output, noise)[0]
    return sample_clipped(output, noise)


def _noise(key: Key, batch: Transition) -> Array:
    return jax.random.normal(key, batch.action.shape)


# ----------------------------------------------------------------------------------------------------------------------
# Implicit Q-learning


def expectile_loss(u: Float[Array, "*rows"], expectile: float) -> Float[Array, ""]:
    """The mean of |expectile - 1(u < 0)| u^2 (Eq. 4 there): smallest where V is that expectile of Q."""
    return jnp.mean(jnp.where(u < 0, 1.0 - expectile, expectile) * u**2)


def _iql_next_value(networks: Networks, batch: Transition, z: Array, key: Key, config: OfflineContextSettings) -> Array:
    assert networks.value is not None
    return networks.value(batch.next_obs, z)[..., 0]


def _iql_own(
    networks: Networks, optimisers: Optimisers, batch: Transition, z: Array, key: Key, config: OfflineContextSettings
) -> tuple[Networks, Optimisers, Array, Metrics]:
    """A step of V towards the expectile of the slow critics; also gives the logged actions' advantages."""
    q = min_q_value(networks.target_critics, batch.obs, batch.action, z)

    def loss(value: MLP) -> tuple[Array, Array]:
        advantage = q - value(batch.obs, z)[..., 0]
        return expectile_loss(advantage, config.expectile), advantage

    (value_loss, advantage), gradient = jax.value_and_grad(loss, has_aux=True)(networks.value)
    value, state = _stepped(config.learning_rate, gradient, networks.value, optimisers.value)
    metrics = {"value_loss": value_loss, "advantage_mean": jnp.mean(advantage)}
    return networks._replace(value=value), optimisers._replace(value=state), advantage, metrics


def iql_weights(advantage: Array, config: OfflineContextSettings) -> Array:
    """min(exp(beta A), the largest weight): what a logged action's likelihood counts."""
    return jnp.minimum(jnp.exp(config.inverse_temperature * advantage), config.max_weight)


def _iql_policy_loss(
    policy: TanhGaussianPolicy, networks: Networks, batch: Transition, z: Array, advantage: Any, key: Key,
    config: OfflineContextSettings,
) -> tuple[Array, Metrics]:  # fmt: skip
    return _weighted_cloning(policy(batch.obs, z), batch.action, iql_weights(advantage, config))


def _weighted_cloning(output: PolicyOutput, action: Array, weight: Array) -> tuple[Array, Metrics]:
    """Less the mean weighted log-likelihood of the logged actions; weights are data."""
    likelihood = log_likelihood(output, action)
    loss = -jnp.mean(jax.lax.stop_gradient(weight) * likelihood)
    spread = jnp.mean(jnp.exp(gaussian(output)[1]))
    shown = {"policy_loss": loss, "policy_std": spread, "action_log_likelihood": jnp.mean(likelihood)}
    return loss, shown | {"weight_mean": jnp.mean(weight), "weight_max": jnp.max(weight)}


# ----------------------------------------------------------------------------------------------------------------------
# Advantage-weighted actor-critic


def awac_weights(advantage: Float[Array, "task batch"], inverse_temperature: float) -> Float[Array, "task batch"]:
    """batch * softmax of the advantages over each task's transitions: their mean is 1 in every task."""
    return advantage.shape[-1] * jax.nn.softmax(inverse_temperature * advantage, axis=-1)


def _awac_next_value(
    networks: Networks, batch: Transition, z: Array, key: Key, config: OfflineContextSettings
) -> Array:
    action = sample_clipped(networks.policy(batch.next_obs, z), _noise(key, batch))
    return min_q_value(networks.target_critics, batch.next_obs, action, z)


def _awac_policy_loss(
    policy: TanhGaussianPolicy, networks: Networks, batch: Transition, z: Array, given: Any, key: Key,
    config: OfflineContextSettings,
) -> tuple[Array, Metrics]:  # fmt: skip
    """The advantage is over a fresh action's Q, which stands for V."""
    output = policy(batch.obs, z)
    fresh = jax.lax.stop_gradient(sample_clipped(output, _noise(key, batch)))
    q, v = (min_q_value(networks.critics, batch.obs, action, z) for action in (batch.action, fresh))
    return _weighted_cloning(output, batch.action, awac_weights(q - v, config.inverse_temperature))


# ----------------------------------------------------------------------------------------------------------------------
# Soft actor-critic, and BRAC: the same with a penalty on KL(pi || log's policy), in its dual form


def _sac_next_value(networks: Networks, batch: Transition, z: Array, key: Key, config: OfflineContextSettings) -> Array:
    action, log_pi = sample_action(networks.policy(batch.next_obs, z), _noise(key, batch))
    return min_q_value(networks.target_critics, batch.next_obs, action, z) - config.temperature * log_pi


def _nothing_own(
    networks: Networks, optimisers: Optimisers, batch: Transition, z: Array, key: Key, config: OfflineContextSettings
) -> tuple[Networks, Optimisers, None, Metrics]:
    return networks, optimisers, None, {}


def _sac_policy_loss(
    policy: TanhGaussianPolicy, networks: Networks, batch: Transition, z: Array, given: Any, key: Key,
    config: OfflineContextSettings,
) -> tuple[Array, Metrics]:  # fmt: skip
    """temperature * log pi - min Q of a fresh action, plus PEARL's penalties; BRAC adds the weighted divergence."""
    output = policy(batch.obs, z)
    action, log_pi = sample_action(output, _noise(key, batch))
    loss = jnp.mean(config.temperature * log_pi - min_q_value(networks.critics, batch.obs, action, z))
    loss += OUTPUT_PENALTY * (jnp.mean(output.mean**2) + jnp.mean(output.log_std**2))
    if networks.divergence is not None and networks.divergence_weight is not None:
        c = _c(networks.divergence, batch.obs, action, z)
        loss += networks.divergence_weight * jnp.mean(_log_ratio(c))
    spread = jnp.mean(jnp.exp(output.log_std))
    return loss, {"policy_loss": loss, "log_pi": jnp.mean(log_pi), "policy_std": spread}


def _c(network: MLP, obs: Array, action: Array, z: Array) -> Array:
    return network(jnp.concatenate([obs, action], axis=-1), z)[..., 0]


def _log_ratio(c: Array) -> Array:
    """log of p_pi / p_log as c has it."""
    return jnp.log(jax.nn.softplus(c) + TINY)


def divergence(c_logged: Array, c_policy: Array) -> Float[Array, ""]:
    """The dual form of KL(pi || log's policy), at most the divergence: it is reached where softplus(c) is the ratio of
    the densities, pi's over the log's."""
    return jnp.mean(_log_ratio(c_policy)) - jnp.mean(jax.nn.softplus(c_logged)) + 1.0


def gradient_penalty(network: MLP, obs: Array, action: Array, z: Array) -> Float[Array, ""]:
    """The mean of max(0, |grad_a c(s, a, z)| - 1)^2. (FOCAL's code, and many after it, penalise |c| in its place.)"""
    slope = jax.grad(lambda a: jnp.sum(_c(network, obs, a, z)))(action)
    length = jnp.sqrt(jnp.sum(slope**2, axis=-1) + TINY)
    return jnp.mean(jnp.maximum(length - 1.0, 0.0) ** 2)


def _brac_own(
    networks: Networks, optimisers: Optimisers, batch: Transition, z: Array, key: Key, config: OfflineContextSettings
) -> tuple[Networks, Optimisers, None, Metrics]:
    """Steps of c towards the divergence of the policy as it is; then its weight towards the target divergence."""
    action_key, mix_key = jax.random.split(key)
    fresh, _ = sample_action(networks.policy(batch.obs, z), _noise(action_key, batch))

    def loss(network: MLP, key: Key) -> tuple[Array, tuple[Array, Array]]:
        share = jax.random.uniform(key, (*batch.action.shape[:-1], 1))
        mixed = share * batch.action + (1.0 - share) * fresh
        found = divergence(*(_c(network, batch.obs, action, z) for action in (batch.action, fresh)))
        penalty = gradient_penalty(network, batch.obs, mixed, z)
        return config.gradient_penalty * penalty - found, (found, penalty)

    def one(carry: Any, key: Key) -> tuple[Any, Any]:
        gradient, found = jax.grad(loss, has_aux=True)(carry[0], key)
        return _stepped(config.divergence_learning_rate, gradient, *carry), found

    keys = jax.random.split(mix_key, config.num_divergence_steps)
    (network, state), (found, penalty) = jax.lax.scan(one, (networks.divergence, optimisers.divergence), keys)
    weight = networks.divergence_weight + config.divergence_weight_rate * (found[-1] - config.divergence_target)
    weight = jnp.clip(weight, 0.0, config.max_divergence_weight)
    metrics = {"divergence": found[-1], "divergence_weight": weight, "gradient_penalty": penalty[-1]}
    after = networks._replace(divergence=network, divergence_weight=weight)
    return after, optimisers._replace(divergence=state), None, metrics


# ----------------------------------------------------------------------------------------------------------------------
# One update


class Backbone(NamedTuple):
    """What one actor-critic adds to the others' common part."""

    next_value: Callable[..., Array]  # (networks, batch, z, key, settings) -> what critics bootstrap from, at next_obs
    own: Callable[..., tuple[Networks, Optimisers, Any, Metrics]]
    # (networks, optimisers, batch, z, key, settings) -> the same after steps of its own networks, something for the
    # policy's loss, metrics
    policy_loss: Callable[..., tuple[Array, Metrics]]  # (policy, networks, batch, z, that, key, settings)
    squashed: bool  # whether the policy is a squashed Gaussian, else one around tanh(mean)


BACKBONES = {
    "iql": Backbone(_iql_next_value, _iql_own, _iql_policy_loss, squashed=False),
    "awac": Backbone(_awac_next_value, _nothing_own, _awac_policy_loss, squashed=False),
    "sac": Backbone(_sac_next_value, _nothing_own, _sac_policy_loss, squashed=True),
    "brac": Backbone(_sac_next_value, _brac_own, _sac_policy_loss, squashed=True),
}


def critic_target(networks: Networks, batch: Transition, z: Array, key: Key, config: OfflineContextSettings) -> Array:
    """Scaled reward plus the discounted value of the next observation, [task, batch]. Nothing is bootstrapped where the
    task terminated (`discount` 0); a time limit is no end."""
    bootstrap = BACKBONES[config.backbone].next_value(networks, batch, z, key, config)
    target = networks.reward_scale * batch.training_reward + config.discount * batch.discount * bootstrap
    return jax.lax.stop_gradient(target)


def critic_loss(
    trained: tuple[Any, tuple[MLP, ...]], networks: Networks, batch: Transition, infer: Callable[[Any], Inferred],
    key: Key, config: OfflineContextSettings,
) -> tuple[Array, tuple[Array, Metrics]]:  # fmt: skip
    """Bellman error of the critics plus the encoder's own loss. Whether the former reaches the encoder is up to the z
    that `infer` gives. Also returns z without gradient, for the other losses."""
    encoder, critics = trained
    inferred = infer(encoder)
    z = jax.lax.stop_gradient(inferred.z)
    target = critic_target(networks, batch, z, key, config)
    q = q_values(critics, batch.obs, batch.action, inferred.z)
    bellman_error = functools.reduce(jnp.add, [squared_error(values, target) for values in q])
    metrics = {"critic_loss": bellman_error, "q_mean": jnp.mean(q[0]), "q_target_mean": jnp.mean(target)}
    return bellman_error + inferred.loss, (z, metrics | inferred.metrics)


def update(
    networks: Networks, optimisers: Optimisers, batch: Transition, infer: Callable[[Any], Inferred], key: Key,
    config: OfflineContextSettings,
) -> tuple[Networks, Optimisers, Metrics]:  # fmt: skip
    """One training step: encoder and critics; the backbone's own networks; the policy; the slow critics.

    `infer` makes of an encoder z, its loss and metrics.
    """
    backbone = BACKBONES[config.backbone]
    target_key, own_key, policy_key = jax.random.split(key, 3)

    trained = (networks.encoder, networks.critics)
    (_, (z, metrics)), (to_encoder, to_critics) = jax.value_and_grad(critic_loss, has_aux=True)(
        trained, networks, batch, infer, target_key, config
    )
    encoder, encoder_state = _stepped(config.encoder_learning_rate, to_encoder, networks.encoder, optimisers.encoder)
    critics, critic_state = _stepped(config.learning_rate, to_critics, networks.critics, optimisers.critics)
    networks = networks._replace(encoder=encoder, critics=critics)
    optimisers = optimisers._replace(encoder=encoder_state, critics=critic_state)

    networks, optimisers, given, more = backbone.own(networks, optimisers, batch, z, own_key, config)
    (_, shown), to_policy = jax.value_and_grad(backbone.policy_loss, has_aux=True)(
        networks.policy, networks, batch, z, given, policy_key, config
    )
    policy, policy_state = _stepped(config.learning_rate, to_policy, networks.policy, optimisers.policy)
    slow = optax.incremental_update(networks.critics, networks.target_critics, config.soft_target_tau)
    networks = networks._replace(policy=policy, target_critics=slow)
    return networks, optimisers._replace(policy=policy_state), metrics | more | shown
