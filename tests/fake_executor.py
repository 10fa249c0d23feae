"""Executors that start no process, and a view that keeps what it was told."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from nacre.cli.main import main
from nacre.runs.directory import RunDirectory
from nacre.sweeps.engine import Running
from nacre.sweeps.executor import Ended
from nacre.sweeps.job import Job
from nacre.sweeps.source import Outcome

KILLED, DONE, REFUSED, FAULT = Ended(-9, ""), Ended(0, ""), Ended(2, "no such thing."), Ended(1, "ValueError: x")


class FakeHandle:
    """A command that ends as it was told to, when it is looked at for the second time."""

    looks_until_it_ends = 2

    def __init__(self, job: Job, ends: Ended):
        self.path, self.last, self.ends, self.looks, self.killed = job.path, str(job.total), ends, 0, False

    def poll(self) -> Ended | None:
        self.looks += 1
        if self.looks < self.looks_until_it_ends:
            return None
        saved = self.path / "checkpoints" / (self.last if self.ends is DONE else "0")
        saved.mkdir(parents=True, exist_ok=True)
        return self.ends

    def stop(self) -> None:
        self.ends = Ended(143, "")

    def kill(self) -> None:
        self.killed = True


class FakeExecutor:
    """Takes `places` commands at once; `ends`: how the commands of each run end, one after another."""

    def __init__(self, places: int, ends: dict[str, list[Ended]]):
        self.places, self.ends = places, ends
        self.started: list[list[str]] = []
        self.handles: list[FakeHandle] = []

    def is_free(self) -> bool:
        return sum(handle.looks < handle.looks_until_it_ends for handle in self.handles) < self.places

    def start(self, job: Job, flags: Sequence[str] = ()) -> FakeHandle:
        command, path, *rest = job.command()
        self.started.append([command, Path(path).name, *rest, *flags])
        self.handles.append(FakeHandle(job, self.ends.get(job.path.name, [DONE]).pop(0)))
        return self.handles[-1]


class CommandsHere(FakeExecutor):
    """Carries out commands that end well, at once and in this process; others leave a run without a checkpoint."""

    def start(self, job: Job, flags: Sequence[str] = ()) -> FakeHandle:
        handle = super().start(job, flags)
        if handle.ends is DONE:
            with suppress(FileNotFoundError):
                (job.path / "checkpoints" / "0").rmdir()  # what a handle leaves of a process that was killed
            assert main(job.command()) == 0
        elif not job.path.exists():
            RunDirectory.create(job.path, job.experiment)
        return handle


class Told:
    """A view that keeps what it was told."""

    def __init__(self, look: Callable[[], object] = lambda: None):
        self.lines: list[str] = []
        self._look, self.most = look, 0

    def begun(self, jobs: Sequence[Job], num_jobs: int, num_done: int) -> None:
        self.lines.append(f"{num_jobs} jobs, {num_done} done")

    def held(self, job: Job) -> None:
        self.lines.append(f"{job.path.name} held")

    def started(self, job: Job) -> None:
        self.lines.append(f"{job.path.name} started")

    def died(self, job: Job, told: str) -> None:
        self.lines.append(f"{job.path.name} {told}")

    def ended(self, outcome: Outcome) -> None:
        self.lines.append(f"{outcome.job.path.name} {outcome.state}")

    def stopping(self, reason: str, num_running: int) -> None:
        self.lines.append(f"{reason}, {num_running} running")

    def look(self, running: Sequence[Running]) -> None:
        self.most = max(self.most, len(running))
        self._look()
