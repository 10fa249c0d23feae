"""Actor-critics that learn from a log, given z: known answers of their parts, and what they learn on two arms."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nacre.learning import backbones
from nacre.learning.backbones import BACKBONES, Networks
from nacre.learning.networks import MLP, PolicyOutput
from nacre.learning.soft_actor_critic import Inferred
from nacre.presets.offline_context import OfflineContextSettings
from nacre.types import Transition

SMALL = OfflineContextSettings(
    latent_dim=1, hidden_dim=16, num_hidden_layers=1, encoder_hidden_dim=4, num_encoder_hidden_layers=1,
    normalise_rewards=False,
)  # fmt: skip


critic_target = jax.jit(backbones.critic_target, static_argnums=4)
awac_weights = jax.jit(backbones.awac_weights, static_argnums=1)
divergence = jax.jit(backbones.divergence)


@functools.partial(jax.jit, static_argnums=0)
def networks(config: OfflineContextSettings) -> Networks:
    def make_encoder(key: Any) -> Any:
        return MLP(1, 2, 1, config.latent_dim, 0.1, key=key)

    return backbones.init_networks(1, 1, config, jax.random.key(0), make_encoder)


def test_the_expectile_of_one_half_is_the_mean_and_towards_one_the_largest() -> None:
    q = jnp.array([0.0, 1.0, 5.0])

    def best(expectile: float) -> float:
        v = jnp.linspace(-1, 6, 7001)
        losses = jax.vmap(lambda one: backbones.expectile_loss(q - one, expectile))(v)
        return float(v[jnp.argmin(losses)])

    assert best(0.5) == pytest.approx(2.0, abs=2e-3)
    assert best(0.8) == pytest.approx(3.5, abs=2e-3)  # 0.8 (5 - v) = 0.2 (v + v - 1)
    assert best(0.9999) == pytest.approx(5.0, abs=5e-3)


def test_awac_weights_have_mean_one_in_every_task_and_iql_s_are_limited() -> None:
    advantage = np.float32(np.random.default_rng(0).normal(size=(3, 8)) * [[0.1], [1], [50]])
    weights = np.asarray(awac_weights(advantage, 3.0))
    np.testing.assert_allclose(weights.mean(axis=1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(awac_weights(advantage, 0.0), 1.0)  # clones the log
    np.testing.assert_allclose(weights[1, 0] / weights[1, 1], np.exp(3 * (advantage[1, 0] - advantage[1, 1])), 1e-4)
    given = backbones.iql_weights(jnp.array([-1.0, 0.0, 1.0, 1e9]), SMALL)
    np.testing.assert_allclose(given, [np.exp(-3), 1, np.exp(3), 100], rtol=1e-6)


def test_the_dual_form_of_the_divergence() -> None:
    """KL(N(1, 1) || N(0, 1)) = 1/2, reached where softplus(c) = p/b = exp(a - 1/2); c = 0 says -0.0597 whatever pi."""
    noise = np.random.default_rng(0).normal(size=200_000)

    def c(action: Any) -> Any:
        ratio = np.exp(action - 0.5)
        return np.float32(ratio + np.log(-np.expm1(-ratio)))

    assert float(divergence(c(noise), c(noise + 1))) == pytest.approx(0.5, abs=0.01)
    assert float(divergence(np.float32(0 * noise), np.float32(0 * noise))) == pytest.approx(-0.0597, abs=1e-4)


def test_the_gradient_penalty_is_of_the_gradient_by_the_action() -> None:
    """A flat c is free however large it is (the released code's penalty is not); a slope of 3 costs (3 - 1)^2."""
    rng = np.random.default_rng(0)
    obs, action, z = (jnp.asarray(rng.normal(size=s)) for s in ((2, 5, 1), (2, 5, 1), (2, 1, 1)))
    shapes = jax.eval_shape(lambda key: MLP(3, 4, 1, 1, 1.0, key=key), jax.random.key(0))
    c = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    gradient_penalty = jax.jit(backbones.gradient_penalty)

    def penalty(slope: float) -> float:
        c.weights[0][1, 0], c.weights[1][0, 0] = slope, 1.0
        c.biases[0][:], c.biases[1][:] = 100.0, 50.0
        return float(gradient_penalty(c, obs, action, z))

    assert penalty(0.0) == 0.0
    assert penalty(0.9) == 0.0
    assert penalty(3.0) == pytest.approx(4.0, rel=1e-5)


def test_likelihoods_of_actions_at_the_bounds_and_beyond_are_tame() -> None:
    output = PolicyOutput(jnp.array([[0.0], [9.0], [-9.0]]), jnp.array([[0.0], [-50.0], [50.0]]))
    action = jnp.array([[1.0], [1.0], [1.2]])
    likelihood = backbones.log_likelihood(output, action)
    std = np.exp([-1.5, -5.0, 2.0])
    error = np.array([1.0, 0.0, 2.0]) / std
    np.testing.assert_allclose(likelihood, -0.5 * error**2 - np.log(std) - 0.5 * np.log(2 * np.pi), rtol=1e-4)
    slope = jax.grad(lambda raw: backbones.log_likelihood(PolicyOutput(output.mean, raw), action).sum())
    assert np.isfinite(slope(output.log_std)).all()


@pytest.mark.parametrize("backbone", BACKBONES)
def test_nothing_is_bootstrapped_after_a_fall_and_all_of_it_after_a_time_limit(backbone: str) -> None:
    config = dataclasses.replace(SMALL, backbone=backbone)
    batch = Transition(
        *(np.ones((1, 2, *s), np.float32) for s in ((1,), (1,), (), ())),
        np.array([[0.0, 1.0]], np.float32),
        np.ones((1, 2, 1), np.float32),
    )
    nets, z, key = networks(config), np.zeros((1, 1, 1), np.float32), jax.random.key(1)
    nets = nets._replace(reward_scale=jnp.asarray(2.0))
    target = critic_target(nets, batch, z, key, config)
    after = jax.jit(BACKBONES[backbone].next_value, static_argnums=4)(nets, batch, z, key, config)
    np.testing.assert_allclose(target, [[2.0, 2.0 + 0.99 * float(after[0, 1])]], rtol=1e-6)
    assert after[0, 1] != 0


def on_two_arms(config: OfflineContextSettings, num_updates: int = 400) -> Networks:
    """Learns from a log of one step that draws an arm: actions around -0.5 pay 0, those around 0.5 pay 1, both half of
    the time. There are two tasks: in the other one the arms are swapped, and z tells which it is."""
    key = jax.random.key(0)
    nets = networks(config)

    def infer(encoder: Any) -> Inferred:
        return Inferred(jnp.array([[[1.0]], [[-1.0]]]), jnp.zeros(()), {})

    def body(carry: Any, number: Any) -> Any:
        draw_key, noise_key, update_key = jax.random.split(jax.random.fold_in(key, number), 3)
        arm = jax.random.choice(draw_key, jnp.array([-0.5, 0.5]), (2, 16, 1))
        arm += 0.1 * jax.random.normal(noise_key, arm.shape)
        reward = (arm[..., 0] * jnp.array([[1.0], [-1.0]]) > 0).astype(jnp.float32)
        zero = jnp.zeros((2, 16))
        batch = Transition(zero[..., None], arm, reward, reward, zero, zero[..., None])
        return backbones.update(*carry, batch, infer, update_key, config)[:2], None

    def run(learner: Any) -> Any:
        return jax.lax.scan(body, learner, jnp.arange(num_updates))[0][0]

    return jax.jit(run)((nets, backbones.init_optimisers(nets)))


@pytest.mark.parametrize(  # sac is brac without a part
    "backbone", ["iql", *(pytest.param(name, marks=pytest.mark.slow) for name in ("awac", "brac"))]
)
def test_every_backbone_finds_the_better_arm_of_each_task(backbone: str) -> None:
    config = dataclasses.replace(
        SMALL, backbone=backbone, learning_rate=1e-2, soft_target_tau=0.05, expectile=0.99, inverse_temperature=5.0,
        divergence_learning_rate=1e-2, divergence_weight=0.1, divergence_target=1.0,
    )  # fmt: skip
    nets = on_two_arms(config)
    z, obs = jnp.array([[1.0], [-1.0]]), jnp.zeros((2, 1))
    action = jnp.tanh(nets.policy(obs, z).mean)[:, 0]
    assert action[0] > 0.35 and action[1] < -0.35
    if backbone == "iql":  # V is the best arm's value, not the mean
        np.testing.assert_allclose(nets.value(obs, z)[:, 0], 1.0, atol=0.1)
        np.testing.assert_allclose(action, [0.5, -0.5], atol=0.1)
