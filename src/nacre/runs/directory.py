"""The files of a run: config.json, tasks.json, metrics.csv, eval.csv, checkpoints/. It needs nothing else to resume."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nacre.errors import NacreError, imported
from nacre.families.family import TASK_SET_VERSION, TaskSet, num_tasks, take
from nacre.runs import tables
from nacre.runs.below import check_no_folder_of_runs
from nacre.runs.experiment import Experiment, from_json, to_json
from nacre.runs.files import locked, reading, reason_of, replace, writing

if TYPE_CHECKING:
    from nacre.types import Tasks


def default_path(algorithm: str, family: str, seed: int) -> Path:
    """Where a run goes when nothing else is said."""
    return Path("runs") / family / algorithm / f"seed-{seed}"


class RunDirectory:
    """One run on disk. Opening checks that it is one; every failure is a NacreError that says what to do."""

    def __init__(self, path: Path):
        self.path = path
        if not _is_directory(path):
            raise NacreError(f"there is no run at {path}; check the path, or start one with 'nacre train'.")
        check_no_folder_of_runs(path)
        try:
            text = (path / "config.json").read_text()
            self.experiment = from_json(text)
            self.started_from = _check_history(json.loads(text))
            self.tasks = tasks_from_json((path / "tasks.json").read_text(), self.experiment)
        except NacreError as error:
            raise NacreError(f"the run at {path} cannot be used: {error}") from error
        except PermissionError as error:
            raise NacreError(
                f"this user may not read {error.filename}; change its permissions, or ask its owner."
            ) from error
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise NacreError(
                f"the run at {path} is damaged or not a run ({reason}); restore its config.json and tasks.json."
            ) from error

    def __repr__(self) -> str:
        with suppress(OSError):
            steps = [int(entry.name) for entry in self.checkpoints.iterdir() if entry.name.isdecimal()]
            total = self.experiment.settings.num_updates
            return f"RunDirectory('{self.path}': {self.experiment}, saved at update {max(steps, default=0)} of {total})"
        return f"RunDirectory('{self.path}': {self.experiment}, not saved yet)"

    @classmethod
    def create(cls, path: Path, experiment: Experiment, started_from: dict[str, Any] | None = None) -> RunDirectory:
        """Makes a run directory, whole or not at all. `started_from`: what is recorded of another run's networks."""
        path = cls.check_free(path)
        tasks = experiment.draw_tasks()
        draft = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(prefix=f".{path.name[:40]}-", dir=path.parent))
            (draft / "config.json").write_text(to_json(experiment, versions(), started_from=started_from))
            (draft / "tasks.json").write_text(tasks_to_json(tasks))
            draft.chmod(0o755)
            draft.rename(path)
        except BaseException as error:
            if draft is not None:
                shutil.rmtree(draft, ignore_errors=True)
            if not isinstance(error, OSError):
                raise
            cls.check_free(path)  # perhaps another process was quicker
            raise NacreError(f"cannot make {path} ({reason_of(error)}); choose another place with --out.") from error
        return cls(path)

    @staticmethod
    def check_free(path: Path) -> Path:
        """The path, without '..'. Raises NacreError where something stands already, or nothing can."""
        try:
            path = path.resolve() if ".." in path.parts else path
            taken = path.exists() or path.is_symlink()
        except (OSError, ValueError) as error:
            raise NacreError(
                f"cannot make {str(path)[:200]} ({reason_of(error)}); choose another place with --out."
            ) from error
        if taken:
            raise NacreError(
                f"{path} exists; continue it with 'nacre resume {path}', choose another place with --out, or replace "
                "it with --overwrite."
            )
        return path

    @classmethod
    def check_place(cls, path: Path, *, overwrite: bool) -> None:
        """Raises NacreError where something stands; with `overwrite`, only if it is no run, or is being trained."""
        try:
            cls.check_free(path)
        except NacreError:
            if not overwrite:
                raise
            try:
                run = cls(path)
            except NacreError as error:
                raise NacreError(f"--overwrite removes nothing but runs: {error}") from error
            with run.locked():
                pass

    @contextmanager
    def unused(self) -> Iterator[None]:
        """While the run is renamed; refused where another process trains it."""
        with self.locked(), writing(self.path, "try again"):
            yield

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes sure that no other process trains this run meanwhile. The lock ends with the process."""
        refusal = f"another process is training the run at {self.path}; wait for it or stop it."
        with locked(self.path, refusal):
            yield

    def record_resume(self, experiment: Experiment, grad_steps: int) -> None:
        """Rewrites config.json as a run resumes, with what may have changed in `experiment` and what resumes it."""
        before = json.loads((self.path / "config.json").read_text())
        resumed = [*before.get("resumed", []), {"grad_steps": grad_steps} | versions()]
        text = to_json(experiment, before.get("versions", {}), resumed, self.started_from)
        replace(self.path / "config.json", text.encode())
        self.experiment = experiment

    def metrics(self, *, frame: bool = False) -> Any:
        """The columns of metrics.csv by name, as arrays [block of updates]; with `frame` as a pandas DataFrame.

        Counters are whole numbers; a metric that a block does not have is NaN. {} before the first block.
        """
        return _as_frame(self.path / "metrics.csv", frame)

    def evaluations(self, *, frame: bool = False) -> Any:
        """The columns of eval.csv by name, as arrays [episode of an evaluation]; with `frame` as a pandas DataFrame."""
        return _as_frame(self.path / "eval.csv", frame)

    def successes(self, *, frame: bool = False) -> Any:
        """The columns of success.csv by name, as `evaluations`; {} where the family does not tell of success."""
        return _as_frame(self.path / "success.csv", frame)

    def extra_metrics(self, *, frame: bool = False) -> Any:
        """The columns of extra.csv by name, as `metrics`: what `on_iteration` returned, a row for each number."""
        return _as_frame(self.path / "extra.csv", frame)

    def append(self, file: str, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """Adds rows to metrics.csv, eval.csv or success.csv, with the header first where the file is new."""
        tables.append(self.path / file, columns, rows)

    def cut_back(self, grad_steps: int) -> None:
        """Drops the rows that were logged after this update, and a last line that was not finished."""
        for file in tables.TABLES:
            tables.cut_back(self.path / file, grad_steps)

    def restore_tables(self, checkpoint: Path, grad_steps: int, num_updates: int) -> None:
        """Sets the tables to what they were at a checkpoint; says where rows had been lost since.

        A checkpoint of an earlier nacre has no copy of them: they are cut back, and a table that lacks rows is refused.
        """
        copies = checkpoint / "tables"
        if copies.is_dir():
            for file in tables.TABLES:
                tables.restore(self.path / file, copies / file)
            return
        evaluated = grad_steps - grad_steps % num_updates
        for file, last in (("metrics.csv", grad_steps), ("eval.csv", evaluated)):
            tables.check_complete(self.path / file, last)
        self.cut_back(grad_steps)

    @property
    def table_files(self) -> list[Path]:
        """The files of all tables that there may be."""
        return [self.path / file for file in tables.TABLES]

    @property
    def checkpoints(self) -> Path:
        """Where the checkpoints are."""
        return self.path / "checkpoints"


def _is_directory(path: Path) -> bool:
    try:
        with reading(path):
            return path.is_dir()
    except NacreError as error:  # no such name, a folder on the way that may not be entered
        raise NacreError(f"there is no run at {str(path)[:200]}: {error}") from error


def _check_history(data: dict[str, Any]) -> dict[str, Any] | None:
    """The parts of config.json that are no configuration: what began the run, and what resumed it.

    Returns the origin of its networks, where it started from another run's.
    """
    if not isinstance(data.get("versions", {}), dict) or not isinstance(data.get("resumed", []), list):
        raise TypeError("versions or resumed are not what they should be")
    origin = data.get("started_from")
    if origin is not None and not isinstance(origin, dict):
        raise TypeError("started_from is not what it should be")
    return origin


def _as_frame(file: Path, frame: bool) -> Any:
    columns = tables.read(file)
    if not frame:
        return columns
    pandas = imported("pandas", "pandas is not installed; install it, or ask for a dict of arrays (no frame=True).")
    return pandas.DataFrame(columns)


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
