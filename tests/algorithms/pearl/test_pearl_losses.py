"""PEARL: the losses and where their gradients go."""

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
    LATENT_DIM,
    LONG_CONTEXT,
    NOISE,
    SMALL,
    Z_NOISE,
    assert_trees_equal,
    change,
    critic_loss,
    factors_by_hand,
    forward,
    fresh_networks,
    louder,
)

from nacre.algorithms import pearl
from nacre.learning import soft_actor_critic
from nacre.learning.networks import MLP
from nacre.presets.pearl import PearlSettings

OBS = jnp.asarray(BATCH.obs)


def critic_gradients(networks: soft_actor_critic.Networks, configs: tuple[PearlSettings, ...]) -> list[tuple[MLP, Any]]:
    """The gradient of the critic loss, (encoder, critics), under each of these settings; compiled once."""

    @jax.jit
    def gradients(networks):
        trained = (networks.encoder, networks.critics)
        args = (networks, BATCH, LONG_CONTEXT, NOISE)
        return [jax.grad(critic_loss, has_aux=True)(trained, *args, config)[0] for config in configs]

    return gradients(networks)


@pytest.fixture(scope="module")
def critic_gradients_by_kl_weight(networks) -> list[tuple[MLP, Any]]:
    return critic_gradients(networks, tuple(change(SMALL, kl_weight=weight) for weight in (0.0, 0.1, 0.2)))


def test_critic_loss_reaches_every_encoder_parameter(critic_gradients_by_kl_weight):
    encoder_gradient, _ = critic_gradients_by_kl_weight[0]
    for leaf in jax.tree.leaves(encoder_gradient):
        assert (np.asarray(leaf) != 0.0).all()


def test_kl_weight_changes_the_encoders_gradient_in_proportion_and_no_critics(critic_gradients_by_kl_weight):
    (without, critics), (once, same), (twice, _) = critic_gradients_by_kl_weight
    for zero, one, two in zip(*map(jax.tree.leaves, (without, once, twice)), strict=True):
        assert (np.abs(one - zero) > 0).any()
        np.testing.assert_allclose(two - zero, 2 * (one - zero), rtol=1e-3, atol=1e-4)
    for a, b in zip(jax.tree.leaves(critics), jax.tree.leaves(same), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_the_kl_costs_nothing_below_the_free_nats(networks):
    """A limit on the mean over tasks: just above it the KL trains the encoder, as without one; below it does not."""
    config = change(SMALL, kl_weight=0.1)
    belief = pearl.infer_posterior(networks.encoder, LONG_CONTEXT, config)
    mean = float(pearl.kl_to_prior(belief)) / len(belief.mean)
    assert mean > 0.0
    unweighted, whole, above, below = critic_gradients(
        networks,
        (
            change(config, kl_weight=0.0),
            config,
            change(config, free_nats=0.99 * mean),
            change(config, free_nats=1.01 * mean),
        ),
    )
    for free, same in ((above, whole), (below, unweighted)):
        for a, b in zip(jax.tree.leaves(free), jax.tree.leaves(same), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_kl_gradient_of_the_last_bias_is_the_hand_computed_one(networks, critic_gradients_by_kl_weight):
    """d KL / d (mean bias m_j) = sum over tasks of z_mean_j, because every factor's mean moves along with the bias."""
    mean, variance = factors_by_hand(networks.encoder, LONG_CONTEXT)
    posterior_mean = (mean / variance).sum(axis=1) / (1 / variance).sum(axis=1)
    without, once = (gradient[0].biases[-1][:LATENT_DIM] for gradient in critic_gradients_by_kl_weight[:2])
    np.testing.assert_allclose(once - without, 0.1 * posterior_mean.sum(axis=0), rtol=1e-3, atol=1e-4)


def test_policy_and_value_losses_do_not_reach_the_encoder(networks):
    @jax.jit
    def gradients(networks):
        def z_of(encoder):
            trained = (encoder, networks.critics)
            return critic_loss(trained, networks, BATCH, LONG_CONTEXT, NOISE, SMALL)[1][0]

        def policy_loss(z):
            return soft_actor_critic.policy_loss(networks.policy, networks.critics, OBS, z, ACTION_NOISE, SMALL)[0]

        def value_loss(z):
            return soft_actor_critic.value_loss(networks.value, jnp.ones((2, 32)), OBS, z)[0]

        through = [jax.grad(lambda e, loss=loss: loss(z_of(e)))(networks.encoder) for loss in (policy_loss, value_loss)]
        at_z = [jax.grad(loss)(z_of(networks.encoder)) for loss in (policy_loss, value_loss)]
        return through, at_z

    through, at_z = gradients(networks)
    assert all((np.asarray(leaf) == 0.0).all() for leaf in jax.tree.leaves(through))
    assert all((np.asarray(leaf) != 0.0).all() for leaf in at_z), "the losses depend on z, it is the encoder they spare"


@pytest.fixture(scope="module")
def policy_gradients(networks) -> list[MLP]:
    """Gradients of the policy loss without regularisers, with the one of the mean, with the one of the deviation."""
    weights = ((0.0, 0.0), (0.5, 0.0), (0.0, 0.5))
    configs = [change(SMALL, policy_mean_reg_weight=mean, policy_std_reg_weight=std) for mean, std in weights]
    z = jnp.asarray(Z_NOISE)[:, None]

    @jax.jit
    def gradients(networks):
        args = (networks.policy, networks.critics, OBS, z, ACTION_NOISE)
        return [jax.grad(soft_actor_critic.policy_loss, has_aux=True)(*args, config)[0].mlp for config in configs]

    return gradients(networks)


def test_each_policy_regulariser_changes_the_gradient_by_the_hand_computed_amount(networks, policy_gradients):
    """d (w mean over rows and dims of x^2) / d (bias of head j) = 2 w / action_dim * mean over rows of x_j."""
    z = np.broadcast_to(Z_NOISE[:, None], (2, 32, LATENT_DIM))
    rows = forward(networks.policy.mlp, BATCH.obs, z).reshape(64, 2 * ACTION_DIM).mean(axis=0)
    without, with_mean, with_std = (np.asarray(gradient.biases[-1]) for gradient in policy_gradients)
    mean_head, std_head = slice(None, ACTION_DIM), slice(ACTION_DIM, None)
    expected = 2 * 0.5 / ACTION_DIM * rows
    np.testing.assert_allclose((with_mean - without)[mean_head], expected[mean_head], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose((with_mean - without)[std_head], 0.0, atol=1e-6)
    np.testing.assert_allclose((with_std - without)[std_head], expected[std_head], rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose((with_std - without)[mean_head], 0.0, atol=1e-6)
    assert (np.abs(expected) > 1e-5).all()


def test_bellman_target_uses_the_scaled_training_reward_and_bootstraps_unless_terminated(networks):
    """Row 0 terminated, row 1 did not (a time limit is no termination: discount 1)."""
    batch = jax.tree.map(lambda x: x[:1, :2], BATCH)._replace(discount=np.array([[0.0, 1.0]], np.float32))
    context = jax.tree.map(lambda x: x[:1], LONG_CONTEXT)
    trained = (networks.encoder, networks.critics)

    @jax.jit
    def targets(target_value):
        def target_of(row):
            one = jax.tree.map(lambda x: x[:, row : row + 1], batch)
            noise = pearl.Noise(Z_NOISE[:1], ACTION_NOISE[:1])
            bootstrapping = networks._replace(target_value=target_value)
            return critic_loss(trained, bootstrapping, one, context, noise, SMALL)[1]

        return [target_of(row) for row in range(2)]

    target_value = louder(networks.target_value, 1000.0)
    (z, ended), (_, at_limit) = targets(target_value)
    next_value = forward(target_value, batch.next_obs[0], np.broadcast_to(z[0], (2, LATENT_DIM)))[:, 0]
    assert (np.abs(next_value) > 0.05).all()
    np.testing.assert_allclose(ended["q_target_mean"], 5.0 * batch.training_reward[0, 0], rtol=1e-5)
    expected = 5.0 * batch.training_reward[0, 1] + 0.5 * next_value[1]
    np.testing.assert_allclose(at_limit["q_target_mean"], expected, rtol=1e-5)

    x = (batch.obs[0], batch.action[0], np.broadcast_to(z[0], (2, LATENT_DIM)))
    q = np.stack([forward(critic, *x)[:, 0] for critic in networks.critics])
    np.testing.assert_allclose(at_limit["critic_loss"], ((q[:, 1] - expected) ** 2).sum(), rtol=1e-4)


def test_the_two_critics_start_different_and_the_target_starts_as_v():
    fresh = fresh_networks(SMALL, seed=3)
    for q1, q2 in zip(fresh.critics[0].weights, fresh.critics[1].weights, strict=True):
        assert (np.asarray(q1) != np.asarray(q2)).all()
    assert_trees_equal(fresh.value, fresh.target_value)
