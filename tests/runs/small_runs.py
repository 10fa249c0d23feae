"""What tests of whole runs share: the smallest run that can stop in mid-iteration, and when two runs are the same."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from saved_states import assert_equal_bits

import nacre
from nacre.runs import loading

# Four iterations of ten updates in blocks of five (`small_blocks`), so that a run can stop in mid-iteration.
SMALL: dict[str, Any] = dict(preset="smoke", iterations=4, train_evaluation_interval=2)
NUM_UPDATES = 10
BLOCK = 5
AT_ONCE = 1e-9
"""A time limit, in minutes, that has passed after the first block of updates."""


def flags(settings: dict[str, Any]) -> list[str]:
    """The settings as the command line takes them."""
    return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as handle:
        return list(csv.DictReader(handle))


def timeless(path: Path) -> list[dict[str, str]]:
    """A CSV's rows but for wall_seconds, the one column that may differ between equal runs."""
    return [{name: value for name, value in row.items() if name != "wall_seconds"} for row in rows(path)]


def saved_steps(run: nacre.RunDirectory) -> list[int]:
    return sorted(int(entry.name) for entry in run.checkpoints.iterdir())


def assert_same_run(run: nacre.RunDirectory, expected: nacre.RunDirectory) -> None:
    """Equal parameters, optimisers, buffers, keys and counters, and equal numbers in both CSVs."""
    assert timeless(run.path / "metrics.csv") == timeless(expected.path / "metrics.csv")
    assert timeless(run.path / "eval.csv") == timeless(expected.path / "eval.csv")
    assert_equal_bits(loading.load_state(run), loading.load_state(expected))
