"""A belief that fades, and z that follows it inside an episode: for tasks that change."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pearl_parts import FAMILY, GOALS, SMALL, change, made_up_transitions

import nacre
from nacre.algorithms import pearl
from nacre.presets.pearl import ACTING
from nacre.presets.trials import TrialSettings
from nacre.simulation import rollout
from nacre.types import Agent

ALIVE = np.ones(3, bool)


def agent_of(**settings: Any) -> Agent:
    return pearl.make_agent(FAMILY, change(SMALL, **settings))


def begun(agent: Agent, params: Any, num_episodes: int = SMALL.num_exploration_episodes) -> Any:
    """Three lanes after so many episodes without a step."""
    memory = rollout.begin(agent, params, GOALS, jax.random.key(0))
    return memory._replace(num_episodes=jnp.full(3, num_episodes))


def test_without_forgetting_factors_are_added_and_nothing_else_is_computed(params) -> None:
    agent, transition = agent_of(forgetting=1.0), made_up_transitions(1, 3)

    def as_published(params: Any, memory: Any, transition: Any) -> Any:
        seen = memory._replace(num_transitions=memory.num_transitions + 1)
        factors = pearl.encode(params.encoder, transition, SMALL)
        return seen._replace(factors=jax.tree.map(jnp.add, memory.factors, factors))

    arguments = (params, begun(agent, params), transition)
    assert str(jax.make_jaxpr(agent.observe)(*arguments)) == str(jax.make_jaxpr(as_published)(*arguments))


def test_n_equal_factors_have_the_precision_of_a_geometric_series(params) -> None:
    forgetting, number = 0.8, 7
    agent, transition = agent_of(forgetting=forgetting), made_up_transitions(2, 3)
    one = pearl.encode(params.encoder, transition, SMALL)
    memory = begun(agent, params)
    for _ in range(number):
        memory = rollout.observe(agent, params, memory, transition, ALIVE)
    times = (1 - forgetting**number) / (1 - forgetting)
    np.testing.assert_allclose(memory.factors.precision, times * one.precision, rtol=1e-5)
    belief = pearl.belief(memory, SMALL)
    np.testing.assert_allclose(belief.mean, one.weighted_mean / one.precision, rtol=1e-4, atol=1e-6)


def test_the_mean_is_acted_on_and_follows_every_step(params) -> None:
    agent = agent_of(resample="mean")
    memory, obs = begun(agent, params), np.zeros((3, 2), np.float32)
    for seed in range(3):
        action, memory = rollout.act(agent, params, memory, obs, jax.random.key(seed), 0, explore=False)
        mean = pearl.belief(memory, SMALL).mean
        np.testing.assert_array_equal(memory.z, mean)
        np.testing.assert_allclose(action, jnp.tanh(params.policy(obs, mean).mean), rtol=1e-6)
        memory = rollout.observe(agent, params, memory, made_up_transitions(seed, 3), ALIVE)


def test_z_is_drawn_from_the_belief_at_every_step(params) -> None:
    agent = agent_of(resample="step")
    memory, obs = begun(agent, params), np.zeros((3, 2), np.float32)
    for seed in range(5):
        memory = rollout.observe(agent, params, memory, made_up_transitions(seed, 3), ALIVE)
    belief = pearl.belief(memory, SMALL)
    drawn = np.stack([
        rollout.act(agent, params, memory, obs, jax.random.key(1), time, explore=False)[1].z for time in range(300)
    ])  # fmt: skip
    spread = np.sqrt(np.asarray(belief.variance))
    np.testing.assert_allclose(drawn.mean(axis=0), belief.mean, atol=float(4 * spread.max() / np.sqrt(300)))
    np.testing.assert_allclose(drawn.std(axis=0), spread, rtol=0.2)


@pytest.mark.parametrize("resample", ["step", "mean"])
def test_episodes_that_explore_keep_what_they_act_on(params, resample: str) -> None:
    agent = agent_of(resample=resample)
    memory = begun(agent, params, num_episodes=SMALL.num_exploration_episodes - 1)
    memory = rollout.observe(agent, params, memory, made_up_transitions(0, 3), ALIVE)
    _, after = rollout.act(agent, params, memory, np.zeros((3, 2)), jax.random.key(0), 0, explore=False)
    np.testing.assert_array_equal(after.z, memory.z)


def test_a_run_collects_as_published_however_it_is_tested() -> None:
    settings = change(SMALL, forgetting=0.9, resample="mean", exploration="hypotheses")
    collects = settings.of_collection()
    assert {name: getattr(collects, name) for name in ACTING} == {name: getattr(SMALL, name) for name in ACTING}


def test_trials_choose_both_and_protocols_that_infer_at_every_step_themselves_do_not() -> None:
    trials = TrialSettings.of(change(SMALL, forgetting=0.5, resample="step"))
    assert (trials.forgetting, trials.resample) == (0.5, "step")
    changed = trials.changed(forgetting=0.9, resample="mean")
    applied: Any = changed.applied_to(SMALL)
    assert (applied.forgetting, applied.resample) == (0.9, "mean")
    assert trials.changed(protocol="zero-shot").resample == "episode"
    with pytest.raises(nacre.NacreError, match="infers z at every step already"):
        trials.changed(protocol="zero-shot", resample="mean")


@pytest.mark.parametrize("forgetting", [0.0, 1.01, -1.0, float("nan")])
def test_a_belief_keeps_some_of_itself_and_not_more_than_all(forgetting: float) -> None:
    with pytest.raises(nacre.NacreError, match="change --forgetting"):
        change(SMALL, forgetting=forgetting)
    with pytest.raises(nacre.NacreError, match="change --forgetting"):
        TrialSettings.of(SMALL).changed(forgetting=forgetting)


def test_what_cannot_says_so() -> None:
    recurrent = TrialSettings.of(change(SMALL, encoder="recurrent"))
    with pytest.raises(nacre.NacreError, match="recurrent encoder decides itself"):
        recurrent.changed(forgetting=0.9)
    assert recurrent.changed(resample="mean").resample == "mean"
    other = TrialSettings.of(nacre.resolve("rl2", "point-robot").settings)
    with pytest.raises(nacre.NacreError, match="no belief that could fade"):
        other.changed(forgetting=0.9)
    with pytest.raises(nacre.NacreError, match="no belief to draw from"):
        other.changed(resample="mean")
    assert other.changed(forgetting=1.0, resample="episode") == other
    with pytest.raises(nacre.NacreError, match="did you mean 'mean'"):
        other.changed(resample="meen")
