"""A trained agent by protocols that give it logged transitions, and what its returns are compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from test_trained_agent import Walk

import made_up_data as made_up
import nacre
from command_line import Capture, json_output, output, refusal
from nacre.algorithms import pearl
from nacre.data.dataset import DataSet
from nacre.data.slices import slice_data_set
from nacre.deploy import logged_tasks
from nacre.deploy.trained_agent import TrainedAgent
from nacre.report import trials

REFERENCES = {"test": {"random": [-20.0, -30.0], "reference": [-10.0, -30.0]}}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataSet]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("sets")))
        yield made_up.write(references=REFERENCES)


@pytest.fixture(scope="module")
def run(smoke_run: Callable[[str], Path]) -> str:
    return str(smoke_run("point-robot"))


@pytest.fixture(scope="module")
def agent(run: str) -> TrainedAgent:
    return nacre.load(run)


OWN = {"protocol": "offline-own-context", "context_transitions": 8}
FLAGS = ["--protocol", "offline-own-context", "--context-transitions", "8"]


def first_task(data: DataSet) -> str:
    """As a table would show it."""
    return "goal=" + ",".join(f"{x:.3g}" for x in data.test["goal"][0])


def test_an_online_run_is_evaluated_on_the_tasks_of_a_data_set_with_its_logged_transitions(
    agent: TrainedAgent, run: str, data: DataSet, capsys: Capture
) -> None:
    told = json_output(capsys, "evaluate", run, "--data", data.id, *FLAGS, "--repeats", "3", "--json")
    assert told["protocol"] == "offline-own-context"
    assert told["context_transitions"] == [[8, 8]] * 3
    assert np.shape(told["returns"]) == (3, 2, 1)
    np.testing.assert_array_equal([task["goal"] for task in told["tasks"]], data.test["goal"])
    returns, _ = agent.evaluate(repeats=3, data=data, **OWN)
    assert told["returns"] == returns.tolist()
    assert told["returns"] == agent.evaluate(repeats=3, data=data.path, **OWN)[0].tolist(), "from its key"
    score = returns[:, 0, 0].mean()
    assert told["normalised"] == [pytest.approx((score + 20) / 10), None]
    assert told["normalised_score"] == pytest.approx((score + 20) / 10)
    assert set(told["lines"]) == {"random", "single-task SAC", "data mean", "data best"}
    assert (returns != agent.evaluate(repeats=3, data=data, **OWN | {"context_transitions": 9})[0]).all()


def test_the_table_has_lines_to_compare_with_and_says_how_much_was_seen(
    run: str, data: DataSet, capsys: Capture
) -> None:
    shown = output(capsys, "evaluate", run, "--data", data.id)
    for part in ("random", "single-task SAC", "data mean", "data best", "online-prior: 40 transitions", "1 of 2 tasks"):
        assert part in shown


def test_a_trial_by_zero_shot_is_one_episode_with_nothing_seen_before_it(run: str, capsys: Capture) -> None:
    told = json_output(capsys, "evaluate", run, "--protocol", "zero-shot", "--json")
    assert np.shape(told["returns"]) == (1, 3, 1) and told["context_transitions"] == [[0] * 3]
    assert "normalised" not in told and "lines" not in told


@pytest.mark.parametrize(
    ("flags", "part"),
    [
        (["--protocol", "zero-shoot"], "did you mean 'zero-shot'"),
        (["--protocol", "gradient-steps:1"], "choose one of"),
        (["--protocol", "offline-own-context"], "--data"),
        (["--data", "nacre/point-robot/made-down-v0"], "did you mean 'nacre/point-robot/made-up-v0'"),
        (["--data", made_up.ID, "--tasks", "ood"], "--tasks test"),
        (["--data", made_up.ID, "--tasks", "train", "--protocol", "offline-other-context"], "nothing was logged"),
    ],
)
def test_what_cannot_be_is_refused(flags: list[str], part: str, run: str, data: DataSet, capsys: Capture) -> None:
    assert part in refusal(capsys, "evaluate", run, *flags)


def test_an_agent_meets_one_task_of_a_data_set_named_as_tables_name_it(
    agent: TrainedAgent, run: str, data: DataSet, capsys: Capture
) -> None:
    told = json_output(capsys, "adapt", run, "--task", first_task(data), "--data", data.id, *FLAGS, "--json")
    trial = agent.meet(first_task(data), data=data, **OWN)
    assert [episode["episode_return"] for episode in told["episodes"]] == trial.returns
    assert len(trial.episodes) == 1
    assert "no logged transitions of the task" in refusal(
        capsys, "adapt", run, "--task", "goal=0.123,0.456", "--data", data.id, *FLAGS
    )


def test_a_train_task_has_no_logs_by_the_policies_of_other_tasks(
    agent: TrainedAgent, run: str, data: DataSet, capsys: Capture, tmp_path: Path
) -> None:
    task = "goal=" + ",".join(f"{x:.6g}" for x in data.train["goal"][0])
    told = f"'train' tasks for protocol offline-other-context; choose one of the test tasks of {data.id}"
    other = {"protocol": "offline-other-context", "context_transitions": 8}
    for ask in (agent.contexts, agent.meet):
        with pytest.raises(nacre.NacreError, match=told):
            ask(task, data=data, **other)
    flags = ("--protocol", "offline-other-context", "--data", data.id)
    assert told in refusal(capsys, "adapt", run, "--task", task, *flags)
    learner = nacre.resolve("macaw", "point-robot", "smoke", data=data.id, num_inner_steps=1)
    macaw = TrainedAgent(
        learner,
        learner.draw_tasks(),
        learner.algorithm.agent_params(learner.algorithm.init(learner.family, learner.settings, 0)),
    )
    with pytest.raises(nacre.NacreError, match=told):
        macaw.export(tmp_path / "policy", adapted_from=task, **other)


def test_a_data_set_that_the_protocol_gives_nothing_of_is_refused(
    agent: TrainedAgent, run: str, data: DataSet, tmp_path: Path, capsys: Capture
) -> None:
    told = "protocol online-prior gives the agent no logged transitions, so the data set would not be used"
    command = ["adapt", run, "--task", first_task(data), "--data", "nowhere"]
    assert told in refusal(capsys, *command)
    assert told in refusal(capsys, *command, "--video", str(tmp_path / "trial.gif"))
    for ask in (agent.meet, agent.contexts):
        with pytest.raises(nacre.NacreError, match=told):
            ask(first_task(data), data=data)


def test_a_session_absorbs_logged_transitions_and_believes_their_product(agent: TrainedAgent, data: DataSet) -> None:
    logged = agent.contexts(first_task(data), data=data, **OWN)
    assert logged.transition.obs.shape == (8, 2)
    settings = agent.experiment.settings
    session = agent.session(**OWN)
    session.absorb(logged)
    expected = pearl.infer_posterior(agent.params.encoder, logged.transition, settings)
    belief = pearl.belief(session.memory, settings)
    np.testing.assert_allclose(belief.mean[0], expected.mean, rtol=1e-3, atol=1e-5)
    session.act([0.0, 0.0])
    with pytest.raises(nacre.NacreError, match="begun already"):
        session.absorb(logged)


def test_sessions_without_what_their_protocol_needs_are_refused(agent: TrainedAgent, data: DataSet) -> None:
    with pytest.raises(nacre.NacreError, match="call absorb"):
        agent.session(**OWN).act([0.0, 0.0])
    logged = agent.contexts(first_task(data), data=data, **OWN)
    with pytest.raises(nacre.NacreError, match="gives the agent no logged transitions"):
        agent.session().absorb(logged)
    with pytest.raises(nacre.NacreError, match="gives the agent no logged transitions"):
        agent.contexts(first_task(data), data=data)
    with pytest.raises(nacre.NacreError, match="no data set"):
        agent.contexts(first_task(data), **OWN)
    for wrong, part in (
        (jax.tree.map(lambda x: x[None], logged), "shape"),
        (logged._replace(last_obs=logged.last_obs[:, :1]), "last_obs"),
        (logged._replace(return_to_go=logged.return_to_go * np.nan), "not finite"),
    ):
        with pytest.raises(nacre.NacreError, match=part):
            agent.session(**OWN).absorb(wrong)


def test_an_agent_adapts_in_anybodys_environment_with_an_episode_of_ones_own(agent: TrainedAgent) -> None:
    own = agent.logged_episode(np.zeros((6, 2)), np.zeros((5, 2)), np.arange(5.0))
    discount = agent.experiment.settings.discount
    np.testing.assert_allclose(own.return_to_go[0], sum(discount**time * time for time in range(5)), rtol=1e-6)
    env = Walk()
    with pytest.raises(nacre.NacreError, match="logged="):
        agent.adapt(env, protocol="offline-own-context")
    assert env.episodes == []
    trial = agent.adapt(env, protocol="offline-own-context", logged=own)
    other = agent.adapt(Walk(), protocol="offline-own-context", logged=own._replace(transition=own.transition._replace(
        reward=-own.transition.reward)))  # fmt: skip
    assert len(trial.episodes) == 1 and trial.episodes[0].belief_mean != other.episodes[0].belief_mean


def test_an_offline_run_gets_its_contexts_from_its_own_data_set(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(data.path.parents[2]))
    small = dict(hidden_dim=8, encoder_hidden_dim=8, num_context_transitions=5)
    run = nacre.resolve("focal", "point-robot", data=data.id, **small)
    params = run.algorithm.agent_params(run.algorithm.init(run.family, run.settings, 0))
    encoder = jax.tree.map(lambda x: 10 * x, params.encoder)  # what it is given makes a difference
    agent = TrainedAgent(run, run.draw_tasks(), params._replace(encoder=encoder))
    assert "by offline-own-context" in repr(agent)
    own, tasks = agent.evaluation()
    assert own.context_transitions.tolist() == [[5, 5]] and len(tasks) == 2
    memory = agent.session()
    memory.absorb(agent.contexts(first_task(data)))
    other = agent.evaluation(protocol="offline-other-context")[0]
    assert (own.returns != other.returns).all() and own.returns.shape == other.returns.shape == (1, 2, 1)
    assert agent.lines().normalised(own.returns[0, :, 0])[1] is None
    drawn = trials.play(agent, agent.tasks.test)
    assert len(drawn.episodes) == 1 and drawn.belief_stds == []


def test_tasks_are_found_by_their_numbers_in_test_or_in_train(data: DataSet) -> None:
    goals = data.train["goal"]
    assert logged_tasks.find(data, {"goal": goals[[2, 0]]}) == ("train", [2, 0])
    assert logged_tasks.find(data, {"goal": data.test["goal"] + 0.004}) == ("test", [0, 1])
    with pytest.raises(nacre.NacreError, match="no logged transitions of the task"):
        logged_tasks.find(data, {"goal": goals + 0.006})


def test_a_data_set_without_train_tasks_has_its_test_tasks_alone(data: DataSet, agent: TrainedAgent) -> None:
    part = slice_data_set(data, "nacre/part/test-alone-v0", train_tasks=[])
    assert logged_tasks.find(part, {"goal": part.test["goal"]}) == ("test", [0, 1])
    with pytest.raises(nacre.NacreError, match="no logged transitions of the task"):
        agent.contexts("goal=9,9", **OWN, data=part)
    with pytest.raises(nacre.NacreError, match="test-alone-v0 has no train tasks; choose --tasks test"):
        agent.evaluate("train", data=part)


def test_scores_are_normalised_on_each_tasks_own_scale() -> None:
    lines = logged_tasks.Lines(np.array([0.0, -10.0, 5.0]), np.array([2.0, 10.0, 5.0]), None, None)
    assert lines.normalised(np.array([1.0, 10.0, 9.0])) == [0.5, 1.0, None]
    assert list(lines.named()) == ["random", "single-task SAC"]
    assert lines._replace(random=None).normalised(np.zeros(2)) == [None, None]


def test_lines_are_named_by_what_made_the_data_and_have_normalised_scores(data: DataSet) -> None:
    by_an_oracle = dataclasses.replace(data, recipe={"algorithm": "oracle"})
    assert logged_tasks.lines(by_an_oracle, "test", data.test).named().keys() >= {"random", "data oracle"}
    alone = dataclasses.replace(data, recipe={"algorithm": "sac"})
    assert logged_tasks.lines(alone, "test", data.test).reference_name == "single-task SAC"
    lines = logged_tasks.Lines(
        np.array([0.0, 5.0]), np.array([2.0, 5.0]), np.array([1.0, 9.0]), None, beside={"bc": np.array([3.0, 7.0])}
    )
    assert lines.normalised_means() == {"data mean": 0.5, "bc": 1.5}, "over the one task that has a scale"


@pytest.mark.parametrize("split", ["test", "train"])
def test_a_single_task_oracle_is_normalised_on_the_scale_of_its_task(
    data: DataSet, monkeypatch: pytest.MonkeyPatch, split: str
) -> None:
    """Its one train and test task is number 1 of the data set's test tasks, which has another scale than number 0."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(data.path.parents[2]))
    references = {"test": {"random": [-300.0, -100.0], "reference": [-20.0, -10.0]}, "train": {"random": [-1.0] * 3}}
    changed = dataclasses.replace(data, references=references)
    run = nacre.resolve("oracle", "point-robot", "smoke", data=data.id, single_task=1)
    agent = TrainedAgent(
        run, run.draw_tasks(), run.algorithm.agent_params(run.algorithm.init(run.family, run.settings, 0))
    )
    monkeypatch.setattr(logged_tasks, "opened", lambda given, experiment: changed)
    lines = agent.lines(split)
    assert lines.random.tolist() == [-100.0] and lines.normalised(np.array([-55.0])) == [0.5]
    assert lines.data_mean.tolist() == data.statistics["test"]["return_mean"][1:]


def test_other_runs_stand_beside_an_evaluation(agent: TrainedAgent, run: str, data: DataSet, capsys: Capture) -> None:
    told = json_output(capsys, "evaluate", run, "--data", data.id, *FLAGS, "--beside", run, run, "--json")
    as_configured = agent.evaluate(data=data)[0][:, :, -1].mean(axis=0)
    beside = {name: values for name, values in told["lines"].items() if name.startswith("pearl")}
    assert list(beside) == ["pearl", f"pearl at {run}"]
    assert all(values == as_configured.tolist() for values in beside.values())
    assert told["normalised_lines"]["pearl"] == pytest.approx((as_configured[0] + 20) / 10)
    shown = output(capsys, "evaluate", run, "--data", data.id, *FLAGS, "--beside", run)
    assert f"    pearl: {(as_configured[0] + 20) / 10:.3f}" in shown.splitlines()
    own = agent.lines(beside=[run])
    assert own is not None and list(own.named()) == ["pearl"] and own.normalised_means() == {}


def test_a_run_of_random_actions_beside_leaves_the_scale_of_the_data_set_as_it_is(
    agent: TrainedAgent, data: DataSet, tmp_path: Path
) -> None:
    run = str(nacre.train("random", "point-robot", preset="smoke", out=tmp_path / "random").path)
    lines = agent.lines(data=data, beside=[run])
    assert lines is not None
    assert lines.named()["random"].tolist() == REFERENCES["test"]["random"]
    assert list(lines.beside) == [f"random at {run}"] and f"random at {run}" in lines.normalised_means()
    without = agent.lines(beside=[run])
    assert without is not None and list(without.named()) == ["random"]


def test_a_run_on_another_family_does_not_stand_beside(tmp_path: Path) -> None:
    """The goals are the same numbers; within 0.8 of them a reward is another than within 0.2."""
    runs = [
        nacre.train("random", "sparse-point-robot", preset="smoke", out=tmp_path / str(radius), goal_radius=radius).path
        for radius in (0.2, 0.8)
    ]
    with pytest.raises(nacre.NacreError, match=r"0.8 is on .*goal_radius=0.8.*, not on .*; leave it out"):
        nacre.load(runs[0]).lines(beside=[runs[1]])


def test_a_run_with_other_tasks_does_not_stand_beside(agent: TrainedAgent, run: str) -> None:
    elsewhere = TrainedAgent(agent.experiment, agent.tasks._replace(test=agent.tasks.train), agent.params)
    with pytest.raises(nacre.NacreError, match="other test tasks"):
        elsewhere.lines(beside=[run])


def test_a_data_set_of_another_family_is_refused(data: DataSet, agent: TrainedAgent) -> None:
    other = dataclasses.replace(data, family=nacre.make_family("sparse-point-robot"))
    with pytest.raises(nacre.NacreError, match=r"is of sparse-point-robot, but the agent is of point-robot"):
        agent.evaluate(data=other)
    longer: Any = dataclasses.replace(data, family=nacre.make_family("sparse-point-robot", goal_radius=0.3))
    sparse = dataclasses.replace(agent.experiment, family=nacre.make_family("sparse-point-robot"))
    with pytest.raises(nacre.NacreError, match="another goal_radius"):
        logged_tasks.opened(longer, sparse)


def test_a_notice_tells_of_test_tasks_that_the_agent_was_trained_on(
    data: DataSet, agent: TrainedAgent, capsys: Capture
) -> None:
    trained_on = TrainedAgent(agent.experiment, agent.tasks._replace(train=data.test), agent.params)
    trained_on.evaluate(data=data)
    assert "2 of the test tasks" in capsys.readouterr().err
