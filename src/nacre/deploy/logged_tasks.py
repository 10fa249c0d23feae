"""The tasks of a data set that a trained agent is tested on: whose contexts it gets, and returns to compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nacre.algorithms.registry import ALGORITHMS
from nacre.errors import NacreError
from nacre.families.family import Family, num_tasks, take, task_text
from nacre.presets.trials import TrialSettings
from nacre.runs.experiment import Experiment, changes
from nacre.types import Tasks

if TYPE_CHECKING:
    from nacre.data.dataset import DataSet

NEAR = 0.005
"""How far a number of a task may be from the data set's, relative where that is above 1: tables show three digits."""


def opened(data: DataSet | str | Path | None, experiment: Experiment) -> DataSet | None:
    """The data set given by its id, its path or itself, else the run's own; None where it has none.

    Raises NacreError for a data set of another family.
    """
    if data is None:
        return experiment.open_data() if experiment.options.data else None
    if isinstance(data, str | Path):
        from nacre.data.dataset import open_data_set  # slow to import

        data = open_data_set(data)
    _check_family(data, experiment.family)
    return data


def check_wanted(data: DataSet | str | Path | None, trials: TrialSettings) -> None:
    """Raises NacreError for a data set that was named for trials in one task whose protocol gives nothing of it."""
    if data is not None and trials.meets.logs is None:
        raise NacreError(
            f"protocol {trials.protocol} gives the agent no logged transitions, so the data set would not be used; "
            "leave out --data, or set --protocol offline-own-context."
        )


def _check_family(data: DataSet, family: Family) -> None:
    if data.family.name != family.name:
        raise NacreError(
            f"the data set {data.id} is of {data.family.name}, but the agent is of {family.name}; choose a data set of "
            f"{family.name}."
        )
    differing = changes(data.family, family)
    if differing:
        raise NacreError(
            f"the data set {data.id} was collected with another {min(differing)} than the agent was trained with "
            f"({getattr(data.family, min(differing))!r}, not {differing[min(differing)]!r}); choose another data set."
        )


def tasks_of(data: DataSet, which: str) -> Tasks:
    """A data set's 'test' or 'train' tasks. Raises NacreError for others, and where it has none of these."""
    if which not in ("test", "train"):
        raise NacreError(f"the data set {data.id} has no tasks '{which}'; choose --tasks test or --tasks train.")
    chosen = data.tasks(which)
    if num_tasks(chosen) == 0:
        raise NacreError(
            f"the data set {data.id} has no {which} tasks; choose --tasks {'train' if which == 'test' else 'test'}, or "
            "another data set."
        )
    return chosen


def find(data: DataSet, tasks: Tasks) -> tuple[str, list[int]]:
    """In which split of a data set these tasks are, and their numbers there.

    Raises NacreError where one is neither among its test nor among its train tasks.
    """
    for split in ("test", "train"):
        numbers = [_nearest(data.tasks(split), tasks, lane) for lane in range(num_tasks(tasks))]
        if None not in numbers:
            return split, [number for number in numbers if number is not None]
    raise NacreError(
        f"the data set {data.id} has no logged transitions of the task {task_text(tasks)[:80]}; choose one of its "
        "tasks, as 'nacre evaluate --json' tells them."
    )


def check_logged(which: str, trials: TrialSettings, instead: str) -> None:
    """Raises NacreError where nothing is logged of 'test', 'train' or other tasks for such trials; `instead` is what to
    choose."""
    if which not in ("test", "train") or (which, trials.meets.logs) == ("train", "other"):
        raise NacreError(f"nothing was logged of '{which}' tasks for protocol {trials.protocol}; choose {instead}.")


def _nearest(known: Tasks, tasks: Tasks, lane: int) -> int | None:
    """The number of the known task that is this one, if any."""
    if num_tasks(known) == 0:
        return None
    distance = np.zeros(num_tasks(known))
    for name, values in known.items():
        gap = np.abs(values - tasks[name][lane]) / np.maximum(np.abs(values), 1.0)
        distance = np.maximum(distance, gap.reshape(len(distance), -1).max(axis=1))
    nearest = int(np.argmin(distance))
    return nearest if distance[nearest] <= NEAR else None


def num_shared(tasks: Tasks, others: Tasks) -> int:
    """How many of these tasks are among the others."""

    def rows(of: Tasks) -> np.ndarray:
        return np.concatenate([of[name].reshape(num_tasks(of), -1) for name in sorted(of)], axis=1)

    return int((rows(tasks)[:, None] == rows(others)[None]).all(axis=-1).any(axis=1).sum())


ALONE = "single-task SAC"


class Lines(NamedTuple):
    """What others earn in the tasks of an evaluation, each [task]; None where that is not known."""

    random: np.ndarray | None  # random actions
    reference: np.ndarray | None  # best checkpoint of what made the data: soft actor-critic that trained on the task
    data_mean: np.ndarray | None  # the data set's own episodes in the task
    data_best: np.ndarray | None
    reference_name: str = ALONE
    """'data oracle' where the policies of the data set are an oracle's: then its best checkpoint is the reference."""
    beside: Mapping[str, np.ndarray] = MappingProxyType({})
    """Other runs by name: their scored episodes, mean over trials."""

    def named(self) -> dict[str, np.ndarray]:
        """Those that are known, by the names that tables have for them."""
        names = ("random", self.reference_name, "data mean", "data best")
        known = {name: values for name, values in zip(names, self[:4], strict=True) if values is not None}
        return {**known, **self.beside}

    def normalised_means(self) -> dict[str, float]:
        """The normalised score of every line but the two that make the scale, where there is one."""
        means = {}
        for name, values in self.named().items():
            known = [value for value in self.normalised(values) if value is not None]
            if known and name not in ("random", self.reference_name):
                means[name] = float(np.mean(known))
        return means

    def normalised(self, scores: np.ndarray) -> list[float | None]:
        """Scores [task] on each task's scale: random actions are 0, the reference is 1.

        None where one of them is not known, or the reference is not the better one.
        """
        if self.random is None or self.reference is None:
            return [None] * len(scores)
        width = self.reference - self.random
        return [
            float((score - low) / wide) if wide > 0 else None
            for score, low, wide in zip(scores, self.random, width, strict=True)
        ]


def lines(data: DataSet, split: str, tasks: Tasks) -> Lines:
    """What is known of these tasks: those that a split begins with, or others of the data set.

    Raises NacreError where one is not in the data set.
    """
    rows = list(range(num_tasks(tasks)))
    first = take(data.tasks(split), np.arange(min(num_tasks(data.tasks(split)), num_tasks(tasks))))
    if not all(np.array_equal(first[name], values) for name, values in tasks.items()):
        split, rows = find(data, tasks)  # the one task of a single-task oracle

    def of(values: dict[str, Any], name: str) -> np.ndarray | None:
        found: Sequence[float] = values.get(name, ())
        return np.asarray(found, np.float64)[rows] if len(found) > max(rows) else None

    references, statistics = data.references.get(split, {}), dict(data.statistics.get(split, {}))
    episodes = of(statistics, "episodes")
    if episodes is None or 0 in episodes:
        statistics = {}
    return Lines(
        of(references, "random"), of(references, "reference"),
        of(statistics, "return_mean"), of(statistics, "return_max"), _reference_name(data.recipe),
    )  # fmt: skip


def _reference_name(recipe: Mapping[str, Any]) -> str:
    algorithm = recipe.get("algorithm")
    return f"data {algorithm}" if algorithm in ALGORITHMS else ALONE
