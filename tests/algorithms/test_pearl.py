"""PEARL: the belief, the losses, the agent, collection and meta-training, with numbers worked out beside them."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.algorithms import pearl
from nacre.errors import NacreError
from nacre.families.family import Family, JaxStep, TaskSet
from nacre.families.point import PointRobot
from nacre.learning import collection, off_policy, soft_actor_critic
from nacre.learning.collection import Buffers, Phases
from nacre.learning.networks import MLP
from nacre.learning.replay import PAGE, Replay, unpack
from nacre.presets.pearl import PearlConfig
from nacre.simulation import rollout
from nacre.types import Belief, Transition, stream

FAMILY = PointRobot()
critic_loss = functools.partial(soft_actor_critic.critic_loss, objective=pearl.OBJECTIVE)
update = functools.partial(soft_actor_critic.update, objective=pearl.OBJECTIVE)
OBS_DIM, ACTION_DIM, LATENT_DIM = 2, 2, 3
SMALL = PearlConfig(
    num_train_tasks=3, num_test_tasks=2, iterations=2, num_initial_episodes=1, num_tasks_sample=3, num_prior_episodes=1,
    num_posterior_episodes=2, num_extra_rl_episodes=1, num_train_steps_per_iteration=400, meta_batch=3,
    batch_size=32, context_batch_size=32, latent_dim=LATENT_DIM, hidden_dim=32, num_hidden_layers=2,
    encoder_hidden_dim=32, reward_scale=5.0, discount=0.5, learning_rate=1e-2, kl_weight=0.01,
    num_evaluation_episodes=4, num_exploration_episodes=2,
)  # fmt: skip
GOALS = {"goal": np.array([[1.0, 0.0], [-0.5, 0.9], [-0.5, -0.9]])}
"""One goal a train task; every collection below is three lanes wide, so that it compiles once."""


def change(config: PearlConfig, **fields: Any) -> PearlConfig:
    return dataclasses.replace(config, **fields)


def made_up_transitions(seed: int, *shape: int) -> Transition:
    """Random numbers of the right shapes; the training reward is not the reward."""
    rng = np.random.default_rng(seed)

    def normal(*dims: int) -> np.ndarray:
        return rng.standard_normal((*shape, *dims)).astype(np.float32)

    action, discount = np.tanh(normal(ACTION_DIM)), (normal() > 0).astype(np.float32)
    return Transition(normal(OBS_DIM), action, normal(), normal(), discount, normal(OBS_DIM))


@functools.partial(jax.jit, static_argnames="config")
def fresh_networks(config: PearlConfig, seed: int) -> soft_actor_critic.Networks:
    return pearl.init_learner(OBS_DIM, ACTION_DIM, config, jax.random.key(seed))[0]


def forward(mlp: MLP, *inputs: Any) -> np.ndarray:
    """The network in NumPy, float64."""
    h = np.concatenate([np.asarray(x, np.float64) for x in inputs], axis=-1)
    for layer, (weight, bias) in enumerate(zip(mlp.weights, mlp.biases, strict=True)):
        h = (np.maximum(h, 0.0) if layer else h) @ np.asarray(weight, np.float64) + np.asarray(bias, np.float64)
    return h


def factors_by_hand(encoder: MLP, context: Transition) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of every transition's factor, in NumPy."""
    raw = forward(encoder, context.obs, context.action, np.asarray(context.reward)[..., None])
    mean, before_softplus = np.split(raw, 2, axis=-1)
    return mean, np.logaddexp(0.0, before_softplus)


def last_layer(mlp: MLP, weight: Any, bias: Any) -> MLP:
    weights, biases = (*mlp.weights[:-1], jnp.asarray(weight)), (*mlp.biases[:-1], jnp.asarray(bias))
    return eqx.tree_at(lambda m: (m.weights, m.biases), mlp, (weights, biases))


def louder(mlp: MLP, factor: float = 100.0) -> MLP:
    """The network with a larger last layer: at initialisation its outputs hardly depend on its inputs."""
    return last_layer(mlp, mlp.weights[-1] * factor, mlp.biases[-1] * factor)


def assert_trees_equal(a: Any, b: Any) -> None:
    leaves_a, leaves_b = (
        [
            np.asarray(jax.random.key_data(x) if jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key) else x)
            for x in tree
        ]
        for tree in (jax.tree.leaves(a), jax.tree.leaves(b))
    )
    assert len(leaves_a) == len(leaves_b)
    for x, y in zip(leaves_a, leaves_b, strict=True):
        np.testing.assert_array_equal(x, y)


def copied(tree: Any) -> Any:
    """A copy whose buffers a compiled function may consume."""
    return jax.tree.map(lambda x: x.copy(), tree)


@pytest.fixture(scope="module")
def networks() -> soft_actor_critic.Networks:
    fresh = fresh_networks(SMALL, seed=0)
    return fresh._replace(encoder=louder(fresh.encoder), critics=tuple(louder(critic) for critic in fresh.critics))


@pytest.fixture(scope="module")
def params(networks) -> pearl.Params:
    return pearl.Params(networks.encoder, networks.policy)


# ----------------------------------------------------------------------------------------------------------------------
# The belief


infer_posterior = jax.jit(pearl.infer_posterior, static_argnames="config")
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


# ----------------------------------------------------------------------------------------------------------------------
# The losses


BATCH = made_up_transitions(2, 2, 32)
LONG_CONTEXT = made_up_transitions(3, 2, 32)
Z_NOISE = np.random.default_rng(4).standard_normal((2, LATENT_DIM)).astype(np.float32)
ACTION_NOISE = np.random.default_rng(5).standard_normal((2, 32, ACTION_DIM)).astype(np.float32)
NOISE = pearl.Noise(Z_NOISE, ACTION_NOISE)


def critic_gradients(networks: soft_actor_critic.Networks, configs: tuple[PearlConfig, ...]) -> list[tuple[MLP, Any]]:
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
            return soft_actor_critic.policy_loss(networks.policy, networks.critics, BATCH.obs, z, ACTION_NOISE, SMALL)[
                0
            ]

        def value_loss(z):
            return soft_actor_critic.value_loss(networks.value, jnp.ones((2, 32)), BATCH.obs, z)[0]

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
        args = (networks.policy, networks.critics, BATCH.obs, z, ACTION_NOISE)
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


# Without V, and with a learnt temperature

DOUBLE_Q = change(SMALL, use_value_network=False, automatic_temperature=True)
NEXT_NOISE = np.random.default_rng(6).standard_normal((2, 32, ACTION_DIM)).astype(np.float32)


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
        double_q.policy, double_q.critics, BATCH.obs, z, ACTION_NOISE, config, soft_actor_critic.temperature(double_q)
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
        single.policy, fast, BATCH.obs, z, ACTION_NOISE, config, soft_actor_critic.temperature(single)
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


@pytest.mark.parametrize("use_value_network", [True, False])
@pytest.mark.parametrize("automatic", [True, False])
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


def test_the_two_critics_start_different_and_the_target_starts_as_v():
    fresh = fresh_networks(SMALL, seed=3)
    for q1, q2 in zip(fresh.critics[0].weights, fresh.critics[1].weights, strict=True):
        assert (np.asarray(q1) != np.asarray(q2)).all()
    assert_trees_equal(fresh.value, fresh.target_value)


# ----------------------------------------------------------------------------------------------------------------------
# Meta-testing: the agent

AGENT = pearl.make_agent(FAMILY, SMALL)


def observed(params: pearl.Params, transitions: Transition) -> pearl.Memory:
    """The memory of three lanes that have met these transitions [lane, time, ...] one at a time."""
    memory = rollout.begin(AGENT, params, GOALS, jax.random.key(0))
    for time in range(transitions.reward.shape[1]):
        now = jax.tree.map(lambda x, t=time: x[:, t], transitions)
        memory = rollout.observe(AGENT, params, memory, now, np.ones(3, bool))
    return memory


@pytest.fixture(scope="module")
def experienced(params) -> pearl.Memory:
    return observed(params, made_up_transitions(7, 3, 9))


def test_belief_accumulated_one_transition_at_a_time_is_the_posterior_of_the_whole_context(params, experienced):
    accumulated = pearl.belief(experienced, SMALL)
    at_once = infer_posterior(params.encoder, made_up_transitions(7, 3, 9), SMALL)
    np.testing.assert_allclose(accumulated.mean, at_once.mean, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(accumulated.variance, at_once.variance, rtol=1e-4)
    assert np.asarray(experienced.num_transitions).tolist() == [9, 9, 9]


def test_new_task_starts_at_the_prior_whatever_came_before(params, experienced):
    experienced_belief = pearl.belief(experienced, SMALL)
    assert (np.asarray(experienced_belief.variance) < 0.5).all()
    memory = rollout.begin(AGENT, params, GOALS, jax.random.key(1))
    start = pearl.belief(memory, SMALL)
    assert (np.asarray(start.mean) == 0.0).all() and (np.asarray(start.variance) == 1.0).all()
    assert np.asarray(memory.num_transitions).tolist() == np.asarray(memory.num_episodes).tolist() == [0, 0, 0]


def test_a_trial_does_not_depend_on_the_trials_before_it(params):
    def returns(key: int) -> np.ndarray:
        trial = rollout.trial(FAMILY, AGENT, params, GOALS, jax.random.key(key), 3)
        return np.stack([played.episode.returns() for played in trial])

    first, other, again = returns(0), returns(1), returns(0)
    np.testing.assert_array_equal(first, again)
    assert (first != other).all()


def test_a_trial_infers_its_belief_from_all_episodes_so_far(params):
    trial = list(rollout.trial(FAMILY, AGENT, params, GOALS, jax.random.key(2), 3))
    for index, played in enumerate(trial):
        seen = [earlier.episode.transitions for earlier in trial[: index + 1]]
        context = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *seen)
        mean, variance = factors_by_hand(params.encoder, context)
        precision = (1 / variance).sum(axis=1)
        after = pearl.belief(played.memory_after, SMALL)
        np.testing.assert_allclose(after.variance, 1 / precision, rtol=1e-3)
        np.testing.assert_allclose(after.mean, (mean / variance).sum(axis=1) / precision, rtol=1e-3, atol=1e-4)
        assert np.asarray(played.memory_after.num_transitions).tolist() == [20 * (index + 1)] * 3
        if index:
            assert (np.asarray(played.memory_before.z) != np.asarray(trial[index - 1].memory_before.z)).all()


def test_actions_without_exploration_repeat_and_with_exploration_do_not(params, experienced):
    obs = made_up_transitions(8, 3).obs

    def act(key: int, explore: bool) -> np.ndarray:
        return np.asarray(rollout.act(AGENT, params, experienced, obs, jax.random.key(key), 0, explore=explore)[0])

    mean = forward(params.policy.mlp, obs, experienced.z)[:, :ACTION_DIM]
    np.testing.assert_allclose(act(0, False), np.tanh(mean), rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(act(0, False), act(1, False))
    explored = np.stack([act(key, True) for key in range(5)])
    assert len(np.unique(explored)) == explored.size
    assert (np.abs(explored) < 1.0).all()


def test_pearl_never_explores_by_action_noise_in_a_trial():
    assert not any(AGENT.explores(episode, 2) for episode in range(3))


def sure_of(mean: float, num_episodes: int, lanes: int) -> pearl.Memory:
    """A memory whose belief is N(mean, 1e-8) in every dimension."""
    precision = jnp.full((lanes, LATENT_DIM), 1e8)
    count = jnp.full(lanes, num_episodes, jnp.int32)
    return pearl.Memory(pearl.Factors(precision, mean * precision), count + 20, count, jnp.full_like(precision, 9.0))


def test_z_is_redrawn_at_every_episode_end_from_the_prior_while_exploring_and_from_the_belief_after(params):
    lanes = 1000
    ended = {}
    for before in range(4):
        for key in range(2):
            memory = rollout.end_episode(AGENT, params, sure_of(0.7, before, lanes), jax.random.key(key))
            assert (np.asarray(memory.num_episodes) == before + 1).all()
            ended[before, key] = np.asarray(memory.z)
    # num_exploration_episodes is 2: after the first episode the second still draws from the prior.
    np.testing.assert_allclose(ended[0, 0].mean(), 0.0, atol=4 / np.sqrt(lanes * LATENT_DIM))
    np.testing.assert_allclose(ended[0, 0].std(), 1.0, atol=0.06)
    for before in (1, 2, 3):
        np.testing.assert_allclose(ended[before, 0], 0.7, atol=1e-3)
    for before in range(4):
        assert (ended[before, 0] != ended[before, 1]).mean() > 0.9


def test_belief_of_an_ending_episode_is_kept_for_the_next(params):
    memory = rollout.end_episode(AGENT, params, sure_of(0.7, 0, 3), jax.random.key(0))
    np.testing.assert_allclose(pearl.belief(memory, SMALL).mean, 0.7, rtol=1e-5)
    np.testing.assert_allclose(pearl.belief(memory, SMALL).variance, 1e-8, rtol=1e-5)


def test_without_bottleneck_z_is_zero_before_any_context_and_the_mean_encoding_after():
    config = change(SMALL, use_information_bottleneck=False)
    fresh = fresh_networks(config, seed=0)
    params = pearl.Params(louder(fresh.encoder), fresh.policy)
    trial = list(rollout.trial(FAMILY, pearl.make_agent(FAMILY, config), params, GOALS, jax.random.key(0), 3))
    assert all((np.asarray(trial[index].memory_before.z) == 0.0).all() for index in (0, 1))
    seen = [played.episode.transitions for played in trial[:2]]
    context = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *seen)
    encodings = forward(params.encoder, context.obs, context.action, context.reward[..., None])
    np.testing.assert_allclose(trial[2].memory_before.z, encodings.mean(axis=1), rtol=1e-3, atol=1e-4)


# ----------------------------------------------------------------------------------------------------------------------
# Meta-training: collection


def rows(replay: Replay, task: int) -> Transition:
    """All transitions in a task's ring that has not wrapped, oldest first."""
    pages, size = np.asarray(replay.pages)[task], int(replay.size[task])
    at = np.arange(size)
    return unpack(np.asarray(replay.pool)[pages[at // PAGE] * PAGE + at % PAGE], OBS_DIM)


class Recorded(NamedTuple):
    """What one round of collection handed to `episode`, and got."""

    z: np.ndarray  # [lane, latent_dim]; of straight episodes the action, [lane, action_dim]
    goal: np.ndarray  # [lane, 2]
    transitions: Transition  # [lane, time, ...]
    length: np.ndarray  # [lane]


class Collected(NamedTuple):
    """A collection on top of the initial one, recorded."""

    before: pearl.State
    after: pearl.State
    rounds: list[Recorded]


DRAWN, PHASES = np.array([0, 2, 0]), Phases(prior=1, posterior=2, extra_rl_posterior=1)


def collect(
    state: pearl.State, drawn: np.ndarray, phases: Phases, config: PearlConfig = SMALL, family: Family = FAMILY
) -> pearl.State:
    """One run's collection."""
    procedure = pearl.procedure(family, config)
    return off_policy.collect(family, config, GOALS, [state], drawn[None], phases, procedure)[0]


def train(state: pearl.State, num_updates: int, config: PearlConfig = SMALL) -> tuple[pearl.State, pearl.Metrics]:
    """One run's updates."""
    (after,), (metrics,) = off_policy.train([state], pearl.procedure(FAMILY, config), num_updates)
    return after, metrics


@contextlib.contextmanager
def recording() -> Iterator[list[Recorded]]:
    """The rounds that are collected meanwhile."""
    rounds, original = [], collection.episode

    def recording_episode(family, agent, params, memory, task, key, *, explore):
        assert explore
        after, result = original(family, agent, params, memory, task, key, explore=explore)
        transitions, length, _ = jax.device_get(result)
        z = np.asarray(getattr(memory, "z", memory))
        rounds.append(Recorded(z, task["goal"], transitions, length))
        return after, result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(collection, "episode", recording_episode)
        yield rounds


def collect_recorded(
    state: pearl.State, config: PearlConfig, drawn: np.ndarray, phases: Phases, family: Family = FAMILY
) -> Collected:
    before = copied(state)
    with recording() as rounds:
        after = collect(copied(state), drawn, phases, config, family)
    return Collected(before, after, rounds)


def sure_encoder(encoder: MLP, mean: float) -> MLP:
    """An encoder whose factors are N(mean, 1e-7) whatever they see: the posterior is at the mean, the prior is not."""
    bias = np.repeat(np.float32([mean, -40.0]), LATENT_DIM)
    return last_layer(encoder, np.zeros(encoder.weights[-1].shape, np.float32), bias)


def with_encoder(state: pearl.State, encoder: MLP) -> pearl.State:
    return state._replace(networks=state.networks._replace(encoder=encoder))


@pytest.fixture(scope="module")
def initial() -> pearl.State:
    """After the initial collection; its encoder is sure that z is 0.7."""
    state = pearl.init(FAMILY, SMALL, seed=0)
    state = with_encoder(state, sure_encoder(state.networks.encoder, 0.7))
    return collect(state, np.arange(3), Phases(prior=1))


@pytest.fixture(scope="module")
def collected(initial) -> Collected:
    return collect_recorded(initial, SMALL, DRAWN, PHASES)


def test_initial_collection_fills_both_buffers_of_every_task(initial):
    assert initial.env_steps == 60
    for replay in (initial.rl_buffer, initial.context_buffer):
        assert np.asarray(replay.size).tolist() == [20, 20, 20]
    for task in range(3):
        assert_trees_equal(rows(initial.rl_buffer, task), rows(initial.context_buffer, task))


def test_collection_counts_environment_steps_and_fills_the_buffers_by_phase(collected):
    """Three draws of 20 prior, 40 posterior and 20 extra steps; the extra ones go to the RL buffer only."""
    assert collected.after.env_steps - collected.before.env_steps == 3 * (20 + 40 + 20)
    assert np.asarray(collected.after.rl_buffer.size).tolist() == [20 + 2 * 80, 20, 20 + 80]
    assert collected.after.grad_steps == 0 and collected.after.meta_iterations == 0


def test_a_draw_clears_the_context_of_its_task_and_of_no_other(collected):
    assert np.asarray(collected.after.context_buffer.size).tolist() == [60, 20, 60]
    assert_trees_equal(rows(collected.after.context_buffer, 1), rows(collected.before.context_buffer, 1))


def test_a_task_drawn_twice_keeps_the_context_of_its_last_draw_and_all_rl_data(collected):
    rounds = [recorded.transitions for recorded in collected.rounds]

    def of_lanes(rounds: list[Transition], lanes: list[int]) -> Transition:
        parts = [jax.tree.map(lambda x, i=i: x[i], transitions) for transitions in rounds for i in lanes]
        return jax.tree.map(lambda *x: np.concatenate(x), *parts)

    assert len(rounds) == 4
    context = of_lanes(rounds[:3], [2])
    assert_trees_equal(rows(collected.after.context_buffer, 0), context)
    earlier = rows(collected.before.rl_buffer, 0)
    everything = jax.tree.map(lambda old, new: np.concatenate([old, new]), earlier, of_lanes(rounds, [0, 2]))
    assert_trees_equal(rows(collected.after.rl_buffer, 0), everything)
    assert_trees_equal(rows(collected.after.context_buffer, 2), of_lanes(rounds[:3], [1]))


def test_collected_contexts_are_all_draws_of_a_task_less_the_extra_steps():
    config = change(SMALL, context="collected")
    state = collect(pearl.init(FAMILY, config, seed=0), np.arange(3), Phases(prior=1), config)
    for _ in range(SMALL.iterations):
        before = state
        recorded = collect_recorded(before, config, DRAWN, PHASES)
        state, rounds = recorded.after, [each.transitions for each in recorded.rounds[:3]]
        for task in range(3):
            lanes = np.flatnonzero(np.asarray(DRAWN) == task)
            parts = [rows(recorded.before.context_buffer, task)]
            parts += [jax.tree.map(lambda x, lane=lane: x[lane], each) for each in rounds for lane in lanes]
            everything = jax.tree.map(lambda *x: np.concatenate(x), *parts)
            assert_trees_equal(rows(state.context_buffer, task), everything)
    drawn = np.bincount(DRAWN, minlength=3) * SMALL.iterations
    assert np.asarray(state.context_buffer.size).tolist() == (20 + 60 * drawn).tolist()
    assert np.asarray(state.rl_buffer.size).tolist() == (20 + 80 * drawn).tolist()


@pytest.mark.parametrize("source", ["recent", "collected"])
def test_the_buffers_hold_all_that_a_run_collects_even_where_episodes_end_early(source):
    """Every draw of every iteration is of one task, so that its rings are as long as they can be."""
    family, config = Falling(), change(SMALL, context=source)
    state = collect(pearl.init(family, config, seed=0), np.arange(3), Phases(prior=1), config, family)
    for _ in range(config.iterations):
        state = collect(state, np.full(3, 2), PHASES, config, family)
    for replay in (state.rl_buffer, state.context_buffer):
        assert int(replay.next_page) * PAGE <= len(replay.pool)
        assert (np.asarray(replay.written) == np.asarray(replay.size)).all(), "no ring has wrapped"
    assert int(state.rl_buffer.size.sum()) == int(state.env_steps)
    assert int(state.context_buffer.size[2]) == (60 if source == "recent" else 20 + config.iterations * 3 * 60)


def test_every_draw_acts_in_its_own_task(collected):
    for recorded in collected.rounds:
        np.testing.assert_array_equal(recorded.goal, GOALS["goal"][DRAWN])
        distance = np.linalg.norm(recorded.transitions.next_obs - recorded.goal[:, None], axis=-1)
        np.testing.assert_allclose(recorded.transitions.reward, -distance, rtol=1e-5, atol=1e-6)


def test_first_episode_of_a_posterior_phase_uses_the_prior_and_the_next_the_posterior(collected):
    """Rounds: prior; posterior, first and second; extra, a posterior phase of its own. The posterior is at 0.7."""
    prior, posterior_first, posterior_second, extra_first = (recorded.z for recorded in collected.rounds)
    for z in (prior, posterior_first, extra_first):
        assert (np.abs(z - 0.7) > 1e-3).all()
    np.testing.assert_allclose(posterior_second, 0.7, atol=1e-3)
    every = np.concatenate([z.ravel() for z in (prior, posterior_first, posterior_second, extra_first)])
    assert len(np.unique(every)) == every.size, "z is drawn anew for every draw and episode"


def test_every_draw_infers_its_posterior_from_its_own_context(initial):
    """An encoder whose factor mean is the reward: z is then the mean reward of the draw's own episodes so far."""
    config = change(SMALL, context_batch_size=1000)
    encoder = initial.networks.encoder
    weights, biases = (
        [np.zeros(w.shape, np.float32) for w in encoder.weights],
        [np.zeros(b.shape) for b in encoder.biases],
    )
    weights[0][OBS_DIM + ACTION_DIM, 0] = -1.0  # rewards are negative: relu(-reward)
    weights[1][0, 0] = 1.0
    weights[2][0, :LATENT_DIM] = -1.0
    biases[2][LATENT_DIM:] = -40.0
    layers = tuple(tuple(jnp.asarray(x, jnp.float32) for x in part) for part in (weights, biases))
    encoder = eqx.tree_at(lambda m: (m.weights, m.biases), encoder, layers)

    collected = collect_recorded(with_encoder(initial, encoder), config, DRAWN, PHASES)
    own = [recorded.transitions.reward for recorded in collected.rounds[:2]]
    expected = np.concatenate(own, axis=1).mean(axis=1)
    assert abs(expected[0] - expected[2]) > 0.1, "two draws of the same task, told apart by their data"
    z = collected.rounds[2].z
    np.testing.assert_allclose(z, np.broadcast_to(expected[:, None], z.shape), atol=0.04)


def test_phases_collect_as_many_episodes_as_asked_for(initial):
    after = collect(copied(initial), np.array([1]), Phases(prior=3))
    assert after.env_steps - initial.env_steps == 60
    assert np.asarray(after.context_buffer.size).tolist() == [20, 60, 20]
    assert np.asarray(after.rl_buffer.size).tolist() == [20, 80, 20]


class Falling(PointRobot):
    """An episode ends at its tenth step where the goal lies below, and never where it lies above."""

    can_terminate: ClassVar[bool] = True

    def reset(self, key):
        position, obs = super().reset(key)
        return (position, 0), obs

    def step(self, state: Any, action: Any, task: Any) -> JaxStep:
        result = super().step(state[0], action, task)
        ends = (state[1] == 9) & (task["goal"][1] < 0)
        return result._replace(state=(result.state, state[1] + 1), terminated=ends)


def test_phases_go_on_until_they_have_real_transitions_enough(initial):
    """20 prior and 20 extra steps: of episodes that end at their tenth step it takes two, as padding does not count.

    Three lanes are wanted and four are played, a power of two: what the fourth did is dropped.
    """
    collected = collect_recorded(initial, SMALL, DRAWN, Phases(prior=1, extra_rl_posterior=1), Falling())
    assert [recorded.length.tolist() for recorded in collected.rounds] == [[20, 10, 20, 20], [10]] * 2
    assert collected.after.env_steps - initial.env_steps == 6 * 20
    assert np.asarray(collected.after.rl_buffer.size).tolist() == [20 + 4 * 20, 20, 20 + 2 * 20]
    assert np.asarray(collected.after.context_buffer.size).tolist() == [20, 20, 20]
    fallen = rows(collected.after.context_buffer, 2)
    assert np.flatnonzero(fallen.discount == 0).tolist() == [9, 19]
    assert collected.rounds[2].goal[1, 1] < 0 and collected.rounds[3].goal[0, 1] < 0


def test_collections_of_one_run_use_new_random_numbers(collected, initial):
    once = collected.rounds[0]
    again = collect_recorded(collected.after, SMALL, DRAWN, Phases(prior=1)).rounds[0]
    assert (once.transitions.obs != again.transitions.obs).all()
    assert (once.z != again.z).all()


def first_iteration(config: PearlConfig) -> tuple[pearl.State, pearl.State, list[Recorded]]:
    """(fresh state, state after the first block, rounds of the initial and the first collection), without updates."""
    tasks = TaskSet(GOALS, GOALS, 0)
    start = pearl.init(FAMILY, config, seed=4)
    with recording() as rounds, pytest.MonkeyPatch.context() as patch:
        patch.setattr(off_policy, "train", lambda states, procedure, num_updates: (states, [{}]))
        (after,), _ = next(pearl.meta_train(FAMILY, config, tasks, [copied(start)]))
    return start, after, rounds


@pytest.mark.parametrize("num_episodes", [0, 2])
def test_straight_episodes_hold_one_random_action_and_come_first(num_episodes):
    """Initial collection; then straight, prior, posterior (two rounds), extra."""
    num_steps = 20 * num_episodes
    _, after, rounds = first_iteration(change(SMALL, num_straight_episodes=num_episodes))
    held = [bool((t.action == t.action[:, :1]).all()) for t in (recorded.transitions for recorded in rounds)]
    assert held == ([True, True] if num_steps else [False]) + [False] * 4
    assert [len(recorded.length) for recorded in rounds] == [3, *([6] if num_steps else []), 3, 3, 3, 3]
    assert after.env_steps == 3 * (20 + num_steps + 20 + 40 + 20)
    drawn = {tuple(goal) for goal in rounds[-1].goal}
    sizes = [20 if tuple(goal) not in drawn else num_steps + 60 for goal in GOALS["goal"]]
    assert np.asarray(after.context_buffer.size).tolist() == sizes
    assert int(after.rl_buffer.size.sum()) == after.env_steps, "into both buffers"
    if num_steps:
        actions = np.concatenate([recorded.transitions.action[:, 0] for recorded in rounds[:2]])
        assert len(np.unique(actions)) == actions.size, "every episode and every axis has an action of its own"


def test_straight_actions_are_the_tanh_of_standard_normals_and_ask_no_policy():
    agent = collection._straight_agent(ACTION_DIM)
    memory = agent.begin(None, {"goal": np.zeros((20_000, 2))}, jax.random.key(0))
    action, after = agent.act(None, memory, np.ones((20_000, 2)), jax.random.key(1), True)
    np.testing.assert_array_equal(after, memory)
    noise = np.arctanh(np.asarray(action, np.float64))
    np.testing.assert_allclose(noise.mean(axis=0), 0.0, atol=0.03)
    np.testing.assert_allclose(noise.std(axis=0), 1.0, atol=0.03)


def test_initial_collection_in_groups_of_tasks_reaches_every_task_once(monkeypatch):
    """At most 20 environment steps side by side: one task at a time."""
    monkeypatch.setattr(collection, "INITIAL_STEPS", 20)
    _, after, rounds = first_iteration(change(SMALL, num_posterior_episodes=0, num_extra_rl_episodes=0))
    assert len(rounds) == 3 + 1
    np.testing.assert_array_equal(np.concatenate([recorded.goal for recorded in rounds[:3]]), GOALS["goal"])
    starts = np.concatenate([recorded.transitions.obs[:, 0] for recorded in rounds])
    assert len(np.unique(starts)) == starts.size, "every group draws its own random numbers"
    assert after.env_steps == 3 * 20 + 3 * 20
    drawn = [(GOALS["goal"] == goal).all(axis=1).argmax() for goal in rounds[3].goal]
    assert np.asarray(after.rl_buffer.size).tolist() == (20 + 20 * np.bincount(drawn, minlength=3)).tolist()
    assert np.asarray(after.context_buffer.size).tolist() == [20, 20, 20]


# ----------------------------------------------------------------------------------------------------------------------
# Meta-training: updates


class Blocks(NamedTuple):
    """The same 400 updates, as 200 + 200 and at once; what the first block started from."""

    start: pearl.State
    halfway: pearl.State
    in_two: pearl.State
    at_once: pearl.State
    metrics_in_two: list[dict[str, np.ndarray]]
    metrics_at_once: dict[str, np.ndarray]
    compilations: int


@pytest.fixture(scope="module")
def blocks(collected) -> Blocks:
    fresh = pearl.init(FAMILY, SMALL, seed=1)
    start = fresh._replace(rl_buffer=collected.after.rl_buffer, context_buffer=collected.after.context_buffer)
    compiled_before = off_policy.block._cache_size()
    halfway, first = train(copied(start), 200)
    in_two, second = train(copied(halfway), 200)
    compilations = off_policy.block._cache_size() - compiled_before
    at_once, metrics = train(copied(start), 400)
    return Blocks(
        start, halfway, in_two, at_once, jax.device_get([first, second]), jax.device_get(metrics), compilations
    )


def test_blocks_of_updates_compile_once(blocks):
    assert blocks.compilations == 1


def test_400_updates_at_once_are_twice_200_updates(blocks):
    assert_trees_equal(blocks.in_two, blocks.at_once)
    assert blocks.in_two.grad_steps == 400
    for name, at_once in blocks.metrics_at_once.items():
        assert at_once.shape == (400,)
        np.testing.assert_array_equal(np.concatenate([block[name] for block in blocks.metrics_in_two]), at_once)


def assert_all_networks_changed(start: pearl.State, end: pearl.State) -> None:
    for name in soft_actor_critic.Networks._fields:
        before, after = (jax.tree.leaves(getattr(state.networks, name)) for state in (start, end))
        changed = [(np.asarray(x) != np.asarray(y)).any() for x, y in zip(before, after, strict=True)]
        assert any(changed) or getattr(start.networks, name) is None, name


def test_a_block_is_one_update_after_another_on_what_is_drawn_from_the_replay(blocks):
    """The compiled scan against a plain loop, for as long as rounding stays small."""
    start = blocks.start
    learner, losses = (start.networks, start.optimisers), []
    take_step = jax.jit(update, static_argnames="config")
    for grad_step in range(5):
        key = jax.random.fold_in(stream(start.key, "train"), grad_step)
        drawn = pearl.draw(Buffers(start.rl_buffer, start.context_buffer), key, FAMILY, SMALL)
        *learner, metrics = take_step(*learner, *drawn, config=SMALL)
        losses.append(metrics["critic_loss"])
    np.testing.assert_allclose(losses, blocks.metrics_at_once["critic_loss"][:5], rtol=1e-3)


def test_updates_change_every_network_and_leave_the_buffers_alone(blocks):
    assert_all_networks_changed(blocks.start, blocks.halfway)
    assert_trees_equal(blocks.start.rl_buffer, blocks.halfway.rl_buffer)
    assert_trees_equal(blocks.start.context_buffer, blocks.halfway.context_buffer)
    assert len(np.unique(blocks.metrics_at_once["q_target_mean"])) == 400, "every update draws its own batch"


def test_critics_learn_from_the_rl_buffer_and_the_encoder_from_the_context_buffer(blocks):
    """What the first update of a block reports when one number of every transition in one of the buffers is raised."""

    def first_metrics(**changed: Replay) -> dict[str, float]:
        _, metrics = train(copied(blocks.start._replace(**changed)), 200)
        return {name: float(values[0]) for name, values in metrics.items()}

    def raised(replay: Replay, scalar: int) -> Replay:
        """One of the scalars behind observation and action: reward 0, training reward 1."""
        return replay._replace(pool=replay.pool.at[:, OBS_DIM + ACTION_DIM + scalar].add(100.0))

    start = first_metrics()
    rl = first_metrics(rl_buffer=raised(blocks.start.rl_buffer, 1))
    np.testing.assert_allclose(rl["q_target_mean"] - start["q_target_mean"], 5.0 * 100.0, rtol=1e-4)
    assert rl["posterior_mean_abs"] == start["posterior_mean_abs"] and rl["q_mean"] == start["q_mean"]
    assert first_metrics(rl_buffer=raised(blocks.start.rl_buffer, 0)) == start, "the critics do not read the reward"
    context = first_metrics(context_buffer=raised(blocks.start.context_buffer, 0))
    assert abs(context["posterior_mean_abs"] - start["posterior_mean_abs"]) > 0.01
    assert abs(context["q_target_mean"] - start["q_target_mean"]) < 0.1
    assert first_metrics(context_buffer=raised(blocks.start.context_buffer, 1)) == start


def test_a_deterministic_encoder_of_next_observations_trains(collected):
    """Both switches of the context at once; each alone is compared with the reference in test_golden.py."""
    config = change(SMALL, use_next_obs_in_context=True, use_information_bottleneck=False)
    fresh = pearl.init(FAMILY, config, seed=1)
    start = fresh._replace(rl_buffer=collected.after.rl_buffer, context_buffer=collected.after.context_buffer)
    after, metrics = train(copied(start), 200, config)
    assert all(np.isfinite(values).all() and values.shape == (200,) for values in metrics.values())
    assert (np.asarray(metrics["kl"]) == 0).all() and (np.asarray(metrics["posterior_variance"]) == 0).all()
    before, moved = fresh.networks.encoder.weights, after.networks.encoder.weights
    assert before[0].shape == (OBS_DIM + ACTION_DIM + 1 + OBS_DIM, 32) and before[-1].shape == (32, LATENT_DIM)
    for x, y in zip(before, moved, strict=True):
        assert (np.asarray(x) != np.asarray(y)).any()


@pytest.mark.parametrize("decay", [1.0, 0.1])
def test_the_step_size_falls_along_a_straight_line_to_its_share_at_the_end_of_the_run(decay):
    """With a gradient that stays, Adam's steps are the step size itself."""
    config = change(
        SMALL, learning_rate=0.01, learning_rate_decay=decay, iterations=2, num_train_steps_per_iteration=50
    )
    adam, gradient, steps = soft_actor_critic.adam(config), jnp.ones(()), []
    state = adam.init(gradient)
    for _ in range(101):
        change_, state = adam.update(gradient, state)
        steps.append(-float(change_))
    expected = 0.01 * (1.0 + (decay - 1.0) * np.arange(101) / 100)
    np.testing.assert_allclose(steps, expected, rtol=1e-3)


TASKS = FAMILY.task_set(1337, 3, 2)


def finished(state: pearl.State) -> tuple[pearl.State, list[dict[str, np.ndarray]]]:
    """The end of the run from this state on, and the metrics of every block."""
    metrics = []
    for (after,), (block,) in pearl.meta_train(FAMILY, SMALL, TASKS, [state]):
        state = after
        metrics.append(jax.device_get(block))
    return state, metrics


@pytest.fixture(scope="module")
def run() -> tuple[pearl.State, list[dict[str, np.ndarray]]]:
    """A run of two iterations in blocks of 200 updates, with seed 5."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(off_policy, "UPDATES_PER_CALL", 200)
        return finished(pearl.init(FAMILY, SMALL, 5))


def test_same_seed_same_numbers(run, monkeypatch):
    monkeypatch.setattr(off_policy, "UPDATES_PER_CALL", 200)
    again = finished(pearl.init(FAMILY, SMALL, 5))
    assert_trees_equal(run, again)
    other, _ = finished(pearl.init(FAMILY, SMALL, 6))
    assert (np.asarray(run[0].networks.encoder.weights[0]) != np.asarray(other.networks.encoder.weights[0])).all()


def test_a_run_counts_its_steps_updates_and_iterations(run):
    """Two iterations of 400 updates in blocks of 200; the initial 60 steps, then 3 draws of 80 steps, twice."""
    state, metrics = run
    assert [len(block["critic_loss"]) for block in metrics] == [200, 200, 200, 200]
    assert (state.env_steps, state.grad_steps, state.meta_iterations) == (60 + 2 * 240, 800, 2)


def test_a_run_continued_in_the_middle_of_an_iteration_is_the_run_uninterrupted(run, monkeypatch):
    monkeypatch.setattr(off_policy, "UPDATES_PER_CALL", 200)
    blocks = pearl.meta_train(FAMILY, SMALL, TASKS, [pearl.init(FAMILY, SMALL, 5)])
    first, second, ((third,), _) = (next(blocks) for _ in range(3))
    del first, second
    assert (third.grad_steps, third.meta_iterations) == (600, 1)
    end, metrics = finished(copied(third))
    assert len(metrics) == 1
    assert_trees_equal(end, run[0])


def test_critics_and_encoder_learn_what_only_the_context_tells(blocks):
    """Most of Q is the scaled reward, which depends on the goal: in the end a wrong context costs dearly."""
    state, losses = copied(blocks.at_once), [blocks.metrics_at_once["critic_loss"]]
    for _ in range(3):
        state, metrics = train(state, 200)
        losses.append(np.asarray(metrics["critic_loss"]))
    loss = np.concatenate(losses)
    assert loss[-50:].mean() < 0.05 * loss[:10].mean()

    tasks = (0, 2)
    context = jax.tree.map(lambda *x: np.stack(x), *(rows(state.context_buffer, task) for task in tasks))
    batch = jax.tree.map(lambda *x: np.stack([y[:100] for y in x]), *(rows(state.rl_buffer, task) for task in tasks))
    swapped = jax.tree.map(lambda x: x[::-1], context)
    trained = (state.networks.encoder, state.networks.critics)

    @jax.jit
    def critic_loss(context):
        no_noise = pearl.Noise(np.zeros((2, LATENT_DIM)), np.zeros(batch.action.shape))
        return critic_loss(trained, state.networks, batch, context, no_noise, SMALL)[1][1]

    assert critic_loss(swapped)["critic_loss"] > 10 * critic_loss(context)["critic_loss"]


# ----------------------------------------------------------------------------------------------------------------------
# Seeds side by side


def assert_trees_close(a: Any, b: Any, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        if jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_allclose(np.asarray(x), np.asarray(y), rtol=rtol, atol=atol)


SEEDS_DRAWN = np.array([[0, 2, 0], [1, 1, 2]])


@pytest.mark.parametrize("source", ["recent", "collected"])
@pytest.mark.parametrize("family", [FAMILY, Falling()], ids=["to the horizon", "falling"])
def test_seeds_side_by_side_collect_what_each_collects_alone(family, source):
    """With their own parameters, tasks and random numbers. Where episodes end early, they need different numbers."""
    phases = Phases(straight=1, prior=1, posterior=2, extra_rl_posterior=1)
    config = change(SMALL, num_straight_episodes=1, context=source)

    def start(seed: int) -> pearl.State:
        return collect(pearl.init(family, config, seed), np.arange(3), Phases(prior=1), config, family)

    procedure = pearl.procedure(family, config)
    together = off_policy.collect(family, config, GOALS, [start(1), start(2)], SEEDS_DRAWN, phases, procedure)
    for seed, drawn, state in zip((1, 2), SEEDS_DRAWN, together, strict=True):
        alone = collect(start(seed), drawn, phases, config, family)
        assert state.env_steps == alone.env_steps
        for ours, theirs in ((state.rl_buffer, alone.rl_buffer), (state.context_buffer, alone.context_buffer)):
            np.testing.assert_array_equal(ours.written, theirs.written)
            assert_trees_close(ours.pool, theirs.pool)
    assert (np.asarray(together[0].rl_buffer.pool[:20]) != np.asarray(together[1].rl_buffer.pool[:20])).any()


@pytest.mark.parametrize("config", [SMALL, change(DOUBLE_Q, normalise_critics=True)], ids=["paper", "without V"])
def test_seeds_side_by_side_learn_what_each_learns_alone(config, collected):
    """Over 20 updates from equal states; rounding grows with every update."""
    buffers = dict(rl_buffer=collected.after.rl_buffer, context_buffer=collected.after.context_buffer)
    config = change(config, learning_rate=1e-3)
    starts = [pearl.init(FAMILY, config, seed)._replace(**buffers) for seed in (1, 2, 3)]
    states, metrics = off_policy.train(copied(starts), pearl.procedure(FAMILY, config), 20)
    for start, state, measured in zip(starts, states, metrics, strict=True):
        alone, measured_alone = train(copied(start), 20, config)
        assert_trees_close(state, alone)
        assert_trees_close(measured, measured_alone, rtol=1e-3)
    assert_trees_equal(states[0].rl_buffer, starts[0].rl_buffer)


def test_seeds_side_by_side_go_through_a_run_together():
    config = change(SMALL, num_train_steps_per_iteration=10)
    starts = [pearl.init(FAMILY, config, seed) for seed in (1, 2)]
    for states, metrics in pearl.meta_train(FAMILY, config, TASKS, copied(starts)):  # noqa: B007
        assert [len(values["kl"]) for values in metrics] == [10, 10]
    assert [(s.env_steps, s.grad_steps, s.meta_iterations) for s in states] == [(60 + 2 * 240, 20, 2)] * 2
    for start, state in zip(starts, states, strict=True):
        (alone,) = list(pearl.meta_train(FAMILY, config, TASKS, [copied(start)]))[-1][0]
        np.testing.assert_array_equal(state.rl_buffer.written, alone.rl_buffer.written)
        assert_trees_close(state.networks.encoder, alone.networks.encoder, rtol=1e-2, atol=1e-3)
