"""Where a run's numbers go besides its tables: TensorBoard, Weights & Biases, and sinks of installed packages."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from nacre.errors import imported, unknown
from nacre.families import plugins
from nacre.runs.directory import RunDirectory

ENTRY_POINTS = "nacre.sinks"
"""The group in which installed packages offer sinks: a name, and what makes one of a RunDirectory."""
VARIABLE = "NACRE_SINKS"
"""Environment variable: the names of those that runs log to, with commas between."""
FLUSH_SECONDS = 60.0
"""Seconds after which TensorBoard's file is brought to disk, for who watches; it is before every checkpoint too."""


class Sink(Protocol):
    """What a run reports to. Whatever it raises is told once; the run continues without it."""

    def log(self, values: Mapping[str, float], grad_steps: int, env_steps: int) -> None:
        """Numbers by name, such as update/kl or test/return_episode_2, after so many gradient and environment steps.

        A run that resumes after a kill reports again what it had reported since its last checkpoint.
        """

    def flush(self) -> None:
        """A checkpoint follows: what was logged is not reported again."""

    def close(self) -> None:
        """The run is done, or stopped; another process may resume it."""


def wanted() -> list[str]:
    """The names in the environment variable. NacreError for one that no installed package offers."""
    names = [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]
    for name in names:
        known = plugins.entry_points(ENTRY_POINTS)
        if name not in known:
            raise unknown(f"sink in {VARIABLE}", name, known, "install the package that offers it.")
    return names


def check(wandb: bool) -> None:
    """Raises NacreError where a sink that was asked for cannot be begun, before anything is made."""
    if wandb:
        import_wandb()
    for name in wanted():
        plugins.load_entry_point(ENTRY_POINTS, name)


def starters(run: RunDirectory, grad_steps: int, wandb: bool) -> dict[str, Callable[[], Sink]]:
    """How each sink of the run is begun, by its name. `grad_steps`: where the run resumes."""
    found: dict[str, Callable[[], Sink]] = {
        "TensorBoard": lambda: TensorBoard(run.path / "tensorboard", grad_steps + 1)
    }
    if wandb:
        found["Weights & Biases"] = lambda: Wandb(run)
    for name in wanted():
        make = plugins.load_entry_point(ENTRY_POINTS, name)
        found[name] = lambda make=make: make(run)  # type: ignore[misc]
    return found


class TensorBoard:
    """Scalars in TensorBoard's file format, written by this thread: nothing to wait for, whatever the clock does."""

    def __init__(self, folder: Path, purge_step: int):
        """Points at `purge_step` and after, which are in files before, are not shown: a run writes them again."""
        from tensorboardX import summary
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto import event_pb2

        self._event, self._scalar = event_pb2.Event, summary.scalar
        folder.mkdir(exist_ok=True)
        number = len(list(folder.iterdir()))  # two files may begin in one second
        self._writer = EventsWriter(str(folder / "events"), f".{number}")
        start = event_pb2.SessionLog(status=event_pb2.SessionLog.START)
        for what in ({"file_version": "brain.Event:2"}, {"session_log": start}):
            self._writer.write_event(self._event(step=purge_step, wall_time=time.time(), **what))
        self.flush()

    def log(self, values: Mapping[str, float], grad_steps: int, env_steps: int) -> None:
        """One point of each, against gradient steps."""
        for name, value in values.items():
            self._writer.write_event(
                self._event(step=grad_steps, wall_time=time.time(), summary=self._scalar(name, value))
            )
        if time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """To the disk."""
        self._writer.flush()
        self._flushed = time.monotonic()

    def close(self) -> None:
        """Flushes for the last time."""
        self._writer.close()


class Wandb:
    """A run at Weights & Biases."""

    def __init__(self, run: RunDirectory):
        self._run = start_wandb(run)

    def log(self, values: Mapping[str, float], grad_steps: int, env_steps: int) -> None:
        """A row."""
        self._run.log(dict(values) | {"env_steps": env_steps}, step=grad_steps)

    def flush(self) -> None:
        """Nothing: what was logged is on its way."""

    def close(self) -> None:
        """Ends the run there, until it is resumed."""
        self._run.finish()


def import_wandb() -> Any:
    """The module of Weights & Biases, or a NacreError where it is not installed."""
    return imported(
        "wandb", "Weights & Biases is not installed; install nacre with its extra: pip install 'nacre[wandb]'."
    )


def start_wandb(run: RunDirectory) -> Any:
    """Begins the run at Weights & Biases, or resumes it: its id is kept in the run directory, in wandb-id."""
    experiment, file = run.experiment, run.path / "wandb-id"
    before = file.read_text().strip() if file.exists() else None
    started = import_wandb().init(
        project="nacre", name=str(run.path), dir=str(run.path), id=before, resume="allow",
        reinit="create_new",  # seeds side by side are a run each
        config={"algorithm": experiment.algorithm_name, "family": experiment.family.name, "preset": experiment.preset}
        | dataclasses.asdict(experiment.family)
        | dataclasses.asdict(experiment.settings)
        | dataclasses.asdict(experiment.options),
    )  # fmt: skip
    file.write_text(f"{started.id}\n")
    return started
