"""Runs trained in processes on this machine, from the first check to the exit status."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from nacre.algorithms.registry import registered_by
from nacre.families import plugins
from nacre.families.catalog import registered_by as family_by
from nacre.runs.directory import RunDirectory
from nacre.runs.stopping import exit_status
from nacre.sweeps.engine import Finished, run_jobs
from nacre.sweeps.job import Job
from nacre.sweeps.local import LocalExecutor
from nacre.sweeps.source import Listed
from nacre.sweeps.view import StderrView


def train_jobs(jobs: Sequence[Job], num_jobs: int, *, time_limit: float | None = None, overwrite: bool = False) -> int:
    """Does all jobs, `num_jobs` at a time, and returns an exit status: 1 where a run failed, 2 where one was refused.

    `time_limit` in minutes, for everything; `overwrite` removes the runs that are there. Raises NacreError, before
    anything is begun, where something else stands in a run's place.
    """
    executor = LocalExecutor(num_jobs)
    for job in jobs:
        if overwrite:
            RunDirectory.check_place(job.path, overwrite=True)
        else:
            job.check()
    for job in jobs:
        if overwrite and job.path.exists():
            RunDirectory(job.path).remove()
    with StderrView() as view:
        finished = run_jobs(Listed([with_plugins(job) for job in jobs]), executor, view, time_limit=time_limit)
    return told(finished)


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
