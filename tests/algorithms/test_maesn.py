"""MAESN: adaptation of the latent distribution, the outer gradient, the agent, and an iteration."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from nacre.algorithms import maesn
from nacre.families.point import SparsePointRobot
from nacre.learning import trust_region
from nacre.learning.on_policy import Rollouts
from nacre.presets.maesn import MaesnSettings
from nacre.simulation import rollout

FAMILY = SparsePointRobot()
SMALL = MaesnSettings(
    num_train_tasks=4, num_test_tasks=2, tasks_per_iteration=3, rollouts_per_task=5, hidden_dim=6, iterations=3,
    inner_learning_rate=0.3, num_evaluation_episodes=4,
)  # fmt: skip


adapt = jax.jit(maesn.adapt)


@jax.jit
def a_model() -> maesn.Model:
    return maesn.init(FAMILY, SMALL, 0).model


def double(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(jnp.result_type(float)), tree)


def test_adaptation_is_a_policy_gradient_step_by_hand(float64: None):
    """d log N / d mu = (z - mu) / sigma^2 and d log N / d log sigma = ((z - mu) / sigma)^2 - 1, weighted by the returns
    less their mean, over their standard deviation; episodes that were not played do not count. An episode of weight 2
    counts as two."""
    rng = np.random.default_rng(0)
    z, returns, played = rng.normal(size=(6, 2)), rng.normal(size=6) * 9, np.array([True] * 4 + [False] * 2)
    mean, log_std = rng.normal(size=(2, 2)) * 0.3
    sizes = maesn.Latent(np.array([0.5, 0.1]), np.array([0.2, 0.3]))
    advantage = (returns[:4] - returns[:4].mean()) / returns[:4].std()
    error = z[:4] - mean
    to_mean = (advantage[:, None] * error / np.exp(2 * log_std)).mean(axis=0)
    to_log_std = (advantage[:, None] * (error**2 / np.exp(2 * log_std) - 1)).mean(axis=0)
    arrays = jax.tree.map(jnp.asarray, (maesn.Latent(mean, log_std), z, returns, played, sizes))
    adapted = adapt(*arrays)
    np.testing.assert_allclose(adapted.mean, mean + sizes.mean * to_mean, rtol=1e-6)
    np.testing.assert_allclose(adapted.log_std, log_std + sizes.log_std * to_log_std, rtol=1e-6)
    twice = adapt(*arrays, jnp.array([1.0, 2.0, 1.0, 1.0, 1.0, 1.0]) / 7)
    doubled = (*(x[jnp.array([0, 1, 1, 2, 3])] for x in arrays[1:3]), jnp.ones(5, bool))
    np.testing.assert_allclose(twice, adapt(arrays[0], *doubled, sizes), rtol=1e-6)
    for count in (0, 1):  # nothing to compare yet
        still = adapt(*arrays[:3], np.arange(6) < count, arrays[4])
        np.testing.assert_allclose(still.mean, mean)


def some_data(model: maesn.Model, config: MaesnSettings) -> maesn.Drawn:
    rng, tasks, each, horizon = np.random.default_rng(1), 3, 5, 7
    drawn = jnp.array([2, 0, 2])
    real = jnp.asarray(np.arange(horizon) < rng.integers(3, horizon + 1, (tasks, each, 1)))
    rollouts = Rollouts(
        *(jnp.asarray(rng.normal(size=(tasks, each, horizon, *size))) for size in ((2,), (2,), ())), real
    )
    before = maesn.Before(jnp.asarray(rng.normal(size=(tasks, each, 2))), jnp.asarray(rng.normal(size=(tasks, each))))
    noise = jnp.asarray(rng.normal(size=(tasks, each, 2)))

    @jax.jit
    def assessed(model: maesn.Model, rollouts: Rollouts) -> maesn.Drawn:
        latents = jax.tree.map(lambda x: x[drawn], model.latents)
        adapted = maesn._adapt(latents, before, model.step_sizes)
        z = maesn.draw_z(jax.tree.map(lambda x: x[:, None], adapted), noise)
        return maesn.Drawn(drawn, before, maesn._assess(model.policy, rollouts, z, noise, config))

    return assessed(model, rollouts)


def test_the_outer_gradient_is_exact_for_policy_latents_and_learning_rates(float64: None):
    """Against central differences in float64; tasks that were not drawn get none."""
    model = double(a_model())
    data = some_data(model, SMALL)
    flat, unravel = ravel_pytree(model)

    def loss(x: Any) -> Any:
        found = maesn.outcome(unravel(x), data)
        return found.surrogate + 0.3 * found.latent_kl

    rng = np.random.default_rng(0)
    flat = np.asarray(flat) + 0.05 * rng.normal(size=flat.shape)  # away from where KLs vanish
    both = jax.jit(jax.value_and_grad(loss))
    gradient = both(flat)[1]
    for d in rng.normal(size=(6, *flat.shape)):
        numeric = (both(flat + 1e-6 * d)[0] - both(flat - 1e-6 * d)[0]) / 2e-6
        np.testing.assert_allclose(gradient @ d, numeric, rtol=1e-5, atol=1e-8)
    parts = unravel(gradient)
    for leaf in jax.tree.leaves((parts.policy, parts.step_sizes)):
        assert (np.asarray(leaf) != 0).any()
    moved = np.abs(np.asarray(parts.latents.mean)).sum(axis=1) > 0
    assert moved.tolist() == [True, False, True, False]


def test_curvature_of_the_divergence_is_that_of_the_whole_hessian(float64: None):
    model = double(a_model())
    data = some_data(model, SMALL)
    flat, unravel = ravel_pytree(model)
    v = jnp.asarray(np.random.default_rng(0).normal(size=len(flat)))
    slope = jax.jit(jax.grad(lambda x: maesn.outcome(unravel(x), data).kl))
    np.testing.assert_allclose(slope(flat), 0.0, atol=1e-12)
    tasks = [jax.tree.map(lambda x, i=i: x[i], data) for i in range(3)]

    @jax.jit
    def curvature(one: maesn.Drawn) -> Any:
        return trust_region.curvature_product(
            lambda x: maesn.acts_adapted(unravel(x), one), lambda out: maesn.divergence(out, one), flat, v
        )

    found = [curvature(one) for one in tasks]
    exact = jax.jit(lambda x: jax.jvp(slope, (x,), (v,))[1])(flat)
    np.testing.assert_allclose(np.mean(found, axis=0), exact, rtol=1e-9, atol=1e-12)


def test_the_outer_step_lowers_its_loss_within_its_divergence():
    model = a_model()
    data = some_data(model, SMALL)
    outcome, update = jax.jit(maesn.outcome), jax.jit(maesn.update, static_argnames="config")
    np.testing.assert_allclose(outcome(model, data).kl, 0.0, atol=1e-6)
    after, metrics = update(model, data, config=SMALL)
    old, new = (outcome(one, data) for one in (model, after))
    assert new.surrogate + SMALL.kl_weight * new.latent_kl < old.surrogate + SMALL.kl_weight * old.latent_kl
    assert 0 < new.kl <= SMALL.max_kl and metrics["step_accepted"].tolist() == [1.0]


@pytest.mark.parametrize("num_steps", [pytest.param(1, marks=pytest.mark.slow), 3])
def test_the_agent_begins_at_the_prior_and_adapts_on_all_episodes_so_far(num_steps: int):
    config = dataclasses.replace(SMALL, num_adaptation_steps=num_steps)
    agent, state = maesn.make_agent(FAMILY, config), maesn.init(FAMILY, config, 0)
    step_sizes = jax.tree.map(lambda x: 0.3 * x, state.model.step_sizes)
    params = maesn.agent_params(state)._replace(step_sizes=step_sizes)
    played = list(
        rollout.trial(FAMILY, agent, params, FAMILY.sample_tasks(np.random.default_rng(0), 3), jax.random.key(0), 4)
    )
    first = played[0].memory_before
    assert (np.asarray(first.latent.mean) == 0).all() and (np.asarray(first.latent.log_std) == 0).all()
    assert len(np.unique(np.asarray(first.z))) == first.z.size
    returns, z, drawn_by = [], [], []
    for one, after in itertools.pairwise(played):
        reward = np.asarray(one.episode.transitions.reward)
        returns.append((reward * config.discount ** np.arange(FAMILY.horizon)).sum(axis=1))
        z.append(np.asarray(one.memory_before.z))
        drawn_by.append(jax.tree.map(np.asarray, one.memory_before.latent))
        for lane in range(3):
            seen = (np.stack(z)[:, lane], np.stack(returns)[:, lane], np.ones(len(z), bool))
            expected = maesn.latent_prior(2)
            for _ in range(num_steps):
                weight = [
                    min(density(seen[0][e], expected) / density(seen[0][e], jax.tree.map(lambda x: x[lane], d)), 1.0)  # noqa: B023
                    for e, d in enumerate(drawn_by)
                ]
                expected = adapt(expected, *map(jnp.asarray, seen), step_sizes, jnp.array(weight))
            latent = jax.tree.map(lambda x: x[lane], after.memory_before.latent)  # noqa: B023
            np.testing.assert_allclose(latent.mean, expected.mean, rtol=1e-3, atol=1e-5)
            np.testing.assert_allclose(latent.log_std, expected.log_std, rtol=1e-3, atol=1e-5)
    believed = maesn.belief(played[0].memory_before, config)
    assert (np.asarray(believed.variance) == 1).all()
    assert [agent.explores(index, 3) for index in range(4)] == [True, True, True, False]


def density(z: np.ndarray, latent: maesn.Latent) -> float:
    """Of a diagonal Gaussian, up to a constant factor."""
    std = np.exp(np.asarray(latent.log_std))
    return float(np.prod(np.exp(-0.5 * ((z - np.asarray(latent.mean)) / std) ** 2) / std))


def test_an_iteration_moves_the_latents_of_the_drawn_tasks_alone_and_counts_its_steps(monkeypatch: pytest.MonkeyPatch):
    config = dataclasses.replace(SMALL, num_train_tasks=9)
    tasks, state, played, episode = FAMILY.task_set(0, 9, 2), maesn.init(FAMILY, config, 0), [], maesn.episode
    monkeypatch.setattr(maesn, "episode", lambda *args, **kw: (played.append(args[4]["goal"]), episode(*args, **kw))[1])
    (after,), (metrics,) = next(maesn.meta_train(FAMILY, config, tasks, [state]))
    assert after.env_steps == 2 * 3 * 5 * FAMILY.horizon and after.grad_steps == 1 and after.meta_iterations == 1
    assert metrics["return_after"].shape == (1,)
    moved = np.flatnonzero((np.asarray(after.model.latents.mean) != 0).any(axis=1))
    assert 1 <= len(moved) <= 3 and len(played) == 2
    for goals in played:  # before and after adaptation, in the tasks whose latents have moved
        assert {tuple(goal) for goal in goals} == {tuple(goal) for goal in tasks.train["goal"][moved]}


def test_returns_of_episodes_are_discounted_and_without_padding():
    discounted = maesn.discounted_returns(
        Rollouts(jnp.zeros((1, 3, 1)), jnp.zeros((1, 3, 1)), jnp.ones((1, 3)), jnp.array([[True, True, False]])), 0.5
    )
    np.testing.assert_allclose(discounted, 1.5)
