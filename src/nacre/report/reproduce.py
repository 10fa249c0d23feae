"""Published figures by name: the steps that each takes at a chosen scale, done one after another, and its picture."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from nacre.errors import FailedError, NacreError, unknown
from nacre.report.offline_figures import OFFLINE_FIGURES
from nacre.report.paper_figures import PAPER_FIGURES
from nacre.report.steps import Step, minutes_left
from nacre.runs.stopping import StopRequest
from nacre.sweeps.engine import Finished, run_jobs
from nacre.sweeps.local import LocalExecutor
from nacre.sweeps.source import Listed
from nacre.sweeps.view import StderrView


class PublishedFigure(Protocol):
    """A figure or table that somebody has published."""

    @property
    def title(self) -> str:
        """What it is about."""

    @property
    def finding(self) -> str:
        """What the publication says that it shows."""

    def steps(self, scale: str, seeds: Sequence[int], folder: Path) -> Sequence[Step]:
        """All steps, in the order in which they are done; what they make is below `folder`."""

    def draw(self, done: Sequence[Any], picture: Path) -> None:
        """Draws what these first of its steps have come to, if anything."""


FIGURES: dict[str, PublishedFigure] = {**PAPER_FIGURES, **OFFLINE_FIGURES}
SCALES = ("smoke", "short", "paper")


def planned(figure: str, scale: str, seeds: Sequence[int], out: Path) -> Sequence[Step]:
    """The steps of a figure."""
    if figure not in FIGURES:
        raise unknown("figure", figure, FIGURES)
    if scale not in SCALES:
        raise unknown("scale", scale, SCALES)
    return FIGURES[figure].steps(scale, seeds, out / figure / scale)


def run(
    figure: str, scale: str, seeds: Sequence[int], out: Path, time_limit: float | None = None, jobs: int | None = None
) -> str | None:
    """Does what is left of a figure's steps, and draws it (`picture_of`) after each.

    `time_limit` in minutes, for everything. `jobs`: runs are trained in processes of their own, this many at a time,
    and the figure is drawn when they have ended. Returns None when all steps are done; else what stopped them: the same
    call resumes. Raises NacreError where a run failed.
    """
    StopRequest(time_limit)  # refused before anything is done
    executor = None if jobs is None else LocalExecutor(jobs)
    deadline = None if time_limit is None else time.monotonic() + 60 * time_limit
    steps = planned(figure, scale, seeds, out)
    for number, step in enumerate(steps, 1):
        was_done = step.is_done()
        if executor is not None and step.job() is not None:
            finished = _trained_at_once(steps, executor, deadline)
            _draw_done(figure, steps, picture_of(figure, scale, out))
            stopped_by = _what_stopped(finished)
            if stopped_by is not None:
                return stopped_by
            was_done = step.is_done()
        if not was_done:
            stopped_by = step.work(deadline)
            if stopped_by is not None:
                return stopped_by
        if not was_done or number == len(steps):
            FIGURES[figure].draw(steps[:number], picture_of(figure, scale, out))
    return None


def _trained_at_once(steps: Sequence[Step], executor: LocalExecutor, deadline: float | None) -> Finished:
    """Trains the runs of all steps that can be trained now, by the engine of sweeps."""
    jobs = [job for job in (step.job() for step in steps) if job is not None]
    with StderrView() as view:
        return run_jobs(Listed(jobs), executor, view, time_limit=minutes_left(deadline))


def _what_stopped(finished: Finished) -> str | None:
    """None where all runs are trained. Raises NacreError where one failed."""
    bad = [outcome for outcome in finished.outcomes if outcome.state in ("failed", "refused")]
    if bad:
        failed = any(outcome.state == "failed" for outcome in bad)
        told = "; ".join(f"the run at {outcome.job.path} {outcome.state}: {outcome.told}" for outcome in bad)
        raise (FailedError if failed else NacreError)(f"{told.rstrip('.')}; the same command resumes it.")
    return finished.stopped_by


def _draw_done(figure: str, steps: Sequence[Step], picture: Path) -> None:
    done = [step for step in steps if step.is_done()]
    if done:
        FIGURES[figure].draw(done, picture)


def picture_of(figure: str, scale: str, out: Path) -> Path:
    """Where the picture of a figure goes."""
    return out / figure / f"{scale}.png"
