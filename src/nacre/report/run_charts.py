"""The charts of one run on a page: its trials, its beliefs, and what it earns in every task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nacre.deploy.trained_agent import TrainedAgent
from nacre.families.family import num_tasks
from nacre.report import trials
from nacre.report.chart import COLOURS, Axis, Chart, Disc, Dots, Line, View
from nacre.report.task_numbers import all_numbers
from nacre.types import Tasks

LINES_OF_BELIEF = 60
"""Points of a line of a belief's width, closer together at its beginning."""
GOAL_RADIUS = 0.05
"""Of a goal that has none."""


def names(tasks: Tasks) -> list[str]:
    """What each task is called in read-outs: its number, and its parameters."""
    return [f"task {index + 1}, {trials.task_text(tasks, index)}" for index in range(num_tasks(tasks))]


# ----------------------------------------------------------------------------------------------------------------------
# Trials


def trial_charts(agent: TrainedAgent, played: trials.Trials) -> list[Chart]:
    """A chart for each task: the paths in the plane, or the reward of every control step; all on the same scales."""
    in_plane = agent.family.in_plane
    draw = _paths if in_plane else _rewards
    drawn = [draw(played, task) for task in range(num_tasks(played.tasks))]
    goals = [_goals(agent, played.tasks, task) if in_plane else [] for task in range(len(drawn))]
    everything = [line for lines in drawn for line in lines]
    places = [[goal.x, goal.y] for discs in goals for goal in discs]
    x_ends = _ends([line.x for line in everything] + [place[:1] for place in places])
    y_ends = _ends([line.y for line in everything] + [place[1:] for place in places])
    x, y = (
        (Axis("x", low=x_ends[0], high=x_ends[1]), Axis("y", low=y_ends[0], high=y_ends[1]))
        if in_plane
        else (Axis("control step", low=0.0, high=x_ends[1]), Axis("reward", low=y_ends[0], high=y_ends[1]))
    )
    charts = []
    for task, (lines, discs) in enumerate(zip(drawn, goals, strict=True)):
        name = trials.task_text(played.tasks, task)
        returns = ", ".join(f"{value:.3g}" for value in played.returns[task])
        what = "Paths" if in_plane else "Reward of every control step"
        first, last = played.returns[task, [0, -1]]
        charts.append(
            Chart(
                name,
                f"{what} in a trial on {name}. Returns by episode: {returns}.",
                [View(x, y, lines=lines, discs=discs)],
                f"Return: first episode {first:.1f}, last {last:.1f}.",
                150,
                equal=in_plane,
            )
        )
    return charts


def _goals(agent: TrainedAgent, tasks: Tasks, task: int) -> list[Disc]:
    """The goal of a task in the plane, if it has one there."""
    family = agent.family
    goal = tasks["goal"][task] if "goal" in tasks else family.goal
    if goal is None or np.shape(goal) != (2,):
        return []
    x, y = goal
    return [Disc(float(x), float(y), family.goal_radius or GOAL_RADIUS)]


def _ends(columns: Sequence[Any]) -> tuple[float, float]:
    """The range of all of them, with a margin."""
    values = np.concatenate([np.asarray(column, float) for column in columns])
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    margin = 0.05 * (high - low) or 1.0
    return low - margin, high + margin


def kind(played: trials.Trials, episode: int) -> tuple[str, str, float, float]:
    """(what the episode is for, colour, width, opacity)."""
    count, explored = len(played.episodes), played.num_exploration_episodes
    if episode == count - 1:
        return "scored", trials.LAST_COLOUR, 2.6, 1.0
    if episode < explored:
        return "exploring", "#B9670E", 1.1, 0.7
    return "acting on the belief", COLOURS[0], 1.3, 0.6


def _paths(played: trials.Trials, task: int) -> list[Line]:
    lines = []
    for index, episode in enumerate(played.episodes):
        length, steps = episode.length[task], episode.transitions
        path = np.concatenate([steps.obs[task, :1, :2], steps.next_obs[task, :length, :2]])
        what, colour, width, opacity = kind(played, index)
        lines.append(Line(f"episode {index + 1}, {what}", path[:, 0], path[:, 1], colour, width=width, opacity=opacity))
    return lines


def _rewards(played: trials.Trials, task: int) -> list[Line]:
    lines = []
    for index, episode in enumerate(played.episodes):
        reward = trials.smoothed(episode.transitions.reward[task, : episode.length[task]])
        what, colour, width, opacity = kind(played, index)
        x = np.arange(len(reward)) + episode.length[task] - len(reward) + 1
        lines.append(Line(f"episode {index + 1}, {what}", x, reward, colour, width=width, opacity=opacity))
    return lines


# ----------------------------------------------------------------------------------------------------------------------
# Beliefs


def belief_charts(played: trials.Trials, name: str) -> list[Chart]:
    """The posterior means of the tasks in a plane, and how wide the posterior is as transitions come in."""
    means = np.stack([rows[-1] for rows in played.belief_means])
    at, axes = plane(means)
    labels, parameters = names(played.tasks), all_numbers(played.tasks)
    dots = Dots(at[:, 0], at[:, 1], labels)
    spread = at.std(axis=0)
    where = View(Axis(axes[0]), Axis(axes[1]), dots=[dots], parameters=parameters)
    lines, ends = list[Line](), []
    for label, stds in zip(labels, played.belief_stds, strict=True):
        seen = np.unique(np.geomspace(1, len(stds), LINES_OF_BELIEF).astype(int)) - 1
        width = stds.mean(axis=1)
        lines.append(Line(label, seen, width[seen], COLOURS[0], width=1.0, opacity=0.55))
        ends.append((width[0], width[-1]))
    first, last = np.mean(ends, axis=0)
    narrows = View(Axis("transitions seen (0: prior)", "log1p"), Axis("standard deviation", "log"), lines=lines)
    return [
        Chart(
            "Posterior means",
            f"The posterior means of {len(means)} test tasks of {name}, with standard deviations {spread[0]:.3g} and "
            f"{spread[1]:.3g} along the two axes, coloured by {parameters[0].name}.",
            [where],
            "At the end of a trial, a dot a test task, in the two latent directions in which tasks differ most.",
            equal=True,
        ),
        Chart(
            "The posterior narrows",
            f"The posterior's standard deviation in {len(means)} trials of {name}: on average {first:.3g} at the prior "
            f"and {last:.3g} at the end.",
            [narrows],
            "Its standard deviation, the mean over latent dimensions, as transitions come in. A line a test task.",
        ),
    ]


def plane(means: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """Means [task, latent_dim] in the plane of their two principal directions, or as they are."""
    if means.shape[1] == 1:
        return np.column_stack([means[:, 0], np.zeros(len(means))]), ("z", "")
    if means.shape[1] == 2:
        return means, ("z 1", "z 2")
    centred = means - means.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = np.vstack([directions, np.zeros((2, means.shape[1]))])[:2]  # one task has no direction
    return centred @ directions.T, ("first principal direction of z", "second")


# ----------------------------------------------------------------------------------------------------------------------
# Tasks


def task_chart(tasks: Tasks, returns: np.ndarray, name: str) -> Chart:
    """The return of the first and of the scored episode of every task, against one of its parameters.

    `returns` [task, episode].
    """
    parameters, labels = all_numbers(tasks), names(tasks)
    first, last = returns[:, 0], returns[:, -1]
    by = parameters[0]
    dots = [
        Dots(by.values, last, [f"{label}, scored episode" for label in labels], COLOURS[0], start=first),
        Dots(by.values, first, [f"{label}, first episode" for label in labels], "#B9670E", hollow=True),
    ]
    best, worst = labels[int(last.argmax())], labels[int(last.argmin())]
    view = View(Axis(by.name), Axis("return"), dots=dots, parameters=parameters, across_parameter=True)
    return Chart(
        "Return by task",
        f"Return by task, {name}: scored episodes from {last.min():.4g} on {worst} to {last.max():.4g} on {best}; "
        f"on average {first.mean():.4g} in the first episode and {last.mean():.4g} in the scored one.",
        [view],
        "Filled: the scored episode. Hollow: the first episode of the same trial.",
    )
