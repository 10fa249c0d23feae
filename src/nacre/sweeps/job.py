"""A job: train or resume one run directory. Whoever does it may die at any time; the next one continues."""

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
from nacre.presets.trials import TrialSettings
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
        return self.experiment.settings.num_updates

    @property
    def from_run(self) -> str | None:
        """The run whose networks it starts from, as the command names it by --from; None for fresh ones."""
        return _value_of("--from", self.begin)

    def check(self) -> None:
        """Raises NacreError where something else than this run stands in its place."""
        with reading(self.path):
            exists = self.path.exists()
        if exists and RunDirectory(self.path).experiment != self.experiment:
            raise NacreError(
                f"the run at {self.path} has other settings; choose another place with --out, move it away (nacre "
                "train --overwrite replaces it), or resume it with 'nacre resume'."
            )
        if exists:
            self._check_origin()

    def _check_origin(self) -> None:
        """Raises NacreError where the run in its place started from other networks than the command names by --from."""
        record, asked = RunDirectory(self.path).started_from, self.from_run
        there = None if record is None else str(record["run"])
        if (there and Path(there).resolve()) != (asked and Path(asked).resolve()):
            raise NacreError(
                f"the run at {self.path} started from {there or 'fresh networks'}, not from "
                f"{asked or 'fresh networks'}; choose another place with --out, or move it away (nacre train "
                "--overwrite replaces it)."
            )

    def is_done(self) -> bool:
        """Whether the run has its last checkpoint."""
        return saved_at(self.path) == self.total

    def is_held(self) -> bool:
        """Whether some process trains the run now."""
        return self.path.exists() and is_locked(self.path)

    def command(self) -> list[str]:
        """The arguments of nacre with which the job resumes from where its run directory stands."""
        return command_for(self.path, self.begin, self.flags)


def _value_of(flag: str, command: Sequence[str]) -> str | None:
    """The value of a flag of this command, in either form, the last if there are several; None without it."""
    found = None
    for arg, after in zip(command, [*command[1:], None], strict=True):
        name, equals, value = arg.partition("=")
        if name == flag:
            found = value if equals else after
    return found


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
    with suppress(NacreError, KeyError, OSError):
        evaluations = tables.read(path / "eval.csv")
        scores = tables.scores_by_update(evaluations)
        updates = sorted(scores)
        written_at = (path / "config.json").stat().st_mtime_ns
        if updates and _num_rows(evaluations, updates[-1]) < _rows_of_an_evaluation(path, written_at):
            updates.pop()
        return [scores[update] for update in updates]
    return []


def _num_rows(evaluations: dict[str, np.ndarray], update: int) -> int:
    """Rows of the evaluation on test tasks after this update."""
    return int(np.sum((evaluations["split"] == "test") & (evaluations["grad_steps"] == update)))


@functools.lru_cache(maxsize=1024)
def _rows_of_an_evaluation(path: Path, written_at: int) -> int:
    """How many rows an evaluation of this run has on test tasks: one an episode of every trial. `written_at`: the
    time of its config.json, as another run may take its place."""
    del written_at
    run = RunDirectory(path)
    trials = TrialSettings.of(run.experiment.settings)
    return num_tasks(run.tasks.test) * trials.repeats * trials.episodes


def score_of(path: Path) -> float | None:
    """The score of the last of them; None before one."""
    scores = scores_of(path)
    return scores[-1] if scores else None
