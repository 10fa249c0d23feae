"""Actions that a session is told of lie in [-1, 1]: those of logs, and those that were carried out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from exported import AGENTS, numpy_session, untrained

import nacre
from nacre import types
from nacre.deploy import numpy_session as program
from nacre.deploy.numpy_session import Transitions

FAR, NEAR, ZERO = np.array([0.0, 1.01]), np.array([0.0, 1.00005]), np.zeros(2)


def test_a_logged_episode_with_an_action_beyond_is_refused() -> None:
    agent = untrained("focal")
    with pytest.raises(nacre.NacreError, match=r"an action of the episode has 100, but actions lie in \[-1, 1\]"):
        agent.logged_episode(np.zeros((3, 2)), np.array([[0.0, 0.0], [-100.0, 0.0]]), np.zeros(2))
    agent.logged_episode(np.zeros((2, 2)), NEAR[None], np.zeros(1))


@pytest.mark.parametrize("kind", ["JAX", "NumPy"])
def test_sessions_refuse_logs_and_carried_out_actions_beyond(kind: str) -> None:
    method, settings, options = AGENTS["focal, of logs"]
    agent = untrained(method, **settings)
    made: dict[str, Any] = {
        "JAX": lambda **given: agent.session(**given), "NumPy": lambda **given: numpy_session(agent, **given)
    }  # fmt: skip
    session = made[kind](**options)
    whole = agent.logged_episode(np.zeros((5, 2)), np.zeros((4, 2)), np.ones(4))
    far = whole._replace(transition=whole.transition._replace(action=np.tile(FAR, (4, 1))))
    with pytest.raises(nacre.NacreError, match=r"the log.* has 1.01, but actions lie in \[-1, 1\]"):
        session.absorb(far)
    with pytest.raises(nacre.NacreError, match="call absorb"):
        session.act(ZERO)
    assert not session.belief[0].any()
    learns = made[kind](protocol="online-prior", exploration_episodes=2, episodes=3)
    learns.act(ZERO)
    with pytest.raises(nacre.NacreError, match=r"carried out has 1.01, but actions lie in \[-1, 1\]"):
        learns.observe(ZERO, 1.0, action=FAR)
    assert learns.num_steps == 0 and not learns.belief[0].any()
    learns.observe(ZERO, 1.0, action=NEAR)
    assert learns.num_steps == 1 and learns.belief[0].any()


def test_a_numpy_session_absorbs_no_empty_log() -> None:
    method, settings, options = AGENTS["focal, of logs"]
    session = numpy_session(untrained(method, **settings), **options)
    for log in (
        Transitions(*(np.zeros(shape) for shape in ((0, 2), (0, 2), 0, (0, 2)))),
        Transitions(ZERO, ZERO, 1.0, ZERO),
    ):
        with pytest.raises(nacre.NacreError, match=r"give at least 1|has shape"):
            session.absorb(log)
    assert session.num_absorbed == 0


def test_a_task_that_is_not_finite_is_refused_in_a_sentence() -> None:
    bundle = numpy_session(untrained("oracle")).bundle
    for task in ("goal=nan,1", "goal=1e99,1"):
        with pytest.raises(nacre.NacreError, match="is not a task of point-robot; write goal=NUMBER,NUMBER"):
            nacre.deploy.NumpySession(bundle, 0, task)


def test_a_session_without_jax_has_the_same_limit() -> None:
    assert program.MOST_ACTION == types.MOST_ACTION
