"""Jobs on this machine: a process each on cores of its own, which does not outlive the process that started it."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise
from typing import IO

from nacre.errors import NacreError
from nacre.sweeps.driver_watch import VARIABLE
from nacre.sweeps.executor import Ended
from nacre.sweeps.job import Job

TAIL = 4_000
"""Bytes of what a command wrote to stderr that are looked at when it has ended."""


class LocalProcess:
    """A command in a process of its own."""

    def __init__(self, arguments: Sequence[str], cores: Sequence[int]):
        self._stderr: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by poll and kill)
        # stdin is a pipe that nobody writes to: it ends when this process does, and then the child stops. A session of
        # its own: Ctrl-C in a terminal is for this process, which asks the child to stop once.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "nacre", *arguments], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            stderr=self._stderr, env=os.environ | {VARIABLE: "1"}, start_new_session=True,
        )  # fmt: skip
        self._how: Ended | None = None
        if cores:
            with suppress(ProcessLookupError):  # it has ended already
                os.sched_setaffinity(self._process.pid, cores)  # before it has started any thread

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    def poll(self) -> Ended | None:
        """How it ended; None while it continues."""
        if self._how is None and self._process.poll() is not None:
            self._how = self._ended(self._process.wait())
        return self._how

    def stop(self) -> None:
        """Asks it to save a checkpoint and end."""
        self._process.terminate()

    def kill(self) -> None:
        """Ends it at once, and waits until it has."""
        self._process.kill()
        self._process.wait()
        self.poll()

    def _ended(self, status: int) -> Ended:
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._stderr.seek(max(self._stderr.seek(0, os.SEEK_END) - TAIL, 0))
        lines = self._stderr.read().decode(errors="replace").strip().splitlines()
        self._stderr.close()
        return Ended(status, lines[-1].removeprefix("nacre: ") if lines else "")


class LocalExecutor:
    """So many processes side by side, each on so many of the cores that this process may use; None: on its share."""

    def __init__(self, jobs: int, cores: int | None = None):
        if jobs < 1:
            raise NacreError(f"jobs is {jobs}, but must be at least 1; change --jobs.")
        self._cores = shared_out(available_cores(), jobs, cores)
        self._processes: list[LocalProcess | None] = [None] * jobs

    def is_free(self) -> bool:
        """Whether fewer processes than that are running."""
        return self._free() is not None

    def start(self, job: Job, flags: Sequence[str] = ()) -> LocalProcess:
        """Starts the job's command on cores that no other of these processes is kept to, if there are enough."""
        place = self._free()
        if place is None:
            raise RuntimeError("no place is free")
        process = LocalProcess([*job.command(), *flags], self._cores[place])
        self._processes[place] = process
        return process

    def _free(self) -> int | None:
        for place, process in enumerate(self._processes):
            if process is None or process.poll() is not None:
                return place
        return None


def available_cores() -> list[int]:
    """The numbers of the cores that this process may use; [] where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def shared_out(cores: Sequence[int], jobs: int, each: int | None = None) -> list[list[int]]:
    """Cores for each of so many jobs, neighbours together: `each`, or all shared out. Where there are too few, some
    jobs share some."""
    if not cores:
        return [[] for _ in range(jobs)]
    if each is not None:
        size = min(each, len(cores))
        return [[cores[(job * size + place) % len(cores)] for place in range(size)] for job in range(jobs)]
    if jobs >= len(cores):
        return [[cores[job % len(cores)]] for job in range(jobs)]
    edges = [job * len(cores) // jobs for job in range(jobs + 1)]
    return [list(cores[first:last]) for first, last in pairwise(edges)]
