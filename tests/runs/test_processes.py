"""Runs in processes of their own: killed during a save, asked to stop by a signal."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from small_runs import assert_same_run, rows, saved_steps

import nacre

# Enough blocks, of the length that `nacre train` has, for a process to be killed several times on its way.
LONG = dict(preset="smoke", iterations=12, num_train_steps_per_iteration=100)


@pytest.fixture(scope="module")
def unkilled(tmp_path_factory: pytest.TempPathFactory) -> nacre.RunDirectory:
    """What the runs of processes that are killed and stopped must come to."""
    path = tmp_path_factory.mktemp("unkilled") / "run"
    return nacre.train("pearl", "point-robot", **LONG, out=path)


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
