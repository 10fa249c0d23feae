"""Runs that end from outside: a process killed during a save, and signals that ask to stop."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from small_runs import assert_same_run, flags, rows, saved_steps

import nacre
from nacre.cli import main as cli

# Enough blocks, of the length that `nacre train` has, for a process to be stopped several times on its way.
LONG = dict(preset="smoke", iterations=12, num_train_steps_per_iteration=100)
LAST_UPDATE = 1200

PATIENCE = 300.0


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


def wait_until(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Returns as soon as something can be seen on disk; looks every half millisecond, for some of it lasts only a few,
    and leaves the CPU to the process in between."""
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


def checkpoints(run: Path, complete: bool) -> list[str]:
    """Names of its checkpoints that are complete, or of those that are being saved."""
    return [name for name in names(run / "checkpoints") if name.isdecimal() == complete]


def killed_during_a_save(process: subprocess.Popen[str], run: Path) -> None:
    """Kills it while it saves a checkpoint, not its first: it stands still while somebody looks whether it does."""

    def stands_in_a_save() -> bool:
        if not (checkpoints(run, complete=True) and checkpoints(run, complete=False)):
            return False
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        if checkpoints(run, complete=False):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    wait_until(stands_in_a_save, process)
    process.kill()
    process.wait()
    assert process.returncode == -signal.SIGKILL


def resumed_until(number: signal.Signals, run: Path) -> int:
    """The exit status of `nacre resume`, here, when this process gets a signal after the next update that it logs."""
    append, sent = nacre.RunDirectory.append, []

    def and_send(self: nacre.RunDirectory, file: str, *rows: Any) -> None:
        append(self, file, *rows)
        if file == "metrics.csv" and not sent:
            sent.append(number)
            os.kill(os.getpid(), number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nacre.RunDirectory, "append", and_send)
        return cli.main(["resume", str(run)])


def test_a_run_killed_during_a_save_and_stopped_by_sigterm_and_ctrl_c_continues_to_the_same_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "run"
    unkilled = nacre.train("pearl", "point-robot", **LONG, out=tmp_path / "unkilled")
    saving = ["--checkpoint-minutes", "0", "--out", str(path)]
    with nacre_process("train", "pearl", "point-robot", *flags(LONG), *saving) as process:
        killed_during_a_save(process, path)
    assert checkpoints(path, complete=False)
    for number, name, status in ((signal.SIGTERM, "SIGTERM", 143), (signal.SIGINT, "Ctrl-C", 130)):
        capsys.readouterr()
        assert resumed_until(number, path) == status
        out, err = capsys.readouterr()
        assert out == "" and f"stopped by {name}" in err
        last = int(rows(path / "metrics.csv")[-1]["grad_steps"])
        assert saved_steps(nacre.RunDirectory(path))[-1] == last < LAST_UPDATE
    nacre.resume(path)
    assert checkpoints(path, complete=False) == []
    assert_same_run(nacre.RunDirectory(path), unkilled)
