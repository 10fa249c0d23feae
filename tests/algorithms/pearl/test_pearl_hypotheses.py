"""Exploration by hypotheses: what is tried, in which order, and where it comes from."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nacre
from command_line import Capture, output, refusal
from nacre.algorithms import pearl
from nacre.deploy.trained_agent import TrainedAgent
from nacre.learning import hypotheses
from nacre.learning.encoder_contexts import draw_context
from nacre.runs.loading import load_state
from nacre.simulation import rollout
from nacre.types import Belief

LINE = np.array([[0.0], [1.0], [10.0], [4.0]], np.float32)


def order_of(variance: Any, mean: np.ndarray = LINE) -> list[list[int]]:
    known = hypotheses.ordered(Belief(jnp.asarray(mean), jnp.broadcast_to(jnp.asarray(variance), mean.shape)))
    np.testing.assert_array_equal(known.z, mean)
    return np.asarray(known.order).tolist()


@pytest.mark.parametrize("variance", [1.0, 0.0])  # 0: of an encoder that infers points
def test_the_farthest_from_all_that_were_tried_comes_next(variance: float) -> None:
    assert order_of(variance) == [[0, 2, 3, 1], [1, 2, 3, 0], [2, 0, 3, 1], [3, 2, 0, 1]]


def test_far_is_what_the_beliefs_tell_apart() -> None:
    """4 is 4 from 0 where both are exact, and 10 only 1: by standard deviations, 2.8 and 0.7."""
    vague = [[1.0], [1.0], [199.0], [1.0]]
    assert order_of(vague)[0] == [0, 3, 1, 2]


def test_all_axes_count() -> None:
    """The second axis is told apart ten times as well."""
    corners = np.array([[0.0, 0.0], [2.0, 0.0], [0.0, 1.0]], np.float32)
    assert order_of([1.0, 0.01], corners)[0] == [0, 2, 1]


def test_each_lane_begins_with_a_hypothesis_of_its_own_and_tries_none_twice() -> None:
    known = hypotheses.ordered(Belief(jnp.asarray(LINE), jnp.ones_like(LINE)))
    z, first = known.begin(60, jax.random.key(0))
    assert set(np.asarray(z)[:, 0]) == {0.0, 1.0, 4.0, 10.0}
    np.testing.assert_array_equal(z, known.at(first, jnp.zeros(60, jnp.int32)))
    seen = np.concatenate([known.at(first, jnp.full(60, turn)) for turn in range(8)], axis=1)
    for turns in (seen[:, :4], seen[:, 4:]):
        assert (np.sort(turns, axis=1) == [0.0, 1.0, 4.0, 10.0]).all()
    np.testing.assert_array_equal(seen[:, :4], seen[:, 4:])  # after the last of them the first again


@pytest.fixture(scope="module")
def run(smoke_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(smoke_run("point-robot"), tmp_path_factory.mktemp("hypotheses") / "run"))


@pytest.fixture(scope="module")
def agent(run: Path) -> TrainedAgent:
    return nacre.load(run)


def z_of_episodes(agent: TrainedAgent, tasks: Any, episodes: int = 4) -> np.ndarray:
    """[episode, task, latent_dim]; all but the last explore."""
    trials = agent.trials.changed(episodes, exploration_episodes=episodes - 1, exploration="hypotheses")
    functions, params = agent.functions_for(trials), agent.params_for(trials)
    played = rollout.trial(agent.family, functions, params, tasks, jax.random.key(3), episodes, None)
    return np.stack([np.asarray(part.memory_before.z) for part in played])


def test_they_are_what_contexts_of_the_train_tasks_make_the_agent_believe(run: Path, agent: TrainedAgent) -> None:
    settings, state = agent.experiment.settings, load_state(nacre.RunDirectory(run))
    params = agent.experiment.algorithm.exploring_params(state, agent.family, settings)
    assert params.hypotheses.z.shape == (settings.num_train_tasks, settings.latent_dim)
    contexts = draw_context(
        state.context_buffer, jnp.arange(settings.num_train_tasks), pearl.stream(state.key, "evaluate"), agent.family,
        settings,
    )  # fmt: skip
    factors = pearl.encode(state.networks.encoder, contexts, settings)
    means = factors.weighted_mean.sum(axis=1) / factors.precision.sum(axis=1)
    np.testing.assert_allclose(params.hypotheses.z, means, rtol=1e-4, atol=1e-5)
    known = hypotheses.ordered(pearl.infer_posterior(state.networks.encoder, contexts, settings))
    np.testing.assert_array_equal(params.hypotheses.order, known.order)


def test_exploring_episodes_act_on_them_and_the_scored_one_on_the_belief(agent: TrainedAgent) -> None:
    z = z_of_episodes(agent, agent.tasks.test)
    known = np.asarray(agent.params_for(agent.trials.changed(exploration="hypotheses")).hypotheses.z)
    for lane in range(z.shape[1]):
        tried = [int(np.flatnonzero((known == z[index, lane]).all(axis=1))[0]) for index in range(3)]
        assert len(set(tried)) == 3
        assert not (known == z[3, lane]).all(axis=1).any()


def test_no_test_task_enters(agent: TrainedAgent) -> None:
    elsewhere = {"goal": -agent.tasks.test["goal"]}
    np.testing.assert_array_equal(z_of_episodes(agent, agent.tasks.test)[:3], z_of_episodes(agent, elsewhere)[:3])


def test_a_session_tries_another_in_every_exploring_episode(agent: TrainedAgent) -> None:
    session = agent.session(5, 4, exploration="hypotheses", exploration_episodes=3)
    known = np.asarray(agent.params_for(agent.trials.changed(exploration="hypotheses")).hypotheses.z)
    tried = []
    for _ in range(3):
        session.act(np.zeros(2))
        tried += np.flatnonzero((known == np.asarray(session.memory.z)).all(axis=1)).tolist()
        session.observe(np.zeros(2), -1.0)
        session.end_episode()
    assert len(tried) == len(set(tried)) == 3


def test_a_run_may_be_scored_so_and_learns_as_ever(agent: TrainedAgent, tmp_path: Path) -> None:
    options: dict[str, Any] = dict(preset="smoke", exploration="hypotheses", out=tmp_path / "run")
    run = nacre.train("pearl", "point-robot", **options)
    scored = nacre.load(run.path)
    assert scored.trials.exploration == "hypotheses"
    for one, other in zip(jax.tree.leaves(scored.params), jax.tree.leaves(agent.params), strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_has_none_says_so(run: Path, agent: TrainedAgent, tmp_path: Path, capsys: Capture) -> None:
    shown = output(capsys, "evaluate", str(run), "--exploration", "hypotheses", "--json")
    assert '"exploration": "hypotheses"' in shown
    assert "did you mean 'hypotheses'" in refusal(capsys, "evaluate", str(run), "--exploration", "hypothesis")
    assert "acts on the prior" in refusal(
        capsys, "evaluate", str(run), "--exploration", "hypotheses", "--protocol", "online-np"
    )
    with pytest.raises(nacre.NacreError, match="no 'hypotheses' to explore by"):
        nacre.presets.trials.TrialSettings.of(nacre.resolve("rl2", "point-robot").settings).changed(
            exploration="hypotheses"
        )
    with pytest.raises(nacre.NacreError, match="load it from its run"):
        TrainedAgent(agent.experiment, agent.tasks, agent.params).meet("goal=1,0", exploration="hypotheses")
    without = Path(shutil.copytree(run, tmp_path / "without"))
    for replay in without.glob("checkpoints/*/replay"):
        shutil.rmtree(replay)
    assert "replay" in refusal(capsys, "adapt", str(without), "--task", "goal=1,0", "--exploration", "hypotheses")


def test_after_a_change_the_farthest_come_first_again(agent: TrainedAgent) -> None:
    """`restart` keeps the number of episodes, and begins another order."""
    trials = agent.trials.changed(9, exploration_episodes=8, exploration="hypotheses")
    functions, params = agent.functions_for(trials), agent.params_for(trials)
    known, tasks = params.hypotheses, agent.tasks.test
    memory = functions.begin(params, tasks, jax.random.key(0))
    for _ in range(2):
        memory = functions.end_episode(params, memory, jax.random.key(1))
    memory = functions.restart(params, memory, tasks, jax.random.key(2))
    _, first = known.begin(len(memory.z), jax.random.key(2))
    for turn in range(3):
        np.testing.assert_array_equal(memory.z, known.at(first, jnp.full(len(first), turn)))
        assert (np.asarray(memory.num_episodes) == 2 + turn).all()
        memory = functions.end_episode(params, memory, jax.random.key(3))
