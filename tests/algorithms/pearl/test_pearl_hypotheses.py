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
from nacre.learning.encoder_contexts import draw_context
from nacre.learning.hypotheses import Hypotheses
from nacre.runs.checkpoints import Checkpoints
from nacre.runs.loading import Saved, hypotheses_of, load_state
from nacre.simulation import rollout
from nacre.types import Transition

LINE = np.array([[0.0], [1.0], [10.0], [4.0]], np.float32)


def known_of(mean: np.ndarray, variance: Any = 1.0) -> Hypotheses:
    return Hypotheses(jnp.asarray(mean), jnp.broadcast_to(jnp.asarray(variance), mean.shape))


def order_of(variance: Any, mean: np.ndarray = LINE) -> list[list[int]]:
    """One in each episode."""
    known, every = known_of(mean, variance), jnp.arange(len(mean))
    return np.asarray(known.in_turn(every, known.turns(num_episodes=len(mean), horizon=100))).tolist()


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
    known = known_of(LINE)
    tried = known.begin(60, known.turns(num_episodes=8, horizon=100), jax.random.key(0))
    seen = np.concatenate([known.now(tried._replace(turn=jnp.full(60, turn))) for turn in range(8)], axis=1)
    assert set(seen[:, 0]) == {0.0, 1.0, 4.0, 10.0}
    for turns in (seen[:, :4], seen[:, 4:]):
        assert (np.sort(turns, axis=1) == [0.0, 1.0, 4.0, 10.0]).all()
    np.testing.assert_array_equal(seen[:, :4], seen[:, 4:])  # after the last of them the first again


@pytest.mark.parametrize(
    "num_episodes, horizon, turns",
    [
        (2, 20, (2, 10, 4)),  # the shortest turns
        (2, 19, (1, 19, 2)),  # not two of 10 steps
        (1, 200, (20, 10, 20)),
        (2, 200, (20, 10, 40)),
        (20, 200, (5, 40, 100)),  # more, and some would be tried twice
        (3, 400, (31, 13, 93)),  # 33 turns would be of 12.1 steps
        (150, 20, (1, 20, 100)),  # after all of them the first again
        (1, 5, (1, 5, 1)),
    ],
)
def test_an_episode_tries_as_many_as_last_ten_steps_if_none_comes_twice(
    num_episodes: int, horizon: int, turns: tuple[int, int, int]
) -> None:
    assert known_of(np.zeros((100, 1), np.float32)).turns(num_episodes, horizon) == turns


def test_those_of_an_episode_are_near_each_other() -> None:
    """Of 0, 10, 4, 7, 2 and 1 in turn, with three an episode."""
    known = known_of(np.array([[0.0], [1.0], [10.0], [4.0], [2.0], [7.0]], np.float32))
    found = known.in_turn(jnp.array([0]), known.turns(num_episodes=2, horizon=30))[0]
    assert np.asarray(known.z)[np.asarray(found), 0].tolist() == [0.0, 1.0, 2.0, 10.0, 7.0, 4.0]
    fewer = known.in_turn(jnp.array([0]), known.turns(num_episodes=2, horizon=20))[0]
    assert np.asarray(known.z)[np.asarray(fewer), 0].tolist() == [0.0, 4.0, 10.0, 7.0]


def test_a_turn_ends_after_its_steps_and_with_the_episode() -> None:
    known = known_of(np.arange(100.0, dtype=np.float32)[:, None])
    tried, found = known.begin(1, known.turns(num_episodes=4, horizon=20), jax.random.key(0)), []
    for num_steps in (20, 13, 4, 20):  # two whole episodes, and two that end early
        for _ in range(num_steps):
            found.append(int(tried.turn[0]))
            tried = tried.after_step()
        tried = tried.after_episode()
    assert found == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 3 + [4] * 4 + [5] * 10 + [6] * 10


@pytest.fixture(scope="module")
def run(smoke_run: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(shutil.copytree(smoke_run("point-robot"), tmp_path_factory.mktemp("hypotheses") / "run"))


@pytest.fixture(scope="module")
def agent(run: Path) -> TrainedAgent:
    return nacre.load(run)


def z_of_episodes(agent: TrainedAgent, tasks: Any, episodes: int = 4) -> np.ndarray:
    """At the start of every episode, [episode, task, latent_dim]; all but the last explore."""
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
    variances = 1.0 / factors.precision.sum(axis=1)
    np.testing.assert_allclose(params.hypotheses.variance, variances, rtol=1e-4, atol=1e-7)


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
    tried: list[Any] = []
    for _ in range(3):
        for _ in range(20):
            session.act(np.zeros(2))
            tried += np.flatnonzero((known == np.asarray(session.memory.z)).all(axis=1)).tolist()
            session.observe(np.zeros(2), -1.0)
        session.end_episode()
    of_turns = np.array(tried).reshape(len(known) // 3 * 3, -1)  # as many as there are for three episodes
    assert (of_turns == of_turns[:, :1]).all() and len(set(of_turns[:, 0])) == len(of_turns)


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


def without_replay(run: Path) -> Path:
    for replay in run.glob("checkpoints/*/replay"):
        shutil.rmtree(replay)
    return run


def returns(run: Path) -> np.ndarray:
    return nacre.load(run).evaluate(exploration="hypotheses")[0]


def test_a_checkpoint_keeps_them_for_trials_without_the_replay(run: Path, tmp_path: Path) -> None:
    without = without_replay(Path(shutil.copytree(run, tmp_path / "without")))
    np.testing.assert_array_equal(returns(without), returns(run))
    nacre.push(run, tmp_path / "pushed")
    np.testing.assert_array_equal(returns(tmp_path / "pushed"), returns(run))


def test_of_an_older_checkpoint_they_are_made_of_the_replay(run: Path, tmp_path: Path, capsys: Capture) -> None:
    older = Path(shutil.copytree(run, tmp_path / "older"))
    directory = nacre.RunDirectory(older)
    state, tasks = load_state(directory), directory.tasks
    shutil.rmtree(directory.checkpoints)
    Checkpoints(directory.checkpoints).save(int(state.grad_steps), Saved(state, np.float64(1), tasks.train, tasks.test))
    np.testing.assert_allclose(returns(older), returns(run), rtol=1e-4)
    nacre.push(older, tmp_path / "pushed")
    np.testing.assert_array_equal(returns(tmp_path / "pushed"), returns(older))
    without_replay(older)
    assert "replay" in refusal(capsys, "adapt", str(older), "--task", "goal=1,0", "--exploration", "hypotheses")
    nacre.push(older, tmp_path / "bare")
    assert "replay" in refusal(
        capsys, "adapt", str(tmp_path / "bare"), "--task", "goal=1,0", "--exploration", "hypotheses"
    )


def test_a_checkpoint_keeps_what_its_replay_makes(run: Path) -> None:
    directory = nacre.RunDirectory(run)
    kept = load_state(directory)
    assert Checkpoints(directory.checkpoints, read_only=True).holds(int(kept.grad_steps), "hypotheses")
    known = hypotheses_of(directory, int(kept.grad_steps))
    for one, other in zip(known, directory.experiment.hypotheses(kept), strict=True):
        np.testing.assert_array_equal(one, other)


def test_after_a_change_the_farthest_come_first_again(agent: TrainedAgent) -> None:
    """`restart` keeps the number of episodes, and begins another order."""
    trials = agent.trials.changed(9, exploration_episodes=8, exploration="hypotheses")
    functions, params = agent.functions_for(trials), agent.params_for(trials)
    known, tasks = params.hypotheses, agent.tasks.test

    def episode(memory: pearl.Memory) -> pearl.Memory:
        step = Transition(*(jnp.zeros((len(memory.z), *shape)) for shape in ((2,), (2,), (), (), (), (2,))))
        return functions.end_episode(params, functions.observe(params, memory, step), jax.random.key(1))

    memory = episode(episode(functions.begin(params, tasks, jax.random.key(0))))
    memory = functions.restart(params, memory, tasks, jax.random.key(2))
    tried = known.begin(len(memory.z), known.turns(8, agent.family.horizon), jax.random.key(2))
    for turn in range(3):
        np.testing.assert_array_equal(memory.z, known.now(tried._replace(turn=tried.turn + turn)))
        assert (np.asarray(memory.num_episodes) == 2 + turn).all()
        memory = episode(memory)
