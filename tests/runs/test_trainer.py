"""Runs: what they write, how they stop, and that a run which was interrupted goes on as if it had not been."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import nacre
from nacre.algorithms import pearl, registry
from nacre.algorithms.registry import ALGORITHMS
from nacre.cli import main as cli
from nacre.families.half_cheetah import CheetahVel
from nacre.learning import off_policy
from nacre.runs import loading, trainer
from nacre.runs.stopping import StopRequest

# Four iterations of ten updates in blocks of five (`small_blocks`), so that a run can stop in mid-iteration.
SMALL = dict(preset="smoke", iterations=4, train_evaluation_interval=2)
NUM_UPDATES = 10
BLOCK = 5
AT_ONCE = 1e-9
"""A time limit, in minutes, that has passed after the first block of updates."""
# Enough blocks, of the length that `nacre train` has, for a process to be killed several times on its way.
LONG = dict(preset="smoke", iterations=12, num_train_steps_per_iteration=100)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(off_policy, "UPDATES_PER_CALL", BLOCK)


@pytest.fixture(scope="module")
def uninterrupted_run(tmp_path_factory: pytest.TempPathFactory) -> nacre.RunDirectory:
    """A run that nothing disturbed. It saves after every block, which must not change a number."""
    path = tmp_path_factory.mktemp("uninterrupted") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(off_policy, "UPDATES_PER_CALL", BLOCK)
        return nacre.train("pearl", "point-robot", **SMALL, checkpoint_minutes=0.0, out=path)


@pytest.fixture
def uninterrupted(uninterrupted_run: nacre.RunDirectory, small_blocks: None) -> nacre.RunDirectory:
    """The same, with blocks of its length for the test that compares another run with it."""
    return uninterrupted_run


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> nacre.RunDirectory:
    """What the runs of processes that are killed and stopped must come to."""
    path = tmp_path_factory.mktemp("unkilled") / "run"
    return nacre.train("pearl", "point-robot", **LONG, out=path)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def timeless(path: Path) -> list[dict[str, str]]:
    """A CSV's rows but for wall_seconds, the one column that may differ between equal runs."""
    return [{name: value for name, value in row.items() if name != "wall_seconds"} for row in rows(path)]


def saved_steps(run: nacre.RunDirectory) -> list[int]:
    return sorted(int(entry.name) for entry in run.checkpoints.iterdir())


def assert_equal_bits(state: Any, expected: Any) -> None:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    expected_leaves = jax.tree_util.tree_leaves_with_path(expected)
    assert [path for path, _ in leaves] == [path for path, _ in expected_leaves]
    for (path, x), (_, y) in zip(leaves, expected_leaves, strict=True):
        if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        x, y = np.asarray(x), np.asarray(y)
        name = jax.tree_util.keystr(path)
        assert (x.dtype, x.shape) == (y.dtype, y.shape), name
        assert x.tobytes() == y.tobytes(), f"{name} differs"


def assert_same_run(run: nacre.RunDirectory, expected: nacre.RunDirectory) -> None:
    """Equal parameters, optimisers, buffers, keys and counters, and equal numbers in both CSVs."""
    assert timeless(run.path / "metrics.csv") == timeless(expected.path / "metrics.csv")
    assert timeless(run.path / "eval.csv") == timeless(expected.path / "eval.csv")
    assert_equal_bits(loading.load_state(run), loading.load_state(expected))


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


# ----------------------------------------------------------------------------------------------------------------------
# Stopping and going on


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


def test_interrupted_and_resumed_equals_uninterrupted_bit_for_bit_on_mujoco(small_blocks: None, tmp_path: Path) -> None:
    straight = nacre.train("pearl", "cheetah-dir", preset="smoke", out=tmp_path / "straight")
    run = nacre.train("pearl", "cheetah-dir", preset="smoke", time_limit=AT_ONCE, out=tmp_path / "run")
    assert saved_steps(run) == [5]
    nacre.resume(run.path)
    assert_same_run(run, straight)


def test_a_run_with_straight_episodes_and_a_decaying_step_size_resumes_bit_for_bit_too(
    small_blocks: None, tmp_path: Path
) -> None:
    fields = dict(preset="smoke", num_straight_episodes=2, learning_rate_decay=0.1)
    whole = nacre.train("pearl", "sparse-point-robot", **fields, out=tmp_path / "whole")
    run = nacre.train("pearl", "sparse-point-robot", **fields, time_limit=AT_ONCE, out=tmp_path / "run")
    assert saved_steps(run) == [5]
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


# ----------------------------------------------------------------------------------------------------------------------
# Seeds side by side


@pytest.fixture(scope="module")
def group(tmp_path_factory: pytest.TempPathFactory) -> list[nacre.RunDirectory]:
    """Seeds 0 and 1 of the uninterrupted run, in one program."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(off_policy, "UPDATES_PER_CALL", BLOCK)
        return nacre.train_seeds("pearl", "point-robot", (0, 1), **SMALL, out=tmp_path_factory.mktemp("group"))


def numbers(path: Path) -> np.ndarray:
    return np.array([[float(value) for name, value in row.items() if name != "split"] for row in timeless(path)])


def test_seeds_side_by_side_are_a_run_directory_each_with_the_numbers_of_a_single_run_but_for_rounding(
    group: list[nacre.RunDirectory], uninterrupted: nacre.RunDirectory
) -> None:
    assert [run.path.name for run in group] == ["seed-0", "seed-1"]
    assert [run.experiment.options.seed for run in group] == [0, 1]
    for file, tolerance in (("metrics.csv", 1e-3), ("eval.csv", 1e-3)):
        ours, alone = numbers(group[0].path / file), numbers(uninterrupted.path / file)
        np.testing.assert_allclose(ours, alone, rtol=tolerance, atol=1e-3)
        assert numbers(group[1].path / file).shape == ours.shape
        assert (numbers(group[1].path / file) != ours).any()
    assert nacre.load(group[1].path).evaluate(seed=0)[0].shape == (1, 3, 3)


def test_seeds_side_by_side_interrupted_and_resumed_together_equal_uninterrupted_bit_for_bit(
    group: list[nacre.RunDirectory], small_blocks: None, tmp_path: Path
) -> None:
    runs = nacre.train_seeds("pearl", "point-robot", (0, 1), **SMALL, time_limit=AT_ONCE, out=tmp_path)
    assert [saved_steps(run) for run in runs] == [[5], [5]]
    nacre.resume_seeds([run.path for run in runs])
    for run, expected in zip(runs, group, strict=True):
        assert_same_run(run, expected)


def test_one_of_the_seeds_can_be_resumed_alone_and_the_group_goes_on_from_what_all_have(
    group: list[nacre.RunDirectory], small_blocks: None, tmp_path: Path
) -> None:
    runs = nacre.train_seeds(
        "pearl", "point-robot", (0, 1), **SMALL, checkpoint_minutes=0.0, time_limit=AT_ONCE, out=tmp_path
    )
    nacre.resume(runs[0].path, time_limit=AT_ONCE)
    assert [saved_steps(run) for run in runs] == [[5, 10], [5]]
    nacre.resume_seeds([run.path for run in runs], time_limit=AT_ONCE)  # seed 0 from 5 again, although it had 10
    assert [saved_steps(run) for run in runs] == [[5, 10], [5, 10]]
    nacre.resume_seeds([run.path for run in runs])
    for run, expected in zip(runs, group, strict=True):
        assert_same_run(run, expected)


def test_seeds_without_a_common_checkpoint_are_to_be_resumed_apart(small_blocks: None, tmp_path: Path) -> None:
    runs = nacre.train_seeds("pearl", "point-robot", (0, 1), **SMALL, time_limit=AT_ONCE, out=tmp_path)
    for _ in range(2):
        nacre.resume(runs[0].path, time_limit=AT_ONCE)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(nacre.NacreError, match="no checkpoint at the same update; resume them apart"):
        nacre.resume_seeds([run.path for run in runs])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_runs_that_differ_in_more_than_their_seed_are_not_resumed_together(
    group: list[nacre.RunDirectory], tmp_path: Path
) -> None:
    other = nacre.train("pearl", "point-robot", preset="smoke", time_limit=AT_ONCE, out=tmp_path / "other")
    with pytest.raises(nacre.NacreError, match="differ in more than their seed"):
        nacre.resume_seeds([group[0].path, other.path])
    with pytest.raises(nacre.NacreError, match="twice"):
        nacre.resume_seeds([group[0].path, group[0].path])


def test_nothing_is_begun_where_one_of_the_directories_is_taken(tmp_path: Path) -> None:
    (tmp_path / "seed-1").mkdir()
    with pytest.raises(nacre.NacreError, match="seed-1 exists"):
        nacre.train_seeds("pearl", "point-robot", (0, 1), **SMALL, out=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["seed-1"]


@pytest.mark.parametrize("seeds", [(), (1, 1)])
def test_seeds_must_be_different_numbers(seeds: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(nacre.NacreError, match="different"):
        nacre.train_seeds("pearl", "point-robot", seeds, **SMALL, out=tmp_path)


# ----------------------------------------------------------------------------------------------------------------------
# Numbers that are not finite


def poisoned(name: str, update: int) -> Callable[..., Iterator[tuple[Any, Any]]]:
    """PEARL's meta-training, but with one metric of one update that is not finite."""
    meta_train = ALGORITHMS["pearl"].meta_train

    def train(*args: Any) -> Iterator[tuple[Any, Any]]:
        for states, (metrics,) in meta_train(*args):
            first = int(states[0].grad_steps) - BLOCK + 1
            if first <= update <= states[0].grad_steps:
                metrics = metrics | {name: metrics[name].at[update - first].set(np.nan)}
            yield states, [metrics]

    return train


@pytest.mark.parametrize(("name", "update", "iteration", "kept"), [("kl", 18, 2, 15), ("value_loss", 6, 1, 5)])
def test_a_loss_that_is_not_finite_stops_the_run_names_the_place_and_keeps_the_last_good_checkpoint(
    uninterrupted: nacre.RunDirectory, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
    name: str, update: int, iteration: int, kept: int,
) -> None:  # fmt: skip
    with monkeypatch.context() as patch:
        pearl_poisoned = dataclasses.replace(ALGORITHMS["pearl"], meta_train=poisoned(name, update))
        patch.setitem(registry._BUILT_IN, "pearl", pearl_poisoned)
        with pytest.raises(nacre.NacreError) as raised:
            nacre.train("pearl", "point-robot", **SMALL, checkpoint_minutes=0.0, out=tmp_path / "run")
    message = str(raised.value)
    assert f"{name} is not finite at gradient update {update} (iteration {iteration})" in message
    assert f"checkpoint at update {kept} is kept" in message
    run = nacre.RunDirectory(tmp_path / "run")
    assert saved_steps(run)[-1] == kept
    nacre.resume(run.path)  # the poison is gone: what was kept is good
    assert_same_run(run, uninterrupted)


def test_a_learning_rate_that_diverges_ends_in_one_sentence_that_names_a_metric_and_an_update(
    small_blocks: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--preset", "smoke", "--learning-rate", "1e30", "--out", str(tmp_path / "run")]
    assert cli.main(["train", "pearl", "point-robot", *flags]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nacre: ")]
    assert len(lines) == 1
    found = re.search(r"nacre: (\w+) is not finite at gradient update (\d+) \(iteration 1\)", lines[0])
    assert found
    assert (found[1], found[2]) == ("policy_loss", "1")  # the policy is the first to see the new critics
    assert "no checkpoint" in lines[0]


@pytest.mark.parametrize(
    "flags",
    [
        ("--hidden-dim", "65536", "--num-hidden-layers", "100"),
        ("--replay-capacity", "1000000000000"),
        ("--encoder-hidden-dim", "65536", "--num-hidden-layers", "100"),
    ],
)
def test_a_run_that_no_memory_holds_is_refused_before_anything_is_made(
    flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert cli.main(["train", "pearl", "point-robot", "--preset", "smoke", "--out", str(out), *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.match(
        r"nacre: this run would need [\d,.]+ GB for its replay and networks, but the machine has [\d.]+ GB", line
    )
    assert not out.exists()


def test_running_out_of_memory_ends_in_one_sentence_and_the_run_can_go_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def exhausted(*args: Any) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 6970800034328 bytes.")

    out = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(off_policy, "train", exhausted)
        assert cli.main(["train", "pearl", "point-robot", "--preset", "smoke", "--out", str(out)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nacre: ")]
    assert len(lines) == 1
    assert f"the run at {out} did not fit into memory" in lines[0]
    assert cli.main(["resume", str(out)]) == 0


def test_another_failure_of_the_device_is_not_taken_for_a_lack_of_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def failing(*args: Any) -> None:
        raise jax.errors.JaxRuntimeError("INTERNAL: an illegal memory access was encountered")

    monkeypatch.setattr(off_policy, "train", failing)
    with pytest.raises(jax.errors.JaxRuntimeError, match="illegal"):
        cli.main(["train", "pearl", "point-robot", "--preset", "smoke", "--out", str(tmp_path / "run")])


def test_the_update_is_compiled_once_and_before_the_buffers_take_memory(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    seen: list[str] = []

    def tracked_init(*args: Any) -> pearl.State:
        state = pearl.init(*args)
        if not isinstance(state.rl_buffer.pool, jax.core.Tracer):
            seen.extend(record.getMessage() for record in caplog.records)
            seen.append("buffers made")
            caplog.clear()
        return state

    tracked = dataclasses.replace(ALGORITHMS["pearl"], init=tracked_init)
    monkeypatch.setitem(registry._BUILT_IN, "pearl", tracked)
    with jax.log_compiles():
        nacre.train("pearl", "point-robot", preset="smoke", batch_size=17, out=tmp_path / "run")
    seen.extend(record.getMessage() for record in caplog.records)
    compiled = [i for i, message in enumerate(seen) if message.startswith("Finished XLA compilation of jit(block)")]
    assert len(compiled) == 1
    assert compiled[0] < seen.index("buffers made")


def test_a_reward_that_is_not_finite_stops_the_run_and_names_the_family_and_the_step(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(CheetahVel, "progress", lambda self, velocity, task: np.full_like(velocity, np.nan))
    with pytest.raises(nacre.NacreError, match="cheetah-vel returned a reward that is not finite at step 1"):
        nacre.train("pearl", "cheetah-vel", preset="smoke", out=tmp_path / "run")


# ----------------------------------------------------------------------------------------------------------------------
# Real processes: killed, asked to stop

PATIENCE = 120.0


@contextlib.contextmanager
def nacre_process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The command line in a process of its own, which does not outlive the block."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nacre", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def train_arguments(out: Path) -> list[str]:
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in LONG.items()]
    return ["train", "pearl", "point-robot", *flags, "--out", str(out)]


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Returns as soon as something can be seen on disk; looks every half millisecond, for some of it lasts only a few,
    and leaves the processor to the process in between."""
    deadline = time.monotonic() + PATIENCE
    while not happened():
        assert process.poll() is None, f"the process ended before: {process.communicate()[1]}"
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.0005)


def names(directory: Path) -> list[str]:
    try:
        return os.listdir(directory)
    except FileNotFoundError:
        return []


def being_saved(run: Path, since: float = 0.0) -> list[str]:
    """Names of checkpoints that are not complete and were begun after that time."""
    found = []
    for name in names(run / "checkpoints"):
        with contextlib.suppress(FileNotFoundError):
            if not name.isdecimal() and (run / "checkpoints" / name).stat().st_ctime > since:
                found.append(name)
    return found


def test_a_run_killed_at_any_moment_also_during_a_save_resumes_to_the_same_numbers(
    unkilled: nacre.RunDirectory, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first = [*train_arguments(run), "--checkpoint-minutes", "0"]
    resume = ["resume", str(run)]
    killed_during_a_save = 0
    for arguments, moment in (
        (first, "before its first checkpoint"),
        (resume, "during a save"),
        (resume, "later"),
        (resume, "during a save"),
    ):
        started = time.time()
        with nacre_process(*arguments) as process:
            if moment == "before its first checkpoint":
                wait_until(run.exists, process)
            else:
                wait_until(lambda: bool(being_saved(run, since=started)), process)  # noqa: B023
            if moment == "later":
                time.sleep(random.Random(0).uniform(0.1, 0.3))
            process.kill()
            process.wait()
            assert process.returncode == -signal.SIGKILL
        killed_during_a_save += bool(being_saved(run, since=started))
    assert killed_during_a_save > 0
    nacre.resume(run)
    assert being_saved(run) == []
    assert_same_run(nacre.RunDirectory(run), unkilled)


def test_sigterm_and_ctrl_c_stop_a_run_cleanly_with_a_checkpoint_from_which_it_goes_on(
    unkilled: nacre.RunDirectory, tmp_path: Path
) -> None:
    path = tmp_path / "run"
    for arguments, number, name in (
        (train_arguments(path), signal.SIGTERM, "SIGTERM"),
        (["resume", str(path)], signal.SIGINT, "Ctrl-C"),
    ):
        logged = len(names(path)) and len(rows(path / "metrics.csv"))
        with nacre_process(*arguments) as process:
            wait_until(lambda: (path / "metrics.csv").exists() and len(rows(path / "metrics.csv")) > logged, process)  # noqa: B023
            process.send_signal(number)
            out, err = process.communicate(timeout=PATIENCE)
        assert process.returncode == {"SIGTERM": 143, "Ctrl-C": 130}[name]
        assert out == ""
        assert f"stopped by {name}" in err
        run = nacre.RunDirectory(path)
        last = int(rows(path / "metrics.csv")[-1]["grad_steps"])
        assert saved_steps(run)[-1] == last < 1200
    nacre.resume(path)
    assert_same_run(run, unkilled)
