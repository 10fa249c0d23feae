"""PEARL: the belief, with numbers worked out beside it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pearl_parts import (
    ACTION_DIM,
    LATENT_DIM,
    OBS_DIM,
    SMALL,
    assert_trees_equal,
    change,
    factors_by_hand,
    forward,
    fresh_networks,
    infer_posterior,
    louder,
    made_up_transitions,
)

from nacre.algorithms import pearl
from nacre.errors import NacreError
from nacre.types import Belief

CONTEXT = made_up_transitions(1, 2, 12)


def test_posterior_is_the_normalised_product_of_the_factor_densities(networks):
    means, variances = factors_by_hand(networks.encoder, CONTEXT)
    inferred = infer_posterior(networks.encoder, CONTEXT, SMALL)
    grid = np.linspace(-10, 10, 20001)
    for task in range(2):
        for dim in range(LATENT_DIM):
            mean, variance = means[task, :, dim, None], variances[task, :, dim, None]
            log_product = (-0.5 * (grid - mean) ** 2 / variance).sum(axis=0)
            density = np.exp(log_product - log_product.max())
            density /= density.sum()
            expected_mean = (grid * density).sum()
            np.testing.assert_allclose(inferred.mean[task, dim], expected_mean, rtol=1e-4, atol=1e-5)
            expected_variance = ((grid - expected_mean) ** 2 * density).sum()
            np.testing.assert_allclose(inferred.variance[task, dim], expected_variance, rtol=1e-4)


def test_posterior_does_not_depend_on_the_order_of_the_context(networks):
    order = np.random.default_rng(0).permutation(12)
    shuffled = jax.tree.map(lambda x: x[:, order], CONTEXT)
    for a, b in zip(
        infer_posterior(networks.encoder, CONTEXT, SMALL),
        infer_posterior(networks.encoder, shuffled, SMALL),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_masking_factors_is_the_same_as_slicing_the_context(networks):
    factors = pearl.encode(networks.encoder, CONTEXT, SMALL)
    for length in (1, 5, 12):
        mask = (np.arange(12) < length)[:, None]
        masked = pearl.posterior(pearl.Factors(*((x * mask).sum(axis=-2) for x in factors)), SMALL)
        sliced = pearl.infer_posterior(networks.encoder, jax.tree.map(lambda x, n=length: x[:, :n], CONTEXT), SMALL)
        np.testing.assert_allclose(masked.mean, sliced.mean, rtol=1e-5, atol=1e-7)
        np.testing.assert_allclose(masked.variance, sliced.variance, rtol=1e-5)


def test_kl_to_prior_is_summed_over_dimensions_and_tasks():
    mean, variance = np.array([[0.5, -1.0], [0.0, 2.0]]), np.array([[1.0, 0.25], [4.0, 0.1]])
    # By quadrature: KL = integral of q ln(q / p), one number a dimension and task.
    grid = np.linspace(-30, 30, 200001)
    total = 0.0
    for m, v in zip(mean.ravel(), variance.ravel(), strict=True):
        log_q = -0.5 * (grid - m) ** 2 / v - 0.5 * np.log(2 * np.pi * v)
        log_p = -0.5 * grid**2 - 0.5 * np.log(2 * np.pi)
        total += (np.exp(log_q) * (log_q - log_p)).sum() * (grid[1] - grid[0])
    np.testing.assert_allclose(pearl.kl_to_prior(Belief(jnp.asarray(mean), jnp.asarray(variance))), total, rtol=1e-5)


def test_z_has_the_mean_and_variance_of_the_belief():
    given = Belief(jnp.array([0.5, -2.0]), jnp.array([0.04, 9.0]))
    np.testing.assert_allclose(pearl.sample_z(given, jnp.array([1.0, -2.0])), [0.5 + 0.2, -2.0 - 2 * 3.0], rtol=1e-6)


def test_encoder_sees_next_obs_only_when_asked_to(networks):
    other = CONTEXT._replace(next_obs=CONTEXT.next_obs + 1.0)
    unseen = [infer_posterior(networks.encoder, context, SMALL) for context in (CONTEXT, other)]
    assert_trees_equal(*unseen)
    config = change(SMALL, use_next_obs_in_context=True)
    encoder = louder(fresh_networks(config, seed=0).encoder)
    assert encoder.weights[0].shape[0] == OBS_DIM + ACTION_DIM + 1 + OBS_DIM
    seen = [infer_posterior(encoder, context, config) for context in (CONTEXT, other)]
    assert (seen[0].mean != seen[1].mean).all()


def test_encoder_sees_the_reward_and_not_the_training_reward_or_the_end(networks):
    start = infer_posterior(networks.encoder, CONTEXT, SMALL)
    hidden = CONTEXT._replace(training_reward=CONTEXT.training_reward + 1.0, discount=1.0 - CONTEXT.discount)
    assert_trees_equal(start, infer_posterior(networks.encoder, hidden, SMALL))
    shown = infer_posterior(networks.encoder, CONTEXT._replace(reward=CONTEXT.reward + 1.0), SMALL)
    assert (start.mean != shown.mean).all()


def test_without_bottleneck_the_belief_is_the_point_at_the_mean_of_the_encodings():
    config = change(SMALL, use_information_bottleneck=False)
    encoder = louder(fresh_networks(config, seed=0).encoder)
    inferred = infer_posterior(encoder, CONTEXT, config)
    encodings = forward(encoder, CONTEXT.obs, CONTEXT.action, CONTEXT.reward[..., None])
    assert encodings.shape == (2, 12, LATENT_DIM)
    np.testing.assert_allclose(inferred.mean, encodings.mean(axis=1), rtol=1e-4, atol=1e-5)
    assert (np.asarray(inferred.variance) == 0.0).all()
    before = pearl.prior((2, LATENT_DIM), config)
    assert (np.asarray(before.mean) == 0.0).all() and (np.asarray(before.variance) == 0.0).all()


def test_with_a_prior_factor_the_belief_is_the_product_of_the_prior_and_the_factors(networks):
    config = change(SMALL, use_prior_factor=True)
    means, variances = factors_by_hand(networks.encoder, CONTEXT)
    precision = 1.0 + (1.0 / variances).sum(axis=1)  # of N(0, I), and of every transition
    inferred = infer_posterior(networks.encoder, CONTEXT, config)
    np.testing.assert_allclose(inferred.variance, 1.0 / precision, rtol=1e-4)
    np.testing.assert_allclose(inferred.mean, (means / variances).sum(axis=1) / precision, rtol=1e-4, atol=1e-5)


def test_with_a_prior_factor_transitions_that_tell_nothing_leave_the_belief_at_the_prior_however_many_there_are():
    nothing = pearl.Factors(jnp.zeros((2, LATENT_DIM)), jnp.zeros((2, LATENT_DIM)))
    for num_transitions in (0, 1, 400):
        memory = pearl.Memory(nothing, jnp.full(2, num_transitions), jnp.zeros(2, int), jnp.zeros((2, LATENT_DIM)))
        assert_trees_equal(
            pearl.belief(memory, change(SMALL, use_prior_factor=True)), pearl.prior((2, LATENT_DIM), SMALL)
        )


def test_a_point_estimate_with_a_prior_factor_is_refused():
    with pytest.raises(NacreError, match="--no-use-prior-factor"):
        change(SMALL, use_information_bottleneck=False, use_prior_factor=True)
