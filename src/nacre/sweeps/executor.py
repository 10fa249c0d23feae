"""What does jobs: processes on this machine, or whatever else can start a command of nacre and tell how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from nacre.sweeps.job import Job

LOST = -1000
"""In place of an exit status: the machine that did the command is gone, or whoever knew of it."""


class Ended(NamedTuple):
    """How a command ended."""

    status: int  # its exit status, or minus the number of the signal that killed it
    told: str  # the last line that it wrote to stderr


class Handle(Protocol):
    """A command under way."""

    def poll(self) -> Ended | None:
        """How it ended; None while it continues."""

    def stop(self) -> None:
        """Asks it to save a checkpoint and end."""

    def kill(self) -> None:
        """Ends it at once, and waits until it has."""


class Executor(Protocol):
    """Where commands of nacre are carried out."""

    def is_free(self) -> bool:
        """Whether another command can be started now."""

    def start(self, job: Job, flags: Sequence[str] = ()) -> Handle:
        """Starts the command of nacre with which the job continues, with these flags besides."""
