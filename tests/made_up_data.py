"""A tiny data set that tests make up: point-robot, three train and two test tasks, episodes of several lengths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nacre.data.dataset import DataSet, LoggedEpisode, Writer
from nacre.families.catalog import make_family

ID = "nacre/point-robot/made-up-v0"
FAMILY = make_family("point-robot")
TASKS = FAMILY.task_set(7, 3, 2)
NUM_EPISODES = 3
"""Of each task."""


def episode(task: int, split: str, number: int, steps: int | None = None, **changed: Any) -> LoggedEpisode:
    """Episode `number` of a task: every number of it is its own, every second one terminates."""
    rng = np.random.default_rng([task, len(split), number])
    steps = steps or 1 + (5 * number + 3 * task) % 20
    reward = rng.normal(size=steps).astype(np.float32)
    made = LoggedEpisode(
        task, split, "expert" if number else "random", 100 * number, task, 1000 + number,
        rng.normal(size=(steps + 1, 2)).astype(np.float32), rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        reward, reward - 1 if task else reward, number % 2 == 1,
    )  # fmt: skip
    return made._replace(**changed)


def made_up() -> Iterator[LoggedEpisode]:
    """All episodes, tasks and splits mixed."""
    for number in range(NUM_EPISODES):
        for split, count in (("test", 2), ("train", 3), ("other", 2)):
            yield from (episode(task, split, number) for task in reversed(range(count)))


def writer(id: str = ID, **options: Any) -> Writer:
    recipe = options.pop("recipe", {"algorithm": "none", "note": "Ω"})
    return Writer(id, FAMILY, TASKS.train, TASKS.test, "made-up", recipe, **options)


def write(id: str = ID, **options: Any) -> DataSet:
    """The data set, in the folder that MINARI_DATASETS_PATH names."""
    with writer(id, **options) as into:
        into.add(made_up())
    return into.close()
