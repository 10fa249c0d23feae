"""Jobs on a SLURM cluster, by submitit: they wait in its queue, and outlive the process that submitted them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from nacre.errors import NacreError, imported
from nacre.runs.files import reason_of, writing
from nacre.sweeps.executor import LOST, Ended
from nacre.sweeps.job import Job, command_for
from nacre.sweeps.local import LocalProcess

POLL_SECONDS = 0.5
LOOK_SECONDS = 5.0
"""Between questions to SLURM about a job of which its folder tells nothing."""
MOST_JOBS = 1000
"""In the queue at a time, unless another number is given."""
MOST_TIMEOUTS = 1000
"""How often a job that came to its time limit is queued again."""
STOPPED = 128 + signal.SIGTERM
WAITING = ("PENDING", "READY", "REQUEUED")


class Work:
    """What SLURM does: train or resume one run directory. A file asks it to end early, and another tells how it ended.

    On preemption and at the time limit, SLURM's or submitit's signal comes first: the run saves a checkpoint, and the
    job is queued again.
    """

    def __init__(self, path: Path, begin: Sequence[str], flags: Sequence[str], files: Path, folder: Path):
        """`files`: the name of the job's files, but for their endings; `folder`: where nacre was called."""
        self.path, self.begin, self.flags, self.files, self.folder = path, begin, flags, files, folder
        self._process: LocalProcess | None = None

    def __call__(self) -> None:
        os.chdir(self.folder)
        asked, stop = False, self.files.with_suffix(".stop")
        self._process = LocalProcess(command_for(self.path, self.begin, self.flags), [])
        while (ended := self._process.poll()) is None:
            if stop.exists() and not asked:
                asked = True
                self._process.stop()
            time.sleep(POLL_SECONDS)
        self._tell(ended)

    def checkpoint(self) -> Any:
        """Called by submitit before it queues the job again."""
        if self._process is not None:
            self._process.stop()
            while self._process.poll() is None:
                time.sleep(POLL_SECONDS)
        again = Work(self.path, self.begin, self.flags, self.files, self.folder)
        return import_submitit().helpers.DelayedSubmission(again)

    def _tell(self, ended: Ended) -> None:
        draft = self.files.with_suffix(".draft")
        draft.write_text(json.dumps(ended))
        draft.replace(self.files.with_suffix(".ended"))


class SlurmHandle:
    """A job in SLURM's queue, under way, or ended."""

    def __init__(self, job: Any, files: Path):
        self._job, self._files, self._looked = job, files, time.monotonic()
        self._how: Ended | None = None

    def poll(self) -> Ended | None:
        """How it ended; None while it continues or waits."""
        if self._how is None:
            self._how = self._told() or self._lost()
        return self._how

    def stop(self) -> None:
        """Asks it to save a checkpoint and end; takes it from the queue where it has not begun."""
        self._files.with_suffix(".stop").touch()
        if self._job.state in WAITING:
            self._job.cancel(check=False)
            self._how = Ended(STOPPED, "")

    def kill(self) -> None:
        """Leaves it to SLURM: the next call of the sweep finds it."""

    def _told(self) -> Ended | None:
        with suppress(OSError, ValueError):
            return Ended(*json.loads(self._files.with_suffix(".ended").read_text()))
        return None

    def _lost(self) -> Ended | None:
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return None
        self._looked = time.monotonic()
        if not self._job.done():
            return None
        return self._told() or Ended(LOST, f"SLURM ended it ({self._job.state}); see {self._files.parent}")


class SlurmExecutor:
    """Submits jobs, each of which asks for so many cores and GPUs of one machine."""

    def __init__(
        self, folder: Path, jobs: int | None, cores: int, gpus: float, settings: Mapping[str, Any],
        cluster: str | None = None,
    ):  # fmt: skip
        """`folder`: for submitit's files, seen by all machines; `settings`: submitit's, such as timeout_min;
        `cluster`: 'slurm' (default), or 'local' for processes on this machine."""
        self._submitit: Any = import_submitit()
        if gpus != int(gpus):
            raise NacreError(f"gpus is {gpus}, but SLURM gives whole ones; change --gpus.")
        self._folder, self._jobs = folder.absolute(), jobs or MOST_JOBS
        if cluster is None:
            _check_slurm()
        with writing(folder, "choose another place with --out"):
            folder.mkdir(parents=True, exist_ok=True)
        asked = {"cpus_per_task": cores, "timeout_min": 24 * 60, "name": "nacre"} | (
            {"gpus_per_node": int(gpus)} if gpus else {}
        )
        try:
            self._executor = self._submitit.AutoExecutor(
                str(self._folder), cluster=cluster or "slurm", slurm_max_num_timeout=MOST_TIMEOUTS
            )  # fmt: skip
            self._executor.update_parameters(**(asked | dict(settings)))
        except (Exception, AssertionError) as error:
            raise NacreError(f"[slurm] is not as submitit has it ({reason_of(error)}); correct it.") from error
        self._handles: list[SlurmHandle] = []

    def is_free(self) -> bool:
        """Whether fewer jobs than that are in the queue or under way."""
        self._handles = [handle for handle in self._handles if handle.poll() is None]
        return len(self._handles) < self._jobs

    def start(self, job: Job, flags: Sequence[str] = ()) -> SlurmHandle:
        """Submits the job, unless an earlier call did and it has not ended yet."""
        path = job.path.absolute()
        name = f"{hashlib.sha256(str(path).encode()).hexdigest()[:12]}-{path.name}"
        files = self._folder / name
        before = self._before(files)
        if before is not None:
            self._handles.append(SlurmHandle(before, files))
            return self._handles[-1]
        for ending in (".ended", ".stop"):
            files.with_suffix(ending).unlink(missing_ok=True)
        work = Work(path, job.begin, [*job.flags, *flags], files, Path.cwd())
        submitted = self._executor.submit(work)
        files.with_suffix(".job").write_text(submitted.job_id)
        self._handles.append(SlurmHandle(submitted, files))
        return self._handles[-1]

    def _before(self, files: Path) -> Any:
        """The job that an earlier call submitted for this run, where it still waits or runs."""
        if files.with_suffix(".ended").exists() or files.with_suffix(".stop").exists():
            return None
        with suppress(OSError):
            found = self._find(files.with_suffix(".job").read_text())
            return None if found is None or found.done() else found
        return None

    def _find(self, job_id: str) -> Any:
        """The job that SLURM knows by this number. Processes on this machine are known to who started them alone."""
        return self._submitit.SlurmJob(self._folder, job_id) if self._executor.cluster == "slurm" else None


def _check_slurm() -> None:
    import shutil

    if shutil.which("sbatch") is None:
        raise NacreError("there is no sbatch here; call --on slurm on a machine from which SLURM takes jobs.")


def import_submitit() -> Any:
    """Submitit, or a NacreError where it is not installed."""
    return imported("submitit", "submitit is not installed; install nacre with its extra: pip install 'nacre[slurm]'.")
