"""A bundle with a detector of changes: it fires where that of `agent.session(detect=...)` does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import nacre
from nacre.deploy import load
from nacre.runs.experiment import from_preset

SHARE = 0.5


@pytest.fixture(scope="module")
def agent() -> nacre.TrainedAgent:
    """With two normalised critics, whose inputs are brought to scale."""
    experiment = from_preset(
        "pearl", "point-robot", "smoke", hidden_dim=8, encoder_hidden_dim=8, num_hidden_layers=2,
        normalise_critics=True, use_value_network=False, normalise_inputs="all",
    )  # fmt: skip
    algorithm, tasks = experiment.algorithm, experiment.draw_tasks()
    assert algorithm.critics is not None
    state = algorithm.init(experiment.family, experiment.settings, 0)
    return nacre.TrainedAgent(experiment, tasks, algorithm.agent_params(state), networks=algorithm.critics(state))


@pytest.fixture(scope="module")
def bundle(agent: nacre.TrainedAgent, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return agent.export(tmp_path_factory.mktemp("exported") / "policy", detect=SHARE).bundle.folder


def test_it_fires_at_the_step_of_the_session_in_jax_and_acts_as_that_does(
    agent: nacre.TrainedAgent, bundle: Path
) -> None:
    ours = load(bundle, seed=3)
    theirs, rng, fired = agent.session(3, detect=SHARE), np.random.default_rng(0), []
    for episode in range(4):
        for step in range(6):
            obs, next_obs = rng.uniform(-1, 1, (2, 2)).astype(np.float32)
            reward = 1e3 if episode >= 2 and step == 3 else -0.5  # nothing that a critic could expect
            assert np.abs(ours.act(obs) - theirs.act(obs)).max() < 1e-5
            for session in (ours, theirs):
                session.observe(next_obs, reward, terminated=step == 5)
            assert ours.num_detected == theirs.num_detected
            fired.append(ours.num_detected)
            if (episode, step) == (3, 1):
                for session in (ours, theirs):
                    session.forget()
        for session in (ours, theirs):
            session.end_episode()
        for own, other in zip(ours.belief, theirs.belief, strict=True):
            assert np.allclose(own, other, rtol=1e-5, atol=1e-6)
    assert fired[11] < fired[15] < fired[21]  # in both episodes with such a reward


def test_an_action_that_a_guard_refuses_leaves_a_detector_that_fired_as_it_was(bundle: Path) -> None:
    session, zero = load(bundle, guards={"bounds": "raise", "low": -1e-6, "high": 1e-6}), np.zeros(2)
    while not session._agent.has_fired:
        session.act_unguarded(zero)
        session.observe(zero, 1e3 if session.num_episodes > 1 else -0.5)
        if session.num_steps < 9 and session.num_steps % 3 == 0:
            session.end_episode()
        assert session.num_steps < 50
    known = session.belief[0].copy()
    for _ in range(2):
        with pytest.raises(nacre.NacreError, match="out of bounds"):
            session.act(zero)
        assert session._agent.has_fired and np.array_equal(session.belief[0], known)


def test_a_restored_session_knows_what_the_detector_added_up(bundle: Path, tmp_path: Path) -> None:
    session = load(bundle)
    for _ in range(2):
        session.act([0.1, 0.2])
        session.observe([0.2, 0.2], -0.5)
        session.end_episode()
    session.act([0.1, 0.2])
    session.observe([0.2, 0.2], 1e3)
    session.save(tmp_path / "state.npz")
    other = load(bundle, seed=9)
    other.restore(tmp_path / "state.npz")
    assert other.num_detected == session.num_detected == 1
    assert np.array_equal(other.act([0.0, 0.0]), session.act([0.0, 0.0]))
    assert not session.belief[0].any() and not other.belief[0].any()  # it has begun anew


def test_what_has_no_detector_says_so(agent: nacre.TrainedAgent, tmp_path: Path) -> None:
    with pytest.raises(nacre.NacreError, match="ONNX graphs and C code have no detector"):
        agent.export(tmp_path / "policy", detect=SHARE, c=True)
    with pytest.raises(nacre.NacreError, match="above 0 and below 1"):
        agent.export(tmp_path / "policy", detect=0.0)
