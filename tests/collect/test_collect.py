"""Data sets out of checkpoints, of runs and of replays; and the command that makes them."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

import nacre
from command_line import output, refusal
from nacre.collect import making, oracle, rollouts, run_replay, sac, training
from nacre.collect.rollouts import SacPolicies
from nacre.collect.settings import SacSettings
from nacre.collect.work import Plan, TaskPlan, WorkDirectory, locked
from nacre.data.dataset import DataSet, open_data_set
from nacre.data.layout import METADATA, folder_of
from nacre.families.catalog import FAMILIES, make_family
from nacre.families.family import take
from nacre.families.point import PointRobotHalfCircle, half_circle
from nacre.types import Transition

FAMILY = make_family("point-robot-half-circle")
GOALS = {"goal": half_circle(np.array([0.3, 1.5, 2.6]))}
SETTINGS = SacSettings(
    num_steps=240, num_random_steps=60, num_checkpoints=4, hidden_dim=16, num_hidden_layers=1, batch_size=32,
    learning_rate=3e-3, discount=0.8,
)  # fmt: skip
PLAN = Plan(FAMILY, take(GOALS, [0, 1]), take(GOALS, [2]), SETTINGS, seed=1, benchmark="csro")


@pytest.fixture(autouse=True)
def own_data_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data-sets"))


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> WorkDirectory:
    made = WorkDirectory.open(tmp_path_factory.mktemp("collect") / "work", PLAN)
    assert training.train(made, lambda: None, lambda line: None)
    return made


def made(work: WorkDirectory, quality: str) -> DataSet:
    policies = SacPolicies(work)
    replay = rollouts.replay_episodes(work) if quality == "replay" else None
    return making.make(policies, quality, making.default_id(FAMILY.name, "csro", quality), 3, replay)


def test_a_mixed_set_has_all_checkpoints_and_tells_what_they_earn(work: WorkDirectory) -> None:
    data = made(work, "mixed")
    assert data.id == "nacre/point-robot-half-circle/csro-mixed-v0"
    episodes = list(data.episodes())
    own = [(one.split, one.task, one.policy_task, one.policy_step) for one in episodes if one.split != "other"]
    steps = [60, 120, 180, 240]
    for split, tasks in (("train", [0, 1]), ("test", [0])):
        for task in tasks:
            assert [step for s, t, p, step in own if (s, t, p) == (split, task, task)] == [
                step for step in steps for _ in range(3)
            ]
    other = [(one.policy_task, one.policy_step) for one in episodes if one.split == "other"]
    assert len(other) == rollouts.OTHER_EPISODES
    assert {policy for policy, _ in other} == {0, 1} and {step for _, step in other} == set(steps)
    assert len(own) + len(other) == len(episodes) == data.num_episodes
    for split, places in (("train", [0, 1]), ("test", [2])):
        returns = SacPolicies(work).returns[:, places]
        np.testing.assert_allclose(data.references[split]["reference"], returns.max(axis=0))
        np.testing.assert_allclose(data.recipe["last_checkpoint"][split], returns[-1])
        assert (np.array(data.references[split]["random"]) < returns.max(axis=0)).all()
        assert data.statistics[split]["episodes"] == [12] * len(places)


def test_a_training_that_is_cut_off_in_its_first_save_begins_anew(work: WorkDirectory, tmp_path: Path) -> None:
    """After the replay of the first rounds, before the learner; then it is saved after other rounds."""
    cut = WorkDirectory.open(tmp_path / "work", PLAN)
    played = sorted((work.path / "state").glob("replay-*.npz"))[0]
    (cut.path / "state" / "replay-00000-00001.npz").write_bytes(played.read_bytes())
    assert training.train(cut, lambda: None, lambda line: None)
    assert cut.is_trained and cut.load_state().rounds == SETTINGS.rounds(FAMILY)
    one, other = ([logged.rows for logged in which.replay()] for which in (work, cut))
    for rows, again in zip(one, other, strict=True):
        np.testing.assert_array_equal(rows, again)


def test_an_episode_is_of_its_own_tasks_policy_in_its_own_task(work: WorkDirectory) -> None:
    """The last policies go to their goals; in the test task those of other tasks go to theirs."""
    episodes = list(made(work, "expert").episodes())
    ends = {(one.split, one.policy_task): one.obs[-1] for one in episodes if one.policy_step == 240}
    for task in (0, 1):
        goal = PLAN.train["goal"][task]
        assert np.linalg.norm(ends["train", task] - goal) < np.linalg.norm(ends["train", 1 - task] - goal)
        assert np.linalg.norm(ends["other", task] - goal) < np.linalg.norm(ends["other", 1 - task] - goal)
    for one in episodes:
        goal = (PLAN.train if one.split == "train" else PLAN.test)["goal"][one.task]
        np.testing.assert_allclose(one.reward, -np.linalg.norm(one.obs[1:] - goal, axis=1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(one.obs[1:], one.obs[:-1] + 0.1 * np.clip(one.action, -1, 1), atol=1e-5)


def test_a_data_set_that_is_stopped_is_given_up_and_tells_how_far_it_is(
    work: WorkDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "SECONDS_BETWEEN_REPORTS", 0)
    lines: list[str] = []
    stop = iter([None] * 5)
    id = "nacre/stopped-v0"
    made = making.make(SacPolicies(work), "random", id, 3, stopped=lambda: next(stop, "Ctrl-C"), tell=lines.append)
    assert made is None and not folder_of(id).exists() and not list(folder_of(id).parent.glob(".*"))
    assert lines[0] == f"{id}: 96 episodes are played" and lines[1].startswith(f"{id}: 1 of 96 episodes, ")


@dataclass(frozen=True)
class Spans(PointRobotHalfCircle):
    name: ClassVar[str] = "spans-of-plans"
    span: tuple[float, float] = (0.0, 1.0)


def test_a_plan_with_a_tuple_among_its_options_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, Spans.name, Spans)
    plan = dataclasses.replace(PLAN, family=Spans(span=(1, 2.5)))
    assert WorkDirectory.open(tmp_path / "work", plan).plan.family == plan.family
    assert WorkDirectory.open(tmp_path / "work", plan).plan.to_json() == plan.to_json()
    with pytest.raises(nacre.NacreError, match=r"holds another collection .family_options"):
        WorkDirectory.open(tmp_path / "work", dataclasses.replace(PLAN, family=Spans(span=(1, 3))))


def test_a_policy_that_is_no_better_than_random_has_no_way_to_be_half_of(work: WorkDirectory) -> None:
    """Its medium checkpoints are those in the middle of its training; its episodes are called random."""
    policies = SacPolicies(work)
    policies.random = np.array([-20.0, -3.0, -4.0])
    policies.returns = np.array([[-18, -11, -4], [-12, -10, -19], [-9, -5, -9], [-4, -4, -6]], float)
    for place in (1, 2):
        assert rollouts.chosen_steps(policies, "medium", place) == [120, 180]
    labels = {(one.split, one.task, one.step): one.quality for one in rollouts.requests(policies, "mixed", 1)}
    assert {labels["train", 1, step] for step in policies.steps} == {"random"}
    assert [row["last_of_best"] for row in making.table(policies)] == [1.0, None, None]
    lines: list[str] = []
    making.tell_of_quality(policies, lines.append)
    assert "in 2 of 3 tasks: train 1 (no better than random actions), test 0 (no better than random" in lines[1]


def test_qualities_choose_checkpoints_by_what_they_earn(work: WorkDirectory) -> None:
    policies = SacPolicies(work)
    policies.random = np.array([-20.0, -20.0, -20.0])
    policies.returns = np.array([[-18, -11, -19], [-12, -10, -19], [-9, -5, -9], [-4, -4, -4]], float)
    assert rollouts.chosen_steps(policies, "medium", 0) == [120, 180]
    assert rollouts.chosen_steps(policies, "medium", 1) == [60, 120]
    assert rollouts.chosen_steps(policies, "expert", 2) == [180, 240]
    assert rollouts.chosen_steps(policies, "random", 2) == [0]
    labels = {(one.task, one.step): one.quality for one in rollouts.requests(policies, "mixed", 1)}
    assert labels[0, 240] == "expert"
    assert {one.quality for one in rollouts.requests(policies, "expert", 1)} == {"expert"}
    lines: list[str] = []
    policies.returns[-1, 1] = -12.0
    making.tell_of_quality(policies, lines.append)
    assert "in 1 of 3 tasks: train 1 (53%)" in lines[1]


def test_a_replay_is_what_the_policies_learnt_from(work: WorkDirectory) -> None:
    episodes = [one for one in made(work, "replay").episodes() if one.split != "other"]
    assert len(episodes) == 3 * 240 // 20
    assert [one.policy_step for one in episodes if one.split == "test"] == [0, 0, 0, *range(60, 240, 20)]
    (first, *_) = work.replay()
    np.testing.assert_array_equal(episodes[0].obs[:-1], first.rows[:, :2])


def test_where_episodes_of_a_replay_begin() -> None:
    obs = np.array([0, 1, 2, 0, 1, 2, 3, 0, 1.0])[:, None]
    next_obs = np.array([1, 2, 3, 1, 2, 3, 4, 1, 2.0])[:, None]
    discount = np.array([1, 1, 1, 1, 0, 1, 1, 1, 1.0])
    steps = Transition(obs, obs, obs[:, 0], obs[:, 0], discount, next_obs)
    assert run_replay.bounds(steps, horizon=10) == [0, 3, 5, 7]
    assert run_replay.bounds(steps, horizon=2) == [0, 2, 3, 5, 7]


def test_runs_give_their_checkpoints_or_their_replay(
    smoke_run: Callable[[str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = nacre.train(
        "oracle", FAMILY.name, preset="smoke", iterations=1, out=tmp_path / "run", hidden_dim=8, evaluation_interval=9
    )
    told = output(capsys, "collect", FAMILY.name, "--from", str(run.path), "--quality", "mixed,replay",
                  "--episodes", "2")  # fmt: skip
    assert len(told.splitlines()) == 2
    mixed, replay = (open_data_set(f"nacre/{FAMILY.name}/{quality}-v0") for quality in ("mixed", "replay"))
    assert {one.split for one in mixed.episodes()} == {"train", "test", "other"}
    episodes = list(replay.episodes())
    assert {one.steps for one in episodes} == {FAMILY.horizon} and {one.split for one in episodes} == {"train"}
    assert sum(one.steps for one in episodes) == nacre.RunDirectory(run.path).experiment.settings.env_steps(FAMILY)
    tasks = (run.tasks.train, run.tasks.test)
    recipe = {name: value for name, value in replay.recipe.items() if name in ("algorithm", "settings", "updates")}
    assert making.is_made(replay.id, "replay", FAMILY, *tasks, recipe)
    other_start, other_family = recipe | {making.ORIGIN: "0" * 64}, make_family("sparse-point-robot")
    for family, wanted in ((FAMILY, other_start), (other_family, recipe)):
        with pytest.raises(nacre.NacreError, match="exists"):
            making.is_made(replay.id, "replay", family, *tasks, wanted)
    pearl = str(smoke_run("point-robot"))
    told = refusal(capsys, "collect", FAMILY.name, "--from", pearl, "--quality", "expert")
    assert "is on point-robot; write that" in told
    assert "not told the task" in refusal(capsys, "collect", "point-robot", "--from", pearl)


def test_options_of_the_family_other_than_the_runs_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    family = "sparse-point-robot"
    run = nacre.train("oracle", family, preset="smoke", iterations=1, goal_radius=0.25, out=tmp_path / "run")
    command = ["collect", family, "--from", str(run.path), "--quality", "random", "--episodes", "1"]
    told = refusal(capsys, *command, "--goal-radius", "0.3")
    assert told == f"goal_radius is 0.3, but the run at {run.path} has 0.25; leave out --goal-radius."
    output(capsys, *command, "--goal-radius", "0.25")
    assert open_data_set(f"nacre/{family}/random-v0").family == run.experiment.family


def test_an_oracle_that_was_stopped_continues(tmp_path: Path) -> None:
    plan = TaskPlan(FAMILY, PLAN.train, PLAN.test)
    settings = oracle.OracleSettings(
        num_train_tasks=3, iterations=2, num_initial_episodes=1, num_tasks_sample=2, num_train_steps_per_iteration=3,
        num_episodes=1, meta_batch=2, batch_size=4, hidden_dim=4, num_hidden_layers=1,
    )  # fmt: skip

    lines: list[str] = []

    def trained(path: Path, stop: Any = None) -> oracle.OraclePolicies | None:
        return oracle.train(path, plan, settings, 2, lambda: stop, lines.append)

    whole = trained(tmp_path / "whole")
    assert trained(tmp_path / "halves", "the time limit") is None
    with locked(tmp_path / "halves"), pytest.raises(nacre.NacreError, match="another process is training the policies"):
        trained(tmp_path / "halves")
    without_field(tmp_path / "halves" / "work.json", "newest_share")
    halves = trained(tmp_path / "halves")
    assert whole is not None and halves is not None and whole.steps == halves.steps == [3, 6]
    lines.clear()
    assert trained(tmp_path / "whole") is not None
    assert not any("of 6 updates," in line for line in lines), "nothing was left to train"
    np.testing.assert_array_equal(whole.returns, halves.returns)
    assert whole.returns.shape == (2, 3) and (whole.random < 0).all()
    with pytest.raises(
        nacre.NacreError, match=r"no checkpoint after 2 updates, but after 3, 6: .* another --checkpoints"
    ):
        oracle._check_kept(tmp_path / "whole" / "checkpoints", [2, 6])
    begun = (tmp_path / "begun", plan, settings, 1, lambda: "the time limit", lines.append)  # keeps 6 alone
    assert oracle.train(*begun) is None
    with pytest.raises(nacre.NacreError, match="no checkpoint after 3 updates"):  # before the rest is trained
        oracle.train(*begun[:3], 2, lambda: None, lines.append)
    assert not list((tmp_path / "begun" / "checkpoints").iterdir())
    one = oracle.train(tmp_path / "whole", plan, settings, 1, lambda: None, lines.append)
    assert one is not None and one.steps == [6], "checkpoints of the number that is asked for"
    file = tmp_path / "whole" / "work.json"
    file.write_text(file.read_text().replace('"batch_size": 4', '"batch_size": 8'))
    with pytest.raises(nacre.NacreError, match="holds another collection"):
        trained(tmp_path / "whole")
    file.write_text("[]")
    with pytest.raises(nacre.NacreError, match=r"work.json cannot be used"):
        trained(tmp_path / "whole")


def without_field(file: Path, name: str) -> None:
    """Takes a field out of a JSON file, as if an earlier version had written it."""
    text, found = re.subn(rf'\\?"{name}\\?": [^,]+,\s*', "", file.read_text())
    assert found == 1
    file.write_text(text)


def test_the_command_trains_stops_resumes_and_rolls_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--num-train-tasks 2 --num-test-tasks 1 --num-steps 240 --checkpoints 2 --hidden-dim 8 --episodes 2 --work"
    command = ("collect", FAMILY.name, *flags.split(), str(tmp_path / "work"))
    assert output(capsys, *command, "--time-limit", "1e-9") == ""
    assert "no checkpoint" in refusal(capsys, *command, "--only", "roll")
    with locked(tmp_path / "work"):
        assert "another process is training the policies" in refusal(capsys, *command)
    assert output(capsys, *command, "--only", "train") == ""
    assert not (tmp_path / "data-sets").exists()
    told = output(capsys, *command, "--quality", "random,mixed")
    assert [line.split(":")[0] for line in told.splitlines()] == [
        f"nacre/{FAMILY.name}/{quality}-v0" for quality in ("random", "mixed")
    ]
    assert json.loads((tmp_path / "work" / "work.json").read_text())["settings"]["hidden_dim"] == 8
    there = [open_data_set(f"nacre/{FAMILY.name}/{quality}-v0").content_hash for quality in ("random", "mixed")]
    without_field(folder_of(f"nacre/{FAMILY.name}/mixed-v0") / METADATA, "first_checkpoint")
    assert output(capsys, *command, "--quality", "random,mixed") == "", "both are there"
    metadata = folder_of(f"nacre/{FAMILY.name}/mixed-v0") / METADATA
    whole = metadata.read_text()
    for was, now in (
        (r"\"settings\": {", r"\"settings\": null, \"were\": {"),
        (r"\"hidden_dim\": 8", r"\"hidden_dim\": 9"),
    ):
        assert was in whole
        metadata.write_text(whole.replace(was, now))
        assert "exists already" in refusal(capsys, *command, "--quality", "mixed")
    metadata.write_text(whole)
    open_data_set(f"nacre/{FAMILY.name}/random-v0").remove()
    told = output(capsys, *command, "--quality", "random,mixed", "--only", "roll")
    assert [line.split(":")[0] for line in told.splitlines()] == [f"nacre/{FAMILY.name}/random-v0"]
    again = [open_data_set(f"nacre/{FAMILY.name}/{quality}-v0").content_hash for quality in ("random", "mixed")]
    assert again == there
    assert "exists already" in refusal(capsys, *command, "--episodes", "3")
    assert "another collection" in refusal(capsys, *command, "--seed", "1", "--id", "nacre/other-v0")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "name a family"),
        (["point-robot-half-circel"], "did you mean 'point-robot-half-circle'"),
        ([FAMILY.name, "--benchmark", "csor"], "did you mean 'csro'"),
        (["ant-goal", "--benchmark", "csro"], "family of the benchmark csro"),
        ([FAMILY.name, "--quality", "mixt"], "did you mean 'mixed'"),
        ([FAMILY.name, "--quality", "mixed,random", "--id", "nacre/one-v0"], "--id names one data set"),
        ([FAMILY.name, "--episodes", "0"], "--episodes is 0"),
        ([FAMILY.name, "--num-steps", "100"], "leaves none to learn in"),
        ([FAMILY.name, "--only", "roll", "--work", "nowhere"], "no work of 'nacre collect'"),
        ([FAMILY.name, "--id", "mine"], "no name of a data set"),
        ([FAMILY.name, "--recipe", "oracle", "--quality", "mixed,replay"], "keep no replay"),
        ([FAMILY.name, "--from", "run", "--num-steps", "9"], "--num-steps is about training"),
        ([FAMILY.name, "--from", "run", "--precision", "bfloat16"], "--precision is about training"),
        ([FAMILY.name, "--from", "run", "--recipe", "oracle"], "--recipe is about training"),
        ([FAMILY.name, "--from", "run", "--time-limit", "5"], "--time-limit is about training"),
        ([FAMILY.name, "--from", "run", "--num-test-tasks", "5"], "--num-test-tasks is about tasks"),
        ([FAMILY.name, "--from", "run", "--task-seed", "5"], "--task-seed is about tasks"),
        ([FAMILY.name, "--recipe", "oracle", "--hidden-dim", "9"], "--hidden-dim is about --recipe sac"),
        (["point-robot", "--benchmark", "csro", "--num-train-tasks", "9"], "--num-train-tasks is fixed by --benchmark"),
        ([FAMILY.name, "--from", "run", "--quality", "replay", "--benchmark", "csro"], "leave --benchmark out"),
        ([FAMILY.name, "--from", "run", "--quality", "replay", "--episodes", "3"], "--episodes is about new episodes"),
        ([FAMILY.name, "--from", "run", "--quality", "replay", "--seed", "3"], "--seed is about new episodes"),
        ([FAMILY.name, "--benchmark", "csro", "--task-seed", "5"], "--task-seed draws tasks, but those of --benchmark"),
        (["cheetah-vel", "--benchmark", "macaw", "--task-seed", "5"], "--task-seed draws tasks, but those of"),
    ],
)
def test_what_cannot_be_collected_is_refused_in_one_sentence(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refusal(capsys, "collect", *arguments)


class UnpaidPoint(PointRobotHalfCircle):
    """Its reward is no number."""

    name: ClassVar[str] = "unpaid-point"

    def rewards(self, position: Any, task: Any) -> Any:
        reward, training_reward = super().rewards(position, task)
        return reward * np.nan, training_reward


@pytest.mark.parametrize("recipe", ["sac", "oracle"])
def test_a_family_that_breaks_its_contract_is_refused_before_anything_is_written(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(FAMILIES, UnpaidPoint.name, UnpaidPoint)
    told = refusal(capsys, "collect", UnpaidPoint.name, "--recipe", recipe, "--work", str(tmp_path / "work"))
    assert "line 8: finite numbers.)" in told and "'nacre check unpaid-point' tells of every line" in told
    assert not list(tmp_path.iterdir())


def test_without_its_extra_nothing_is_trained_for_data_sets_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "minari.dataset.minari_storage", None)
    told = refusal(capsys, "collect", FAMILY.name, "--work", str(tmp_path / "work"))
    assert "pip install 'nacre[offline]'" in told and not list(tmp_path.iterdir())


def test_benchmarks_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    listed = output(capsys, "collect", "--list")
    assert "cheetah-vel --benchmark csro\n    30 train and 10 test tasks, 200 steps" in listed


def test_uniform_actions_fill_the_box() -> None:
    actions = sac.uniform(3).act(None, (), np.zeros((500, 2)), sac.task_keys(0, 1)[0], True)[0]
    assert np.abs(actions).max() <= 1 and np.quantile(actions, [0.25, 0.75]) == pytest.approx([-0.5, 0.5], abs=0.1)
