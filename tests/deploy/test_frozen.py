"""Methods that adapt by gradient steps, exported as what they become in a task."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from exported import untrained

import nacre


def mild(method: str) -> nacre.TrainedAgent:
    """An untrained agent whose actions lie inside of [-1, 1]."""
    agent = untrained(method, **({"num_train_tasks": 2} if method == "multitask-awr" else {}))
    agent.params = jax.tree.map(lambda x: np.float32(0.1) * x, agent.params)
    return agent


def adapted(agent: nacre.TrainedAgent, seed: int = 0) -> nacre.Session:
    """A session that acts in its scored episode, on what it was adapted to."""
    session, rng = agent.session(3), np.random.default_rng(seed)
    if agent.trials.needs_logs:
        session.absorb(agent.logged_episode(*(rng.uniform(-1, 1, shape) for shape in ((9, 2), (8, 2), 8))))
    for _ in range(agent.trials.episodes - 1):
        for _ in range(3):
            session.act(rng.standard_normal(2))
            session.observe(rng.standard_normal(2), float(rng.standard_normal()))
        session.end_episode()
    return session


@pytest.mark.parametrize("method", ["maml-trpo", "macaw", "multitask-awr", pytest.param("bc", marks=pytest.mark.slow)])
def test_a_frozen_agent_acts_as_the_adapted_session_did(method: str, tmp_path: Path) -> None:
    agent = mild(method)
    session, seen = adapted(agent), np.random.default_rng(1).standard_normal((5, 2))
    frozen = agent.export(tmp_path / "policy", adapted_from=session)
    actions = [frozen.act(obs) for obs in seen]
    assert np.allclose(actions, [session.act(obs) for obs in seen], atol=1e-5)
    assert np.std(actions, axis=0).max() > 0.002, "they depend on what is seen"
    frozen.observe(seen[0], 5.0)
    frozen.end_episode()
    assert np.array_equal(frozen.act(seen[-1]), actions[-1]), "it learns nothing more"
    otherwise = adapted(agent, seed=1)
    assert not np.allclose([otherwise.act(obs) for obs in seen], actions, atol=1e-4), "it has adapted"
    about = json.loads((tmp_path / "policy" / "agent.json").read_text())
    assert about["agent"]["kind"] == "task" and about["trial"]["episodes"] == 1


def test_a_trial_in_a_task_may_be_played_for_it(tmp_path: Path) -> None:
    agent = untrained("maml-trpo")
    agent.export(tmp_path / "policy", adapted_from="goal=0.6,0.8")
    told = json.loads((tmp_path / "policy" / "agent.json").read_text())["adapted_from"]
    assert np.allclose(told["task"]["goal"], [0.6, 0.8])
    assert np.allclose(told["returns"], agent.meet("goal=0.6,0.8").returns)


def test_what_cannot_be_frozen_is_told(tmp_path: Path) -> None:
    agent, pearl = untrained("maml-trpo"), untrained("pearl")
    for refused, source, words in (
        (pearl, "goal=0.6,0.8", "leave --adapted-from out"),
        (agent, agent.session(), "has adapted to nothing yet"),
        (agent, pearl.session(), "the session is of pearl on point-robot"),
        (agent, "gaol=1", "goal"),
        (agent, None, "with --adapted-from"),
    ):
        with pytest.raises(nacre.NacreError, match=words):
            refused.export(tmp_path / "policy", adapted_from=source)
    assert not list(tmp_path.iterdir())
