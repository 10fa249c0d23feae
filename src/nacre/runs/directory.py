"""The files of a run: config.json, tasks.json, metrics.csv, eval.csv, checkpoints/. It needs nothing else to go on."""

from __future__ import annotations

import csv
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nacre.errors import NacreError
from nacre.families.family import TASK_SET_VERSION, TaskSet, num_tasks, take
from nacre.runs.experiment import Experiment, from_json, to_json

if TYPE_CHECKING:
    from nacre.types import Tasks

EVAL_COLUMNS = ("env_steps", "grad_steps", "wall_seconds", "split", "task", "repeat", "episode", "return")
SUCCESS_COLUMNS = (*EVAL_COLUMNS[:-1], "success")
COUNTERS = ("env_steps", "grad_steps", "meta_iterations", "wall_seconds")


def default_path(algorithm: str, family: str, seed: int) -> Path:
    """Where a run goes when nothing else is said."""
    return Path("runs") / family / algorithm / f"seed-{seed}"


class RunDirectory:
    """One run on disk. Opening checks that it is one; every failure is a NacreError that says what to do."""

    def __init__(self, path: Path):
        self.path = path
        if not path.is_dir():
            raise NacreError(f"there is no run at {path}; check the path, or start one with 'nacre train'.")
        try:
            self.experiment = from_json((path / "config.json").read_text())
            self.tasks = tasks_from_json((path / "tasks.json").read_text(), self.experiment)
        except NacreError as error:
            raise NacreError(f"the run at {path} cannot be used: {error}") from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            raise NacreError(
                f"the run at {path} is damaged or not a run ({reason}); restore its config.json and tasks.json."
            ) from error

    @classmethod
    def create(cls, path: Path, experiment: Experiment) -> RunDirectory:
        """Makes a run directory, whole or not at all."""
        cls.check_free(path)
        tasks = experiment.draw_tasks()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
        except OSError as error:
            raise NacreError(f"cannot make {path} ({error.strerror}); choose another place with --out.") from error
        try:
            (draft / "config.json").write_text(to_json(experiment, versions()))
            (draft / "tasks.json").write_text(tasks_to_json(tasks))
            draft.chmod(0o755)
            draft.rename(path)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        return cls(path)

    @staticmethod
    def check_free(path: Path) -> None:
        """Raises NacreError where something stands already."""
        if path.exists() or path.is_symlink():
            raise NacreError(
                f"{path} exists; continue it with 'nacre resume {path}', or choose another place with --out."
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes sure that no other process trains this run meanwhile. The lock ends with the process."""
        import fcntl  # not on Windows, where everything but training works

        with (self.path / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise NacreError(
                    f"another process is training the run at {self.path}; wait for it or stop it."
                ) from error
            yield

    def record_resume(self, experiment: Experiment, grad_steps: int) -> None:
        """Rewrites config.json as a run goes on, with what may have changed in `experiment` and what resumes it."""
        before = json.loads((self.path / "config.json").read_text())
        resumed = [*before.get("resumed", []), {"grad_steps": grad_steps} | versions()]
        _replace(self.path / "config.json", to_json(experiment, before["versions"], resumed))
        self.experiment = experiment

    def append(self, file: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows to metrics.csv, eval.csv or success.csv, with the header first where the file is new."""
        path = self.path / file
        new = not path.exists()
        with path.open("a", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            if new:
                writer.writerow(columns)
            writer.writerows(rows)

    def cut_back(self, grad_steps: int) -> None:
        """Drops the rows that were logged after this update, and a last line that was not finished."""
        for file in ("metrics.csv", "eval.csv", "success.csv"):
            path = self.path / file
            if not path.exists():
                continue
            try:
                header, *rows = path.read_text().splitlines(keepends=True) or [""]
                if not rows:  # perhaps not even the header was finished
                    path.unlink()
                    continue
                rows = [row for row in rows if row.endswith("\n")]
                column = header.strip().split(",").index("grad_steps")
                kept = [row for row in rows if int(row.split(",")[column]) <= grad_steps]
            except (ValueError, IndexError) as error:
                raise NacreError(f"{path} is damaged ({error}); mend that row or move the file away.") from error
            _replace(path, "".join([header, *kept]))

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".new")
    draft.write_text(text)
    os.replace(draft, path)


def eval_rows(
    returns: np.ndarray, split: str, env_steps: int, grad_steps: int, wall_seconds: float
) -> Iterable[tuple[Any, ...]]:
    """The rows of eval.csv for returns[repeat, task, episode] (or success.csv); episodes count from 1."""
    for (repeat, task, episode), value in np.ndenumerate(returns):
        yield env_steps, grad_steps, f"{wall_seconds:.1f}", split, task, repeat, episode + 1, f"{value:.6g}"


def tasks_to_json(tasks: TaskSet) -> str:
    """The text of tasks.json: one object per task, in the order of the column `task` of eval.csv."""

    def listed(group: Tasks) -> list[dict[str, Any]]:
        return [{name: values.tolist() for name, values in take(group, i).items()} for i in range(num_tasks(group))]

    data = {
        "version": tasks.version,
        "task_seed": tasks.task_seed,
        "train": listed(tasks.train),
        "test": listed(tasks.test),
    }
    return json.dumps(data, indent=1)


def tasks_from_json(text: str, experiment: Experiment) -> TaskSet:
    """The task set of a tasks.json, checked against the experiment that it belongs to."""
    data = json.loads(text)
    if data["version"] != TASK_SET_VERSION:
        raise NacreError(
            f"tasks.json has version {data['version']}, not {TASK_SET_VERSION}; use the nacre that wrote it."
        )

    def gathered(split: str, number: int) -> Tasks:
        tasks = {}
        for name, size in experiment.family.parameters.items():
            values = np.array([task[name] for task in data[split]], dtype=np.float64)
            if values.shape != (number, size)[: 1 + (size > 0)] or not np.isfinite(values).all():
                raise ValueError(f"tasks.json does not hold {number} {split} tasks with a {name} each")
            tasks[name] = values
        return tasks

    train, test = (gathered(split, number) for split, number in experiment.num_tasks.items())
    return TaskSet(train, test, data["task_seed"], data["version"])


def versions() -> dict[str, str]:
    """What produced a run: versions of nacre and what it stands on, and the commit where there is one."""
    names = ("nacre", "jax", "jaxlib", "equinox", "optax", "orbax-checkpoint", "mujoco", "gymnasium", "numpy")
    found = {name: importlib.metadata.version(name) for name in names}
    found["python"] = platform.python_version()
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=10, check=True,
        ).stdout.strip()  # fmt: skip
        in_repository = (here.parent.parent / ".git").exists()
        found |= {"commit": commit} if in_repository else {}
    except (OSError, subprocess.SubprocessError):
        pass
    return found
