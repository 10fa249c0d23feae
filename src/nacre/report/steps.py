"""What a figure takes: steps in an order in which each finds what it needs. Every step can be stopped and resumed.

A step here trains one run. `data_step.py` has the steps that make data sets, `scored_run.py` runs with evaluations.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from nacre.errors import NacreError
from nacre.report.estimates import checkpoint_bytes, estimated_seconds
from nacre.runs import trainer
from nacre.runs.checkpoints import Checkpoints
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment, resolve
from nacre.sweeps.job import Job
from nacre.sweeps.plan import job_of
from nacre.sweeps.training import with_plugins


class Line(NamedTuple):
    """One curve or row of a figure: runs that differ in nothing but their seed."""

    name: str  # names its directory
    algorithm: str
    family: str
    fields: Mapping[str, Any] = {}


class Cost(NamedTuple):
    """What a step takes from its beginning to its end on this machine."""

    env_steps: int
    updates: int
    seconds: float
    bytes: int  # of disk
    counted: bool = True  # whether the seconds have the updates in them: not where nobody counted their operations


class Step(Protocol):
    """One piece of the work for a figure."""

    @property
    def told(self) -> tuple[str, str, str]:
        """Family, line and seed, as plans show them."""

    def is_done(self) -> bool:
        """Whether nothing is left to do. Raises NacreError where something else is in its place."""

    def cost(self) -> Cost:
        """What it takes, whether or not it is done."""

    def job(self) -> Job | None:
        """What is left of its training, where a process of its own can do that now; None where nothing is."""

    def work(self, deadline: float | None) -> str | None:
        """Does what is left, until `deadline` by time.monotonic(). None when it is done, else what stopped it."""


def minutes_left(deadline: float | None) -> float | None:
    """A time limit for what is left until a deadline; above 0, as time limits must be."""
    return None if deadline is None else max((deadline - time.monotonic()) / 60, 1e-9)


@dataclass(frozen=True)
class RunStep:
    """Trains one run, from wherever it stands."""

    line: Line
    preset: str
    seed: int
    path: Path
    fields: Mapping[str, Any] = field(default_factory=dict)
    """Changed from the preset, the line's own included."""

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The run's configuration."""
        return resolve(self.line.algorithm, self.line.family, self.preset, seed=self.seed, **self.fields)

    @property
    def told(self) -> tuple[str, str, str]:
        return self.line.family, self.line.name, str(self.seed)

    def is_done(self) -> bool:
        return is_trained(self.experiment, self.path)

    def cost(self) -> Cost:
        return run_cost(self.experiment)

    def job(self) -> Job | None:
        return training_job(self.line, self.preset, self.experiment, self.path, self.fields)

    def work(self, deadline: float | None) -> str | None:
        return trained(self.experiment, self.path, deadline)


def is_trained(chosen: Experiment, path: Path) -> bool:
    """Whether a run has its last checkpoint. Raises NacreError for a run there that is not the planned one."""
    if not path.exists():
        return False
    run = RunDirectory(path)
    if run.experiment != chosen:
        raise NacreError(f"the run at {path} has other settings than this figure's; move it away, or change --out.")
    return Checkpoints(run.checkpoints, read_only=True).latest() == chosen.settings.num_updates


def trained(chosen: Experiment, path: Path, deadline: float | None) -> str | None:
    """Trains a run or resumes it; what stopped it, if something did."""
    left = minutes_left(deadline)
    if path.exists():
        return trainer.resume([path], time_limit=left).stopped_by
    return trainer.train([chosen], [path], time_limit=left).stopped_by


def training_job(line: Line, preset: str, chosen: Experiment, path: Path, fields: Mapping[str, Any]) -> Job | None:
    """What trains a run in a process of its own; None where it is trained. `fields`: changed from the preset."""
    if is_trained(chosen, path):
        return None
    return with_plugins(job_of(path, chosen, (line.algorithm, line.family, preset), fields))


def run_cost(chosen: Experiment) -> Cost:
    """What a whole run takes."""
    settings, family = chosen.settings, chosen.family
    counted = settings.update_flops(family.obs_dim, family.action_dim, family.task_dim) > 0
    seconds, size = estimated_seconds(chosen), checkpoint_bytes(chosen)
    return Cost(settings.env_steps(family), chosen.settings.num_updates, seconds, size, counted)
