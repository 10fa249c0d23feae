"""Trials whose task changes: pairs of tasks, windows, who is told, what is written."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import nacre
from command_line import Capture, json_output, output, refusal
from nacre.algorithms import pearl
from nacre.deploy.changing_tasks import Earned, changed_to, evaluate_change
from nacre.deploy.session import seed_key
from nacre.deploy.trained_agent import TrainedAgent
from nacre.families.family import take
from nacre.simulation import rollout


@pytest.fixture(scope="module")
def agent(smoke_run: Any) -> TrainedAgent:
    return nacre.load(smoke_run("point-robot"))


@pytest.fixture(scope="module")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("oracle") / "run"
    return nacre.train("oracle", "point-robot", preset="smoke", out=path).path


def test_every_task_becomes_another_in_each_repeat() -> None:
    assert changed_to(3, 4).tolist() == [[1, 2, 0], [2, 0, 1], [1, 2, 0], [2, 0, 1]]
    with pytest.raises(nacre.NacreError, match="only one task"):
        changed_to(1, 1)


def test_windows_end_at_the_change_begin_with_it_and_end_with_the_episode() -> None:
    earned = Earned(np.arange(10.0)[None, None], np.zeros((1, 1, 0)))
    windows = {name: values.item() for name, values in earned.windows(4, 3).items()}
    assert windows == {"before": 1 + 2 + 3, "at": 4 + 5 + 6, "after": 7 + 8 + 9}


def test_before_the_change_trials_are_those_of_an_evaluation_and_the_reset_is_of_no_effect(agent: TrainedAgent) -> None:
    report = evaluate_change(agent, 10, repeats=2, episodes_after=1, seed=4)
    lanes = take(agent.tasks.test, np.tile(np.arange(3), 2))
    *_, scored = rollout.trial(
        agent.family, agent.functions, agent.params, lanes, seed_key(4), agent.trials.episodes
    )  # fmt: skip
    usual = np.asarray(scored.episode.transitions.reward).reshape(2, 3, 20)
    evaluated = agent.evaluate(repeats=2, seed=4)[0]
    np.testing.assert_allclose(usual.sum(axis=2), evaluated[:, :, -1], rtol=1e-5)
    told, untold = report.agents["reset by hand"], report.agents["agent"]
    assert untold.rewards.shape == (2, 3, 20) and untold.later.shape == (2, 3, 1)
    np.testing.assert_array_equal(untold.rewards[:, :, :10], usual[:, :, :10])
    np.testing.assert_array_equal(told.rewards[:, :, :10], untold.rewards[:, :, :10])
    assert (told.rewards[:, :, 10:] != untold.rewards[:, :, 10:]).any()
    late = evaluate_change(agent, 19, repeats=2, seed=4).agents["agent"].rewards
    assert (late[:, :, :19] != untold.rewards[:, :, :19]).any(axis=(0, 1)).tolist() == [False] * 10 + [True] * 9
    np.testing.assert_array_equal(late[:, :, :19], usual[:, :, :19])
    goals = {tuple(task["goal"]) for task, _ in report.pairs[0]}
    assert {tuple(then["goal"]) for _, then in report.pairs[1]} == goals


def test_the_reset_gives_pearl_its_prior_and_does_not_send_it_exploring(agent: TrainedAgent) -> None:
    functions, tasks = agent.functions, agent.tasks.test
    memory: Any = functions.begin(agent.params, tasks, jax.random.key(0))
    seen = memory._replace(
        factors=pearl.Factors(memory.factors.precision + 3, memory.factors.weighted_mean + 1),
        num_transitions=memory.num_transitions + 40, num_episodes=memory.num_episodes + 2,
    )  # fmt: skip
    assert functions.restart is not None
    anew = functions.restart(agent.params, seen, tasks, jax.random.key(1))
    settings: Any = agent.experiment.settings
    mean, variance = pearl.belief(anew, settings)
    assert not np.asarray(mean).any() and (np.asarray(variance) == 1).all()
    assert (np.asarray(anew.num_episodes) == 2).all() and (np.asarray(anew.z) != np.asarray(seen.z)).all()


def test_the_command_shows_agents_beside_each_other_and_writes_a_row_a_trial(
    agent: TrainedAgent, oracle: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert agent.run is not None
    line = ("evaluate", str(agent.run.path), "--change-at", "12", "--oracle", str(oracle), "--resample", "mean")
    told = json_output(capsys, *line, "--json", "--csv", str(tmp_path / "rows.csv"))
    assert list(told["agents"]) == ["agent", "reset by hand", "oracle"]
    assert (told["change_at"], told["change_window"], told["resample"]) == (12, 4, "mean")
    with (tmp_path / "rows.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["agent", "repeat", "task", "then", "before", "at", "after"]
    assert len(rows) == 3 * 3
    of_oracle = [row for row in rows if row["agent"] == "oracle"]
    np.testing.assert_allclose([float(row["after"]) for row in of_oracle], told["agents"]["oracle"]["after"][0])
    assert np.isclose(
        np.sum(told["agents"]["agent"]["reward_by_step"][8:12]), np.mean(told["agents"]["agent"]["before"])
    )
    assert of_oracle[0]["then"] == of_oracle[1]["task"]
    shown = output(capsys, *line)
    assert "mean of" in shown and "reset by hand" in shown and "steps 13 to 16" in shown


def test_what_cannot_be_is_refused_in_a_sentence(agent: TrainedAgent, capsys: Capture) -> None:
    assert agent.run is not None
    run = str(agent.run.path)
    assert "from 1 to 19" in refusal(capsys, "evaluate", run, "--change-at", "20")
    assert "from 1 to 5" in refusal(capsys, "evaluate", run, "--change-at", "15", "--change-window", "6")
    assert "set --change-at as well" in refusal(capsys, "evaluate", run, "--csv", "rows.csv")
    assert "is no oracle of point-robot" in refusal(capsys, "evaluate", run, "--change-at", "5", "--oracle", run)
    assert "leave out --data" in refusal(capsys, "evaluate", run, "--change-at", "5", "--data", "some")
    assert "change --episodes-after" in refusal(capsys, "evaluate", run, "--change-at", "5", "--episodes-after", "-1")
    logged = ("--protocol", "offline-own-context")
    assert "a task that changes has two" in refusal(capsys, "evaluate", run, "--change-at", "5", *logged)


def test_a_detector_stands_beside_the_agent_and_acts_as_it_does_until_it_fires(
    agent: TrainedAgent, capsys: Capture
) -> None:
    assert agent.run is not None
    line = ("evaluate", str(agent.run.path), "--change-at", "10", "--detect", "0.4")
    told = json_output(capsys, *line, "--json")
    assert list(told["agents"]) == ["agent", "reset by hand", "detector"]
    detected = told["detected"]
    assert detected["wanted"] == 0.4 and detected["early"] + detected["found"] <= 1
    assert len(detected["delays"]) == round(3 * detected["found"]) and all(1 <= n <= 10 for n in detected["delays"])
    if detected["early"] == 0:
        assert told["agents"]["detector"]["before"] == told["agents"]["agent"]["before"]
    assert "set for 40%" in output(capsys, *line)


def test_a_session_with_a_detector_acts_as_one_without_until_it_fires(agent: TrainedAgent) -> None:
    watching, plain = agent.session(detect=0.01), agent.session()
    for _ in range(2):
        for step in range(20):
            obs = np.array([0.02 * step, 0.0])
            np.testing.assert_allclose(watching.act(obs), plain.act(obs), atol=1e-6)
            for session in (watching, plain):
                session.observe(obs, -0.5)
        watching.end_episode()
        plain.end_episode()
    np.testing.assert_allclose(watching.belief[0], plain.belief[0], rtol=1e-5)
    assert watching.num_detected == plain.num_detected == 0
    watching.act(np.zeros(2))
    watching.observe(np.zeros(2), 1e6)  # nothing that a critic could expect
    assert watching.num_detected == 1
    watching.act(np.zeros(2))
    assert not watching.belief[0].any() and (watching.belief[1] == 1).all()
    with pytest.raises(nacre.NacreError, match="above 0 and below 1"):
        agent.session(detect=1.0)
