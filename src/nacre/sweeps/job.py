"""A job: train or resume one run directory. Whoever does it may die at any time; the next one goes on."""

from __future__ import annotations

import functools
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nacre.errors import NacreError
from nacre.families.family import num_tasks
from nacre.runs import tables
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment
from nacre.runs.files import is_locked, reading

LAST_LINES = 4_000
"""Bytes at the end of metrics.csv in which its last row lies."""


class Job(NamedTuple):
    """A run that is to be complete."""

    path: Path
    experiment: Experiment
    begin: tuple[str, ...]  # arguments of nacre that begin the run, such as train pearl point-robot --out PATH
    flags: tuple[str, ...] = ()  # of every command of the job, such as --wandb

    @property
    def total(self) -> int:
        """Updates of the whole run."""
        settings = self.experiment.settings
        return int(settings.iterations * settings.num_train_steps_per_iteration)

    def check(self) -> None:
        """Raises NacreError where something else than this run stands in its place."""
        with reading(self.path):
            exists = self.path.exists()
        if exists and RunDirectory(self.path).experiment != self.experiment:
            raise NacreError(
                f"the run at {self.path} has other settings; choose another place with --out, replace it with "
                "--overwrite, or go on with it by 'nacre resume'."
            )

    def is_done(self) -> bool:
        """Whether the run has its last checkpoint."""
        return saved_at(self.path) == self.total

    def is_held(self) -> bool:
        """Whether some process trains the run now."""
        return self.path.exists() and is_locked(self.path)

    def command(self) -> list[str]:
        """The arguments of nacre with which the job goes on from where its run directory stands."""
        return command_for(self.path, self.begin, self.flags)


def command_for(path: Path, begin: Sequence[str], flags: Sequence[str]) -> list[str]:
    """`Job.command` of a job with this path, this beginning and these flags."""
    if not path.exists():
        return [*begin, *flags]
    if saved_at(path) is None and RunDirectory(path).started_from is not None:
        return [*begin, "--overwrite", *flags]  # the other run's networks were not saved in it yet
    return ["resume", str(path), *flags]


class Progress(NamedTuple):
    """How far a run has come."""

    grad_steps: int = 0
    env_steps: int = 0


def saved_at(path: Path) -> int | None:
    """The number of a run's newest complete checkpoint; None before the first."""
    with suppress(OSError):
        return max(
            (int(entry.name) for entry in (path / "checkpoints").iterdir() if entry.name.isdecimal()), default=None
        )
    return None


def progress_of(path: Path) -> Progress:
    """What the last whole line of a run's metrics.csv tells, without reading the rest; zeros before there is one."""
    with suppress(OSError, ValueError, IndexError), (path / "metrics.csv").open("rb") as handle:
        header = handle.readline().decode().strip().split(",")
        end = handle.seek(0, os.SEEK_END)
        handle.seek(max(end - LAST_LINES, 0))
        last = handle.read().decode(errors="replace").rpartition("\n")[0].rpartition("\n")[2].split(",")
        return Progress(*(int(last[header.index(name)]) for name in Progress._fields))
    return Progress()


def scores_of(path: Path) -> list[float]:
    """The scores of a run's whole evaluations on test tasks so far, to which another process may be adding rows."""
    with suppress(NacreError, KeyError):
        evaluations = tables.read(path / "eval.csv")
        scores = tables.scores_by_update(evaluations)
        updates = sorted(scores)
        if updates and _num_rows(evaluations, updates[-1]) < _rows_of_an_evaluation(path):
            updates.pop()
        return [scores[update] for update in updates]
    return []


def _num_rows(evaluations: dict[str, np.ndarray], update: int) -> int:
    """Rows of the evaluation on test tasks after this update."""
    return int(np.sum((evaluations["split"] == "test") & (evaluations["grad_steps"] == update)))


@functools.lru_cache(maxsize=1024)
def _rows_of_an_evaluation(path: Path) -> int:
    """How many rows an evaluation of this run has on test tasks: one an episode of every trial."""
    run = RunDirectory(path)
    settings = run.experiment.settings
    return num_tasks(run.tasks.test) * settings.num_evaluation_repeats * settings.num_evaluation_episodes


def score_of(path: Path) -> float | None:
    """The score of the last of them; None before one."""
    scores = scores_of(path)
    return scores[-1] if scores else None
