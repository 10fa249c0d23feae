"""Runs trained in processes on this machine, from the first check to the exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from nacre.algorithms.registry import registered_by
from nacre.families import plugins
from nacre.families.catalog import registered_by as family_by
from nacre.runs.directory import RunDirectory
from nacre.runs.stopping import StopRequest, exit_status
from nacre.sweeps.engine import Finished, run_jobs
from nacre.sweeps.job import Job
from nacre.sweeps.local import LocalExecutor
from nacre.sweeps.source import Listed
from nacre.sweeps.view import StderrView


def train_jobs(jobs: Sequence[Job], num_jobs: int, *, time_limit: float | None = None, overwrite: bool = False) -> int:
    """Does all jobs, `num_jobs` at a time, and returns an exit status: 1 where a run failed, 2 where one was refused.

    The runs differ in nothing but their seeds. `time_limit` in minutes, for everything; `overwrite` replaces the runs
    that are there. Raises NacreError, before anything is begun or removed, where something else stands in a run's
    place, and with `overwrite` where the runs cannot be trained.
    """
    executor = LocalExecutor(num_jobs)
    StopRequest(time_limit)  # refused before a run is removed
    for job in jobs:
        if overwrite:
            RunDirectory.check_place(job.path, overwrite=True)
        else:
            job.check()
    if overwrite:
        _replace([job for job in jobs if job.path.exists()])
    with StderrView() as view:
        finished = run_jobs(Listed([with_plugins(job) for job in jobs]), executor, view, time_limit=time_limit)
    return told(finished)


def _replace(jobs: Sequence[Job]) -> None:
    """New runs in place of those that stand there, all of them or none. Their processes begin them: as there is no
    checkpoint yet, that is no different from a run that they make.

    Raises NacreError for what these processes would refuse when the old runs were gone.
    """
    if not jobs:
        return
    from nacre.runs import sinks, trainer  # slow to import

    first = jobs[0]
    sinks.check("--wandb" in first.flags)
    with _little_device_memory():
        origin = trainer.checked([first.experiment], None if first.from_run is None else Path(first.from_run))
    trainer.create([job.experiment for job in jobs], [job.path for job in jobs], True, origin)


@contextmanager
def _little_device_memory() -> Iterator[None]:
    """Keeps JAX from reserving most of a GPU's memory for this process, whose children are to train there."""
    name = "XLA_PYTHON_CLIENT_PREALLOCATE"
    before = os.environ.get(name)
    os.environ[name] = "false"
    try:
        yield
    finally:
        del os.environ[name]
        if before is not None:
            os.environ[name] = before


def with_plugins(job: Job) -> Job:
    """The job, whose process imports what this one has imported to know the run's method and family."""
    experiment = job.experiment
    modules = plugins.remembered([registered_by(experiment.algorithm_name), family_by(experiment.family.name)])
    return job._replace(begin=(*job.begin, *(part for module in modules for part in ("--plugin", module))))


def told(finished: Finished) -> int:
    """Says on stderr which runs are not done and what to do; the exit status."""
    for outcome in finished.outcomes:
        if outcome.state in ("failed", "refused"):
            print(f"nacre: the run at {outcome.job.path} {outcome.state}: {outcome.told}", file=sys.stderr)
    states = {outcome.state for outcome in finished.outcomes}
    if finished.stopped_by is not None:
        print(f"nacre: stopped by {finished.stopped_by}; the same command resumes it", file=sys.stderr)
    if "failed" in states:
        return 1
    if "refused" in states:
        return 2
    return exit_status(finished.stopped_by)
