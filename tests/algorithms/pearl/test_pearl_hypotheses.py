"""Exploration by hypotheses: what is tried, in which order, and where it comes from."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nacre
from command_line import Capture, output, refusal
from nacre.algorithms import pearl, protocol, registry
from nacre.deploy.trained_agent import TrainedAgent
from nacre.learning.encoder_contexts import draw_context
from nacre.learning.hypotheses import Hypotheses, of_telling, planned, turns
from nacre.report import trials
from nacre.runs.checkpoints import Checkpoints
from nacre.runs.loading import Saved, fresh, hypotheses_of, load_state, load_to_act
from nacre.simulation import rollout
from nacre.types import Belief, Transition

LINE = np.array([[0.0], [1.0], [10.0], [4.0]], np.float32)
TASK = "goal=1,0"


def plan(mean: Any, num_episodes: int, horizon: int, variance: Any = 1.0) -> Hypotheses:
    mean = jnp.asarray(mean, jnp.float32)
    return planned(
        Belief(mean, jnp.broadcast_to(jnp.asarray(variance, jnp.float32), mean.shape)), num_episodes, horizon
    )


def order_of(variance: Any, mean: np.ndarray = LINE) -> list[list[int]]:
    """The numbers in turn for each that may come first, one an episode."""
    in_turn = np.asarray(plan(mean, len(mean), 100, variance).z)
    return np.argmin(abs(in_turn[:, :, None] - mean).sum(axis=-1), axis=-1).tolist()


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
    known = plan(LINE, num_episodes=8, horizon=100)
    tried = known.begin(60, jax.random.key(0))
    seen = np.concatenate([known.now(tried._replace(turn=jnp.full(60, turn))) for turn in range(8)], axis=1)
    assert set(seen[:, 0]) == {0.0, 1.0, 4.0, 10.0}
    for of_four in (seen[:, :4], seen[:, 4:]):
        assert (np.sort(of_four, axis=1) == [0.0, 1.0, 4.0, 10.0]).all()
    np.testing.assert_array_equal(seen[:, :4], seen[:, 4:])  # after the last of them the first again


@pytest.mark.parametrize(
    "num_episodes, horizon, per_episode, num_steps",
    [
        (2, 20, 2, 10),  # the shortest turns
        (2, 19, 1, 19),  # not two of 10 steps
        (2, 25, 2, 13),  # 13 and 12
        (1, 200, 20, 10),
        (20, 200, 5, 40),  # more, and some would be tried twice
        (3, 400, 31, 13),  # 33 turns would be of 12.1 steps
        (150, 20, 1, 20),  # after all of them the first again
        (1, 5, 1, 5),
    ],
)
def test_an_episode_tries_as_many_as_last_ten_steps_if_none_comes_twice(
    num_episodes: int, horizon: int, per_episode: int, num_steps: int
) -> None:
    assert turns(100, num_episodes, horizon) == (per_episode, num_steps)
    known = plan(np.zeros((100, 1)), num_episodes, horizon)
    assert known.z.shape == (100, min(per_episode * num_episodes, 100), 1) and known.num_steps == num_steps


def test_those_of_an_episode_are_near_each_other() -> None:
    """Of 0, 10, 4, 7, 2 and 1 in turn, with three an episode."""
    mean = [[0.0], [1.0], [10.0], [4.0], [2.0], [7.0]]
    assert plan(mean, num_episodes=2, horizon=30).z[0, :, 0].tolist() == [0.0, 1.0, 2.0, 10.0, 7.0, 4.0]
    assert plan(mean, num_episodes=2, horizon=20).z[0, :, 0].tolist() == [0.0, 4.0, 10.0, 7.0]


def test_a_turn_ends_after_its_steps_and_with_the_episode() -> None:
    known = plan(np.arange(100.0)[:, None], num_episodes=4, horizon=20)
    tried, found = known.begin(1, jax.random.key(0)), []
    for num_steps in (20, 13, 4, 20):  # two whole episodes, and two that end early
        for _ in range(num_steps):
            found.append(int(tried.turn[0]))
            tried = known.after_step(tried)
        tried = known.after_episode(tried)
    assert found == [0] * 10 + [1] * 10 + [2] * 10 + [3] * 3 + [4] * 4 + [5] * 10 + [6] * 10


def test_a_context_without_a_reward_among_sparse_ones_makes_no_hypothesis() -> None:
    """Of it the agent believes what fits every trial without rewards."""
    known = Belief(jnp.asarray(LINE), jnp.asarray(LINE) + 1.0)
    rewards = jnp.asarray([[0.0, 0.0], [0.0, 0.4], [0.0, 0.0], [0.9, 0.0]])
    telling = of_telling(known, rewards)
    assert telling.mean[:, 0].tolist() == [1.0, 1.0, 1.0, 4.0]  # of the second and of the last task
    np.testing.assert_array_equal(telling.variance, telling.mean + 1.0)
    for alike in (rewards[:1] * 0.0, rewards[1:2]):  # none tells, or all do
        found = of_telling(known, jnp.tile(alike, (4, 1)))
        np.testing.assert_array_equal(found.mean, known.mean)


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
    known = agent.experiment.hypotheses(state)
    assert known.mean.shape == (settings.num_train_tasks, settings.latent_dim)
    contexts = draw_context(
        state.context_buffer, jnp.arange(settings.num_train_tasks), pearl.stream(state.key, "evaluate"), agent.family,
        settings,
    )  # fmt: skip
    factors = pearl.encode(state.networks.encoder, contexts, settings)
    precision = factors.precision.sum(axis=1)
    np.testing.assert_allclose(known.mean, factors.weighted_mean.sum(axis=1) / precision, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(known.variance, 1.0 / precision, rtol=1e-4, atol=1e-7)
    for one, other in zip(load_to_act(nacre.RunDirectory(run)).hypotheses, known, strict=True):
        np.testing.assert_array_equal(one, other)  # the checkpoint keeps them


def means(agent: TrainedAgent) -> np.ndarray:
    """Of the beliefs in the train tasks, [task, latent_dim]."""
    params: Any = agent.params_for(agent.trials.changed(exploration="hypotheses"))
    return np.asarray(params.hypotheses.z)[:, 0]


def test_exploring_episodes_act_on_them_and_the_scored_one_on_the_belief(agent: TrainedAgent) -> None:
    z = z_of_episodes(agent, agent.tasks.test)
    known = means(agent)
    for lane in range(z.shape[1]):
        tried = [int(np.flatnonzero((known == z[index, lane]).all(axis=1))[0]) for index in range(3)]
        assert len(set(tried)) == 3
        assert not (known == z[3, lane]).all(axis=1).any()


def test_no_test_task_enters(agent: TrainedAgent) -> None:
    elsewhere = {"goal": -agent.tasks.test["goal"]}
    np.testing.assert_array_equal(z_of_episodes(agent, agent.tasks.test)[:3], z_of_episodes(agent, elsewhere)[:3])


def test_a_session_tries_several_in_every_exploring_episode(agent: TrainedAgent) -> None:
    session, tried = agent.session(5, 4, exploration="hypotheses", exploration_episodes=2), []
    for _ in range(2):
        for _ in range(20):
            session.act(np.zeros(2))
            tried += np.flatnonzero((means(agent) == np.asarray(session.memory.z)).all(axis=1)).tolist()
            session.observe(np.zeros(2), -1.0)
        session.end_episode()
    of_turns = np.array(tried).reshape(4, 10)
    assert (of_turns == of_turns[:, :1]).all() and len(set(of_turns[:, 0])) == 4


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
        TrainedAgent(agent.experiment, agent.tasks, agent.params).meet(TASK, exploration="hypotheses")


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
    hint = "no hypotheses about tasks, and no replay to make them of; set --exploration prior"
    assert hint in refusal(capsys, "adapt", str(older), "--task", TASK, "--exploration", "hypotheses")
    with pytest.raises(nacre.NacreError, match="has no replay"):
        nacre.push(older, tmp_path / "whole", whole=True)
    nacre.push(older, tmp_path / "bare")
    assert hint in refusal(capsys, "adapt", str(tmp_path / "bare"), "--task", TASK, "--exploration", "hypotheses")


def test_before_anything_was_collected_there_are_none(run: Path) -> None:
    directory = nacre.RunDirectory(run)
    with pytest.raises(nacre.NacreError, match="nothing was collected yet; train on, or set --exploration prior"):
        hypotheses_of(directory, fresh(directory))


def test_after_a_change_the_farthest_come_first_again(agent: TrainedAgent) -> None:
    """`restart`, here in the middle of a turn, keeps the number of episodes and begins another order."""
    trials = agent.trials.changed(9, exploration_episodes=8, exploration="hypotheses")
    functions, params = agent.functions_for(trials), agent.params_for(trials)
    known, tasks = params.hypotheses, agent.tasks.test

    def step(memory: pearl.Memory) -> pearl.Memory:
        seen = Transition(*(jnp.zeros((len(memory.z), *shape)) for shape in ((2,), (2,), (), (), (), (2,))))
        return functions.observe(params, memory, seen)

    def episode(memory: pearl.Memory) -> pearl.Memory:
        return functions.end_episode(params, step(memory), jax.random.key(1))

    memory = step(episode(episode(functions.begin(params, tasks, jax.random.key(0)))))
    memory = functions.restart(params, memory, tasks, jax.random.key(2))
    tried = known.begin(len(memory.z), jax.random.key(2))
    assert not np.asarray(memory.tried.num_steps).any()
    for turn in range(3):
        np.testing.assert_array_equal(memory.z, known.now(tried._replace(turn=tried.turn + turn)))
        assert (np.asarray(memory.num_episodes) == 2 + turn).all()
        memory = episode(memory)


@pytest.fixture(scope="module")
def exploring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose settings say so, as those of `fast` and `best`."""
    out = tmp_path_factory.mktemp("exploring") / "run"
    return nacre.train("pearl", "point-robot", preset="smoke", exploration="hypotheses", out=out).path


@pytest.mark.parametrize(
    "options",
    [dict(), dict(protocol="online-np"), dict(protocol="zero-shot"), dict(exploration_episodes=0), dict(detect=0.1)],
    ids=str,
)
def test_a_run_that_explores_so_meets_tasks_in_every_way(exploring: Path, options: Any, tmp_path: Path) -> None:
    agent = nacre.load(exploring)
    session = agent.session(**options)
    num_episodes = 1 if options.get("protocol") == "zero-shot" else 3
    for _ in range(num_episodes):
        for _ in range(3):
            assert np.isfinite(session.act(np.zeros(2))).all()
            session.observe(np.zeros(2), -1.0)
        session.end_episode()
    assert agent.export(tmp_path / "policy", **options).self_test() < 1e-5
    if "detect" not in options:
        assert np.isfinite(agent.evaluate(**options)[0]).all()
        assert len(agent.meet(TASK, **options).returns) == num_episodes


def test_a_run_that_is_scored_without_exploring_trains(tmp_path: Path) -> None:
    options: dict[str, Any] = dict(preset="smoke", exploration="hypotheses", protocol="online-np")
    run = nacre.train("pearl", "point-robot", out=tmp_path / "run", **options)
    assert np.isfinite(nacre.load(run.path).evaluate()[0]).all()


def test_its_trials_are_drawn_with_their_beliefs(exploring: Path) -> None:
    agent = nacre.load(exploring)
    drawn = trials.play(agent, agent.tasks.test)
    assert [row.shape for row in drawn.belief_means] == [(61, 5)] * 3  # three episodes of 20 steps, and the prior
    stds = np.array(drawn.belief_stds)
    assert (stds[:, -1] < stds[:, 0]).all()


def test_a_push_says_that_hypotheses_are_lost(
    exploring: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = Path(shutil.copytree(exploring, tmp_path / "older"))
    directory = nacre.RunDirectory(older)
    state, tasks = load_state(directory), directory.tasks
    shutil.rmtree(directory.checkpoints)
    Checkpoints(directory.checkpoints).save(int(state.grad_steps), Saved(state, np.float64(1), tasks.train, tasks.test))
    capsys.readouterr()
    nacre.push(without_replay(older), tmp_path / "pushed")
    assert "pushed without hypotheses, so it acts with --exploration prior alone" in capsys.readouterr().err
    assert np.isfinite(nacre.load(tmp_path / "pushed").evaluate(exploration="prior")[0]).all()


def test_a_method_without_them_refuses_to_explore_so(monkeypatch: pytest.MonkeyPatch) -> None:
    without = dataclasses.replace(pearl.variant(), hypotheses=protocol._no_hypotheses)
    monkeypatch.setitem(registry._BUILT_IN, "no-hypotheses", without)
    nacre.resolve("no-hypotheses", "point-robot", "smoke")
    with pytest.raises(nacre.NacreError, match=r"'no-hypotheses' has no hypotheses about tasks .* --exploration prior"):
        nacre.resolve("no-hypotheses", "point-robot", "smoke", exploration="hypotheses")


def test_a_method_of_ones_own_keeps_what_it_likes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One array, where PEARL has two."""

    def known(state: Any, family: Any, settings: Any) -> jax.Array:
        return pearl.hypotheses(state, family, settings).mean

    def exploring(params: Any, mean: Any, family: Any, settings: Any) -> Any:
        return pearl.exploring_params(params, Belief(mean, jnp.ones_like(mean)), family, settings)

    method = pearl.variant(hypotheses=known, exploring_params=exploring)
    monkeypatch.setitem(registry._BUILT_IN, "by-means", method)
    options: dict[str, Any] = dict(preset="smoke", exploration="hypotheses", iterations=1)
    run = nacre.train("by-means", "point-robot", out=tmp_path / "run", **options)
    directory = nacre.RunDirectory(run.path)
    made = directory.experiment.hypotheses(load_state(directory))
    assert made.shape == (4, 5)
    np.testing.assert_array_equal(load_to_act(directory).hypotheses, made)
    nacre.push(run.path, tmp_path / "pushed")
    for path in (run.path, tmp_path / "pushed"):
        assert np.isfinite(nacre.load(path).evaluate()[0]).all()
    nacre.resume(run.path, iterations=2)
    assert int(load_state(directory).meta_iterations) == 2
