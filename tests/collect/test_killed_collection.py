"""A collection whose process dies resumes where it was."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from command_line import output
from nacre.collect.work import WorkDirectory
from nacre.data.dataset import open_data_set

FAMILY = "point-robot-half-circle"


KILLED = """
import os, signal, sys
from nacre.cli import main
from nacre.collect import sac, training
from nacre.collect.work import WorkDirectory
from nacre.data.dataset import Writer

def dies(kind, name, number):
    calls, whole = [], getattr(kind, name)
    def method(self, *arguments):
        calls.append(name)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, *arguments)
    setattr(kind, name, method)

sac.a_device_per_core = lambda: None  # the tests' process cannot have them, and compiled the same programs
training.SECONDS_BETWEEN_SAVES = 0
dies(*{"training": (WorkDirectory, "save_state", 7), "logging": (Writer, "close", 2)}[sys.argv[1]])
main.main(sys.argv[2:])
"""


@pytest.mark.slow
def test_a_collection_that_is_killed_twice_continues_to_the_same_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """First before the state of its seventh round is kept, then between two data sets."""
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "data-sets"))
    flags = "--num-train-tasks 2 --num-test-tasks 1 --num-steps 260 --checkpoints 4 --hidden-dim 8 --episodes 1 --work"
    command = ("collect", FAMILY, *flags.split())
    qualities = ("--quality", "random,mixed")
    assert output(capsys, *command, str(tmp_path / "whole"), "--only", "train") == ""
    halves = (*command, str(tmp_path / "halves"), *qualities)
    for at, steps in (("training", 2), ("logging", 4)):
        ended = subprocess.run([sys.executable, "-c", KILLED, at, *halves], capture_output=True, text=True)
        assert ended.returncode == -signal.SIGKILL, ended.stderr
        assert len(list((tmp_path / "halves" / "checkpoints").glob("step-*.npz"))) == steps
    assert "resumes from 120 steps" in ended.stderr
    told = output(capsys, *halves)
    assert [line.split(":")[0] for line in told.splitlines()] == [f"nacre/{FAMILY}/mixed-v0"]
    for quality in ("random", "mixed"):
        open_data_set(f"nacre/{FAMILY}/{quality}-v0").verify()
    whole, halves_ = WorkDirectory(tmp_path / "whole"), WorkDirectory(tmp_path / "halves")
    assert whole.steps() == halves_.steps()
    for step in whole.steps():
        jax.tree.map(np.testing.assert_array_equal, whole.checkpoint(step), halves_.checkpoint(step))
