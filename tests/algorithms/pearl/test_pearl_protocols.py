"""PEARL by other protocols than the paper's: what z follows from, and what the scored episode cannot change."""

from __future__ import annotations

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pearl_parts import (
    ACTION_DIM,
    FAMILY,
    GOALS,
    SMALL,
    change,
    factors_by_hand,
    forward,
    last_layer,
    louder,
    made_up_transitions,
)

from nacre.algorithms import pearl
from nacre.presets.trials import TrialSettings
from nacre.simulation import rollout
from nacre.types import Logged

LOGGED = Logged(made_up_transitions(11, 3, 7), None, None, None, None)
"""Seven logged transitions for each of three lanes."""


def played(params: pearl.Params, protocol: str, tasks: Any = GOALS, **given: int) -> list[rollout.Played]:
    """One trial by a protocol, its key always the same."""
    trials = TrialSettings.of(SMALL).changed(protocol=protocol, **given)
    agent = pearl.make_agent(FAMILY, trials.applied_to(SMALL))
    logged = LOGGED if trials.meets.logs else None
    return list(rollout.trial(FAMILY, agent, params, tasks, jax.random.key(5), trials.episodes, logged))


def test_logged_transitions_give_the_belief_of_their_product(params):
    (scored,) = played(params, "offline-own-context")
    mean, variance = factors_by_hand(params.encoder, LOGGED.transition)
    precision = (1 / variance).sum(axis=1)
    before = pearl.belief(scored.memory_before, SMALL)
    np.testing.assert_allclose(before.mean, (mean / variance).sum(axis=1) / precision, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(before.variance, 1 / precision, rtol=1e-3)
    distance = (scored.memory_before.z - before.mean) / np.sqrt(before.variance)
    assert np.abs(distance).max() < 4 and np.abs(distance).min() > 0, "z is drawn from it"


def test_without_a_bottleneck_z_is_the_mean_encoding_of_the_logged_transitions(params):
    config = change(SMALL, use_information_bottleneck=False, protocol="offline-own-context")
    networks = pearl.init_learner(2, 2, config, jax.random.key(0))[0]
    params = pearl.Params(louder(networks.encoder), networks.policy)
    agent = pearl.make_agent(FAMILY, config)
    memory = rollout.begin(agent, params, GOALS, jax.random.key(0))
    memory = rollout.absorb(agent, params, memory, LOGGED, jax.random.key(1))
    seen = LOGGED.transition
    encoded = forward(params.encoder, seen.obs, seen.action, seen.reward[..., None])
    np.testing.assert_allclose(memory.z, encoded.mean(axis=1), rtol=1e-3, atol=1e-4)


def test_zero_shot_acts_on_nothing_at_first_and_on_the_mean_of_all_so_far_at_every_step(params):
    (scored,) = played(params, "zero-shot")
    steps = scored.episode.transitions
    for time in (0, 1, 7):
        z = np.zeros((3, SMALL.latent_dim))
        if time:
            mean, variance = factors_by_hand(params.encoder, jax.tree.map(lambda x, t=time: x[:, :t], steps))
            z = (mean / variance).sum(axis=1) / (1 / variance).sum(axis=1)
        action = np.tanh(forward(params.policy.mlp, steps.obs[:, time], z)[:, :ACTION_DIM])
        np.testing.assert_allclose(steps.action[:, time], action, rtol=1e-3, atol=1e-5)


def constant(params: pearl.Params, mean: float, log_std: float) -> pearl.Params:
    """A policy that emits tanh(mean) with this standard deviation before the tanh, whatever it sees."""
    mlp = params.policy.mlp
    bias = jnp.concatenate([jnp.full(ACTION_DIM, mean), jnp.full(ACTION_DIM, log_std)])
    sure = last_layer(mlp, jnp.zeros_like(mlp.weights[-1]), bias)
    return params._replace(policy=eqx.tree_at(lambda policy: policy.mlp, params.policy, sure))


def test_online_np_is_uniform_in_the_first_half_of_the_exploration_steps_only(params):
    lanes = {"goal": np.tile(GOALS["goal"], (100, 1))}
    *explored, scored = played(constant(params, 1.0, -9.0), "online-np", lanes, episodes=4, exploration_episodes=3)
    actions = np.concatenate([np.asarray(one.episode.transitions.action) for one in explored], axis=1)
    uniform, sure = np.split(actions, 2, axis=1)
    assert actions.shape[1] == 60
    assert abs(uniform.mean()) < 0.01 and abs(uniform.std() - 1 / np.sqrt(3)) < 0.01 and np.abs(uniform).max() <= 1
    assert len(np.unique(uniform)) > 0.99 * uniform.size
    np.testing.assert_allclose(sure, np.tanh(1.0), atol=1e-2)
    np.testing.assert_allclose(scored.episode.transitions.action, np.tanh(1.0), rtol=1e-5)


def test_online_np_infers_z_at_every_exploration_step_and_none_in_the_scored_episode(params):
    first, scored = played(params, "online-np", episodes=2, exploration_episodes=1)
    mean, variance = factors_by_hand(params.encoder, jax.tree.map(lambda x: x[:, :-1], first.episode.transitions))
    expected = (mean / variance).sum(axis=1) / (1 / variance).sum(axis=1)
    np.testing.assert_allclose(first.memory_after.z, expected, rtol=1e-3, atol=1e-4)
    assert (np.asarray(scored.memory_before.z) != np.asarray(first.memory_after.z)).all()
    np.testing.assert_array_equal(scored.memory_before.z, scored.memory_after.z)


def test_online_np_samples_its_actions_until_the_scored_episode(params):
    noisy = constant(params, 0.0, 0.0)
    explored, scored = played(noisy, "online-np", episodes=2, exploration_episodes=1)
    assert len(np.unique(explored.episode.transitions.action)) == 3 * 20 * ACTION_DIM
    assert (np.asarray(scored.episode.transitions.action) == 0).all()


@pytest.mark.parametrize(
    "protocol", ["online-prior", "online-np", "offline-own-context", "offline-other-context", "zero-shot"]
)
def test_the_scored_episode_changes_nothing_that_it_acts_on(params, protocol):
    """The same trial but for the rewards of its last episode: its goals are elsewhere."""
    trials = TrialSettings.of(SMALL).changed(protocol=protocol)
    agent = pearl.make_agent(FAMILY, trials.applied_to(SMALL))
    scored = []
    for moved in (0.0, 0.5):
        tasks = {"goal": GOALS["goal"].copy()}
        logged = LOGGED if trials.meets.logs else None
        trial = rollout.trial(FAMILY, agent, params, tasks, jax.random.key(5), trials.episodes, logged)
        for _ in range(trials.episodes - 1):
            next(trial)
        tasks["goal"] += moved
        scored.append(next(trial))
    as_it_was, elsewhere = scored
    assert (as_it_was.episode.returns() != elsewhere.episode.returns()).all()
    for one, other in zip(
        jax.tree.leaves(as_it_was.memory_before), jax.tree.leaves(elsewhere.memory_before), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    acted, acted_elsewhere = (np.asarray(one.episode.transitions.action) for one in scored)
    np.testing.assert_array_equal(acted[:, 0], acted_elsewhere[:, 0])
    if protocol == "zero-shot":
        assert (acted[:, 1:] != acted_elsewhere[:, 1:]).mean() > 0.9
    else:
        np.testing.assert_array_equal(acted, acted_elsewhere)


def test_meta_training_collects_as_it_does_whatever_the_protocol_of_its_tests():
    names = ("online-prior", "online-np", "zero-shot")
    usual, *others = (pearl.procedure(FAMILY, change(SMALL, protocol=name)).agent for name in names)
    assert all((other.act, other.begin) == (usual.act, usual.begin) for other in others)
