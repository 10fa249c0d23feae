"""Sessions that go back to the prior: what still counts, what is gathered anew, and what is refused until then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from exported import AGENTS, TASK, numpy_session, untrained

import nacre
from nacre.deploy import onnx_files
from nacre.deploy.numpy_session import LARGER, TOLERANCE, Transitions

ZERO = np.zeros(2)
NAMES = (
    "pearl, hypotheses", "rl2, gru, samples", "maesn", "oracle", "focal, of logs", "focal, samples", "offline pearl",
    "offline pearl, one episode",
)  # fmt: skip
"""Of every kind of agent; both protocols of offline agents that explore, and one that gives them logs."""


def log(number: int) -> Transitions:
    rng = np.random.default_rng(number)
    return Transitions(*(rng.uniform(-1, 1, shape) for shape in ((8, 2), (8, 2), 8, (8, 2))))


def logged(agent: nacre.TrainedAgent, number: int) -> Any:
    rng = np.random.default_rng(number)
    return agent.logged_episode(*(rng.uniform(-1, 1, shape) for shape in ((9, 2), (8, 2), 8)))


def played(session: Any, absorbs: Any = None) -> np.ndarray:
    """Actions and beliefs of four episodes; in the first, third and last the session forgets after three steps."""
    rng, found = np.random.default_rng(0), []
    if absorbs:
        session.absorb(absorbs(1))
    for episode in range(4):
        for step in range(6):
            if episode != 1 and step == 3:
                session.forget()
                if absorbs:
                    session.absorb(absorbs(2 + episode))
            found.append(session.act(rng.standard_normal(2)))
            session.observe(rng.standard_normal(2), float(rng.standard_normal()))
        session.end_episode()
        found += [np.resize(part, 2) for part in session.belief]
    return np.array(found)


@pytest.mark.parametrize("name", NAMES)
def test_every_session_forgets_alike(name: str) -> None:
    method, settings, options = AGENTS[name]
    agent = untrained(method, **settings)
    ours, theirs = numpy_session(agent, 7, **options), agent.session(7, task=TASK.get(method), **options)
    absorbs = (lambda number: logged(agent, number)) if ours.about["trial"]["needs_logs"] else None
    within = LARGER.get(ours.about["agent"]["kind"], TOLERANCE)
    by_jax, by_numpy = played(theirs, absorbs), played(ours, absorbs)
    np.testing.assert_allclose(by_numpy, by_jax, atol=within)
    pytest.importorskip("onnx", reason="the extra 'onnx' is not installed")
    files = onnx_files.models(ours.about, ours.bundle.arrays)
    graphs = onnx_files.with_graphs(ours.bundle, files, onnx_files.by_reference)
    by_graphs = played(onnx_files.OnnxSession(graphs, 7, TASK.get(method)), absorbs)
    np.testing.assert_allclose(by_graphs, by_numpy, atol=within)


def test_an_offline_agent_that_forgets_in_its_scored_episode_learns_from_the_steps_that_follow() -> None:
    method, settings, options = AGENTS["focal, samples"]
    agent = untrained(method, **settings)
    for session in (numpy_session(agent, **options), agent.session(**options)):
        for _ in range(2):
            session.act(ZERO)
            session.observe(ZERO, 1.0)
            session.end_episode()
        session.forget()
        assert not session.belief[0].any()
        session.act(ZERO)
        session.observe(ZERO + 0.3, -1.0)
        known = session.belief[0].copy()
        assert known.any()
        session.end_episode()
        z = session._agent.z if hasattr(session, "_agent") else np.asarray(session.memory.z)[0]
        np.testing.assert_allclose(z, known, rtol=1e-6)


@pytest.mark.parametrize("method", ["focal", "pearl", "macaw", "bc", "multitask-awr"])
def test_by_protocols_with_logs_a_session_that_forgot_absorbs_before_it_acts(method: str) -> None:
    agent = untrained(method, **({"num_train_tasks": 2} if method == "multitask-awr" else {}))
    options = {} if agent.trials.needs_logs else {"protocol": "offline-own-context"}
    session, fresh = agent.session(3, **options), agent.session(3, **options)
    sessions = [(session, fresh, lambda number: logged(agent, number))]
    if agent.experiment.algorithm.frozen is None:
        sessions.append((numpy_session(agent, 3, **options), numpy_session(agent, 3, **options), log))
    for one, other, given in sessions:
        one.absorb(given(1))
        with pytest.raises(nacre.NacreError, match="begun already"):
            one.absorb(given(2))
        first = one.act(ZERO)
        one.forget()
        with pytest.raises(nacre.NacreError, match="call absorb before the first act"):
            one.act(ZERO)
        one.absorb(given(2))
        other.absorb(given(2))
        again = one.act(ZERO)
        np.testing.assert_allclose(again, other.act(ZERO), atol=1e-6)
        assert (again != first).any()


@pytest.mark.parametrize("method", ["macaw", "maml-trpo"])
def test_what_has_forgotten_is_not_frozen_as_adapted(method: str, tmp_path: Path) -> None:
    agent = untrained(method)
    agent.params = jax.tree.map(lambda x: np.float32(0.1) * x, agent.params)
    session = agent.session()
    if agent.trials.needs_logs:
        session.absorb(logged(agent, 1))
    session.act(ZERO)
    session.observe(ZERO, 1.0)
    session.end_episode()
    session.forget()
    with pytest.raises(nacre.NacreError, match="adapted to nothing yet"):
        agent.export(tmp_path / "policy", adapted_from=session)
    if agent.trials.needs_logs:
        session.end_episode()
        with pytest.raises(nacre.NacreError, match="adapted to nothing yet"):
            agent.export(tmp_path / "policy", adapted_from=session)
        session.absorb(logged(agent, 2))
    else:
        session.act(ZERO)
        session.observe(ZERO, 1.0)
        session.end_episode()
    agent.export(tmp_path / "policy", adapted_from=session)


def test_no_guard_goes_back_to_a_prior_that_logs_are_needed_to_leave() -> None:
    method, settings, options = AGENTS["focal, of logs"]
    agent = untrained(method, **settings)
    bundle = numpy_session(agent, **options).bundle
    for guard in ("finite", "bounds"):
        words = f"guard '{guard}' cannot go back to the prior by protocol offline-own-context"
        with pytest.raises(nacre.NacreError, match=words):
            agent.session(guards={guard: "prior"}, **options)
        with pytest.raises(nacre.NacreError, match=words):
            nacre.deploy.NumpySession(bundle, guards={guard: "prior"})
        agent.session(guards={guard: "hold"}, **options)


def test_an_oracle_forgets_into_the_task_that_the_restored_session_was_told(tmp_path: Path) -> None:
    agent = untrained("oracle")
    saved = numpy_session(agent)
    saved.save(tmp_path / "state.npz")
    other = nacre.deploy.NumpySession(saved.bundle, 0, "goal=-1,0")
    other.restore(tmp_path / "state.npz")
    for _ in range(2):
        np.testing.assert_array_equal(other._agent.z, np.float32([0.6, 0.8]))
        np.testing.assert_array_equal(other.act(ZERO), saved.act(ZERO))
        other.forget()


def test_a_state_that_an_earlier_version_saved_is_restored(tmp_path: Path) -> None:
    method, settings, options = AGENTS["focal, samples"]
    session = numpy_session(untrained(method, **settings), **options)
    session.act(ZERO)
    session.observe(ZERO + 0.3, 1.0)
    earlier = {name: values for name, values in session.state().items() if name != "memory.anew"}
    np.savez(tmp_path / "state.npz", **earlier)
    session.forget()
    session.restore(tmp_path / "state.npz")
    assert session.belief[0].any() and not session._agent.anew.any()
