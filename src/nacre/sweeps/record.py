"""jobs.csv of a sweep: a row a job, what is tried in it and how far it has come. Rewritten as jobs begin and end."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nacre.errors import NacreError
from nacre.runs.files import notice, replace
from nacre.sweeps.engine import Running, View
from nacre.sweeps.job import Job, progress_of, saved_at, score_of
from nacre.sweeps.source import Outcome

FILE = "jobs.csv"
COLUMNS = ("job", "state", "score", "updates", "of", "env_steps", "algorithm", "family", "preset", "seed")


def state_of(job: Job) -> str:
    """How a job stands, as its run directory tells it: done, being trained, stopped, or waiting to begin."""
    if job.is_done():
        return "done"
    if job.is_held():
        return "at work"
    return "waiting" if saved_at(job.path) is None else "stopped"


def row_of(job: Job, values: Mapping[str, Any], state: str, told: str = "") -> dict[str, Any]:
    """A row of the table; `values`: of the fields that differ in the sweep."""
    experiment, progress = job.experiment, progress_of(job.path)
    names = (experiment.algorithm_name, experiment.family.name, experiment.preset, experiment.options.seed)
    known = (
        "/".join(job.path.parts[-2:]),
        state,
        score_of(job.path),
        progress.grad_steps,
        job.total,
        progress.env_steps,
        *names,
    )
    row = dict(zip(COLUMNS, known, strict=True))
    return row | {name: value for name, value in values.items() if name not in row} | {"path": job.path, "told": told}


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """The table as text; a column that some rows lack is empty there."""
    text = io.StringIO()
    columns = list(dict.fromkeys(name for row in rows for name in row if name not in ("path", "told")))
    writer = csv.DictWriter(text, [*columns, "path", "told"], lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if value is None else value for name, value in row.items()} for row in rows)
    return text.getvalue()


class Recorded:
    """A view that shows everything to another one, and keeps jobs.csv."""

    def __init__(self, view: View, folder: Path, values: Mapping[Path, Mapping[str, Any]]):
        """`values`: of each job, by its path; may grow."""
        self._view, self._file, self._values = view, folder / FILE, values
        self._rows: dict[Path, dict[str, Any]] = {}
        self._is_behind = False  # could not be written the last time, of which a notice tells

    def begun(self, jobs: Sequence[Job], num_jobs: int, num_done: int) -> None:
        """The jobs that are known, of how many, some of which were done before."""
        for job in jobs:
            self._set(job, state_of(job))
        self._view.begun(jobs, num_jobs, num_done)
        self._write("give the same command again")

    def started(self, job: Job) -> None:
        """A process does it from now on."""
        self._view.started(job)
        self._update(job, "at work")

    def died(self, job: Job, told: str) -> None:
        """Its process died, and it is taken up again."""
        self._view.died(job, told)
        self._update(job, "waiting", told)

    def held(self, job: Job) -> None:
        """A process that is not of this call trains its run, and is waited for."""
        self._view.held(job)
        self._update(job, "at work")

    def ended(self, outcome: Outcome) -> None:
        """No process will do it any more."""
        self._view.ended(outcome)
        self._update(outcome.job, outcome.state, outcome.told)

    def stopping(self, reason: str, num_running: int) -> None:
        """All processes were asked to save a checkpoint and end."""
        self._view.stopping(reason, num_running)

    def look(self, running: Sequence[Running]) -> None:
        """Time goes by."""
        self._view.look(running)

    def _set(self, job: Job, state: str, told: str = "") -> None:
        self._rows[job.path] = row_of(job, self._values.get(job.path, {}), state, told)

    def _update(self, job: Job, state: str, told: str = "") -> None:
        self._set(job, state, told)
        try:
            self._write("wait: the sweep continues, and tries again when a job begins or ends")
        except NacreError as error:  # jobs are at work, and need no table
            if not self._is_behind:
                notice(str(error))
            self._is_behind = True
        else:
            self._is_behind = False

    def _write(self, then: str) -> None:
        replace(self._file, as_csv(list(self._rows.values())).encode(), then)
