"""The networks of a soft actor-critic that is conditioned on z, and their optimisers: what is learnt, how it begins."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from nacre.learning.networks import MLP, RecurrentEncoder, Scale, TanhGaussianPolicy
from nacre.learning.replay import Replay, moments
from nacre.presets.pearl import PearlConfig
from nacre.types import Key, Transition


class Networks(NamedTuple):
    """Everything that is learnt. Critics start different. None stands where the settings do without."""

    encoder: MLP | RecurrentEncoder
    policy: TanhGaussianPolicy
    critics: tuple[MLP, ...]
    value: MLP | None
    target_value: MLP | None
    target_critics: tuple[MLP, ...] | None = None  # instead of V and its target
    log_temperature: Float[Array, ""] | None = None  # where it is learnt


class Optimisers(NamedTuple):
    """Adam's state, for the losses in the order of their steps."""

    critic: Any  # encoder and critics
    policy: Any
    value: Any
    temperature: Any = None


def adam(config: PearlConfig) -> optax.GradientTransformation:
    """Adam with the configured step size, perhaps falling."""
    if config.learning_rate_decay == 1.0:  # without a schedule's counter, as in the paper
        return optax.adam(config.learning_rate)
    num_updates = config.iterations * config.num_train_steps_per_iteration
    last = config.learning_rate * config.learning_rate_decay
    return optax.adam(optax.linear_schedule(config.learning_rate, last, num_updates))


def init_networks(obs_dim: int, action_dim: int, config: PearlConfig, key: Key) -> Networks:
    """Fresh networks; V's target starts as V."""
    encoder_key, policy_key, q1_key, q2_key, value_key = jax.random.split(key, 5)
    c, hidden = config, (config.hidden_dim, config.num_hidden_layers)
    seen = obs_dim * (2 if c.use_next_obs_in_context else 1) + action_dim + 1
    encoded = c.latent_dim * (2 if c.use_information_bottleneck else 1)
    q_dim = obs_dim + action_dim + c.latent_dim
    all_scaled = c.normalise_inputs == "all"
    critic = functools.partial(
        MLP, q_dim, *hidden, 1, 3e-3, scaled=obs_dim + action_dim if all_scaled else 0, normalised=c.normalise_critics,
        precision=c.precision,
    )  # fmt: skip
    sizes = (seen, c.encoder_hidden_dim, c.num_hidden_layers, encoded)
    kind = RecurrentEncoder if c.encoder == "recurrent" else MLP
    encoder = kind(
        *sizes, 3e-3, scaled=0 if c.normalise_inputs == "none" else seen, precision=c.precision, key=encoder_key
    )
    policy = TanhGaussianPolicy(
        obs_dim, c.latent_dim, action_dim, *hidden, scaled=all_scaled, precision=c.precision, key=policy_key
    )
    networks = Networks(
        encoder=encoder,
        policy=policy,
        critics=tuple(critic(key=key) for key in (q1_key, q2_key)[: c.num_critics]),
        value=None,
        target_value=None,
        log_temperature=jnp.zeros(()) if c.automatic_temperature else None,
    )
    if not c.use_value_network:
        return networks._replace(target_critics=jax.tree.map(jnp.copy, networks.critics))
    value = MLP(
        obs_dim + c.latent_dim, *hidden, 1, 3e-3, scaled=obs_dim if all_scaled else 0, precision=c.precision,
        key=value_key,
    )  # fmt: skip
    return networks._replace(value=value, target_value=jax.tree.map(jnp.copy, value))


def with_scales(networks: Networks, mean: Transition, std: Transition, config: PearlConfig) -> Networks:
    """The networks with these moments of a transition as the scale of their inputs, where they have one."""

    def scaled(network: Any, *inputs: str) -> Any:
        scale = [jnp.concatenate([jnp.atleast_1d(getattr(one, name)) for name in inputs]) for one in (mean, std)]

        def with_scale(node: Any) -> Any:  # a copy in every network, because updates use their networks up
            return Scale(*map(jnp.array, scale)) if isinstance(node, Scale) else node

        return jax.tree.map(with_scale, network, is_leaf=lambda node: isinstance(node, Scale))

    of_next = ("next_obs",) if config.use_next_obs_in_context else ()
    return networks._replace(
        encoder=scaled(networks.encoder, "obs", "action", "reward", *of_next),
        policy=scaled(networks.policy, "obs"),
        critics=scaled(networks.critics, "obs", "action"),
        target_critics=scaled(networks.target_critics, "obs", "action"),
        value=scaled(networks.value, "obs"),
        target_value=scaled(networks.target_value, "obs"),
    )


def rescaled(networks: Networks, replay: Replay, obs_dim: int, config: PearlConfig) -> Networks:
    """The networks with their inputs scaled by all that was collected so far, where the settings say so."""
    if config.normalise_inputs == "none":
        return networks
    mean, std = moments(replay, obs_dim)
    return with_scales(networks, mean, std, config)


def init_optimisers(networks: Networks, config: PearlConfig) -> Optimisers:
    """Adam before its first step."""
    begin = adam(config).init
    value, log_temperature = networks.value, networks.log_temperature
    return Optimisers(
        critic=begin((networks.encoder, networks.critics)),
        policy=begin(networks.policy),
        value=None if value is None else begin(value),
        temperature=None if log_temperature is None else begin(log_temperature),
    )


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def init_learner(obs_dim: int, action_dim: int, config: PearlConfig, key: Key) -> tuple[Networks, Optimisers]:
    """Fresh networks, and Adam before its first step."""
    networks = init_networks(obs_dim, action_dim, config, key)
    return networks, init_optimisers(networks, config)
