"""Trials whose beliefs are looked at: what a run's agent believes of tasks, and how tables of it are written."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from nacre.deploy.trained_agent import TrainedAgent, load
from nacre.errors import NacreError
from nacre.families.family import Family, num_tasks, take
from nacre.report import picture
from nacre.runs import tables
from nacre.runs.outputs import check_output
from nacre.simulation import rollout
from nacre.types import Tasks


class Beliefs(NamedTuple):
    """What an agent believed in trials, and what it earned."""

    tasks: np.ndarray  # [trial, task_dim] the numbers of the task
    mean: np.ndarray  # [episode, trial, latent_dim] after each episode
    std: np.ndarray  # likewise
    returns: np.ndarray  # [episode, trial]


def agent_with_belief(run: Path) -> TrainedAgent:
    """The agent of a run's latest checkpoint. Raises NacreError where it has no belief, or is given logged data."""
    agent = load(run)
    name = agent.experiment.algorithm_name
    if agent.believes is None:
        raise NacreError(f"{name} has no belief over tasks to look at; name a run of pearl.")
    if agent.trials.meets.logs is not None:
        raise NacreError(
            f"{run} is tested by protocol {agent.trials.protocol}, which gives the agent logged transitions; name a "
            "run that is tested online."
        )
    return agent


def beliefs(agent: TrainedAgent, tasks: Tasks, repeats: int, seed: int) -> Beliefs:
    """`repeats` trials in each task: all tasks once, then again."""
    lanes = take(tasks, np.tile(np.arange(num_tasks(tasks)), repeats))
    trials = agent.trials
    means, variances, returns = [], [], []
    played = rollout.trial(
        agent.family, agent.functions, agent.params_for(trials), lanes, jax.random.key(seed), trials.episodes
    )
    for one in played:
        mean, variance = agent.belief_after(one.memory_after)
        means.append(np.asarray(mean, np.float64))
        variances.append(np.asarray(variance, np.float64))
        returns.append(one.episode.returns())
    return Beliefs(rows(agent.family, lanes), np.stack(means), np.sqrt(np.stack(variances)), np.stack(returns))


def rows(family: Family, tasks: Tasks) -> np.ndarray:
    """The numbers of tasks, [task, task_dim], in the order of `parameter_names`."""
    columns = [np.asarray(tasks[name], np.float64) for name in family.parameters]
    return np.concatenate([values.reshape(len(values), -1) for values in columns], axis=1)


def parameter_names(family: Family) -> list[str]:
    """A name for each number of a task: velocity; goal.0, goal.1."""
    return [
        name if size == 0 else f"{name}.{index}"
        for name, size in family.parameters.items()
        for index in range(max(1, size))
    ]


def check_paths(picture_file: Path) -> None:
    """Raises NacreError unless a picture can be written there and its table beside it: to be asked before the work."""
    picture.check_path(picture_file)
    check_output(_table_of(picture_file))


def write_table(picture_file: Path, head: list[str], body: list[list[Any]]) -> Path:
    """Writes a CSV beside a picture, of its name; where it is."""
    out = _table_of(picture_file)
    with picture.written_whole(out) as draft:
        draft.write_text(tables.as_text([head, *body]))
    return out


def _table_of(picture_file: Path) -> Path:
    return picture_file.with_suffix(".csv")
