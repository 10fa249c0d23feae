"""Which tasks an evaluation draws: the run's, new ones of the distribution, or ones from outside of it."""

from __future__ import annotations

import numpy as np
import pytest

import nacre
from nacre.deploy.trained_agent import TrainedAgent
from nacre.families.catalog import FAMILIES, OPTIONAL
from nacre.types import Tasks


def agent_of(family: str) -> TrainedAgent:
    experiment = nacre.resolve("random", family, "smoke")
    return TrainedAgent(experiment, experiment.draw_tasks(), params=None)


def rows(tasks: Tasks) -> set[tuple[float, ...]]:
    num = len(next(iter(tasks.values())))
    return {tuple(np.concatenate([np.ravel(values[i]) for values in tasks.values()])) for i in range(num)}


@pytest.mark.parametrize("family", FAMILIES)
def test_fresh_tasks_are_neither_train_nor_test_tasks_whatever_the_seed(family: str) -> None:
    agent = agent_of(family)
    everything = rows(agent.family.sample_tasks(np.random.default_rng(0), 500))
    if len(everything) < 100:  # a family of finitely many tasks, such as two directions
        assert rows(agent.choose_tasks("fresh:30")) <= everything
        return
    numbers = (50, 50) if family in OPTIONAL else (100, 30)  # Meta-World has 50 goals for an environment
    task_set = agent.family.task_set(agent.tasks.task_seed, *numbers)  # as the paper's presets draw it
    known = rows(agent.tasks.train) | rows(agent.tasks.test) | rows(task_set.train) | rows(task_set.test)
    for seed in (0, 1, agent.tasks.task_seed):
        fresh = rows(agent.choose_tasks("fresh:130", seed))
        assert len(fresh) == 130
        assert not fresh & known


def test_fresh_tasks_follow_from_their_seed() -> None:
    agent = agent_of("point-robot")
    first, again, other = (rows(agent.choose_tasks("fresh:5", seed)) for seed in (1, 1, 2))
    assert first == again
    assert not first & other


@pytest.mark.parametrize("number", ["99999999999999999999", "1000000", "0", "-1", "1e3", "٣", ""])
def test_a_number_of_fresh_tasks_that_is_none_or_too_large_is_refused(number: str) -> None:
    with pytest.raises(nacre.NacreError, match="from 1 to 999999"):
        agent_of("point-robot").choose_tasks(f"fresh:{number}")
