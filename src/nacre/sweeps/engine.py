"""Many jobs side by side: starts them, takes up again what died, and leaves none behind."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, Protocol

from nacre.runs.stopping import StopRequest
from nacre.sweeps.executor import Ended, Executor, Handle
from nacre.sweeps.job import Job

RETRIES = 2
"""How often a job whose process died is taken up again."""
POLL_SECONDS = 0.1
REFUSED = 2
"""Exit status of a command that could not do what was asked, and said why."""
BY_SIGNAL = {128 + signal.SIGINT, 128 + signal.SIGTERM}
"""Exit statuses of a command that saved a checkpoint when a signal asked it to stop."""

State = Literal["done", "stopped", "refused", "failed"]


class Outcome(NamedTuple):
    """What became of a job."""

    job: Job
    state: State  # stopped: the same call goes on. refused: a sentence says why. failed: its processes died, or a fault
    told: str = ""


class Running(NamedTuple):
    """A job that is being done."""

    job: Job
    handle: Handle
    deaths: int  # of processes before this one


class View(Protocol):
    """Who is shown what happens."""

    def begun(self, jobs: Sequence[Job], num_done: int) -> None:
        """All jobs, some of which were done before."""

    def started(self, job: Job) -> None:
        """A process does it from now on."""

    def died(self, job: Job, told: str) -> None:
        """Its process died, and it is taken up again."""

    def ended(self, outcome: Outcome) -> None:
        """No process will do it any more."""

    def stopping(self, reason: str, num_running: int) -> None:
        """All processes were asked to save a checkpoint and end."""

    def look(self, running: Sequence[Running]) -> None:
        """Time goes by."""


class Finished(NamedTuple):
    """What became of all jobs."""

    outcomes: list[Outcome]  # those that were done before among them; not those that were never started
    stopped_by: str | None  # 'Ctrl-C', 'SIGTERM' or 'the time limit'


def run_jobs(
    jobs: Sequence[Job], executor: Executor, view: View, *, time_limit: float | None = None, retries: int = RETRIES
) -> Finished:
    """Does all jobs that are not done, in their order, as many at a time as the executor takes.

    `time_limit` in minutes, for everything. The first Ctrl-C or SIGTERM asks all processes to save a checkpoint and
    end, and waits for them; a second ends them at once. However this function is left, none of its processes goes on.
    """
    stop = StopRequest(time_limit)
    deadline = None if time_limit is None else time.monotonic() + 60 * time_limit
    outcomes = [Outcome(job, "done") for job in jobs if job.is_done()]
    done = {outcome.job.path for outcome in outcomes}
    waiting = deque((job, 0) for job in jobs if job.path not in done)
    running: list[Running] = []
    asked = False
    view.begun(jobs, len(outcomes))
    try:
        with stop.listening():
            while running or (waiting and stop.reason is None):
                while waiting and stop.reason is None and executor.is_free():
                    running.append(_started(*waiting.popleft(), executor, view, deadline))
                if _is_signal(stop.reason) and not asked:
                    asked = True
                    view.stopping(str(stop.reason), len(running))
                    for one in running:
                        one.handle.stop()
                for one, ended in _ended(running):
                    running.remove(one)
                    if _has_died(ended) and not asked and one.deaths < retries:
                        view.died(one.job, how(ended))
                        waiting.appendleft((one.job, one.deaths + 1))
                    else:
                        outcomes.append(_outcome(one, ended, asked))
                        view.ended(outcomes[-1])
                view.look(running)
                time.sleep(POLL_SECONDS)
    finally:
        for one in running:
            one.handle.kill()
    if asked or waiting or any(outcome.state == "stopped" for outcome in outcomes):
        return Finished(outcomes, stop.reason or "the time limit")
    return Finished(outcomes, None)


def how(ended: Ended) -> str:
    """How a process ended, in words."""
    if ended.status < 0:
        return f"killed by {signal.Signals(-ended.status).name}"
    if ended.status in BY_SIGNAL:
        return "stopped by a signal"
    return ended.told or f"ended with status {ended.status}"


def _started(job: Job, deaths: int, executor: Executor, view: View, deadline: float | None) -> Running:
    limit = [] if deadline is None else ["--time-limit", str(max(deadline - time.monotonic(), 1e-3) / 60)]
    running = Running(job, executor.start([*job.command(), *limit]), deaths)
    view.started(job)
    return running


def _ended(running: Iterable[Running]) -> list[tuple[Running, Ended]]:
    polled = [(one, one.handle.poll()) for one in running]
    return [(one, ended) for one, ended in polled if ended is not None]


def _is_signal(reason: str | None) -> bool:
    return reason in ("Ctrl-C", "SIGTERM")


def _has_died(ended: Ended) -> bool:
    """Whether a signal ended a process, of which nobody here asked it."""
    return ended.status < 0 or ended.status in BY_SIGNAL


def _outcome(one: Running, ended: Ended, asked: bool) -> Outcome:
    if ended.status == 0:
        return Outcome(one.job, "done" if one.job.is_done() else "stopped")
    if ended.status == REFUSED:
        return Outcome(one.job, "refused", ended.told)
    if asked and _has_died(ended):
        return Outcome(one.job, "stopped")
    times = f" {one.deaths + 1} times" if one.deaths else ""
    return Outcome(one.job, "failed", f"{how(ended)}{times}")
