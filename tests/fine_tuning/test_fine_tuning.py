"""Online fine-tuning: what a task's replay holds, what updates descend, when they begin, that they help and resume."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import nacre
from command_line import Capture, output, refusal
from nacre.algorithms import macaw, multitask
from nacre.cli.main import main
from nacre.data import contexts
from nacre.data.dataset import DataSet, LoggedEpisode, Writer
from nacre.data.slices import slice_data_set
from nacre.deploy import trained_agent
from nacre.deploy.session import seed_key
from nacre.deploy.trained_agent import TrainedAgent
from nacre.families.catalog import make_family
from nacre.families.family import take
from nacre.families.half_cheetah import CheetahVel
from nacre.families.point import half_circle
from nacre.fine_tuning import loop, running
from nacre.learning import fine_tuning
from nacre.learning.fine_tuning import Replay
from nacre.presets.fine_tuning import FineTuneSettings
from nacre.presets.macaw import PRESETS, MacawSettings
from nacre.presets.multitask import MultitaskSettings
from nacre.presets.settings import row_of
from nacre.runs import files, stopping
from nacre.runs.experiment import resolve
from nacre.types import Episode, Logged, Transition

FAMILY = make_family("point-robot-half-circle")
GOALS = {"goal": half_circle(np.array([0.4, 1.5, 2.6]))}
ID = "nacre/point-robot-half-circle/made-up-v0"
SMOKE = MacawSettings(**row_of(PRESETS["smoke"], CheetahVel))  # type: ignore[arg-type]
QUICK = FineTuneSettings(
    rounds=4, episodes_per_round=2, rounds_before_updates=1, value_updates_per_round=20, policy_updates_per_round=20,
    learning_rate=5e-3, batch_size=64,
)  # fmt: skip


def episode(split: str, task: int, place: int, number: int) -> LoggedEpisode:
    """A noisy walk to the task's goal."""
    rng = np.random.default_rng([place, number])
    goal, obs, actions = GOALS["goal"][place], [np.zeros(2)], []
    for _ in range(FAMILY.horizon):
        wanted = np.clip((goal - obs[-1]) / 0.1, -1, 1)
        actions.append(0.3 * wanted + 0.7 * rng.uniform(-1, 1, 2))
        obs.append(obs[-1] + 0.1 * actions[-1])
    reward = -np.linalg.norm(np.stack(obs[1:]) - goal, axis=1).astype(np.float32)
    arrays = (np.stack(obs).astype(np.float32), np.stack(actions).astype(np.float32), reward, reward)
    return LoggedEpisode(task, split, "medium", 0, task, number, *arrays, False)


@pytest.fixture(scope="module", autouse=True)
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DataSet]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINARI_DATASETS_PATH", str(tmp_path_factory.mktemp("sets")))
        writer = Writer(ID, FAMILY, take(GOALS, [0]), take(GOALS, [1, 2]), "made-up", {"algorithm": "none"})
        with writer as into:
            for number in range(4):
                into.add([episode("train", 0, 0, number), episode("test", 0, 1, number), episode("test", 1, 2, number)])
        yield writer.close()


@pytest.fixture(scope="module")
def agent(data: DataSet) -> TrainedAgent:
    """MACAW before its first update, which point robots can be fine-tuned from all the same."""
    experiment = resolve("macaw", FAMILY.name, "smoke", data=data.id, hidden_dim=16)
    state = experiment.algorithm.init(experiment.family, experiment.settings, 0)
    return TrainedAgent(experiment, experiment.draw_tasks(), experiment.algorithm.agent_params(state), 0)


def begun(agent: TrainedAgent, data: DataSet, settings: FineTuneSettings) -> tuple[loop.Problem, loop.State, Logged]:
    """After a gradient step on the transitions that an evaluation with seed 0 would give."""
    trials = agent.trials.changed(protocol="gradient-steps:1")
    logged = contexts.for_trials(data, trials, "test", [0, 1], seed_key(0)[None], repeats=1)
    assert logged is not None
    config: Any = agent.experiment.settings
    method = macaw.make_fine_tuning(FAMILY, config)
    problem = loop.Problem(FAMILY, data.test, method, settings, config.discount)
    return problem, loop.begin(problem, agent.params, logged, 1, 0), logged


# ----------------------------------------------------------------------------------------------------------------------
# Replay and losses


def played(rewards: list[list[float]], length: list[int], discount: float = 1.0) -> Episode:
    """Episodes of a robot that stands at its time, in a family of one number."""
    reward = np.asarray(rewards, np.float32)
    time = np.broadcast_to(np.arange(reward.shape[1], dtype=np.float32), reward.shape)[..., None]
    last = np.arange(reward.shape[1]) == np.asarray(length)[:, None] - 1
    transitions = Transition(time, time + 10, reward, reward, np.where(last, discount, 1).astype(np.float32), time + 1)
    return Episode(transitions, np.asarray(length))


def test_the_replay_holds_what_was_collected_with_monte_carlo_returns() -> None:
    replay = Replay(jnp.zeros((2, 7, fine_tuning.width(1, 1))), jnp.array([0, 1], jnp.int32))
    replay = fine_tuning.insert(replay, played([[1, 2, 4], [8, 16, 99]], [3, 2], discount=0.0), 0.5)
    replay = fine_tuning.insert(replay, played([[0, 0, 2], [5, 99, 99]], [3, 1]), 0.5)
    np.testing.assert_array_equal(replay.size, [6, 4])
    held = fine_tuning.unpacked(replay.rows, 1)
    np.testing.assert_array_equal(held.return_to_go, [[3, 4, 4, 0.5, 1, 2, 0], [0, 16, 16, 5, 0, 0, 0]])
    np.testing.assert_array_equal(held.transition.reward, [[1, 2, 4, 0, 0, 2, 0], [0, 8, 16, 5, 0, 0, 0]])
    np.testing.assert_array_equal(held.transition.action[0, :6, 0], [10, 11, 12, 10, 11, 12])
    np.testing.assert_array_equal(held.steps_to_end, [[3, 2, 1, 3, 2, 1, 0], [0, 2, 1, 1, 0, 0, 0]])
    np.testing.assert_array_equal(held.last_obs[..., 0], [[3, 3, 3, 3, 3, 3, 0], [0, 2, 2, 1, 0, 0, 0]])
    np.testing.assert_array_equal(held.last_discount, [[0, 0, 0, 1, 1, 1, 0], [0, 0, 0, 1, 0, 0, 0]])


def test_values_are_fitted_to_returns_and_advantages_expect_something_after_a_time_limit() -> None:
    """With V = 2 everywhere, steps of reward 1, 0, 1 to a time limit and discount 1/2."""
    config = dataclasses.replace(SMOKE, discount=0.5, normalise_advantages=False)
    logged = jax.tree.map(
        lambda x: jnp.asarray(x)[0], fine_tuning.with_what_follows(played([[1.0, 0, 1]], [3]), config.discount)
    )
    method = fine_tuning.advantage_weighted(lambda: None, config)
    value = (jnp.array([0.0, 2.0]),)  # W = 0, b = 2
    assert method.value_loss(value, logged) == pytest.approx(((1.25 - 2) ** 2 + (0.5 - 2) ** 2 + (1 - 2) ** 2) / 3)
    policy = tuple(jnp.zeros(n) for n in (2, 2))  # acts 0, is in doubt by policy_std
    gain = np.array([1.25 + 0.25 - 2, 0.5 + 0.5 - 2, 1 + 1 - 2])
    off = np.clip([10, 11, 12], -1, 1) / config.policy_std
    density = -0.5 * off**2 - np.log(config.policy_std) - 0.5 * np.log(2 * np.pi)
    assert method.policy_loss(policy, value, logged) == pytest.approx(-np.mean(np.exp(gain) * density), rel=1e-5)


def test_a_policy_for_many_tasks_is_shown_a_task_of_zeros_as_by_its_agent() -> None:
    config = MultitaskSettings(num_train_tasks=3, hidden_dim=4, num_hidden_layers=2, bootstrap="none")
    networks, one = multitask.init(FAMILY, config, 0).networks, episode("test", 0, 1, 0)
    method, agent = multitask.make_fine_tuning(FAMILY, config), multitask.make_agent(FAMILY, config)
    logged, key = contexts.of_episode(one.obs, one.action, one.reward, discount=0.99), seed_key(0)

    @jax.jit
    def both(networks: multitask.Networks) -> Any:
        memory = agent.begin(networks, take(GOALS, [1]), key)
        acts = [agent.act(networks, memory, one.obs[7:8], key, explore)[0] for explore in (False, True)]
        expected = (*acts, multitask.value_loss(networks.value, multitask.told(logged, jnp.zeros(3)), config))
        acts = [method.act(networks.policy, one.obs[7:8], key, explore) for explore in (False, True)]
        return expected, (*acts, method.value_loss(networks.value, logged))

    for expected, found in zip(*both(networks), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_a_data_set_without_the_tasks_is_refused_whether_their_logs_are_needed_or_not(
    agent: TrainedAgent, data: DataSet, tmp_path: Path
) -> None:
    part = slice_data_set(data, "nacre/part/train-alone-v0", test_tasks=[])
    for steps in (0, 1):
        with pytest.raises(nacre.NacreError, match="train-alone-v0 has no test tasks; choose --tasks train"):
            nacre.fine_tune(agent, tmp_path / "out", QUICK, data=part, gradient_steps=steps)
    assert not (tmp_path / "out").exists()


# ----------------------------------------------------------------------------------------------------------------------
# Rounds


def test_updates_begin_after_the_first_rounds(agent: TrainedAgent, data: DataSet) -> None:
    problem, state, logged = begun(agent, data, QUICK)
    states = [jax.tree.map(np.asarray, state.networks)]
    for _ in range(2):
        state, _ = loop.play_round(problem, state)
        states.append(jax.tree.map(np.asarray, state.networks))
    for before, after, same in zip(states, states[1:], (True, False), strict=False):
        equal = jax.tree.leaves(jax.tree.map(lambda x, y: np.array_equal(x, y), before, after))
        assert all(equal) if same else not any(equal)
    held = fine_tuning.unpacked(state.replay.rows, FAMILY.obs_dim)
    number = logged.transition.reward.shape[1]
    np.testing.assert_array_equal(state.replay.size, [number + 40] * 2)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(x[:, :number], y), held, logged)
    for task, goal in enumerate(data.test["goal"]):
        collected = jax.tree.map(lambda x, task=task: x[task, number : number + 40], held.transition)
        np.testing.assert_allclose(collected.reward, -np.linalg.norm(collected.next_obs - goal, axis=1), rtol=1e-4)
    assert np.std(held.transition.action[:, number], axis=0).max() > 0, "noise of its own in each task"


def test_without_a_learning_rate_it_is_scored_as_by_gradient_steps(agent: TrainedAgent, tmp_path: Path) -> None:
    settings = dataclasses.replace(QUICK, rounds=2, rounds_before_updates=0, learning_rate=0.0)
    tuned = nacre.fine_tune(agent, tmp_path / "out", settings, gradient_steps=1)
    expected = {k: agent.evaluate(protocol=f"gradient-steps:{k}")[0][0, :, 0] for k in (0, 1)}
    np.testing.assert_allclose(tuned.before, expected[0], rtol=1e-5)
    for returns in (tuned.adapted, *tuned.returns, tuned.after):
        np.testing.assert_allclose(returns, expected[1], rtol=1e-5)
    assert np.abs(tuned.noisy_returns - expected[1]).min() > 0
    np.testing.assert_array_equal(tuned.env_steps, [[0, 0], [20, 20], [40, 40]])


def test_a_few_rounds_bring_point_robots_to_their_goals(agent: TrainedAgent, tmp_path: Path) -> None:
    tuned = nacre.fine_tune(agent, tmp_path / "out", dataclasses.replace(QUICK, rounds=25))
    assert (tuned.adapted > tuned.before + 2).all()
    assert (tuned.after > tuned.adapted + 2).all()


# ----------------------------------------------------------------------------------------------------------------------
# Going on


def test_a_fine_tuning_that_was_stopped_continues_bit_for_bit(
    agent: TrainedAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = nacre.fine_tune(agent, tmp_path / "whole", QUICK)
    asked = iter([None, "Ctrl-C"])
    with monkeypatch.context() as patch:
        patch.setattr(stopping.StopRequest, "reason", property(lambda self: next(asked)))
        stopped = nacre.fine_tune(agent, tmp_path / "out", QUICK)
    assert stopped.stopped_by == "Ctrl-C" and len(stopped.returns) == 2
    rows = (tmp_path / "out" / "finetune.csv").read_text().splitlines()
    assert rows == (tmp_path / "whole" / "finetune.csv").read_text().splitlines()[: 1 + 2 * 2]
    for rounds in (3, 4):  # a later command may want more of them
        lines: list[str] = []
        further = nacre.fine_tune(agent, tmp_path / "out", dataclasses.replace(QUICK, rounds=rounds), tell=lines.append)
        assert lines[0] == f"resumes from round {rounds - 1} of {rounds}"
    np.testing.assert_array_equal(further.returns, whole.returns)
    np.testing.assert_array_equal(further.after, whole.after)
    for name in ("finetune.csv", "summary.csv", "finetune.json"):
        assert (tmp_path / "out" / name).read_text() == (tmp_path / "whole" / name).read_text()
    with np.load(tmp_path / "out" / "state.npz") as one, np.load(tmp_path / "whole" / "state.npz") as other:
        assert set(one) == set(other) and len(one) > 20
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
    with files.locked(tmp_path / "out", "mine"), pytest.raises(nacre.NacreError, match="process is fine-tuning"):
        nacre.fine_tune(agent, tmp_path / "out", QUICK)
    again = nacre.fine_tune(agent, tmp_path / "out", QUICK)
    np.testing.assert_array_equal(again.after, whole.after)
    plan = (tmp_path / "out" / "finetune.json").read_text()
    with pytest.raises(nacre.NacreError, match="4 rounds already"):
        nacre.fine_tune(agent, tmp_path / "out", dataclasses.replace(QUICK, rounds=3))
    assert (tmp_path / "out" / "finetune.json").read_text() == plan
    with pytest.raises(nacre.NacreError, match=r"another fine-tuning, with settings\.learning_rate 0\.005"):
        nacre.fine_tune(agent, tmp_path / "out", dataclasses.replace(QUICK, learning_rate=1e-3))
    file = tmp_path / "out" / "finetune.json"
    kept = json.loads(file.read_text())
    file.write_text(json.dumps(kept | {"networks_sha256": "0" * 64}))  # of a run that was trained anew since
    with pytest.raises(nacre.NacreError, match="another fine-tuning, with networks_sha256"):
        nacre.fine_tune(agent, tmp_path / "out", QUICK)
    del kept["networks_sha256"]  # begun by a version that did not record it
    file.write_text(json.dumps(kept))
    np.testing.assert_array_equal(nacre.fine_tune(agent, tmp_path / "out", QUICK).after, whole.after)


# ----------------------------------------------------------------------------------------------------------------------
# The command


def test_the_command_prints_what_it_came_to_and_refuses_what_cannot_be(
    agent: TrainedAgent, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    monkeypatch.setattr(trained_agent, "load", lambda path, checkpoint: agent)
    shown = output(capsys, "finetune", str(run), "--rounds", "1", "--gradient-steps", "0", "--episodes-per-round", "2")
    for part in ("before adaptation", "after 0 gradient", "after 1 rounds", "steps collected in a task: 20"):
        assert part in " ".join(shown.split())
    told = json.loads(
        output(capsys, *f"finetune {run} --rounds 1 --gradient-steps 0 --episodes-per-round 2 --json".split())
    )
    assert [task["env_steps"] for task in told["tasks"]] == [20, 20] and told["rounds"] == 1
    assert np.isclose(told["mean"]["fine_tuned"], np.mean([task["fine_tuned"] for task in told["tasks"]]))
    rows = (run / "finetune" / "finetune.csv").read_text().splitlines()
    assert rows[0] == "round,env_steps,task,return,noisy_return"
    assert [row.split(",")[:3] for row in rows[1:]] == [[*"00", task] for task in "01"] + [
        ["1", "20", task] for task in "01"
    ]
    assert json.loads((run / "finetune" / "finetune.json").read_text())["data_hash"] == ""

    def refused(*flags: str) -> str:
        return refusal(capsys, "finetune", str(run), "--out", str(tmp_path / "not-made"), *flags)

    assert "rounds is 0" in refused("--rounds", "0")
    assert "time limit is 0" in refused("--time-limit", "0")
    assert "'ood' tasks" in refused("--tasks", "ood")
    assert "gradient_steps is -1" in refused("--gradient-steps", "-1")
    assert "context_transitions is 0" in refused("--context-transitions", "0")
    assert "is of point-robot, but" in refused("--data", other_family())
    assert "GB; ask for fewer --rounds" in refused("--rounds", "1000000000")
    assert not (tmp_path / "not-made").exists()
    assert "in the way" in refusal(capsys, "finetune", str(run), "--out", str(run))
    assert main(["finetune", "--help"]) == 0
    assert "learning rate of both networks" in " ".join(capsys.readouterr().out.split())


def other_family() -> str:
    import made_up_data

    return made_up_data.write().id


@pytest.mark.parametrize("method", ["bc", "focal", "pearl"])
def test_methods_that_cannot_say_which_can(method: str, data: DataSet, tmp_path: Path) -> None:
    offline: dict[str, Any] = {} if method == "pearl" else {"data": data.id}
    experiment = resolve(method, FAMILY.name, "smoke", **offline)
    with pytest.raises(nacre.NacreError, match=f"{method} cannot be fine-tuned online; .* macaw, multitask-awr"):
        nacre.fine_tune(TrainedAgent(experiment, experiment.draw_tasks(), None), tmp_path)
    assert not list(tmp_path.iterdir())


def test_time_left_is_told_once_updates_were_timed(data: DataSet, agent: TrainedAgent) -> None:
    lines: list[str] = []
    problem, *_ = begun(agent, data, dataclasses.replace(QUICK, rounds=63))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "SECONDS_BETWEEN_REPORTS", -1.0)
        progress = running.Progress(problem, 1, lines.append)
        for number in range(1, 4):
            rows = np.zeros((number, 2))
            history = running.History(np.zeros(2), rows, rows, rows + 20)
            seconds = (7.0 if number == 1 else 1.0, {1: 0.0, 2: 9.0, 3: 2.0}[number])
            progress.add(loop.Round(np.zeros(2), np.zeros(2), np.full(2, 20), seconds), history)
    assert not any("left" in line for line in lines[:2])
    assert lines[2].startswith("round 3 of 63, 60 steps in a task: return 0.00")
    assert lines[2].endswith("3.00 s a round, 3 min left")
