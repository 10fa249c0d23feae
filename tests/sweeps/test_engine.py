"""Jobs side by side, done by an executor that starts nothing: order, what died, what was refused, what is left."""

from __future__ import annotations

import math
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import nacre
from fake_executor import DONE, FAULT, KILLED, REFUSED, FakeExecutor, FakeHandle, Told
from nacre.errors import NacreError
from nacre.presets.trials import TrialSettings
from nacre.runs import files, memory
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import resolve
from nacre.runs.files import is_locked, locked
from nacre.runs.tables import EVAL_COLUMNS, eval_rows
from nacre.sweeps import engine, record, training
from nacre.sweeps.engine import Finished, run_jobs
from nacre.sweeps.executor import Ended
from nacre.sweeps.job import Job, Progress, progress_of, saved_at, score_of, scores_of
from nacre.sweeps.local import LocalExecutor, shared_out
from nacre.sweeps.source import Listed, Outcome

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "POLL_SECONDS", 0.0)


def listed(folder: Path, names: str) -> list[Job]:
    """A job of one update for each name."""
    experiment = resolve("random", "point-robot", "smoke")
    return [Job(folder / name, experiment, ("train", str(folder / name))) for name in names.split()]


def jobs(folder: Path, names: str) -> Listed:
    return Listed(listed(folder, names))


def states(finished: Finished) -> dict[str, str]:
    return {outcome.job.path.name: outcome.state for outcome in finished.outcomes}


def test_jobs_are_done_in_order_as_many_at_a_time_as_there_are_places_and_done_ones_are_left(tmp_path: Path):
    (tmp_path / "b" / "checkpoints" / "1").mkdir(parents=True)
    executor, told = FakeExecutor(2, {}), Told()
    finished = run_jobs(jobs(tmp_path, "a b c d"), executor, told)
    assert states(finished) == dict.fromkeys("abcd", "done") and finished.stopped_by is None
    assert executor.started == [["train", "a"], ["train", "c"], ["train", "d"]]
    assert told.lines[0] == "4 jobs, 1 done" and told.most == 2


def test_a_job_whose_process_died_is_taken_up_twice_and_then_given_up(tmp_path: Path):
    executor, told = FakeExecutor(1, {"a": [KILLED, KILLED, DONE], "b": [KILLED] * 3}), Told()
    finished = run_jobs(jobs(tmp_path, "a b"), executor, told)
    assert states(finished) == {"a": "done", "b": "failed"}
    assert finished.outcomes[1].told == "killed by SIGKILL 3 times"
    assert [started[0] for started in executor.started] == ["train", "resume", "resume"] * 2
    assert told.lines.count("a killed by SIGKILL") == 2


def test_a_source_is_told_how_a_job_ended_before_it_chooses_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    told: list[str] = []

    class Choosing(Listed):
        def take(self) -> Job | None:
            job = super().take()
            told.append(f"{job and job.path.name} taken")
            return job

        def ended(self, outcome: Outcome) -> None:
            told.append(f"{outcome.job.path.name} ended")

    class Looking(FakeExecutor):
        def is_free(self) -> bool:  # who looks first sees that a process has ended
            return all(handle.poll() is not None for handle in self.handles)

    monkeypatch.setattr(FakeHandle, "looks_until_it_ends", 3)
    run_jobs(Choosing(listed(tmp_path, "a b")), Looking(1, {}), Told())
    assert told == ["a taken", "a ended", "b taken", "b ended"]


def test_what_was_refused_or_has_a_fault_is_not_tried_again(tmp_path: Path):
    executor = FakeExecutor(1, {"a": [REFUSED], "b": [FAULT]})
    finished = run_jobs(jobs(tmp_path, "a b c"), executor, Told())
    assert states(finished) == {"a": "refused", "b": "failed", "c": "done"}
    assert [outcome.told for outcome in finished.outcomes] == ["no such thing.", "ValueError: x", ""]


def test_a_time_limit_is_what_is_left_for_each_and_nothing_is_started_after_it(tmp_path: Path):
    executor = FakeExecutor(1, {})
    assert run_jobs(jobs(tmp_path, "a b"), executor, Told(), time_limit=1e-12) == Finished([], "the time limit")
    assert executor.started == []
    executor = FakeExecutor(1, {"c": [Ended(0, "")]})  # without its last checkpoint
    finished = run_jobs(jobs(tmp_path, "c"), executor, Told(), time_limit=6.0)
    assert states(finished) == {"c": "stopped"} and finished.stopped_by == "the time limit"
    ((*_, flag, minutes),) = executor.started
    assert flag == "--time-limit" and 5.9 < float(minutes) <= 6.0


def test_however_it_is_left_nothing_continues(tmp_path: Path):
    def fail() -> None:
        raise KeyboardInterrupt

    executor = FakeExecutor(2, {})
    with pytest.raises(KeyboardInterrupt):
        run_jobs(jobs(tmp_path, "a b"), executor, Told(fail))
    assert [handle.killed for handle in executor.handles] == [True, True]


def test_the_exit_status_tells_of_faults_before_refusals_before_signals(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    a, b = listed(tmp_path, "a b")
    done, failed, refused = Outcome(a, "done"), Outcome(a, "failed", "killed"), Outcome(b, "refused", "no.")
    assert training.told(Finished([done], None)) == 0
    assert training.told(Finished([done, failed, refused], "Ctrl-C")) == 1
    assert str(a.path) in capsys.readouterr().err
    assert training.told(Finished([refused], "SIGTERM")) == 2
    assert training.told(Finished([done], "Ctrl-C")) == 130 and training.told(Finished([], "SIGTERM")) == 143
    assert training.told(Finished([], "the time limit")) == 0


def test_something_else_in_a_runs_place_is_refused_before_anything_begins(tmp_path: Path):
    experiment = resolve("random", "point-robot", "smoke")
    RunDirectory.create(tmp_path / "b", experiment)
    (job,) = listed(tmp_path, "b")
    job.check()
    assert job.command() == ["resume", str(job.path)] and not job.is_done()
    with pytest.raises(NacreError, match="other settings"):
        training.train_jobs([job._replace(experiment=resolve("random", "point-robot", "smoke", seed=1))], 1)
    (tmp_path / "c").mkdir()
    with pytest.raises(NacreError):
        training.train_jobs(listed(tmp_path, "c"), 1)
    with pytest.raises(NacreError, match="at least 1"):
        training.train_jobs([job], 0)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"time_limit": -1.0}, "the time limit is -1.0"), ({"wandb": True}, "not installed"),
        ({"devices": 2}, "--devices"), ({"memory": True}, "would need"), ({"from_run": "nowhere"}, "there is no run"),
    ],
    ids=str,
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_before_a_run_is_removed(
    wrong: dict[str, Any], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """`nacre train --jobs N --overwrite`: the processes would refuse it too, when the runs there were gone."""
    old = RunDirectory.create(tmp_path / "a", resolve("rl2", "point-robot", "smoke", seed=3))
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(memory, "memory_limit", lambda: 1.0 if wrong.get("memory") else math.inf)
    experiment = resolve("rl2", "point-robot", "smoke", **{k: v for k, v in wrong.items() if k == "devices"})
    begin = ("train", "rl2", *(("--from", str(tmp_path / wrong["from_run"])) if "from_run" in wrong else ()))
    job = Job(old.path, experiment, begin, ("--wandb",) * wrong.get("wandb", False))
    with pytest.raises(NacreError, match=words):
        training.train_jobs([job], 1, overwrite=True, time_limit=wrong.get("time_limit"))
    assert RunDirectory(old.path).experiment == old.experiment and os.listdir(tmp_path) == ["a"]


def test_runs_that_are_replaced_are_begun_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Their processes resume new runs without a checkpoint; those that start from another run begin them once more."""
    first = nacre.train("rl2", "point-robot", preset="smoke", out=tmp_path / "first")
    executor = FakeExecutor(1, {})
    monkeypatch.setattr(training, "LocalExecutor", lambda jobs: executor)
    experiments = [resolve("rl2", "point-robot", "smoke", seed=seed) for seed in (4, 5)]
    for name in ("a", "b"):
        RunDirectory.create(tmp_path / name, resolve("rl2", "point-robot", "smoke", seed=9))
        (tmp_path / name / "checkpoints" / "7").mkdir(parents=True)
    a = Job(tmp_path / "a", experiments[0], ("train", "rl2"))
    assert training.train_jobs([a], 1, overwrite=True) == 0
    b = Job(tmp_path / "b", experiments[1], ("train", "rl2", "--from", str(first.path)))
    assert training.train_jobs([b], 1, overwrite=True) == 0
    assert executor.started[0][:2] == ["resume", "a"]
    assert executor.started[1][0] == "train" and "--overwrite" in executor.started[1]
    assert [RunDirectory(job.path).experiment for job in (a, b)] == experiments
    assert "XLA_PYTHON_CLIENT_PREALLOCATE" not in os.environ


def test_a_run_in_its_place_must_have_started_from_the_same_networks(tmp_path: Path):
    experiment = resolve("rl2", "point-robot", "smoke")
    RunDirectory.create(tmp_path / "fresh", experiment)
    RunDirectory.create(tmp_path / "warm", experiment, {"run": str(tmp_path / "a"), "networks_sha256": "0"})
    begin = ("train", "rl2", "point-robot", "--preset", "smoke")
    from_a, from_b = (*begin, "--from", str(tmp_path / "a")), (*begin, f"--from={tmp_path / 'b'}")
    Job(tmp_path / "fresh", experiment, begin).check()
    Job(tmp_path / "warm", experiment, from_a).check()
    for name, command, words in (
        ("fresh", from_a, "started from fresh networks, not from .*/a; choose another place"),
        ("warm", begin, "started from .*/a, not from fresh networks"),
        ("warm", from_b, "started from .*/a, not from .*/b"),
    ):
        with pytest.raises(NacreError, match=words):
            Job(tmp_path / name, experiment, command).check()


def evaluation_of(run: RunDirectory) -> tuple[int, int, int]:
    """[repeat, task, episode] of an evaluation on test tasks."""
    trials = TrialSettings.of(run.experiment.settings)
    return trials.repeats, len(run.tasks.test["goal"]), trials.episodes


@pytest.mark.parametrize(("algorithm", "protocol"), [("random", ""), ("pearl", "zero-shot"), ("pearl", "online-np")])
def test_an_evaluation_counts_when_all_of_its_rows_are_there(algorithm: str, protocol: str, tmp_path: Path):
    """Rows of an evaluation are added while a sweep looks: its first tasks are no score, and may be far from it. How
    many rows there are depends on the protocol."""
    fields = {"protocol": protocol} if protocol else {}
    run = RunDirectory.create(tmp_path / "run", resolve(algorithm, "point-robot", "smoke", **fields))
    found = []
    for update, value in ((1, 2.5), (2, 7.0)):
        rows = list(eval_rows(np.full(evaluation_of(run), value), "test", update, update, 1.0))
        assert len(rows) > 2
        for part in (rows[:2], rows[2:]):
            run.append("eval.csv", EVAL_COLUMNS, part)
            found.append(scores_of(run.path))
    assert found == [[], [2.5], [2.5], [2.5, 7.0]]


def test_how_far_a_run_has_come_is_read_from_the_ends_of_its_tables(tmp_path: Path):
    assert (progress_of(tmp_path), score_of(tmp_path), saved_at(tmp_path)) == (Progress(), None, None)
    run = RunDirectory.create(tmp_path / "run", resolve("random", "point-robot", "smoke"))
    for step in range(1, 300):
        columns = ["env_steps", "grad_steps", "meta_iterations", "wall_seconds", "kl"]
        run.append("metrics.csv", columns, [[7 * step, step, 0, 1.0, 0.123456]])
    with (run.path / "metrics.csv").open("a") as handle:
        handle.write("9999,3")  # a line that is being written
    run.append("eval.csv", EVAL_COLUMNS, eval_rows(np.full(evaluation_of(run), 2.5), "test", 1, 1, 1.0))
    (run.checkpoints / "20").mkdir(parents=True)
    (run.checkpoints / "30.unfinished").mkdir()
    assert progress_of(run.path) == Progress(299, 2093) and score_of(run.path) == 2.5 and saved_at(run.path) == 20


def test_two_drivers_rewrite_a_table_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One writes while the other is between writing its draft and putting it in place."""
    file, move, meanwhile = tmp_path / "jobs.csv", os.replace, [b"second"]

    def met(draft: Path, place: Path) -> None:
        if meanwhile:
            files.replace(file, meanwhile.pop())
        move(draft, place)

    monkeypatch.setattr(files.os, "replace", met)
    files.replace(file, b"first")
    assert file.read_bytes() == b"first" and os.listdir(tmp_path) == ["jobs.csv"]


def test_a_file_that_cannot_be_rewritten_leaves_no_draft(tmp_path: Path):
    (tmp_path / "jobs.csv" / "full").mkdir(parents=True)
    with pytest.raises(NacreError, match=r"cannot write .*jobs.csv .* then resume with 'nacre resume'"):
        files.replace(tmp_path / "jobs.csv", b"rows")
    assert os.listdir(tmp_path) == ["jobs.csv"]


def test_a_table_that_cannot_be_rewritten_does_not_end_the_sweep(tmp_path: Path, capsys: Capture):
    executor = FakeExecutor(1, {})

    def in_the_way() -> None:
        with suppress(OSError):
            (tmp_path / record.FILE).unlink()
        (tmp_path / record.FILE / "full").mkdir(parents=True, exist_ok=True)

    finished = run_jobs(jobs(tmp_path, "a b"), executor, record.Recorded(Told(in_the_way), tmp_path, {}))
    assert states(finished) == {"a": "done", "b": "done"}
    told = capsys.readouterr().err
    assert (
        told.count("cannot write") == 1
        and "then wait: the sweep continues, and tries again when a job begins or ends." in told
    )
    with pytest.raises(NacreError, match="give the same command again"):  # before anything is begun
        run_jobs(jobs(tmp_path, "c"), executor, record.Recorded(Told(), tmp_path, {}))
    assert len(executor.started) == 2


@pytest.mark.parametrize(
    ("cores", "jobs", "expected"),
    [
        ([0, 1, 2, 3], 2, [[0, 1], [2, 3]]), ([4, 5, 6], 2, [[4], [5, 6]]), ([3, 7], 2, [[3], [7]]),
        ([0, 1], 3, [[0], [1], [0]]), ([5], 1, [[5]]), ([], 2, [[], []]), ([0, 1, 2], 1, [[0, 1, 2]]),
    ],
)  # fmt: skip
def test_cores_are_shared_out(cores: list[int], jobs: int, expected: list[list[int]]):
    assert shared_out(cores, jobs) == expected


@pytest.mark.parametrize(
    ("cores", "jobs", "each", "expected"),
    [
        ([0, 1, 2, 3], 2, 1, [[0], [1]]), ([4, 5, 6, 7, 8], 2, 2, [[4, 5], [6, 7]]), ([0, 1], 3, 1, [[0], [1], [0]]),
        ([0, 1], 1, 4, [[0, 1]]), ([], 2, 2, [[], []]),
    ],
)  # fmt: skip
def test_a_job_of_a_sweep_has_as_many_cores_as_it_asks_for(
    cores: list[int], jobs: int, each: int, expected: list[list[int]]
):
    assert shared_out(cores, jobs, each) == expected


def test_there_is_room_for_as_many_processes_as_jobs():
    assert LocalExecutor(2).is_free()


def test_a_run_that_another_process_trains_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(engine, "HELD_SECONDS", 0.0)
    source = jobs(tmp_path, "a b c")
    held = {"a": 3, "b": 3}  # at so many looks

    def is_held(job: Job) -> bool:
        held[job.path.name] = held.get(job.path.name, 0) - 1
        if held["b"] == 0:
            (tmp_path / "b" / "checkpoints" / "1").mkdir(parents=True, exist_ok=True)  # the other process was quicker
        return held[job.path.name] >= 0

    monkeypatch.setattr(Job, "is_held", is_held)
    executor, told = FakeExecutor(1, {}), Told()
    finished = run_jobs(source, executor, told)
    assert states(finished) == dict.fromkeys("abc", "done") and finished.stopped_by is None
    assert [name for _, name in executor.started] == ["c", "a"]
    assert told.lines[:4] == ["3 jobs, 0 done", "a held", "b held", "c started"]


def test_a_folder_is_locked_while_somebody_has_locked_it(tmp_path: Path):
    assert not is_locked(tmp_path)
    with locked(tmp_path, "no"):
        assert is_locked(tmp_path)
    assert not is_locked(tmp_path)


def test_a_job_that_its_source_gives_up_is_stopped_and_not_taken_up_again(tmp_path: Path):
    class Strict(Listed):
        def gives_up(self, job: Job) -> bool:
            return job.path.name == "b"

    executor = FakeExecutor(1, {})
    finished = run_jobs(Strict(listed(tmp_path, "a b c")), executor, Told())
    assert states(finished) == {"a": "done", "b": "pruned", "c": "done"} and finished.stopped_by is None
