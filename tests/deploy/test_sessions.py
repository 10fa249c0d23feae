"""A trained agent one step at a time: sessions."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import numpy as np
import pytest
from walking import Walk, believed

import nacre
from nacre.deploy.trained_agent import TrainedAgent


def test_a_session_starts_at_the_prior_whatever_came_before(agent: nacre.TrainedAgent) -> None:
    agent.adapt(Walk(), episodes=2)
    mean, variance = believed(agent, agent.session().memory)
    assert np.array_equal(mean, np.zeros(5)) and np.array_equal(variance, np.ones(5))


def test_every_observation_narrows_the_belief_of_its_own_session_only(agent: nacre.TrainedAgent) -> None:
    session, other = agent.session(seed=0), agent.session(seed=0)
    _, before = believed(agent, session.memory)
    for _ in range(3):
        session.act([0.0, 0.0])
        session.observe([0.1, 0.0], -1.0)
        _, after = believed(agent, session.memory)
        assert (after < before).all()
        before = after
    assert (believed(agent, other.memory)[1] == 1.0).all()


def test_two_sessions_side_by_side_act_as_each_would_alone(agent: nacre.TrainedAgent) -> None:
    def alone(seed: int, reward: float) -> list[np.ndarray]:
        steps = played(agent.session(seed), reward)
        return [next(steps) for _ in range(6)]

    def played(session: nacre.Session, reward: float) -> Any:
        for step in range(6):
            yield session.act([0.1 * step, -0.2])
            session.observe([0.1 * step + 0.1, -0.2], reward)
            if step % 2:
                session.end_episode()

    first, second = played(agent.session(1), -1.0), played(agent.session(2), -3.0)
    together = [(next(first), next(second)) for _ in range(6)]
    assert np.array_equal([a for a, _ in together], alone(1, -1.0))
    assert np.array_equal([b for _, b in together], alone(2, -3.0))
    assert not np.array_equal(alone(1, -1.0), alone(2, -3.0))


def test_the_same_observation_gives_the_same_action_within_an_episode(agent: nacre.TrainedAgent) -> None:
    session = agent.session(seed=3)
    first = session.act([0.3, 0.3])
    session.observe([0.3, 0.3], -0.5)
    assert np.array_equal(session.act([0.3, 0.3]), first)  # the mean action, z of the episode
    assert first.shape == (2,) and (np.abs(first) <= 1.0).all()


def test_an_episodes_end_draws_another_z(agent: nacre.TrainedAgent) -> None:
    session = agent.session(seed=3)
    before = np.asarray(session.memory.z)
    session.act([0.3, 0.3])
    session.observe([0.3, 0.3], -0.5)
    assert np.array_equal(np.asarray(session.memory.z), before)
    session.end_episode()
    assert not np.array_equal(np.asarray(session.memory.z), before)


def test_observing_what_no_action_led_to_is_refused(agent: nacre.TrainedAgent) -> None:
    session = agent.session()
    with pytest.raises(nacre.NacreError, match="act first"):
        session.observe([0.0, 0.0], 0.0)
    session.act([0.0, 0.0])
    session.observe([0.1, 0.0], 0.0)
    with pytest.raises(nacre.NacreError, match="act first"):
        session.observe([0.1, 0.0], 0.0)
    session.act([0.1, 0.0])
    session.end_episode()
    with pytest.raises(nacre.NacreError, match="act first"):
        session.observe([0.1, 0.0], 0.0)


def test_a_refused_observation_leaves_the_session_as_it_was(agent: nacre.TrainedAgent) -> None:
    session, untouched = agent.session(seed=8), agent.session(seed=8)
    for both in (session, untouched):
        both.act([0.0, 0.0])
    for obs, reward in (([0.1, 0.0], np.nan), ([np.nan, 0.0], -1.0), ([0.1], -1.0)):
        with pytest.raises(nacre.NacreError):
            session.observe(obs, reward)
    for both in (session, untouched):
        both.observe([0.1, 0.0], -1.0)
    for x, y in zip(believed(agent, session.memory), believed(agent, untouched.memory), strict=True):
        assert np.array_equal(x, y)


def test_an_episode_beyond_what_promp_remembers_is_told_once_an_episode() -> None:
    """Its memory holds the horizon's steps: those that follow do not change what it adapts to."""
    run = nacre.resolve("promp", "point-robot", "smoke")
    agent = TrainedAgent(
        run, run.draw_tasks(), run.algorithm.agent_params(run.algorithm.init(run.family, run.settings, 0))
    )
    horizon, adapted = agent.family.horizon, []
    for too_many in (0, 3):
        session = agent.session()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for step in range(horizon + too_many):
                session.act([0.1, 0.2])
                session.observe([0.1, 0.2], float(-step))
            session.end_episode()
            session.act([0.1, 0.2])
            session.observe([0.1, 0.2], 0.0)
        words = (
            f"more than {horizon} steps, the horizon of point-robot: promp on point-robot adapts to its first {horizon}"
        )
        assert [words in str(one.message) for one in told] == [True] * (too_many > 0)
        adapted.append(session.memory.policy)
    session = agent.session()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(2 * horizon - 2):  # half of them before it forgot
            session.act([0.1, 0.2])
            session.observe([0.1, 0.2], float(-step))
            if step == horizon - 2:
                session.forget()
    for within, beyond in zip(*map(jax.tree.leaves, adapted), strict=True):
        np.testing.assert_array_equal(within, beyond)
