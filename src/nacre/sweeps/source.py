"""Where jobs come from: a list of them, or whoever decides on the next one by what became of others."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal, NamedTuple, Protocol

from nacre.sweeps.job import Job

State = Literal["done", "pruned", "stopped", "refused", "failed"]


class Outcome(NamedTuple):
    """What became of a job.

    done: its run is complete. pruned: it was stopped for good, since others score higher. stopped: the same call goes
    on. refused: a sentence says why. failed: its processes died, or a fault.
    """

    job: Job
    state: State
    told: str = ""


class Source(Protocol):
    """Jobs, one after another."""

    known: list[Job]  # those that are known in advance
    total: int  # how many there will be, those done before among them
    before: list[Outcome]  # of jobs that are done already

    def has_more(self) -> bool:
        """Whether there are jobs left to take."""

    def take(self) -> Job | None:
        """The next one, if `has_more`; None where it depends on jobs that are still being done."""

    def gives_up(self, job: Job) -> bool:
        """Whether a job that is being done is to be stopped for good. Asked ten times a second."""

    def ended(self, outcome: Outcome) -> None:
        """What became of a job."""


class Listed:
    """Jobs that are known in advance."""

    def __init__(self, jobs: Sequence[Job]):
        self.known, self.total = list(jobs), len(jobs)
        self.before = [Outcome(job, "done") for job in jobs if job.is_done()]
        done = {outcome.job.path for outcome in self.before}
        self._waiting = deque(job for job in jobs if job.path not in done)

    def has_more(self) -> bool:
        """Whether there are jobs left to take."""
        return bool(self._waiting)

    def take(self) -> Job | None:
        """The next one."""
        return self._waiting.popleft()

    def gives_up(self, job: Job) -> bool:
        """Never."""
        return False

    def ended(self, outcome: Outcome) -> None:
        """What became of a job, which changes nothing here."""
