"""What a person sees of many jobs: a live table of all of them, and a line for each that begins, dies or ends."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from nacre.runs.shown import Shown
from nacre.sweeps.engine import Running
from nacre.sweeps.job import Job, progress_of, score_of
from nacre.sweeps.source import Outcome

LOOK_SECONDS = 1.0
"""Between looks at the tables of runs."""
LINE_SECONDS = 60.0
"""Between lines about all jobs where there is no terminal."""
OTHER_LINES = 8
"""Of a terminal, that the table leaves free. Where all jobs do not fit, it shows those that are being done."""


class StderrView:
    """Tells it on stderr."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, soft_wrap=True)
        self._live = Progress(
            TextColumn("{task.description}"), TextColumn("{task.fields[state]}"), BarColumn(bar_width=24),
            TextColumn("{task.percentage:>5.1f}%"), TextColumn("{task.fields[numbers]}"), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(),
            console=self._console, disable=not self._console.is_terminal, refresh_per_second=1 / LOOK_SECONDS,
        )  # fmt: skip
        self._lines: dict[Path, TaskID] = {}
        self._scores: dict[Path, tuple[int, float | None]] = {}
        self._num_jobs = self._num_done = 0
        self._shared, self._show, self._keeps = os.getcwd(), Shown(), False
        self._all: TaskID | None = None
        self._last_look = self._last_line = time.monotonic()

    def __enter__(self) -> StderrView:
        self._show(self._live.start)
        return self

    def __exit__(self, *error: object) -> None:
        self._show(self._live.stop)

    def begun(self, jobs: Sequence[Job], num_jobs: int, num_done: int) -> None:
        """The jobs that are known, of how many, some of which were done before."""
        self._num_jobs, self._num_done = num_jobs, num_done
        if jobs:
            self._shared = os.path.commonpath([job.path.absolute().parent for job in jobs])
        before = f", {num_done} of them done before" if num_done else ""
        where = f" in {os.path.relpath(self._shared)}" if jobs else ""
        self._say(f"{num_jobs} run{'s' * (num_jobs != 1)}{where}{before}")
        self._keeps = num_jobs <= self._console.height - OTHER_LINES
        if self._keeps and not self._live.disable:
            for job in jobs:
                self._add(job, "done" if job.is_done() else "waiting", start=False)
        self._all = self._live.add_task(f"all {num_jobs}", total=num_jobs, completed=num_done, numbers="", state="")

    def started(self, job: Job) -> None:
        """A process does it from now on."""
        now = progress_of(job.path)
        place = f" at update {now.grad_steps}" if now.grad_steps else ""
        self._say(f"{self._name(job)} {'continues' if job.path.exists() else 'begins'}{place}")
        if job.path not in self._lines:
            self._add(job, "at work", start=True)
        else:
            self._live.reset(self._lines[job.path], completed=now.grad_steps, numbers="", state="at work")

    def held(self, job: Job) -> None:
        """A process that is not of this call trains its run, and is waited for."""
        self._say(f"{self._name(job)} is being trained by another process, which is waited for")

    def died(self, job: Job, told: str) -> None:
        """Its process died, and it is taken up again."""
        self._close(job, "died")
        self._say(f"{self._name(job)} was {told}; it resumes from its last checkpoint")

    def ended(self, outcome: Outcome) -> None:
        """No process will do it any more."""
        self._close(outcome.job, outcome.state)
        self._num_done += outcome.state == "done"
        if self._all is not None:
            self._live.advance(self._all)
        if outcome.state == "done":
            told = f"is done: {self._numbers(outcome.job)} ({self._num_done} of {self._num_jobs})"
        else:
            told = outcome.state + (f": {outcome.told}" if outcome.told else "")
        self._say(f"{self._name(outcome.job)} {told}")

    def stopping(self, reason: str, num_running: int) -> None:
        """All processes were asked to save a checkpoint and end."""
        self._say(f"{reason}: waiting for {num_running} run{'s' * (num_running > 1)} to save a checkpoint")

    def look(self, running: Sequence[Running]) -> None:
        """Time goes by."""
        now = time.monotonic()
        if self._live.disable:
            if now - self._last_line > LINE_SECONDS and running:
                self._last_line = now
                shares = (
                    f"{self._name(job)} {progress_of(job.path).grad_steps / job.total:.0%}" for job, *_ in running
                )
                self._say(f"{self._num_done} of {self._num_jobs} done; {', '.join(shares)}")
        elif now - self._last_look > LOOK_SECONDS:
            self._last_look = now
            for job, *_ in running:
                line, steps = self._lines[job.path], progress_of(job.path).grad_steps
                self._show(partial(self._live.update, line, completed=steps, numbers=self._numbers(job)))

    def _numbers(self, job: Job) -> str:
        """Counters and the score of the last evaluation, which is read anew when there is another."""
        file, now = job.path / "eval.csv", progress_of(job.path)
        size = file.stat().st_size if file.exists() else 0
        if self._scores.get(job.path, (0, None))[0] != size:
            self._scores[job.path] = (size, score_of(job.path))
        score = self._scores.get(job.path, (0, None))[1]
        told = "" if score is None else f"  test return {score:.4g}"
        return f"env steps {now.env_steps}  updates {now.grad_steps}{told}"

    def _add(self, job: Job, state: str, *, start: bool) -> None:
        self._lines[job.path] = self._live.add_task(
            self._name(job), total=job.total, completed=progress_of(job.path).grad_steps, numbers="", state=state,
            start=start,
        )  # fmt: skip

    def _close(self, job: Job, state: str) -> None:
        """The job's line says how it ended, or goes where there is no room for all."""
        line = self._lines.get(job.path)
        if line is None:
            return
        if self._keeps:
            self._live.update(line, completed=progress_of(job.path).grad_steps, state=state)
            self._live.stop_task(line)
        else:
            self._live.remove_task(self._lines.pop(job.path))

    def _name(self, job: Job) -> str:
        return os.path.relpath(job.path.absolute(), self._shared)

    def _say(self, text: str) -> None:
        self._show(lambda: self._console.print(text, markup=False))
