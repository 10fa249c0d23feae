"""Trials of a trained agent on test tasks: what it does, episode by episode, and how its belief narrows."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Arc, Circle, Rectangle
from matplotlib.ticker import NullFormatter

from nacre.deploy.trained_agent import TrainedAgent, agent_of
from nacre.families.family import Family, describe, num_tasks, take
from nacre.families.point import PointRobot
from nacre.report import picture
from nacre.runs.directory import RunDirectory
from nacre.runs.loading import load_to_act
from nacre.simulation import rollout
from nacre.types import Episode, Tasks

NUM_TASKS = 6
SMOOTHED_STEPS = 10
"""Control steps over which a reward curve is averaged."""
EXPLORATION_COLOURS = ("#f0b27a", "#b9770e")
"""First and last exploration episode."""
EXPLOITATION_COLOURS = ("#a9cce3", "#0072B2")
"""First exploitation episode and the one before the last; the last is drawn in `LAST_COLOUR`."""
LAST_COLOUR = "#08306b"
GOAL_COLOUR = "#009E73"


class Trials(NamedTuple):
    """One trial in each of a few tasks, side by side."""

    tasks: Tasks  # [task, ...]
    episodes: list[Episode]  # in order; lanes are tasks
    belief_means: list[np.ndarray]  # of each task [transitions seen, latent_dim], from none on; empty without a belief
    belief_stds: list[np.ndarray]  # likewise
    num_exploration_episodes: int

    def only(self, chosen: list[int]) -> Trials:
        """The trials in these of the tasks."""
        episodes = [jax.tree.map(lambda x: x[chosen], episode) for episode in self.episodes]
        means, stds = (
            [rows[index] for index in chosen] if rows else [] for rows in (self.belief_means, self.belief_stds)
        )
        return Trials(take(self.tasks, chosen), episodes, means, stds, self.num_exploration_episodes)

    @property
    def returns(self) -> np.ndarray:
        """[task, episode]"""
        return np.stack([episode.returns() for episode in self.episodes], axis=1)


def draw(run: Path, out: Path) -> None:
    """Draws one trial on each of a few of a run's test tasks into one picture (.png, .svg or .pdf), a column for each.

    First row: the paths in the plane of the point families; in other families the reward of every control step. Below:
    the standard deviation of the belief over each latent dimension as transitions come in, and the return by episode.
    The same run gives the same picture. Raises NacreError for another kind of file and for a run without a checkpoint.
    """
    picture.check_path(out)
    directory = RunDirectory(run)
    saved = load_to_act(directory)
    agent = agent_of(directory, saved)
    trials = play(agent, choose_tasks(agent.tasks.test))
    num_rows = 3 if trials.belief_stds else 2
    num_columns = num_tasks(trials.tasks)
    width, top = max(2.3 * num_columns, 8.0), 2.0
    if isinstance(agent.family, PointRobot):
        x_range, y_range = _plane(agent.family)
        top = 0.92 * width / num_columns * (y_range[1] - y_range[0]) / (x_range[1] - x_range[0])
    heights = [top] + [1.6] * (num_rows - 1)
    with picture.drawing(out, 0.8 + width, 1.5 + sum(heights) + 0.4 * (num_rows - 1)) as figure:
        held_out = "held-out " if agent.family.disjoint else ""
        steps = picture.steps_text(int(saved.state.env_steps))
        picture.write_title(
            figure, agent.experiment, f", after {steps} environment steps: a trial on each of {num_columns} "
            f"{held_out}tasks{_reached(agent.family, trials)}",
        )  # fmt: skip
        _draw_columns(figure, agent, trials, heights)


def _reached(family: Family, trials: Trials) -> str:
    """On how many tasks the robot comes to the goal, where only that is rewarded."""
    if family.goal_radius is None:
        return ""
    first, last = (trials.returns[:, [0, -1]] > 0).sum(axis=0)
    return f"\nthe robot comes to the goal on {first} of them in the first episode, on {last} in the last"


def choose_tasks(tasks: Tasks, num: int = NUM_TASKS) -> Tasks:
    """At most `num` of the tasks, spread evenly: goals by angle, from left to right; others by first parameter."""
    return take(tasks, spread_evenly(tasks, num))


def spread_evenly(tasks: Tasks, num: int = NUM_TASKS) -> list[int]:
    """The numbers of the tasks that `choose_tasks` takes."""
    first = next(iter(tasks.values()))
    place = first.reshape(len(first), -1)[:, 0] if first.size == len(first) else -np.arctan2(first[:, 1], first[:, 0])
    left, chosen = place.astype(float), []
    for wanted in np.linspace(place.min(), place.max(), min(num, len(place))):
        chosen.append(int(np.nanargmin(abs(left - wanted))))
        left[chosen[-1]] = np.nan
    return sorted(chosen, key=lambda index: float(place[index]))


def play(agent: TrainedAgent, tasks: Tasks, seed: int = 0) -> Trials:
    """One trial of the configured length in each task, with the belief after every transition."""
    num_episodes, params = agent.trials.episodes, agent.params_for(agent.trials)
    key, logged = jax.random.key(seed), None
    if agent.trials.meets.logs is not None:
        logged = agent.contexts(tasks, seed=seed)
    played = list(rollout.trial(agent.family, agent.functions, params, tasks, key, num_episodes, logged))
    means, stds = ([], []) if agent.experiment.algorithm.belief is None else _beliefs(agent, params, played)
    if not any(row.any() for row in stds):  # a point estimate of the task: nothing narrows
        means, stds = [], []
    explored = agent.trials.exploration_episodes
    explored = num_episodes - 1 if explored is None else explored
    return Trials(tasks, [jax.tree.map(np.asarray, part.episode) for part in played], means, stds, explored)


def _beliefs(
    agent: TrainedAgent, params: Any, played: list[rollout.Played]
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Of each task, the belief's means and standard deviations after each transition, [transitions, latent_dim]."""
    belief, settings = agent.experiment.algorithm.belief, agent.experiment.settings
    assert belief is not None

    @jax.jit
    def beliefs(params: Any, memory: Any, transitions: Any) -> Any:
        """Beliefs [time, task, latent_dim] for transitions [time, task, ...]."""

        def step(memory: Any, transition: Any) -> tuple[Any, Any]:
            memory = agent.functions.observe(params, memory, transition)
            return memory, belief(memory, settings)

        return jax.lax.scan(step, memory, transitions)[1]

    rows = [[row] for row in np.stack(belief(played[0].memory_before, settings), axis=1)[:, None]]
    for part in played:
        by_time = jax.tree.map(lambda x: jnp.asarray(x).swapaxes(0, 1), part.episode.transitions)
        after = np.stack(beliefs(params, part.memory_before, by_time), axis=2)  # [time, task, 2, latent_dim]
        at_end = np.stack(agent.belief_after(part.memory_after), axis=1)
        for task, length in enumerate(np.asarray(part.episode.length)):
            after[length - 1 : length, task] = at_end[task]
            rows[task].append(after[:length, task])
    by_task = [np.concatenate(parts) for parts in rows]
    return [row[:, 0] for row in by_task], [np.sqrt(row[:, 1]) for row in by_task]


# ----------------------------------------------------------------------------------------------------------------------
# The picture


def _draw_columns(figure: Figure, agent: TrainedAgent, trials: Trials, heights: list[float]) -> None:
    """A column of panels for each task, the rows on shared scales."""
    in_plane = isinstance(agent.family, PointRobot)
    grid = figure.subplots(
        len(heights), num_tasks(trials.tasks), squeeze=False, sharey="row", sharex="row", height_ratios=heights,
    )  # fmt: skip
    for task, column in enumerate(grid.T):
        if in_plane:
            _draw_paths(column[0], agent, trials, task)
        else:
            _draw_rewards(column[0], trials, task)
        first, last = trials.returns[task, [0, -1]]
        column[0].set_title(
            f"{task_text(trials.tasks, task)}\nreturn: first {first:.1f}, last {last:.1f}", fontsize=9.5
        )
        _draw_returns(column[1], trials, task)
        if trials.belief_stds:
            _draw_belief(column[2], trials, task)
    for axes in grid[:, 0]:
        axes.yaxis.set_tick_params(labelleft=True)
    grid[0, 0].set_ylabel("" if in_plane else f"reward per control step\n(mean of {SMOOTHED_STEPS})")
    grid[1, 0].set_ylabel("return")
    if trials.belief_stds:
        grid[2, 0].set_ylabel("standard deviation\nof the belief")
    _draw_legend(figure, agent, trials, in_plane)


def task_text(tasks: Tasks, index: int) -> str:
    """One task in short, for titles: 'goal=0.6,0.8', 'velocity=1.3'."""
    texts = []
    for name, value in describe(tasks, index).items():
        numbers = np.atleast_1d(value).round(2) + 0.0
        more = f",... ({len(numbers)})" if len(numbers) > 3 else ""
        texts.append(f"{name}={','.join(f'{number:.2f}' for number in numbers[:3])}{more}")
    return " ".join(texts)


def _styles(trials: Trials) -> list[dict[str, Any]]:
    """How each episode is drawn: exploration faint, then ever stronger, the last one boldest."""
    explored, count = trials.num_exploration_episodes, len(trials.episodes)

    def blend(ends: tuple[str, str], share: float) -> tuple[float, ...]:
        return tuple((1 - share) * np.array(to_rgb(ends[0])) + share * np.array(to_rgb(ends[1])))

    styles = []
    for index in range(count):
        if index == count - 1:
            styles.append(dict(color=LAST_COLOUR, lw=2.4, alpha=1.0))
        elif index < explored:
            colour = blend(EXPLORATION_COLOURS, index / (explored - 1) if explored > 1 else 1.0)
            styles.append(dict(color=colour, lw=1.1, alpha=0.75))
        else:
            share = (index - explored) / (count - 2 - explored) if count - 2 > explored else 1.0
            styles.append(dict(color=blend(EXPLOITATION_COLOURS, share), lw=1.3, alpha=0.9))
    return styles


def _plane(family: Family) -> tuple[tuple[float, float], tuple[float, float]]:
    """The part of the plane that is drawn: ranges of x and y, the goals with a margin."""
    return (-1.4, 1.4), (-1.4 if family.goal_radius is None else -0.45, 1.4)


def _draw_paths(axes: Axes, agent: TrainedAgent, trials: Trials, task: int) -> None:
    """The plane with the goal, and the path of every episode."""
    goal = trials.tasks["goal"][task]
    if agent.family.goal_radius is not None:
        axes.add_patch(Arc((0, 0), 2, 2, theta1=0, theta2=180, color="#c8c8c8", lw=1.2, ls=(0, (4, 3))))
        axes.add_patch(Circle(goal, agent.family.goal_radius, color=GOAL_COLOUR, alpha=0.22, lw=0))
    else:
        axes.add_patch(Rectangle((-1, -1), 2, 2, fill=False, edgecolor="#c8c8c8", lw=1.2, ls=(0, (4, 3))))
    for episode, style in zip(trials.episodes, _styles(trials), strict=True):
        length, steps = episode.length[task], episode.transitions
        path = np.concatenate([steps.obs[task, :1], steps.next_obs[task, :length]])
        axes.plot(*path.T, **style)
        axes.plot(*path[0], "o", color=style["color"], ms=2.5)
    axes.plot(*goal, "*", color=GOAL_COLOUR, ms=12, mec="white", mew=0.8, zorder=5)
    x_range, y_range = _plane(agent.family)
    ticks = np.array([-1, 0, 1])
    axes.set(xlim=x_range, ylim=y_range, aspect="equal", xticks=ticks, yticks=ticks[ticks > y_range[0]])
    axes.grid(False)


def smoothed(rewards: Any) -> np.ndarray:
    """The mean of every `SMOOTHED_STEPS` rewards in a row (of all, where there are fewer; none, of none)."""
    width = min(SMOOTHED_STEPS, len(rewards))
    if width == 0:
        return np.zeros(0)
    return np.convolve(np.asarray(rewards, np.float64), np.full(width, 1 / width), mode="valid")


def _draw_rewards(axes: Axes, trials: Trials, task: int) -> None:
    """The reward of every control step of each episode, smoothed."""
    for episode, style in zip(trials.episodes, _styles(trials), strict=True):
        length = episode.length[task]
        rewards = smoothed(episode.transitions.reward[task, :length])
        axes.plot(np.arange(len(rewards)) + length - len(rewards) + 1, rewards, **style)
    axes.set_xlabel("control step")


def _draw_returns(axes: Axes, trials: Trials, task: int) -> None:
    """Return by episode, each in the colour of its path."""
    episodes = np.arange(1, len(trials.episodes) + 1)
    axes.plot(episodes, trials.returns[task], color="#c8c8c8", lw=1.2)
    for episode, style, value in zip(episodes, _styles(trials), trials.returns[task], strict=True):
        axes.plot(episode, value, "o", color=style["color"], ms=5.5 if episode == len(episodes) else 4)
    picture.label_episodes(axes, len(episodes))


def _draw_belief(axes: Axes, trials: Trials, task: int) -> None:
    """Standard deviation of each latent dimension against the transitions seen; the mean over dimensions is bold."""
    stds = trials.belief_stds[task]
    axes.plot(stds, color="#cc79a7", lw=0.8, alpha=0.7)
    axes.plot(stds.mean(axis=1), color="#882255", lw=2.0)
    explored = sum(int(episode.length[task]) for episode in trials.episodes[: trials.num_exploration_episodes])
    axes.axvline(explored, color=picture.FAINT, lw=0.9, ls=":")
    axes.set_xscale("symlog", linthresh=1)
    axes.xaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axes.set_xlim(0, len(stds) - 1)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, position: f"{value:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("transitions seen (0: prior)")


def _draw_legend(figure: Figure, agent: TrainedAgent, trials: Trials, in_plane: bool) -> None:
    explored, count = trials.num_exploration_episodes, len(trials.episodes)
    handles: list[Any] = []
    for first, last, colour, what in (
        (1, explored, EXPLORATION_COLOURS[1], "exploring"),
        (explored + 1, count - 1, EXPLOITATION_COLOURS[1], "acting on the belief"),
    ):
        if first <= last:
            number = f"episode {first}" if first == last else f"episodes {first} to {last}"
            handles.append(Line2D([], [], color=colour, lw=1.4, label=f"{number}, {what}"))
    handles.append(Line2D([], [], color=LAST_COLOUR, lw=2.4, label=f"episode {count}, scored"))
    if in_plane:
        star = Line2D([], [], color=GOAL_COLOUR, marker="*", ms=11, ls="", label="goal (unknown to the agent)")
        handles.append(star)
    if trials.belief_stds:
        handles.append(Line2D([], [], color="#cc79a7", lw=0.8, label="latent dimensions"))
        handles.append(Line2D([], [], color="#882255", lw=2.0, label="their mean"))
        if explored > 0:
            handles.append(Line2D([], [], color=picture.FAINT, lw=0.9, ls=":", label="exploration ends"))
    columns = len(handles) if figure.get_figwidth() > 12 else 3
    figure.legend(handles=handles, loc="outside lower left", ncols=columns, fontsize=9)
