"""The data set of an offline method's run: the logs that it learns from, and those that it is tested with."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from nacre.data import contexts
from nacre.learning.offline import Logs, placed
from nacre.presets.offline import OfflineSettings
from nacre.presets.trials import TrialSettings
from nacre.runs.experiment import Experiment
from nacre.runs.files import notice
from nacre.runs.memory import memory_limit
from nacre.types import Key, Logged

if TYPE_CHECKING:
    from nacre.data.dataset import DataSet

SHARE_OF_MEMORY = 0.25
"""Logs that take a larger share of the memory stay in their file and are read from it a block of updates at a time."""


class RunData:
    """A run's data set whose logs, once opened and their checksums compared, stay open while the run is trained."""

    def __init__(self, data: DataSet):
        self.family = data.family
        self.logs = functools.cache(data.logs)


def opened(experiment: Experiment) -> RunData | None:
    """The run's data set; None where it has none. Raises NacreError where it lacks what the run's trials need."""
    data = RunData(experiment.open_data()) if experiment.options.data else None
    contexts.check(data, TrialSettings.of(experiment.settings))
    return data


def tell_of_tasks(experiment: Experiment) -> None:
    """A notice where a data set gives a run its tasks, and is not what it learns from."""
    if experiment.options.data and not experiment.algorithm.offline:
        notice(f"{experiment.algorithm_name} takes only the tasks of {experiment.options.data}, and learns online.")


def train_logs(experiment: Experiment, data: RunData) -> Logs:
    """The logs of the run's train tasks, in memory where there is room."""
    settings = experiment.settings
    assert isinstance(settings, OfflineSettings)  # seen to when the method was registered
    logs, number = data.logs("train", settings.discount), settings.num_train_tasks
    logs = logs._replace(first_row=logs.first_row[:number], num_rows=logs.num_rows[:number])
    return placed(logs, int(SHARE_OF_MEMORY * memory_limit()))


def context_logs(data: RunData | None, trials: TrialSettings, split: str, num_tasks: int, key: Key) -> Logged | None:
    """What agents absorb before the trials of an evaluation on 'train' or 'test' tasks; `key` [seed] is its key."""
    return contexts.for_trials(data, trials, split, np.arange(num_tasks), key)
