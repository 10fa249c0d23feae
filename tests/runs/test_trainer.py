"""Runs: what they write, how they stop, and that a run which was interrupted continues as if it had not been."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from small_runs import AT_ONCE, BLOCK, NUM_UPDATES, SMALL, assert_same_run, rows, saved_steps, timeless

import nacre
from nacre.runs import loading, trainer
from nacre.runs.stopping import StopRequest
from warm_starts import assert_starts_from

# ----------------------------------------------------------------------------------------------------------------------
# What a run writes


def test_eval_csv_has_exactly_the_columns_of_the_contract(uninterrupted: nacre.RunDirectory) -> None:
    header = (uninterrupted.path / "eval.csv").read_text().splitlines()[0]
    assert header == "env_steps,grad_steps,wall_seconds,split,task,repeat,episode,return"


def test_test_tasks_are_evaluated_after_every_iteration_and_train_tasks_every_interval(
    uninterrupted: nacre.RunDirectory,
) -> None:
    evaluations = rows(uninterrupted.path / "eval.csv")
    at = {
        split: sorted({int(r["grad_steps"]) for r in evaluations if r["split"] == split}) for split in ("test", "train")
    }
    assert at == {"test": [10, 20, 30, 40], "train": [20, 40]}


def test_every_evaluation_has_one_row_for_each_task_repeat_and_episode_counted_from_one(
    uninterrupted: nacre.RunDirectory,
) -> None:
    evaluations = rows(uninterrupted.path / "eval.csv")
    for split, grad_steps, num_tasks in (("test", "10", 3), ("test", "40", 3), ("train", "20", 4)):
        found = [
            (int(r["task"]), int(r["repeat"]), int(r["episode"]))
            for r in evaluations
            if (r["split"], r["grad_steps"]) == (split, grad_steps)
        ]
        assert found == [(task, 0, episode) for task in range(num_tasks) for episode in (1, 2, 3)]


def test_env_steps_count_the_initial_collection_and_every_phase_but_no_evaluation(
    uninterrupted: nacre.RunDirectory,
) -> None:
    initial, drawn = 4 * 40, 2 * (40 + 40)  # tasks x initial steps; draws x (prior + extra posterior steps)
    expected = {10: initial + drawn, 20: initial + 2 * drawn, 30: initial + 3 * drawn, 40: initial + 4 * drawn}
    for file in ("eval.csv", "metrics.csv"):
        for row in rows(uninterrupted.path / file):
            iteration_end = -(-int(row["grad_steps"]) // NUM_UPDATES) * NUM_UPDATES
            assert int(row["env_steps"]) == expected[iteration_end]


def test_metrics_csv_has_one_row_per_block_of_updates_with_finite_numbers(uninterrupted: nacre.RunDirectory) -> None:
    logged = rows(uninterrupted.path / "metrics.csv")
    assert [int(row["grad_steps"]) for row in logged] == list(range(BLOCK, 4 * NUM_UPDATES + 1, BLOCK))
    assert [int(row["meta_iterations"]) for row in logged] == [0, 1, 1, 2, 2, 3, 3, 4]
    assert np.isfinite([[float(value) for value in row.values()] for row in logged]).all()


def test_two_checkpoints_are_kept_the_newest_ones(uninterrupted: nacre.RunDirectory) -> None:
    assert saved_steps(uninterrupted) == [35, 40]


def test_the_same_seed_gives_the_same_run_and_another_seed_another(
    uninterrupted: nacre.RunDirectory, tmp_path: Path
) -> None:
    again = nacre.train("pearl", "point-robot", **SMALL, out=tmp_path / "again")
    assert_same_run(again, uninterrupted)
    other = nacre.train("pearl", "point-robot", **SMALL, seed=1, time_limit=AT_ONCE, out=tmp_path / "other")
    assert timeless(other.path / "metrics.csv")[0] != timeless(uninterrupted.path / "metrics.csv")[0]


def test_another_run_starts_from_its_networks(uninterrupted: nacre.RunDirectory, tmp_path: Path) -> None:
    assert_starts_from(uninterrupted, tmp_path / "warm", **SMALL, seed=1)


# ----------------------------------------------------------------------------------------------------------------------
# Stopping and continuing


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit(
    uninterrupted: nacre.RunDirectory, tmp_path: Path
) -> None:
    run = nacre.train("pearl", "point-robot", **SMALL, time_limit=AT_ONCE, out=tmp_path / "run")
    assert saved_steps(run) == [5]  # in mid-iteration
    for stopped_at in (10, 15):  # between two iterations, and in mid-iteration again
        nacre.resume(run.path, time_limit=AT_ONCE)
        assert saved_steps(run)[-1] == stopped_at
    nacre.resume(run.path)
    assert_same_run(run, uninterrupted)


@pytest.mark.parametrize("family", ["point-robot", pytest.param("cheetah-dir", marks=pytest.mark.slow)])
def test_a_run_with_straight_episodes_scaled_inputs_and_a_decaying_learning_rate_resumes_bit_for_bit_too(
    family: str, small_blocks: None, tmp_path: Path
) -> None:
    fields = dict(preset="smoke", num_straight_episodes=1, learning_rate_decay=0.1, normalise_inputs="all")
    whole = nacre.train("pearl", family, **fields, out=tmp_path / "whole")
    run = nacre.train("pearl", family, **fields, time_limit=AT_ONCE, out=tmp_path / "run")
    assert saved_steps(run) == [5]
    first, last = (nacre.load(one.path).params.policy.mlp.scale.std for one in (run, whole))
    assert (first != last).any() and np.abs(last - 1).max() > 0.1
    nacre.resume(run.path)
    assert_same_run(run, whole)


def test_a_raised_total_gives_the_run_that_had_it_from_the_start(
    uninterrupted: nacre.RunDirectory, tmp_path: Path
) -> None:
    run = nacre.train("pearl", "point-robot", **(SMALL | dict(iterations=2)), out=tmp_path / "run")
    assert int(loading.load_state(run).meta_iterations) == 2
    raised = nacre.resume(run.path, iterations=4)
    assert_same_run(raised, uninterrupted)
    assert json.loads((run.path / "config.json").read_text())["settings"]["iterations"] == 4
    assert nacre.RunDirectory(run.path).experiment.settings == uninterrupted.experiment.settings


def test_a_total_cannot_be_lowered_and_the_attempt_changes_nothing(
    uninterrupted: nacre.RunDirectory, tmp_path: Path
) -> None:
    run = shutil.copytree(uninterrupted.path, tmp_path / "run")
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(nacre.NacreError, match="4 iterations"):
        nacre.resume(run, iterations=3)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_total_that_cannot_be_continued_to_is_not_written_down(
    uninterrupted: nacre.RunDirectory, tmp_path: Path
) -> None:
    run = shutil.copytree(uninterrupted.path, tmp_path / "run")
    for file in (run / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(b"garbage")
    config = (run / "config.json").read_text()
    with pytest.raises(nacre.NacreError, match="damaged"):
        nacre.resume(run, iterations=9)
    assert (run / "config.json").read_text() == config


def test_a_run_without_a_checkpoint_starts_from_nothing(uninterrupted: nacre.RunDirectory, tmp_path: Path) -> None:
    run = nacre.RunDirectory.create(tmp_path / "run", uninterrupted.experiment)
    for file in ("metrics.csv", "eval.csv"):  # logged before the process died, never saved
        lines = (uninterrupted.path / file).read_text().splitlines(keepends=True)
        (run.path / file).write_text("".join(lines[:5]) + lines[5][:7])
    nacre.resume(run.path)
    assert_same_run(run, uninterrupted)


def test_a_run_that_is_being_trained_cannot_be_resumed_beside(
    uninterrupted: nacre.RunDirectory, tmp_path: Path
) -> None:
    run = nacre.RunDirectory(Path(shutil.copytree(uninterrupted.path, tmp_path / "run")))
    config = (run.path / "config.json").read_text()
    with run.locked(), pytest.raises(nacre.NacreError, match="another process is training"):
        nacre.resume(run.path, iterations=9)
    assert (run.path / "config.json").read_text() == config


def test_resuming_a_finished_run_changes_no_number(uninterrupted: nacre.RunDirectory, tmp_path: Path) -> None:
    run = nacre.RunDirectory(Path(shutil.copytree(uninterrupted.path, tmp_path / "run")))
    nacre.resume(run.path)
    assert (run.path / "eval.csv").read_text() == (uninterrupted.path / "eval.csv").read_text()
    assert_same_run(run, uninterrupted)


def test_wall_seconds_count_from_the_start_of_the_process_and_add_up_over_resumptions(
    uninterrupted: nacre.RunDirectory, tmp_path: Path
) -> None:
    ((run,), _) = trainer.train(
        [uninterrupted.experiment], [tmp_path / "run"], time_limit=AT_ONCE, started=time.monotonic() - 1000.0
    )
    trainer.resume([run.path], started=time.monotonic() - 2000.0)
    seconds = [float(row["wall_seconds"]) for row in rows(run.path / "metrics.csv")]
    assert 1000 <= seconds[0] < 1500
    assert 3000 <= seconds[1] < 3500
    assert seconds == sorted(seconds)


def test_a_time_limit_stops_with_a_checkpoint_and_says_how_to_go_on(
    uninterrupted: nacre.RunDirectory, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = nacre.train("pearl", "point-robot", **SMALL, time_limit=AT_ONCE, out=tmp_path / "run")
    assert saved_steps(run) == [BLOCK]
    heard = capsys.readouterr()
    assert heard.out == ""
    assert "time limit" in heard.err
    assert f"nacre resume {run.path}" in heard.err.replace("\n", "")


@pytest.mark.parametrize("minutes", [-1.0, 0.0, float("nan")])
def test_a_time_limit_that_means_nothing_is_refused(minutes: float, tmp_path: Path) -> None:
    with pytest.raises(nacre.NacreError, match=r"time.limit"):
        nacre.train("pearl", "point-robot", **SMALL, time_limit=minutes, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_first_signal_asks_to_stop_and_a_second_one_stops_at_once() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    stop = StopRequest(None)
    with stop.listening():
        assert stop.reason is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.reason == "SIGTERM"
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
