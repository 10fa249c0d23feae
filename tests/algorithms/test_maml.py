"""MAML-TRPO and ProMP: the meta-gradient, the trust region, adaptation, and that adapting helps."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

import nacre
from made_up_rollouts import SMALL, a_policy, some_rollouts, some_steps
from nacre.algorithms import maml
from nacre.families.point import PointRobot
from nacre.learning import on_policy, trust_region
from nacre.learning.networks import GaussianPolicy, PolicyOutput
from nacre.learning.on_policy import Rollouts
from nacre.presets.maml import MamlTrpoSettings, PrompSettings
from nacre.simulation import rollout
from nacre.types import stream

FAMILY = PointRobot()


# Compiled as a whole: operation by operation the same takes many times as long.
adapt = jax.jit(maml.adapt, static_argnames="config")
advantages = jax.jit(on_policy.advantages, static_argnums=(1, 2))
log_density = jax.jit(on_policy.log_density)
kl_divergence = jax.jit(on_policy.kl_divergence)
outcome = jax.jit(maml.outcome, static_argnames="config")
trpo_update = jax.jit(maml.trpo_update, static_argnames="config")
promp_update = jax.jit(maml.promp_update, static_argnames="config")


@pytest.mark.parametrize("num_rollouts", [20, 10, 6])
def test_advantages_are_those_of_a_loop_in_float64(float64: None, num_rollouts: int):
    """Returns, ridge regression, temporal differences and normalisation, one rollout and one step at a time. The
    real steps of ten rollouts are fewer than ten for each of the eight features, and six rollouts could not have as
    many: there the baseline sees the time alone."""
    rollouts, gamma, lam = some_rollouts(3, num_rollouts, 9), 0.9, 0.7
    obs, reward, real = (np.asarray(x) for x in (rollouts.obs, rollouts.reward, rollouts.real))
    lengths = real.sum(axis=1)
    assert (lengths.sum() >= 80) == (num_rollouts == 20)
    features, targets = [], []
    for i, length in enumerate(lengths):
        for t in range(length):
            o, time = np.clip(obs[i, t], -10, 10), t / 100
            features.append([time, time**2, time**3, 1.0, *([*o, *o**2] if lengths.sum() >= 80 else [])])
            targets.append(sum(gamma ** (k - t) * reward[i, k] for k in range(t, length)))
    x, y = np.array(features), np.array(targets)
    values = x @ np.linalg.solve(x.T @ x + 1e-5 * np.eye(x.shape[1]), x.T @ y)
    expected, row = np.zeros(real.shape), 0
    for i, length in enumerate(lengths):
        v = np.append(values[row : row + length], 0.0)
        row += length
        delta = [reward[i, t] + gamma * v[t + 1] - v[t] for t in range(length)]
        for t in range(length):
            expected[i, t] = sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, length))
    expected = np.where(real, (expected - expected[real].mean()) / (expected[real].std() + 1e-8), 0.0)
    np.testing.assert_allclose(advantages(rollouts, gamma, lam), expected, atol=1e-9)


def test_steps_that_are_not_real_are_passed_over_wherever_they_stand(float64: None):
    """Two episodes of a trial, one after another, with padding between them: as if there were none."""
    whole = some_rollouts(0, 3, 7)._replace(real=np.ones((3, 7), bool))
    apart = jax.tree.map(lambda x: np.concatenate([x[:, :4], 9.0 + 0 * x[:, :3], x[:, 4:]], axis=1), whole)
    apart = apart._replace(real=np.array([[True] * 4 + [False] * 3 + [True] * 3] * 3))
    found, expected = (np.asarray(advantages(one, 0.9, 0.8)) for one in (apart, whole))
    np.testing.assert_allclose(found[:, [0, 1, 2, 3, 7, 8, 9]], expected, atol=1e-9)


def test_single_precision_bears_the_baseline():
    """Features from 1e-6 to 100 and 4,000 rows: within a thousandth of the returns' spread."""
    rng = np.random.default_rng(0)
    obs = rng.normal(size=(20, 200, 20)) * np.geomspace(0.01, 10, 20)
    target = obs[..., 0] * 30 + np.arange(200) / 7 + rng.normal(size=(20, 200))
    zeros, real = np.zeros((20, 200, 1), np.float32), np.ones((20, 200), bool)
    rollouts = Rollouts(np.float32(obs), zeros, zeros[..., 0], real)
    found = jax.jit(on_policy.fit_baseline)(rollouts, np.float32(target))
    o, t = np.clip(obs, -10, 10), np.arange(200)[None, :, None] * np.ones((20, 1, 1)) / 100
    x = np.concatenate([o, o**2, t, t**2, t**3, np.ones_like(t)], axis=-1).reshape(4000, -1)
    exact = x @ np.linalg.solve(x.T @ x + 1e-5 * np.eye(x.shape[1]), x.T @ target.ravel())
    assert np.abs(np.asarray(found).ravel() - exact).max() < 1e-3 * target.std()


def test_densities_and_divergences_are_those_of_gaussians(float64: None):
    rng = np.random.default_rng(0)
    mean, other, action = rng.normal(size=(3, 5, 2))
    log_std, log_other = rng.normal(size=(2, 5, 2)) * 0.3
    std, old, new = np.exp(log_std), PolicyOutput(mean, log_std), PolicyOutput(other, log_other)
    by_hand = np.log(np.exp(-0.5 * ((action - mean) / std) ** 2) / (std * np.sqrt(2 * np.pi))).sum(axis=-1)
    np.testing.assert_allclose(log_density(old, action), by_hand)
    draws = mean + std * rng.normal(size=(400_000, 5, 2))
    estimate = np.mean(log_density(old, draws) - log_density(new, draws), axis=0)
    np.testing.assert_allclose(kl_divergence(old, new), estimate, rtol=0.03)
    np.testing.assert_allclose(kl_divergence(old, old), 0.0, atol=1e-12)


def directional_errors(function: Any, policy: GaussianPolicy) -> np.ndarray:
    """Relative errors of the gradient against central differences, along random directions."""
    flat, unravel = ravel_pytree(policy)
    both = jax.jit(jax.value_and_grad(lambda x: function(unravel(x))))
    gradient, errors = both(flat)[1], []
    for seed in range(6):
        d = np.random.default_rng(seed).normal(size=flat.shape)
        d /= np.linalg.norm(d)
        numeric = (both(flat + 1e-5 * d)[0] - both(flat - 1e-5 * d)[0]) / 2e-5
        errors.append(abs(float(gradient @ d - numeric)) / float(np.linalg.norm(gradient)))
    return np.array(errors)


@pytest.mark.parametrize(("objective", "inner_steps"), [("likelihood_ratio", 2), ("log_likelihood", 1)])
def test_the_meta_gradient_is_exact_through_the_inner_steps(float64: None, objective: str, inner_steps: int):
    """Against finite differences in float64, of MAML's surrogate and of ProMP's objective; first order is not."""
    settings: dict[str, Any] = dict(num_inner_steps=inner_steps, inner_objective=objective, inner_learning_rate=0.5)
    config, policy = PrompSettings(**SMALL, **settings, inner_kl_weight=0.3), a_policy(1)
    steps, weight = some_steps(config), jnp.full(inner_steps, 0.3)
    # Where the ratio stands at its clip the objective has a corner; none does here.
    assert directional_errors(lambda p: maml.promp_loss(p, steps, weight, config)[0], policy).max() < 1e-6
    if inner_steps == 1:
        return  # what differs is what the inner steps ascend, in ProMP's objective as in MAML's
    surrogate = lambda policy, config=config: maml.outcome(policy, steps, config).surrogate  # noqa: E731
    assert directional_errors(surrogate, policy).max() < 1e-6
    cheap = PrompSettings(**SMALL, **settings, first_order=True)
    assert directional_errors(functools.partial(surrogate, config=cheap), policy).max() > 1e-2


def test_the_first_order_gradient_is_the_outer_one_where_adaptation_arrives(float64: None):
    """Mean over tasks of the outer loss's slope in the adapted parameters, by finite differences of those alone."""
    config, policy = (
        MamlTrpoSettings(**SMALL, first_order=True, num_inner_steps=2, inner_learning_rate=0.5),
        a_policy(1),
    )
    steps = some_steps(config)
    flat, unravel = ravel_pytree(policy)
    gradient = jax.jit(jax.grad(lambda x: maml.outcome(unravel(x), steps, config).surrogate))(flat)

    @jax.jit
    def outer_loss(x: Any, last: maml.Step) -> Any:
        gain = jnp.where(last.rollouts.real, maml.ratio(unravel(x), last) * last.advantage, 0.0)
        return -gain.sum() / last.rollouts.real.sum()

    for seed in range(3):
        d, slopes = jax.random.normal(jax.random.key(seed), flat.shape, flat.dtype), []
        for index in range(3):
            *inner, last = jax.tree.map(lambda x, index=index: x[index], steps)
            adapted = ravel_pytree(functools.reduce(lambda p, step: adapt(p, step, config), inner, policy))[0]
            outer = [float(outer_loss(adapted + h * d, last)) for h in (1e-5, -1e-5)]
            slopes.append((outer[0] - outer[1]) / 2e-5)
        np.testing.assert_allclose(gradient @ d, np.mean(slopes), rtol=1e-6, atol=1e-9)


def test_both_inner_objectives_have_one_gradient_but_not_one_curvature(float64: None):
    ratio, logs = (PrompSettings(**SMALL, inner_objective=o) for o in ("likelihood_ratio", "log_likelihood"))
    step = jax.tree.map(lambda x: x[0], some_steps(ratio)[0])
    flat, unravel = ravel_pytree(a_policy())
    losses = [lambda x, c=config: maml.inner_loss(unravel(x), step, c) for config in (ratio, logs)]
    first, second = (jax.jit(jax.grad(loss))(flat) for loss in losses)
    np.testing.assert_allclose(first, second, atol=1e-12)
    curvatures = [jax.jit(jax.hessian(loss))(flat) for loss in losses]
    assert np.abs(curvatures[0] - curvatures[1]).max() > 1e-3


def test_adaptation_is_a_policy_gradient_step_by_hand(float64: None):
    """One state, one action dimension apart: theta' = theta + alpha mean(A grad log pi), with finite differences."""
    config = MamlTrpoSettings(**SMALL, inner_learning_rate=0.2)
    step, policy = jax.tree.map(lambda x: x[0], some_steps(config)[0]), a_policy()
    flat, unravel = ravel_pytree(policy)

    @jax.jit
    def densities(x: Any) -> Any:
        return on_policy.log_density(unravel(x)(step.rollouts.obs), step.rollouts.action)

    def mean_of_logs(x: Any) -> float:
        return float(np.asarray(step.advantage * densities(x))[step.rollouts.real].mean())

    moved = ravel_pytree(adapt(policy, step, config))[0] - flat
    for index in (0, 7, len(flat) - 1):  # a weight, another, a standard deviation
        d = jnp.zeros_like(flat).at[index].set(1e-6)
        slope = (mean_of_logs(flat + d) - mean_of_logs(flat - d)) / 2e-6
        np.testing.assert_allclose(moved[index], 0.2 * slope, rtol=1e-5, atol=1e-9)


TINY = MamlTrpoSettings(**SMALL | {"hidden_dim": 2}, cg_iterations=200, cg_damping=0.1)


def test_trpo_lowers_the_surrogate_and_keeps_its_divergence(float64: None):
    config, policy = TINY, a_policy(hidden_dim=2)
    steps = some_steps(config, policy=policy)
    learner, metrics = trpo_update(maml.Learner(policy, None, jnp.zeros(1)), steps, config)
    before, after = (outcome(one, steps, config) for one in (policy, learner.policy))
    np.testing.assert_allclose(before.kl, 0.0, atol=1e-6)
    assert after.surrogate < before.surrogate and 0 < after.kl <= config.max_kl
    assert metrics["step_accepted"].shape == (1,)


def test_a_trpo_step_is_the_natural_gradient_by_the_whole_hessian(float64: None):
    """Of a tiny network: Hessian-vector products of MAML's own KL, through adaptation, and the step that they lead to,
    against the Hessian as a matrix and a direct solver."""
    config, policy = TINY, a_policy(hidden_dim=2)
    steps = some_steps(config, policy=policy)
    flat, unravel = ravel_pytree(policy)

    def kl(x: Any) -> Any:
        return maml.outcome(unravel(x), steps, config).kl

    @jax.jit
    def curvature(task: Any, x: Any, v: Any) -> Any:
        return trust_region.curvature_product(
            lambda x: maml.acts_adapted(unravel(x), task, config),
            lambda output: maml.divergence(output, task[-1]), x, v,
        )  # fmt: skip

    hessian = jax.jit(jax.hessian(kl))(flat)
    v = jnp.asarray(np.random.default_rng(0).normal(size=len(flat)))
    tasks = [jax.tree.map(lambda x, i=i: x[i], steps) for i in range(3)]
    exact = np.mean([curvature(one, flat, v) for one in tasks], axis=0)
    np.testing.assert_allclose(exact, hessian @ v, rtol=1e-9, atol=1e-12)
    slope = jax.jit(jax.grad(kl))
    np.testing.assert_allclose(exact, (slope(flat + 1e-5 * v) - slope(flat - 1e-5 * v)) / 2e-5, rtol=1e-5, atol=1e-7)

    gradient = jax.jit(jax.grad(lambda x: maml.outcome(unravel(x), steps, config).surrogate))(flat)
    damped = np.asarray(hessian) + 0.1 * np.eye(len(flat))
    natural = np.linalg.solve(damped, gradient)
    learner, metrics = trpo_update(maml.Learner(policy, None, jnp.zeros(1)), steps, config)
    length = np.sqrt(2 * config.max_kl / (natural @ damped @ natural)) * 0.8 ** float(metrics["backtracks"][0])
    moved = ravel_pytree(learner.policy)[0] - flat
    assert metrics["step_accepted"][0] == 1
    np.testing.assert_allclose(moved, -length * natural, atol=1e-3 * np.abs(moved).max())


def test_tasks_one_by_one_come_to_the_same_as_all_at_once(float64: None, monkeypatch: pytest.MonkeyPatch):
    config, policy = PrompSettings(**SMALL), a_policy()
    steps = some_steps(config, policy=policy)

    def loss(policy: GaussianPolicy) -> Any:
        return maml.promp_loss(policy, steps, jnp.ones(1), config)[0]

    found = {}
    for backend in ("cpu", "gpu"):
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        found[backend] = jax.tree.leaves(jax.jit(jax.value_and_grad(loss))(policy))
    for one, all_at_once in zip(found["cpu"], found["gpu"], strict=True):
        np.testing.assert_allclose(one, all_at_once, rtol=1e-10, atol=1e-14)


def test_promp_lowers_its_objective_and_adapts_its_penalty():
    still = PrompSettings(**SMALL)
    steps, learner = some_steps(still), maml.init(FAMILY, still, 0).learner
    for target, factor in ((1e-9, 2.0), (1e9, 0.5)):
        config = PrompSettings(**SMALL, adaptive_inner_kl=True, inner_kl_target=target)
        after, metrics = promp_update(learner, steps, config)
        assert metrics["outer_loss"].shape == (5,) and metrics["outer_loss"][-1] < metrics["outer_loss"][0]
        np.testing.assert_allclose(after.inner_kl_weight, factor * learner.inner_kl_weight)
    np.testing.assert_array_equal(promp_update(learner, steps, still)[0].inner_kl_weight, learner.inner_kl_weight)


def test_the_agent_adapts_from_the_meta_parameters_on_all_episodes_of_the_trial():
    config = MamlTrpoSettings(**SMALL)
    agent, params = maml.make_agent(FAMILY, config), maml.init(FAMILY, config, 3).learner.policy
    task = FAMILY.sample_tasks(np.random.default_rng(0), 2)
    played = list(rollout.trial(FAMILY, agent, params, task, jax.random.key(0), 3))
    adapt_to_trial = jax.jit(maml.adapt_to_trial, static_argnames="config")
    for lane in range(2):
        own = [jax.tree.map(lambda x, lane=lane: x[lane], one.memory_before.policy) for one in played]
        same = jax.tree.map(lambda a, b: bool(np.array_equal(a, b)), own[0], params)
        assert all(jax.tree.leaves(same)), "the first episode is the meta-parameters'"
        for index in (1, 2):
            episodes = [one.episode.transitions for one in played[:index]]
            fields = [[getattr(e, name)[lane] for e in episodes] for name in ("obs", "action", "reward")]
            seen = Rollouts(*map(np.stack, fields), np.ones((index, FAMILY.horizon), bool))
            expected = adapt_to_trial(params, seen, params(seen.obs), config)  # theta acted
            for ours, theirs in zip(jax.tree.leaves(own[index]), jax.tree.leaves(expected), strict=True):
                np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-5)
    again = list(rollout.trial(FAMILY, agent, params, task, jax.random.key(0), 3))
    np.testing.assert_array_equal(played[2].episode.transitions.action, again[2].episode.transitions.action)
    assert [agent.explores(index, 2) for index in range(3)] == [True, True, False]


def test_an_iteration_counts_all_its_steps_and_plays_the_tasks_that_its_key_draws(monkeypatch: pytest.MonkeyPatch):
    config = PrompSettings(**SMALL, num_inner_steps=2)
    tasks, played, collect = FAMILY.task_set(0, 3, 2), [], on_policy.collect
    monkeypatch.setattr(on_policy, "collect", lambda *args: (played.append(args[2]["goal"]), collect(*args))[1])
    state = maml.init(FAMILY, config, 0)
    for number in range(3):
        key = jax.random.fold_in(stream(state.key, "tasks"), number)
        drawn = on_policy.draw_tasks(FAMILY, config, tasks.train, key)["goal"]
        (after,), (metrics,) = next(maml.meta_train(FAMILY, config, tasks, [state]))
        assert after.env_steps == state.env_steps + 3 * 3 * 4 * FAMILY.horizon
        assert after.grad_steps == 5 * (number + 1) and after.meta_iterations == number + 1
        assert metrics["return_after"].shape == (5,)
        for goals in played[-3:]:
            np.testing.assert_array_equal(goals, drawn)
        state = after
    assert len(played) == 9 and len({goals.tobytes() for goals in map(np.asarray, played)}) > 1


def test_tasks_are_drawn_from_the_train_tasks_or_new_from_the_family():
    config, tasks = PrompSettings(**SMALL, num_inner_steps=2), FAMILY.task_set(0, 3, 2)
    drawn = on_policy.draw_tasks(FAMILY, config, tasks.train, jax.random.key(0))["goal"]
    assert {tuple(goal) for goal in drawn} <= {tuple(goal) for goal in tasks.train["goal"]}
    fresh = on_policy.draw_tasks(FAMILY, PrompSettings(**SMALL, fresh_tasks=True), tasks.train, jax.random.key(0))[
        "goal"
    ]
    assert not {tuple(goal) for goal in fresh} & {tuple(goal) for goal in tasks.train["goal"]}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["promp", "maml-trpo"])
def test_one_inner_step_makes_the_policy_better_on_goals_it_has_never_seen(method: str, tmp_path: Path):
    """On point-robot: the policy adapted to 20 episodes against the one before, both at their mean action."""
    run = nacre.train(method, "point-robot", seed=1, iterations=100, out=tmp_path / "run")
    agent = nacre.load(run.path)
    unadapted, adapted = (agent.evaluate("fresh:100", episodes=n)[0][..., -1].mean() for n in (1, 21))
    assert adapted > unadapted + 3.0, f"{unadapted:.1f} to {adapted:.1f}"
