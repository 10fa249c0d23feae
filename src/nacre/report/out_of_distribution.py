"""How an agent fares beyond the range that it was trained in: return and spread of the belief by distance."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nacre.deploy.chosen_tasks import OOD_STREAM, tasks_beyond
from nacre.deploy.trained_agent import TrainedAgent
from nacre.families.family import num_tasks
from nacre.report import picture
from nacre.report.beliefs import agent_with_belief, beliefs, check_paths, parameter_names, write_table

DISTANCES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
"""From the range, in units of its radius (docs/families.md); 0: tasks of the distribution."""


class Sweep(NamedTuple):
    """Trials by distance from the range, [distance, trial]."""

    tasks: np.ndarray  # [distance, trial, task_dim]
    returns: np.ndarray  # of the scored episode
    spread: np.ndarray  # of the belief that it began with: the mean over latent dimensions of the standard deviation


def draw(run: Path, out: Path) -> Path:
    """Draws return and belief's spread by distance into a picture, and writes a table beside it; where the table is.

    Raises NacreError for another kind of file, for a run without a belief, and where the range has no outside.
    """
    check_paths(out)
    agent = agent_with_belief(run)
    result = sweep(agent)
    with picture.drawing(out, 8.2, 3.4) as figure:
        _draw(figure, agent, result)
    return write_table(out, *table(agent, result))


def sweep(agent: TrainedAgent, seed: int = 0) -> Sweep:
    """As many tasks at each distance as the run has test tasks, a trial each. They follow from the run's task_seed."""
    number = num_tasks(agent.tasks.test)
    rng = np.random.default_rng([agent.tasks.task_seed, OOD_STREAM, 1])
    tasks = tasks_beyond(agent.family, rng, np.repeat(DISTANCES, number))
    believed = beliefs(agent, tasks, 1, seed)
    before = believed.std[-2] if len(believed.std) > 1 else believed.std[-1]  # of one episode: what it ended with
    shape = (len(DISTANCES), number)
    return Sweep(
        believed.tasks.reshape(*shape, -1), believed.returns[-1].reshape(shape), before.mean(axis=1).reshape(shape)
    )


def table(agent: TrainedAgent, result: Sweep) -> tuple[list[str], list[list[object]]]:
    """A row a trial."""
    head = ["distance", *parameter_names(agent.family), "return", "belief_std"]
    body: list[list[object]] = [
        [
            DISTANCES[i],
            *(f"{number:.6g}" for number in result.tasks[i, j]),
            f"{value:.6g}",
            f"{result.spread[i, j]:.6g}",
        ]
        for (i, j), value in np.ndenumerate(result.returns)
    ]
    return head, body


def _draw(figure: Figure, agent: TrainedAgent, result: Sweep) -> None:
    picture.write_title(figure, agent.experiment, ": beyond the range of training")
    left, right = figure.subplots(1, 2)
    _by_distance(left, result.returns, f"return of episode {agent.trials.episodes}", picture.COLOURS[0])
    _by_distance(right, result.spread, "standard deviation of the belief", picture.COLOURS[1])
    right.set_ylim(bottom=0)


def _by_distance(axes: Axes, values: np.ndarray, what: str, colour: str) -> None:
    """Every trial as a dot, and the mean of each distance as a line."""
    at = np.repeat(DISTANCES, values.shape[1])
    axes.plot(at, values.ravel(), "o", color=colour, alpha=0.25, markersize=3, markeredgewidth=0)
    axes.plot(DISTANCES, values.mean(axis=1), "o-", color=colour, markersize=5)
    axes.set(xlabel="distance from the range, in its radius", ylabel=what)
