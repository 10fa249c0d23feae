"""The session in NumPy follows the session in JAX."""

from __future__ import annotations

import numpy as np
import pytest
from exported import AGENTS, TASK, numpy_session, untrained

SLOW = ("pearl", "pearl, by the mean", "focal, samples", "offline pearl, one episode")
"""Of PEARL as it is, and of these protocols, others of the list and test_export.py have the parts."""


def test_an_exploring_episode_of_all_its_steps_ends_with_the_turn_of_a_hypothesis() -> None:
    method, settings, options = AGENTS["pearl, several hypotheses an episode"]
    agent = untrained(method, **settings)
    ours, theirs = numpy_session(agent, 7, **options), agent.session(7, **options)
    assert ours.about["agent"]["hypothesis_steps"] == 10 and ours.about["horizon"] == 20
    zero, found = np.zeros(2), []
    for _ in range(3):
        for _ in range(20):
            for session in (ours, theirs):
                session.act(zero)
                session.observe(zero, -1.0)
            found.append((ours._agent.z.copy(), np.asarray(theirs.memory.z)[0]))
        ours.end_episode()
        theirs.end_episode()
    own, other = np.moveaxis(np.array(found), 1, 0)
    assert np.abs(own - other).max() < 1e-5
    assert len(np.unique(own[:40].round(4), axis=0)) == 4


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name for name in AGENTS]
)
def test_a_numpy_session_follows_the_jax_session(name: str) -> None:
    method, settings, options = AGENTS[name]
    agent = untrained(method, **settings)
    ours, theirs = numpy_session(agent, 7, **options), agent.session(7, task=TASK.get(method), **options)
    rng, actions = np.random.default_rng(0), []
    if ours.about["trial"]["needs_logs"]:
        logged = agent.logged_episode(*(rng.uniform(-1, 1, shape) for shape in ((9, 2), (8, 2), 8)))
        ours.absorb(logged)
        theirs.absorb(logged)
    for episode in range(4):
        for _ in range(12):
            obs, next_obs, reward = rng.standard_normal(2), rng.standard_normal(2), float(rng.standard_normal())
            actions.append((ours.act(obs), theirs.act(obs)))
            done = np.array([0.5, -0.5]) if episode == 2 else None
            ours.observe(next_obs, reward, action=done)
            theirs.observe(next_obs, reward, action=done)
        ours.end_episode()
        theirs.end_episode()
        for own, other in zip(ours.belief, theirs.belief, strict=True):
            assert np.allclose(own, other, rtol=1e-5, atol=1e-6) and own.shape == other.shape
    own, other = np.moveaxis(np.array(actions), 1, 0)
    assert np.abs(own - other).max() < 1e-5
    assert own.std() > 0.05 and own.dtype == np.float32
    assert repr(ours) == repr(theirs)
