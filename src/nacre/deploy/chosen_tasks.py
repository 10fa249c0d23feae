"""The tasks that a trained agent is tested on, by their names: test, train, ood, fresh:N."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from nacre.errors import NacreError
from nacre.families.blame import check_tasks, failure
from nacre.families.family import Family, TaskSet, num_tasks
from nacre.runs.experiment import check_seed
from nacre.types import Tasks

OOD_STREAM, FRESH_STREAM = 1, 2
"""Beside a seed, which tasks are drawn from it; train and test tasks follow from the seed alone."""


def chosen_tasks(family: Family, tasks: TaskSet, which: str, seed: int = 0) -> Tasks:
    """A run's 'test' or 'train' tasks, 'fresh:N' new ones from the family's distribution, or 'ood'.

    The out-of-distribution tasks of a run are as many as its test tasks and follow from its task_seed.
    """
    if which in ("test", "train"):
        return tasks.test if which == "test" else tasks.train
    if which == "ood":
        rng = np.random.default_rng([tasks.task_seed, OOD_STREAM])
        as_many = num_tasks(tasks.test)
        return _drawn(family, "sample_ood_tasks", lambda: family.sample_ood_tasks(rng, as_many), as_many)
    kind, _, number = which.partition(":")
    if kind != "fresh" or not re.fullmatch(r"0*[1-9][0-9]{0,5}", number):
        raise NacreError(f"'{which}' names no tasks; write test, train, ood, or fresh:N with N from 1 to 999999.")
    check_seed("seed", seed)
    return family.sample_tasks(np.random.default_rng([seed, FRESH_STREAM]), int(number))


def tasks_beyond(family: Family, rng: np.random.Generator, distance: np.ndarray) -> Tasks:
    """Tasks at these distances [task] from the family's range, checked."""
    return _drawn(family, "tasks_beyond", lambda: family.tasks_beyond(rng, distance), len(distance))


def _drawn(family: Family, what: str, draw: Callable[[], Tasks], number: int) -> Tasks:
    """What a function of a family draws beyond its range, which `nacre check` has not looked at."""
    try:
        tasks = draw()
    except Exception as error:
        raise failure(family.name, what, error) from error
    check_tasks(family, what, tasks, number, "tasks")
    return tasks
