"""A belief that goes by predicted rewards: what the predictor learns from, and what a trial makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pearl_parts import (
    ACTION_DIM,
    FAMILY,
    GOALS,
    LATENT_DIM,
    OBS_DIM,
    SMALL,
    change,
    forward,
    made_up_transitions,
    update,
)

import nacre
from nacre.algorithms import pearl
from nacre.families.catalog import FAMILIES
from nacre.learning import off_policy, soft_actor_critic
from nacre.presets.pearl import PearlSettings
from nacre.report.paper_figures import PAPER_FIGURES
from nacre.simulation import rollout
from nacre.types import Belief, Transition

PREDICTS = change(SMALL, predict_rewards=True)
BY_REWARDS = change(PREDICTS, exploration="hypotheses")
KNOWN = Belief(
    jnp.asarray([[1.0, 0.0, 0.0], [0.0, 1.0, 0.5], [-1.0, 0.0, 2.0], [0.0, -1.0, 0.0]]),
    jnp.asarray([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1], [0.5, 0.5, 0.5], [0.1, 0.1, 0.1]]),
)


def after_update(config: PearlSettings, seed: int = 0) -> tuple[soft_actor_critic.Networks, Any]:
    """Networks and metrics after one update on made-up data."""
    networks, optimisers = pearl.init_learner(OBS_DIM, ACTION_DIM, config, jax.random.key(0))
    batch, context = made_up_transitions(seed, 3, 32), made_up_transitions(1, 3, 32)
    noise = off_policy.draw_noise(jax.random.key(2), batch.action.shape, LATENT_DIM, config)
    networks, _, metrics = update(networks, optimisers, batch, context, noise, config)
    return networks, metrics


def test_nothing_else_learns_from_predicting_rewards() -> None:
    (without, metrics), (with_it, more) = after_update(SMALL), after_update(PREDICTS)
    assert without.rewards is None and set(more) - set(metrics) == {"rewards_loss"}
    for one, other in zip(jax.tree.leaves(without), jax.tree.leaves(with_it._replace(rewards=None)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_it_learns_the_rewards_that_an_agent_is_told_unscaled() -> None:
    rewards = pearl.init_learner(OBS_DIM, ACTION_DIM, PREDICTS, jax.random.key(0))[0].rewards
    batch, z = made_up_transitions(0, 3, 32), jnp.asarray(KNOWN.mean[:3, None])
    predicted = forward(rewards, batch.obs, batch.action, np.broadcast_to(z, (3, 32, LATENT_DIM)))[..., 0]
    loss, _ = soft_actor_critic.rewards_loss(rewards, batch, z)
    np.testing.assert_allclose(loss, np.mean((predicted - np.asarray(batch.reward)) ** 2), rtol=1e-5)
    _, metrics = after_update(PREDICTS)
    assert metrics["rewards_loss"].shape == () and metrics["rewards_loss"] > 0


def test_it_comes_to_tell_tasks_apart() -> None:
    """Where reward is the first number of z, so that an update's own z say what it is."""
    rewards = pearl.init_learner(OBS_DIM, ACTION_DIM, PREDICTS, jax.random.key(0))[0].rewards
    batch, z = made_up_transitions(0, 4, 64), KNOWN.mean[:, None]
    batch = batch._replace(reward=jnp.broadcast_to(z[..., 0], (4, 64)))
    gradient = jax.jit(jax.grad(lambda network: soft_actor_critic.rewards_loss(network, batch, z)[0]))
    for _ in range(300):
        rewards = jax.tree.map(lambda x, slope: x - 0.05 * slope, rewards, gradient(rewards))
    assert soft_actor_critic.rewards_loss(rewards, batch, z)[0] < 0.01


def params_of(config: PearlSettings) -> pearl.Params:
    networks = pearl.init_learner(OBS_DIM, ACTION_DIM, config, jax.random.key(0))[0]
    params = pearl.Params(networks.encoder, networks.policy, rewards=networks.rewards)
    return pearl.exploring_params(params, KNOWN, FAMILY, config)


def errors_by_hand(params: pearl.Params, seen: list[Transition], forgetting: float = 1.0) -> np.ndarray:
    """[lane, hypothesis], in NumPy, less the least of a lane."""
    total = np.zeros((3, len(KNOWN.mean)))
    for one in seen:
        predicted = [forward(params.rewards, one.obs, one.action, np.tile(z, (3, 1)))[:, 0] for z in KNOWN.mean]
        total = forgetting * total + (np.stack(predicted, axis=1) - np.asarray(one.reward)[:, None]) ** 2
    return total - total.min(axis=1, keepdims=True)


@pytest.mark.parametrize(
    "changes",
    [
        {}, dict(use_prior_factor=True), dict(forgetting=0.7), dict(encoder="recurrent"),
        dict(use_information_bottleneck=False),
    ],
    ids=str,
)  # fmt: skip
def test_the_belief_is_that_about_the_train_task_whose_rewards_are_nearest(changes: dict[str, Any]) -> None:
    config = change(BY_REWARDS, **changes)
    agent, params = pearl.make_agent(FAMILY, config), params_of(config)
    memory = rollout.begin(agent, params, GOALS, jax.random.key(0))
    before = pearl.belief(memory, config)
    assert (np.asarray(before.mean) == 0).all()
    seen: list[Transition] = []
    for seed in range(6):
        seen.append(made_up_transitions(seed, 3))
        memory = rollout.observe(agent, params, memory, seen[-1], np.ones(3, bool))
        errors = errors_by_hand(params, seen, config.forgetting)
        np.testing.assert_allclose(memory.errors, errors, rtol=1e-4, atol=1e-4)
        found, nearest = pearl.belief(memory, config), errors.argmin(axis=1)
        np.testing.assert_allclose(found.mean, KNOWN.mean[nearest], atol=1e-6)
        variance = KNOWN.variance[nearest] if config.use_information_bottleneck else np.zeros((3, 3))
        np.testing.assert_allclose(found.variance, variance, rtol=1e-5)


def test_a_task_that_was_taken_for_another_is_found_after_all() -> None:
    """A product of factors stays as sure as it was; here what was wrong is given up."""
    config, params = BY_REWARDS, params_of(BY_REWARDS)
    agent = pearl.make_agent(FAMILY, config)
    memory = rollout.begin(agent, params, GOALS, jax.random.key(0))

    def told(memory: Any, number: int, seed: int) -> Any:
        """A transition that earns what this hypothesis predicts."""
        one = made_up_transitions(seed, 3)
        reward = forward(params.rewards, one.obs, one.action, np.tile(KNOWN.mean[number], (3, 1)))[:, 0]
        seen = one._replace(reward=jnp.asarray(reward, jnp.float32))
        return rollout.observe(agent, params, memory, seen, np.ones(3, bool))

    memory = told(memory, 2, 0)
    np.testing.assert_allclose(pearl.belief(memory, config).mean, np.tile(KNOWN.mean[2], (3, 1)), atol=1e-6)
    for seed in range(1, 4):
        memory = told(memory, 1, seed)
    np.testing.assert_allclose(pearl.belief(memory, config).mean, np.tile(KNOWN.mean[1], (3, 1)), atol=1e-6)


def test_a_reward_that_no_task_has_does_not_drown_what_comes_after() -> None:
    config, params = BY_REWARDS, params_of(BY_REWARDS)
    agent = pearl.make_agent(FAMILY, config)
    memory = rollout.begin(agent, params, GOALS, jax.random.key(0))
    outlier = made_up_transitions(0, 3)._replace(reward=jnp.full(3, 1e4))
    memory = rollout.observe(agent, params, memory, outlier, np.ones(3, bool))
    assert (np.asarray(memory.errors).min(axis=1) == 0).all()
    before = np.asarray(memory.errors, np.float64)
    one = made_up_transitions(1, 3)
    memory = rollout.observe(agent, params, memory, one, np.ones(3, bool))
    added = before + errors_by_hand(params, [one])
    np.testing.assert_allclose(memory.errors, added - added.min(axis=1, keepdims=True), rtol=1e-4, atol=1e-3)


def test_after_a_change_all_tasks_are_as_likely_again() -> None:
    config, params = BY_REWARDS, params_of(BY_REWARDS)
    agent = pearl.make_agent(FAMILY, config)
    memory = rollout.begin(agent, params, GOALS, jax.random.key(0))
    memory = rollout.observe(agent, params, memory, made_up_transitions(0, 3), np.ones(3, bool))
    assert np.asarray(memory.errors).any()
    anew = rollout.restart(agent, params, memory, GOALS, jax.random.key(1))
    assert not np.asarray(anew.errors).any() and not np.asarray(pearl.belief(anew, config).mean).any()


def test_what_critics_are_told_in_training_does_not_enter() -> None:
    params, agent = params_of(BY_REWARDS), pearl.make_agent(FAMILY, BY_REWARDS)
    memory, one = rollout.begin(agent, params, GOALS, jax.random.key(0)), made_up_transitions(0, 3)
    other = one._replace(training_reward=one.training_reward + 5.0)
    after = [rollout.observe(agent, params, memory, seen, np.ones(3, bool)) for seen in (one, other)]
    for left, right in zip(*map(jax.tree.leaves, after), strict=True):
        np.testing.assert_array_equal(left, right)


def test_trials_that_explore_by_the_prior_go_by_the_encoder(params: pearl.Params) -> None:
    agents = [pearl.make_agent(FAMILY, config) for config in (SMALL, PREDICTS)]
    memory = rollout.begin(agents[0], params, GOALS, jax.random.key(0))
    seen = [rollout.observe(one, params, memory, made_up_transitions(0, 3), np.ones(3, bool)) for one in agents]
    for left, right in zip(*map(jax.tree.leaves, seen), strict=True):
        np.testing.assert_array_equal(left, right)
    assert BY_REWARDS.by_rewards and not PREDICTS.by_rewards
    assert not change(BY_REWARDS, protocol="online-np").by_rewards  # which does not explore by hypotheses


def test_the_predictor_has_scaled_inputs_where_critics_have() -> None:
    config = change(PREDICTS, normalise_inputs="all")
    state = pearl.init(FAMILY, config, seed=0)
    moments = made_up_transitions(3)
    scaled = soft_actor_critic.with_scales(state.networks, moments, moments, config)
    np.testing.assert_array_equal(scaled.rewards.scale.mean, np.concatenate([moments.obs, moments.action]))
    assert state.networks.rewards.scale is not scaled.critics[0].scale


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("by-rewards") / "run"
    options: dict[str, Any] = dict(preset="smoke", exploration="hypotheses", predict_rewards=True, iterations=1)
    return nacre.train("pearl", "sparse-point-robot", out=out, **options).path


@pytest.mark.parametrize(
    "options", [{}, dict(protocol="online-np"), dict(exploration="prior"), dict(detect=0.1)], ids=str
)
def test_such_a_run_meets_tasks_in_every_way(run: Path, options: Any, tmp_path: Path) -> None:
    agent = nacre.load(run)
    exported = agent.export(tmp_path / "policy", **options)
    assert exported.self_test() < 1e-5
    if "detect" not in options:
        assert np.isfinite(agent.evaluate(**options)[0]).all()


def test_it_continues_and_is_pushed_and_its_loss_is_kept(run: Path, tmp_path: Path) -> None:
    nacre.push(run, tmp_path / "pushed")
    np.testing.assert_array_equal(nacre.load(run).evaluate()[0], nacre.load(tmp_path / "pushed").evaluate()[0])
    nacre.resume(run, iterations=2)
    header = (run / "metrics.csv").read_text().splitlines()[0]
    assert "rewards_loss" in header


def test_a_guard_of_factors_is_refused_where_there_are_none(run: Path, tmp_path: Path) -> None:
    agent, policy = nacre.load(run), tmp_path / "policy"
    assert agent.export(policy).about["training"]["factor"] is None
    for guards in ({"factor": "clip"}, {"factor": "clip", "precision": 1.0}):
        with pytest.raises(nacre.NacreError, match="whose belief is made of factors"):
            nacre.deploy.load(policy, guards=guards)
    agent.export(policy, exploration="prior", overwrite=True)  # goes by the encoder
    assert nacre.deploy.load(policy, guards={"factor": "clip"}).guard_counts == {"factor": 0}


def test_only_sparse_families_go_by_rewards_and_no_figure_of_the_paper_does() -> None:
    for name, family in FAMILIES.items():
        assert nacre.resolve("pearl", name, "fast").settings.by_rewards == family.sparse, name
        assert not nacre.resolve("pearl", name, "paper").settings.by_rewards
    for figure in PAPER_FIGURES.values():
        steps = [step for step in figure.steps("short", [0], Path("out")) if step.line.algorithm == "pearl"]
        assert not any(step.experiment.settings.predict_rewards for step in steps)
