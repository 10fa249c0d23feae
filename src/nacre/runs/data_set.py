"""The data set of an offline method's run: the logs that it learns from, and those that it is tested with."""

from __future__ import annotations

import numpy as np

from nacre.data import contexts
from nacre.learning.offline import Logs, placed
from nacre.presets.offline import OfflineSettings
from nacre.presets.trials import TrialSettings
from nacre.runs.experiment import Experiment
from nacre.runs.memory import memory_limit
from nacre.types import Key, Logged

SHARE_OF_MEMORY = 0.25
"""Logs that take a larger share of the memory stay in their file and are read from it a block of updates at a time."""


def train_logs(experiment: Experiment) -> list[Logs]:
    """The logs of the train tasks, where a method's `meta_train` takes them: none for a method that collects."""
    settings = experiment.settings
    if not isinstance(settings, OfflineSettings):
        return []
    logs = experiment.open_data().logs("train", settings.discount)
    number = settings.num_train_tasks
    logs = logs._replace(first_row=logs.first_row[:number], num_rows=logs.num_rows[:number])
    return [placed(logs, int(SHARE_OF_MEMORY * memory_limit()))]


def context_logs(experiment: Experiment, trials: TrialSettings, split: str, num_tasks: int, key: Key) -> Logged | None:
    """What agents absorb before the trials of an evaluation on 'train' or 'test' tasks; `key` [seed] is its key."""
    if trials.meets.logs is None:
        return None
    return contexts.for_trials(experiment.open_data(), trials, split, np.arange(num_tasks), key)


def check_data(experiment: Experiment) -> None:
    """Raises NacreError where the data set lacks what the run's evaluations need, before anything is trained."""
    if experiment.options.data:
        contexts.check(experiment.open_data(), TrialSettings.of(experiment.settings))
