"""PEARL without V, and with a learnt temperature."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pearl_parts import (
    ACTION_DIM,
    ACTION_NOISE,
    BATCH,
    DOUBLE_Q,
    FAMILY,
    LATENT_DIM,
    LONG_CONTEXT,
    SMALL,
    Z_NOISE,
    assert_all_networks_changed,
    assert_trees_equal,
    change,
    copied,
    critic_loss,
    forward,
    fresh_networks,
    last_layer,
    louder,
    train,
)

from nacre.algorithms import pearl
from nacre.learning import off_policy, soft_actor_critic

NEXT_NOISE = jnp.asarray(np.random.default_rng(6).standard_normal((2, 32, ACTION_DIM)), jnp.float32)


@pytest.fixture(scope="module")
def double_q() -> soft_actor_critic.Networks:
    """Fast and slow critics that differ, and a temperature of 0.3."""
    fresh, other = fresh_networks(DOUBLE_Q, seed=0), fresh_networks(DOUBLE_Q, seed=1)
    heads = np.random.default_rng(7).standard_normal((2, 32, 1)).astype(np.float32)
    biases = np.float32([[2.0], [0.0]])  # so that neither is always the smaller one
    slow = [last_layer(*parts) for parts in zip(other.critics, heads, biases, strict=True)]
    return fresh._replace(
        encoder=louder(fresh.encoder),
        critics=tuple(louder(critic) for critic in fresh.critics),
        target_critics=(slow[0], slow[1]),
        log_temperature=jnp.log(0.3),
    )


def squashed(networks: soft_actor_critic.Networks, obs: Any, z: Any, noise: Any) -> tuple[np.ndarray, np.ndarray]:
    """The policy's action and its log density, in NumPy."""
    mean, log_std = np.split(forward(networks.policy.mlp, obs, z), 2, axis=-1)
    action = np.tanh(mean + np.exp(log_std) * noise)
    gaussian = -0.5 * np.float64(noise) ** 2 - log_std - 0.5 * np.log(2 * np.pi)
    return action, (gaussian - np.log(1 - action**2 + 1e-6)).sum(axis=-1)


def test_without_v_the_target_is_the_smaller_slow_critic_at_a_fresh_next_action_less_its_log_density(double_q):
    noise = pearl.Noise(Z_NOISE, ACTION_NOISE, NEXT_NOISE)
    trained = (double_q.encoder, double_q.critics)
    z, metrics = jax.jit(critic_loss, static_argnames="config")(
        trained, double_q, BATCH, LONG_CONTEXT, noise, DOUBLE_Q
    )[1]
    z_rows = np.broadcast_to(z, (2, 32, LATENT_DIM))
    action, log_pi = squashed(double_q, BATCH.next_obs, z_rows, NEXT_NOISE)
    q1, q2 = (forward(critic, BATCH.next_obs, action, z_rows)[..., 0] for critic in double_q.target_critics)
    assert 0.1 < (q1 < q2).mean() < 0.9, "each of the two is the smaller one somewhere"
    target = 5.0 * BATCH.training_reward + BATCH.discount * 0.5 * (np.minimum(q1, q2) - 0.3 * log_pi)
    np.testing.assert_allclose(metrics["q_target_mean"], target.mean(), rtol=1e-4)
    fast = [forward(critic, BATCH.obs, BATCH.action, z_rows)[..., 0] for critic in double_q.critics]
    np.testing.assert_allclose(metrics["critic_loss"], sum(((q - target) ** 2).mean() for q in fast), rtol=1e-4)


def test_the_temperature_weighs_the_log_density_in_the_policys_loss(double_q):
    z = jnp.asarray(Z_NOISE)[:, None]
    config = change(DOUBLE_Q, policy_mean_reg_weight=0.0, policy_std_reg_weight=0.0)
    loss, (v_target, _) = soft_actor_critic.policy_loss(
        double_q.policy,
        double_q.critics,
        jnp.asarray(BATCH.obs),
        z,
        ACTION_NOISE,
        config,
        soft_actor_critic.temperature(double_q),
    )
    z_rows = np.broadcast_to(z, (2, 32, LATENT_DIM))
    action, log_pi = squashed(double_q, BATCH.obs, z_rows, ACTION_NOISE)
    min_q = np.minimum(*(forward(critic, BATCH.obs, action, z_rows)[..., 0] for critic in double_q.critics))
    np.testing.assert_allclose(loss, (0.3 * log_pi - min_q).mean(), rtol=1e-4)
    np.testing.assert_allclose(v_target, min_q - 0.3 * log_pi, rtol=1e-3, atol=1e-4)


def test_the_parts_of_an_updates_noise_are_standard_normal_and_share_nothing():
    actions = (2, 500, ACTION_DIM)
    config = change(DOUBLE_Q, meta_batch=2)
    noise = off_policy.draw_noise(jax.random.key(0), actions, LATENT_DIM, config)
    assert noise.z.shape == (2, LATENT_DIM) and noise.action.shape == noise.next_action.shape == actions
    everything = np.concatenate([np.ravel(part) for part in noise])
    assert len(np.unique(everything)) == len(everything)
    assert abs(everything.mean()) < 0.1 and abs(everything.std() - 1) < 0.1
    with_v = off_policy.draw_noise(jax.random.key(0), actions, LATENT_DIM, change(config, use_value_network=True))
    assert with_v.next_action is None


def test_a_single_critic_is_its_own_target_and_what_the_policy_goes_by(double_q):
    config = change(DOUBLE_Q, num_critics=1, policy_mean_reg_weight=0.0, policy_std_reg_weight=0.0)
    assert len(fresh_networks(config, seed=0).critics) == len(fresh_networks(config, seed=0).target_critics) == 1
    fast, slow = double_q.critics[:1], double_q.target_critics[:1]
    single = double_q._replace(critics=fast, target_critics=slow)
    noise = pearl.Noise(Z_NOISE, ACTION_NOISE, NEXT_NOISE)
    z, metrics = critic_loss((single.encoder, fast), single, BATCH, LONG_CONTEXT, noise, config)[1]
    z_rows = np.broadcast_to(z, (2, 32, LATENT_DIM))
    action, log_pi = squashed(single, BATCH.next_obs, z_rows, NEXT_NOISE)
    bootstrap = forward(slow[0], BATCH.next_obs, action, z_rows)[..., 0] - 0.3 * log_pi
    target = 5.0 * BATCH.training_reward + BATCH.discount * 0.5 * bootstrap
    error = forward(fast[0], BATCH.obs, BATCH.action, z_rows)[..., 0] - target
    np.testing.assert_allclose(metrics["critic_loss"], (error**2).mean(), rtol=1e-4)

    loss, _ = soft_actor_critic.policy_loss(
        single.policy, fast, jnp.asarray(BATCH.obs), z, ACTION_NOISE, config, soft_actor_critic.temperature(single)
    )
    action, log_pi = squashed(single, BATCH.obs, z_rows, ACTION_NOISE)
    q = forward(fast[0], BATCH.obs, action, z_rows)[..., 0]
    np.testing.assert_allclose(loss, (0.3 * log_pi - q).mean(), rtol=1e-4)


@pytest.mark.parametrize(("log_pi", "rises"), [(2.5, True), (1.5, False)])
def test_the_temperature_rises_while_the_entropy_is_below_minus_action_dim(log_pi, rises):
    """Entropy is -log_pi; the target for two action dimensions is -2 nats."""
    gradient = jax.grad(lambda x: soft_actor_critic.temperature_loss(x, jnp.asarray(log_pi), ACTION_DIM)[0])(
        jnp.asarray(0.7)
    )
    np.testing.assert_allclose(gradient, -(log_pi - 2.0), rtol=1e-6)
    assert (gradient < 0) == rises


@pytest.mark.parametrize(
    ("use_value_network", "automatic"),
    [(True, True), pytest.param(False, True, marks=pytest.mark.slow), (False, False)],
)
def test_every_network_that_the_settings_ask_for_learns_and_no_other_is_there(collected, use_value_network, automatic):
    config = change(SMALL, use_value_network=use_value_network, automatic_temperature=automatic)
    fresh = pearl.init(FAMILY, config, seed=1)
    networks = fresh.networks
    assert (networks.value is None) == (networks.target_value is None) == (not use_value_network)
    assert (networks.target_critics is None) == use_value_network
    assert (networks.log_temperature is None) == (not automatic)
    if networks.target_critics is not None:
        assert_trees_equal(networks.critics, networks.target_critics)
    start = fresh._replace(rl_buffer=collected.after.rl_buffer, context_buffer=collected.after.context_buffer)
    after, metrics = train(copied(start), 20, config)
    assert_all_networks_changed(start, after)
    assert ("value_loss" in metrics) == use_value_network and ("temperature" in metrics) == automatic
    assert all(np.isfinite(values).all() and values.shape == (20,) for values in metrics.values())
