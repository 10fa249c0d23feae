"""The step of a figure that trains a run on a data set, and evaluates its last checkpoint by several protocols."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import time
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nacre.deploy.records import recorded
from nacre.deploy.trained_agent import TrainedAgent, load
from nacre.errors import DivergedError, NacreError
from nacre.presets.trials import TrialSettings
from nacre.report.data_step import DataStep, is_there
from nacre.report.estimates import evaluation_steps, steps_per_second
from nacre.report.steps import Cost, Line, is_trained, run_cost, trained, training_job
from nacre.runs import checksums, files
from nacre.runs.experiment import Experiment, from_preset, resolve
from nacre.sweeps.job import Job

AGAIN = "give the same command again"


class Scored(NamedTuple):
    """What a run came to by one protocol; returns are means over repeats and test tasks."""

    line: Line
    seed: int
    data: str
    protocol: str
    grad_steps: int
    context_transitions: float  # that the agent had seen of a task before the scored episode, mean
    score: float  # NaN, as is the context: the agent diverged when it adapted
    normalised: float | None  # 0: random actions, 1: single-task soft actor-critic; None where these are not known
    lines: dict[str, float]  # what others earn in the same tasks, by the names of `logged_tasks.Lines`


@dataclass(frozen=True)
class ScoredRun:
    """Trains a run, from wherever it stands; then evaluates it by every protocol that it was not evaluated by yet."""

    line: Line
    preset: str
    seed: int
    path: Path
    protocols: tuple[str, ...]
    repeats: int
    data: DataStep
    quality: str = "mixed"

    @property
    def told(self) -> tuple[str, str, str]:
        return self.line.family, self.line.name, str(self.seed)

    @property
    def data_id(self) -> str:
        """The data set that it learns from, or has its tasks from."""
        return self.data.ids[self.quality]

    @functools.cached_property
    def experiment(self) -> Experiment:
        """The run's configuration, once its data set is there."""
        return resolve(self.line.algorithm, self.line.family, self.preset, seed=self.seed, **self._fields)

    @property
    def _fields(self) -> dict[str, Any]:
        """Changed from the preset."""
        return {"data": self.data_id} | dict(self.line.fields)

    def is_done(self) -> bool:
        if not is_there(self.data_id) or not is_trained(self.experiment, self.path):
            return False
        return not self._protocols_left()

    def cost(self) -> Cost:
        chosen = self._sketch()
        steps = sum(self.repeats * evaluation_steps(chosen, protocol) for protocol in self.protocols)
        cost = run_cost(chosen)
        return cost._replace(seconds=cost.seconds + steps / steps_per_second(chosen.family))

    def job(self) -> Job | None:
        if not is_there(self.data_id):
            return None
        return training_job(self.line, self.preset, self.experiment, self.path, self._fields)

    def work(self, deadline: float | None) -> str | None:
        if not is_trained(self.experiment, self.path):
            stopped_by = trained(self.experiment, self.path, deadline)
            if stopped_by is not None:
                return stopped_by
        agent = load(self.path)
        if agent.grad_steps != self.experiment.settings.num_updates:
            raise NacreError(f"the last checkpoint of {self.path} is damaged; resume with 'nacre resume {self.path}'.")
        for protocol in self._protocols_left():
            if deadline is not None and time.monotonic() >= deadline:
                return "the time limit"
            record = self._evaluated(agent, protocol)
            files.replace(self.record_of(protocol), json.dumps(record).encode(), AGAIN)
        return None

    def record_of(self, protocol: str) -> Path:
        """The file of an evaluation."""
        return self.path.with_name(f"{self.path.name}-{protocol.replace(':', '-')}.json")

    def scores(self) -> list[Scored]:
        """What the evaluations that there are came to."""
        records = {protocol: self._record(protocol) for protocol in self.protocols}
        return [self._scored(protocol, told) for protocol, told in records.items() if told is not None]

    def _sketch(self) -> Experiment:
        """The configuration as far as it is known without the data set: for estimates."""
        chosen = from_preset(
            self.line.algorithm, self.line.family, self.preset, seed=self.seed, **dict(self.line.fields)
        )
        there = self.data.num_tasks
        train = min(self.line.fields.get("num_train_tasks", there["train"]), there["train"])
        settings = dataclasses.replace(chosen.settings, num_train_tasks=train, num_test_tasks=there["test"])
        return dataclasses.replace(chosen, settings=settings)

    def _protocols_left(self) -> list[str]:
        return [protocol for protocol in self.protocols if self._record(protocol) is None]

    def _identity(self) -> dict[str, Any]:
        """What an evaluation's file must say to be of this run as it is."""
        return {
            "grad_steps": self.experiment.settings.num_updates, "data": self.data_id,
            "data_hash": self.experiment.data_hash, "repeats": self.repeats, "checkpoint": self._checkpoint(),
        }  # fmt: skip

    def _checkpoint(self) -> str:
        """Which one this is of all that a run may have had at its last update: by what its files hold."""
        listed = self.path / "checkpoints" / str(self.experiment.settings.num_updates) / checksums.FILE
        with files.reading(listed):
            return hashlib.sha256(listed.read_bytes()).hexdigest()[:16] if listed.is_file() else ""

    def _record(self, protocol: str) -> dict[str, Any] | None:
        """The evaluation; None where there is none of this run as it is."""
        file = self.record_of(protocol)
        if not file.is_file():
            return None
        with files.reading(file):
            text = file.read_text()
        try:
            told: dict[str, Any] = json.loads(text)
            if all(told.get(name) == value for name, value in self._identity().items()):
                self._scored(protocol, told)
                return told
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise NacreError(f"{file} is damaged; remove it, and {AGAIN}.") from error
        return None

    def _evaluated(self, agent: TrainedAgent, protocol: str) -> dict[str, Any]:
        """What an evaluation comes to; that an agent diverges is an outcome too."""
        try:
            evaluation, tasks = agent.evaluation("test", repeats=self.repeats, protocol=protocol)
        except DivergedError as error:
            return {"diverged": str(error)} | self._identity()
        trials = TrialSettings.of(agent.experiment.settings, protocol)
        return recorded(evaluation, tasks, trials, agent.lines()) | self._identity()

    def _scored(self, protocol: str, told: dict[str, Any]) -> Scored:
        if "diverged" in told:
            return Scored(self.line, self.seed, told["data"], protocol, int(told["grad_steps"]), nan, nan, None, {})
        lines = {name: float(np.mean(values)) for name, values in told.get("lines", {}).items()}
        normalised = told.get("normalised_score")
        return Scored(
            self.line, self.seed, told["data"], protocol, int(told["grad_steps"]),
            float(np.mean(told["context_transitions"])), float(told["score"]),
            None if normalised is None else float(normalised), lines,
        )  # fmt: skip
