"""Is the belief honest: do its intervals hold the true task as often as they say?

A probe says which task a point of the belief's space stands for. Points drawn from the belief then give an interval for
every number of the task. Of honest beliefs, intervals of 80 % hold the true number in 80 % of trials.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from nacre.deploy.trained_agent import TrainedAgent
from nacre.errors import NacreError
from nacre.families.family import num_tasks
from nacre.report import picture, probe
from nacre.report.beliefs import Beliefs, agent_with_belief, beliefs, check_paths, parameter_names, write_table
from nacre.report.probe import Probe

LEVELS = (0.5, 0.8, 0.9, 0.95)
NUM_POINTS = 400
"""Points drawn from a belief for its intervals."""
POINTS_TO_FIT = 8
"""Points drawn from each belief that the probe is fitted to."""
LEAST_TASKS = 10
REPEATS = 4
"""Trials of each task."""


class Calibration(NamedTuple):
    """How often intervals hold the true number of held-out tasks."""

    names: list[str]  # of the numbers of a task
    coverage: np.ndarray  # [episode, task_dim, level] the share of trials, by the belief alone
    with_error: np.ndarray  # likewise, of intervals that are widened by the probe's error
    explained: np.ndarray  # [task_dim] share of the held-out numbers' variance that the probe explains at the end
    found: np.ndarray  # [trial, task_dim] at the end: what the probe says of the belief's mean
    intervals: np.ndarray  # [2, trial, task_dim] at the end, of the second level
    tasks: np.ndarray  # [trial, task_dim] what it is


def draw(run: Path, out: Path) -> Path:
    """Draws the calibration of a run's agent into a picture, and writes a table beside it; where the table is.

    Raises NacreError for another kind of file, and where the run has no belief with a spread or too few train tasks.
    """
    check_paths(out)
    agent = agent_with_belief(run)
    result = calibration(agent)
    with picture.drawing(out, 8.6, 3.9) as figure:
        _draw(figure, agent, result)
    return write_table(out, *table(result))


def calibration(agent: TrainedAgent, seed: int = 0) -> Calibration:
    """The probe is fitted to points of beliefs at the end of trials in train tasks, and tried on test tasks."""
    number = num_tasks(agent.tasks.train)
    if number < LEAST_TASKS:
        raise NacreError(
            f"calibration needs {LEAST_TASKS} train tasks to learn what a belief stands for, but this run has {number}."
        )
    known = beliefs(agent, agent.tasks.train, REPEATS, seed)
    if not (known.std > 0).any():
        raise NacreError("this agent's belief is a point without spread, which says nothing of how sure it is.")
    return of_beliefs(
        probe_of(known), beliefs(agent, agent.tasks.test, REPEATS, seed + 1), parameter_names(agent.family)
    )


def probe_of(known: Beliefs) -> Probe:
    """The probe of points drawn from beliefs at the end of trials.

    Not of their means: a direction in which all beliefs are wide has means that hardly differ, and what they tell
    of tasks by chance would be extended to points far beyond them.
    """
    mean, std = known.mean[-1], known.std[-1]
    points = mean + std * np.random.default_rng(1).standard_normal((POINTS_TO_FIT, *mean.shape))
    return probe.fit(points.reshape(-1, mean.shape[-1]), np.tile(known.tasks, (POINTS_TO_FIT, 1)))


def of_beliefs(fitted: Probe, held_out: Beliefs, names: list[str]) -> Calibration:
    """The calibration of beliefs about held-out tasks, by a probe."""
    rng = np.random.default_rng(0)
    shares, widened = [], []
    for mean, std in zip(held_out.mean, held_out.std, strict=True):
        points = mean + std * rng.standard_normal((NUM_POINTS, *mean.shape))
        found = fitted(points)
        noise = fitted.error * rng.standard_normal(found.shape)
        shares.append([_share(found, held_out.tasks, level) for level in LEVELS])
        widened.append([_share(found + noise, held_out.tasks, level) for level in LEVELS])
    found = fitted(held_out.mean[-1])
    spread = np.maximum(held_out.tasks.var(axis=0), 1e-12)
    explained = 1 - ((held_out.tasks - found) ** 2).mean(axis=0) / spread
    last = fitted(held_out.mean[-1] + held_out.std[-1] * rng.standard_normal((NUM_POINTS, *held_out.mean[-1].shape)))
    return Calibration(
        names, np.moveaxis(np.array(shares), 1, -1), np.moveaxis(np.array(widened), 1, -1), explained, found,
        interval(last, LEVELS[1]), held_out.tasks,
    )  # fmt: skip


def interval(found: np.ndarray, level: float) -> np.ndarray:
    """The central interval of samples [point, ...] that holds this share of them: [2, ...]."""
    return np.asarray(np.quantile(found, [(1 - level) / 2, (1 + level) / 2], axis=0))


def _share(found: np.ndarray, tasks: np.ndarray, level: float) -> np.ndarray:
    """The share of trials whose number lies in the interval, [task_dim]."""
    low, high = interval(found, level)
    return np.asarray(((tasks >= low) & (tasks <= high)).mean(axis=0))


def table(result: Calibration) -> tuple[list[str], list[list[object]]]:
    """A row an episode, number of the task and level."""
    head = ["episode", "parameter", "level", "coverage", "coverage_with_probe_error", "probe_explains"]
    body: list[list[object]] = []
    for (episode, index, level), share in np.ndenumerate(result.coverage):
        values = (share, result.with_error[episode, index, level], result.explained[index])
        body.append([episode + 1, result.names[index], LEVELS[level], *(f"{value:.4f}" for value in values)])
    return head, body


def _draw(figure: Figure, agent: TrainedAgent, result: Calibration) -> None:
    picture.write_title(figure, agent.experiment, ": is the belief honest?")
    left, right = figure.subplots(1, 2)
    left.plot([0, 1], [0, 1], color=picture.FAINT, linewidth=1, linestyle=(0, (4, 3)))
    left.text(0.86, 0.76, "honest", color=picture.FAINT, fontsize=8.5)
    num_episodes = len(result.coverage)
    shown = sorted({0, num_episodes - 1})
    for colour, index in zip(picture.COLOURS, shown, strict=False):
        left.plot(
            LEVELS, result.coverage[index].mean(axis=0), "o-", color=colour, markersize=4,
            label=f"after episode {index + 1}",
        )  # fmt: skip
    last = num_episodes - 1
    left.plot(
        LEVELS, result.with_error[last].mean(axis=0), "o:", color=picture.COLOURS[len(shown) - 1], markersize=3,
        label="with the probe's error",
    )  # fmt: skip
    left.set(xlim=(0.4, 1), ylim=(0, 1.02), xlabel="level of the interval", ylabel="share of true tasks inside")
    left.legend(loc="upper left")
    for index, (colour, name) in enumerate(zip(picture.COLOURS, result.names[:3], strict=False)):
        low, high = result.intervals[:, :, index]
        right.vlines(result.tasks[:, index], low, high, color=colour, alpha=0.5, linewidth=1)
        right.plot(
            result.tasks[:, index], result.found[:, index], "o", color=colour, markersize=2.5,
            label=f"{name} (probe explains {result.explained[index]:.0%})",
        )  # fmt: skip
    ends = result.tasks[:, :3].min(), result.tasks[:, :3].max()
    right.plot(ends, ends, color=picture.FAINT, linewidth=1, linestyle=(0, (4, 3)))
    right.set(xlabel="true", ylabel=f"believed after episode {num_episodes}, {LEVELS[1]:.0%}")
    right.legend(loc="upper left")
