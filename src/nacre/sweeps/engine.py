"""Many jobs side by side: starts them, takes up again what died, and leaves none behind."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from nacre.runs.stopping import StopRequest
from nacre.sweeps.executor import LOST, Ended, Executor, Handle
from nacre.sweeps.job import Job
from nacre.sweeps.source import Outcome, Source

RETRIES = 2
"""How often a job whose process died is taken up again."""
POLL_SECONDS = 0.1
REFUSED = 2
"""Exit status of a command that could not do what was asked, and said why."""
BY_SIGNAL = {128 + signal.SIGINT, 128 + signal.SIGTERM}
"""Exit statuses of a command that saved a checkpoint when a signal asked it to stop."""

HELD_SECONDS = 1.0
"""Between looks at runs that other processes train, which are waited for."""


class Running(NamedTuple):
    """A job that is being done."""

    job: Job
    handle: Handle
    deaths: int  # of processes before this one
    given_up: bool = False  # the source asked it to stop for good


class View(Protocol):
    """Who is shown what happens."""

    def begun(self, jobs: Sequence[Job], num_jobs: int, num_done: int) -> None:
        """The jobs that are known, of how many, some of which were done before."""

    def started(self, job: Job) -> None:
        """A process does it from now on."""

    def died(self, job: Job, told: str) -> None:
        """Its process died, and it is taken up again."""

    def held(self, job: Job) -> None:
        """A process that is not of this call trains its run, and is waited for."""

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
    source: Source, executor: Executor, view: View, *, time_limit: float | None = None, retries: int = RETRIES
) -> Finished:
    """Does all jobs of the source that are not done, in their order, as many at a time as the executor takes.

    `time_limit` in minutes, for everything. The first Ctrl-C or SIGTERM asks all processes to save a checkpoint and
    end, and waits for them; a second ends them at once. However this function is left, none of its processes continues,
    except where the executor leaves them to a cluster.
    """
    stop = StopRequest(time_limit)
    deadline = None if time_limit is None else time.monotonic() + 60 * time_limit
    outcomes = list(source.before)
    queue = _Queue(source, view)
    running: list[Running] = []
    asked = False

    def end(outcome: Outcome) -> None:
        outcomes.append(outcome)
        source.ended(outcome)
        view.ended(outcome)

    view.begun(source.known, source.total, len(outcomes))
    try:
        with stop.listening():
            while running or (queue.waits() and stop.reason is None):
                if _is_signal(stop.reason) and not asked:
                    asked = True
                    view.stopping(str(stop.reason), len(running))
                    for one in running:
                        one.handle.stop()
                for one, ended in _ended(running):
                    running.remove(one)
                    if _has_died(ended) and not asked and not one.given_up and one.deaths < retries:
                        view.died(one.job, how(ended))
                        queue.again(one.job, one.deaths + 1)
                    else:
                        end(_outcome(one, ended, asked))
                # A source that chooses the next job is told first how others ended: one may have ended just now.
                while stop.reason is None and executor.is_free() and not _ended(running):
                    if (taken := queue.next()) is None:
                        break
                    if taken[0].is_done():  # by the process that was waited for
                        end(Outcome(taken[0], "done"))
                    else:
                        running.append(_started(*taken, executor, view, deadline))
                running = [_given_up(one) if source.gives_up(one.job) else one for one in running]
                view.look(running)
                time.sleep(POLL_SECONDS)
    finally:
        for one in running:
            one.handle.kill()
    if asked or queue.waits() or any(outcome.state == "stopped" for outcome in outcomes):
        return Finished(outcomes, stop.reason or "the time limit")
    return Finished(outcomes, None)


class _Queue:
    """What is to be started next: jobs whose process died, those that were waited for, and then new ones."""

    def __init__(self, source: Source, view: View):
        self._source, self._view = source, view
        self._again: deque[tuple[Job, int]] = deque()
        self._held: deque[tuple[Job, int]] = deque()
        self._looked = 0.0

    def waits(self) -> bool:
        """Whether there are jobs left to start."""
        return bool(self._again or self._held) or self._source.has_more()

    def again(self, job: Job, deaths: int) -> None:
        """The job is the next one."""
        self._again.appendleft((job, deaths))

    def next(self) -> tuple[Job, int] | None:
        """A job and how often its process has died; None where none can be started now."""
        while self._again or self._source.has_more():
            if self._again:
                taken = self._again.popleft()
            else:
                job = self._source.take()
                if job is None:
                    break
                taken = job, 0
            if not taken[0].is_held():
                return taken
            self._view.held(taken[0])
            self._held.append(taken)
        if self._held and time.monotonic() - self._looked > HELD_SECONDS:
            self._looked = time.monotonic()
            for taken in self._held:
                if not taken[0].is_held():
                    self._held.remove(taken)
                    return taken
        return None


def how(ended: Ended) -> str:
    """How a process ended, in words."""
    if ended.status == LOST:
        return f"lost: {ended.told}"
    if ended.status < 0:
        return f"killed by {signal.Signals(-ended.status).name}"
    if ended.status in BY_SIGNAL:
        return "stopped by a signal"
    return ended.told or f"ended with status {ended.status}"


def _started(job: Job, deaths: int, executor: Executor, view: View, deadline: float | None) -> Running:
    limit = [] if deadline is None else ["--time-limit", str(max(deadline - time.monotonic(), 1e-3) / 60)]
    running = Running(job, executor.start(job, limit), deaths)
    view.started(job)
    return running


def _given_up(one: Running) -> Running:
    if not one.given_up:
        one.handle.stop()
    return one._replace(given_up=True)


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
    if one.given_up and _has_died(ended):
        return Outcome(one.job, "pruned")
    if ended.status == REFUSED:
        return Outcome(one.job, "refused", ended.told)
    if asked and _has_died(ended):
        return Outcome(one.job, "stopped")
    times = f" {one.deaths + 1} times" if one.deaths else ""
    return Outcome(one.job, "failed", f"{how(ended)}{times}")
