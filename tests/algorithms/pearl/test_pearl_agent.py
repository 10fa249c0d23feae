"""PEARL in meta-testing: the agent."""

from __future__ import annotations

import dataclasses
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
    factors_by_hand,
    forward,
    fresh_networks,
    infer_posterior,
    louder,
    made_up_transitions,
)

from nacre.algorithms import pearl
from nacre.presets.pearl import ACTING, PearlSettings
from nacre.simulation import rollout
from nacre.types import Transition

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


def test_settings_that_do_not_change_how_it_acts_give_the_same_agent():
    other = change(SMALL, learning_rate=1.0, iterations=7, num_evaluation_episodes=9, context="replay", hidden_dim=8)
    assert pearl.make_agent(FAMILY, other) is AGENT
    for name, value in (("use_prior_factor", True), ("protocol", "zero-shot"), ("num_exploration_episodes", 1)):
        assert pearl.make_agent(FAMILY, change(SMALL, **{name: value})) is not AGENT


@pytest.mark.parametrize("changes", [{}, {"encoder": "recurrent"}, {"protocol": "online-np"}], ids=str)
def test_an_agent_reads_no_setting_in_which_agents_that_share_its_code_may_differ(changes: dict[str, Any]) -> None:
    read: set[str] = set()

    class Noted(PearlSettings):
        def __getattribute__(self, name: str) -> Any:
            read.add(name)
            return super().__getattribute__(name)

    config = dataclasses.replace(SMALL, **changes)
    noted = Noted(**vars(config))
    read.clear()  # of what the constructor looked at
    agent = pearl._agent.__wrapped__(FAMILY, noted)

    def trial(key: Any) -> Any:
        networks = fresh_networks(config, 0)
        params = pearl.Params(networks.encoder, networks.policy)
        memory = agent.begin(params, GOALS, key)
        _, memory = agent.act(params, memory, jnp.zeros((3, OBS_DIM)), key, True)
        return agent.end_episode(params, agent.observe(params, memory, made_up_transitions(0, 3)), key)

    jax.eval_shape(trial, jax.random.key(0))
    fields = {field.name for field in dataclasses.fields(PearlSettings)}
    assert {"latent_dim", "protocol"} <= read & fields <= {*ACTING, "action_noise"}
    assert config.of_agent().action_noise == "white"  # of all but the one that collects
