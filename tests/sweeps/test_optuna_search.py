"""A sweep by Optuna: scores go to the study, surpassed runs are stopped, and whoever opens the journal continues."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fake_executor import DONE, FAULT, FakeExecutor, FakeHandle, Told
from nacre.errors import NacreError
from nacre.presets.trials import TrialSettings
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import resolve
from nacre.runs.tables import EVAL_COLUMNS, eval_rows
from nacre.sweeps import engine, optuna_search
from nacre.sweeps.engine import run_jobs
from nacre.sweeps.job import Job
from nacre.sweeps.optuna_search import OptunaSearch
from nacre.sweeps.running import Swept
from nacre.sweeps.spec import Spec, read_spec

optuna = pytest.importorskip("optuna", reason="Optuna is not installed (extra optuna)")


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(optuna_search, "LOOK_SECONDS", 0.0)


def spec_of(out: Path, trials: int, **table: Any) -> Spec:
    fields = {"task_seed": {"low": 0, "high": 100}}
    top = {"algorithm": "random", "family": "point-robot", "preset": "smoke"}
    return read_spec(top | {"optuna": {"trials": trials, "fields": fields} | table}, out)


class Scoring(FakeExecutor):
    """Runs have three evaluations, from each of which to the next the score grows by one. Best is a task_seed of 70."""

    def start(self, job: Job, flags: Sequence[str] = ()) -> FakeHandle:
        handle = super().start(job, flags)
        run = RunDirectory(job.path) if job.path.exists() else RunDirectory.create(job.path, job.experiment)
        trials = TrialSettings.of(job.experiment.settings)
        shape = (trials.repeats, len(run.tasks.test["goal"]), trials.episodes)
        best = -float(abs(job.experiment.options.task_seed - 70))
        for update in (1, 2, 3):
            rows = eval_rows(np.full(shape, best + update - 3), "test", 0, update, 1.0)
            run.append("eval.csv", EVAL_COLUMNS, rows)
        return handle


def numbers(search: OptunaSearch) -> dict[str, int]:
    trials = search._study.get_trials()
    return {trial.state.name: sum(other.state == trial.state for other in trials) for trial in trials}


def test_trials_are_scored_by_their_last_evaluation_and_more_of_them_go_on(tmp_path: Path):
    search = OptunaSearch(spec_of(tmp_path, 4, pruner="none"))
    run_jobs(search, Scoring(1, {}), Told())
    assert numbers(search) == {"COMPLETE": 4}
    first = [(trial.params, trial.value, trial.intermediate_values) for trial in search._study.get_trials()]
    for params, value, evaluations in first:
        assert value == -abs(params["task_seed"] - 70) and evaluations == {1: value - 2, 2: value - 1, 3: value}
    again = OptunaSearch(spec_of(tmp_path, 6, pruner="none"))
    executor, told = Scoring(1, {}), Told()
    run_jobs(again, executor, told)
    assert told.lines[0] == "6 jobs, 4 done" and len(executor.started) == 2
    whole = OptunaSearch(spec_of(tmp_path / "whole", 6, pruner="none"))
    run_jobs(whole, Scoring(1, {}), Told())
    params = [[trial.params for trial in one._study.get_trials()] for one in (again, whole)]
    assert params[0] == params[1]  # what is suggested does not depend on where the sweep was interrupted


def test_runs_that_are_surpassed_are_stopped_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    search = OptunaSearch(spec_of(tmp_path, 12))
    monkeypatch.setattr(FakeHandle, "looks_until_it_ends", 3)
    finished = run_jobs(search, Scoring(1, {}), Told())
    counted = numbers(search)
    assert set(counted) == {"COMPLETE", "PRUNED"} and sum(counted.values()) == 12
    pruned = [outcome.job for outcome in finished.outcomes if outcome.state == "pruned"]
    assert len(pruned) == counted["PRUNED"] > 0 and finished.stopped_by is None
    worst = min(finished.outcomes, key=lambda outcome: -abs(outcome.job.experiment.options.task_seed - 70))
    assert worst.job in pruned or finished.outcomes.index(worst) < optuna_search.STARTUP_TRIALS
    again = OptunaSearch(spec_of(tmp_path, 12))
    assert not again.has_more() and len(again.before) == 12


def test_a_trial_whose_driver_died_is_taken_up_first_with_its_values(tmp_path: Path):
    lost = OptunaSearch(spec_of(tmp_path, 2))
    job = lost.take()
    assert job is not None and lost.has_more()
    search = OptunaSearch(spec_of(tmp_path, 2))
    executor = Scoring(1, {"seed-0": [FAULT, DONE]})
    finished = run_jobs(search, executor, Told())
    assert finished.outcomes[0].job.experiment == job.experiment
    assert [outcome.state for outcome in finished.outcomes] == ["failed", "done"]
    assert numbers(search) == {"FAIL": 1, "COMPLETE": 1}


@pytest.mark.parametrize(
    ("table", "told"),
    [
        ({"fields": {"task_seed": [1, -1]}}, "[optuna.fields] task_seed: task_seed is -1"),
        ({"fields": {"task_seed": {"low": 0.5, "high": 1.5}}}, "task_seed is 0.5, but must be a whole number"),
        ({"fields": {"task_seed": [1, 1]}}, "[optuna.fields] task_seed has a value twice"),
        ({"fields": {"task_seed": [[1], [2]]}}, "has lists as values"),
    ],
)
def test_values_that_a_run_refuses_are_refused_before_anything_is_written(
    table: dict[str, Any], told: str, tmp_path: Path
):
    with pytest.raises(NacreError) as error:
        OptunaSearch(spec_of(tmp_path / "out", 3, **table))
    assert told in str(error.value) and not (tmp_path / "out").exists()


def test_another_search_in_the_same_place_is_refused(tmp_path: Path):
    OptunaSearch(spec_of(tmp_path, 3))
    OptunaSearch(spec_of(tmp_path, 5))
    with pytest.raises(NacreError, match="begun with other settings"):
        OptunaSearch(spec_of(tmp_path, 5, seed=1))


def test_a_run_that_the_study_does_not_know_is_refused_and_its_score_not_taken(tmp_path: Path):
    run_jobs(OptunaSearch(spec_of(tmp_path, 2)), Scoring(1, {}), Told())
    (tmp_path / optuna_search.JOURNAL).unlink()
    with pytest.raises(NacreError, match=r"does not know the run at .*trial-000/seed-0; restore that file"):
        OptunaSearch(spec_of(tmp_path, 2, seed=1))


@pytest.mark.parametrize("done", [True, False])
def test_another_run_in_the_place_of_a_trial_is_refused(done: bool, tmp_path: Path):
    search = OptunaSearch(spec_of(tmp_path, 2))
    if done:
        run_jobs(search, Scoring(1, {}), Told())
        job = OptunaSearch(spec_of(tmp_path, 2)).known[0]
        shutil.rmtree(job.path)
    else:
        taken = search.take()
        assert taken is not None
        job = taken
    RunDirectory.create(job.path, resolve("random", "point-robot", "smoke", task_seed=101))
    with pytest.raises(NacreError, match=r"the run at .*trial-000/seed-0 has other settings"):
        OptunaSearch(spec_of(tmp_path, 2))


def test_a_run_that_came_into_a_trials_place_meanwhile_is_refused_when_it_is_taken(tmp_path: Path):
    OptunaSearch(spec_of(tmp_path, 1)).take()
    search = OptunaSearch(spec_of(tmp_path, 1))
    path = tmp_path / "point-robot" / "random" / "trial-000" / "seed-0"
    RunDirectory.create(path, resolve("random", "point-robot", "smoke", task_seed=101))
    with pytest.raises(NacreError, match="other settings"):
        search.take()
    assert numbers(search) == {"RUNNING": 1}


def test_a_trial_whose_run_was_removed_keeps_its_score_and_is_not_compared(tmp_path: Path):
    run_jobs(OptunaSearch(spec_of(tmp_path, 2)), Scoring(1, {}), Told())
    first = OptunaSearch(spec_of(tmp_path, 2))
    shutil.rmtree(first.known[0].path)
    again = OptunaSearch(spec_of(tmp_path, 2))
    assert not again.has_more() and numbers(again) == {"COMPLETE": 2}
    assert Swept(tmp_path, again.before, None).runs == [again.known[1].path]


def test_a_sweep_with_a_trial_whose_values_do_not_go_together_can_be_opened_again(tmp_path: Path):
    fields = {"num_evaluation_episodes": [4, 2], "num_exploration_episodes": [0, 2]}  # two that explore of two
    top = {"algorithm": "pearl", "family": "point-robot", "preset": "smoke"}
    spec = read_spec(top | {"optuna": {"trials": 12, "fields": fields, "pruner": "none"}}, tmp_path)
    search = OptunaSearch(spec)
    run_jobs(search, Scoring(1, {}), Told())
    impossible = numbers(search)["FAIL"]
    assert impossible > 0
    assert len(OptunaSearch(spec).before) == 12 - impossible
