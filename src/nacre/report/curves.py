"""Learning curves: what the scored episode returns as a run continues, and how return grows within a trial."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from nacre.report import picture
from nacre.report.evaluated_runs import Evaluations, Families, Run, differences, distinct_seeds, read_families
from nacre.report.known import KNOWN_POINTS, KnownPoint
from nacre.report.statistics import bootstrap_interval, interquartile_mean

STAGES = (("first", 0.3), ("middle", 0.6), ("latest", 1.0))
"""The evaluations whose return by episode is drawn, and how strongly."""
WIDE = 10
"""How many times as far one run must have come as another for a logarithmic axis."""
FAR = 2
"""How many times as far as the runs a published point may lie to be marked; others are told in words."""


def draw(runs: Sequence[Path], out: Path) -> None:
    """Draws the learning curves of run directories into one picture (.png, .svg or .pdf), a row for every family
    (and for each of its options, such as the radius of sparse goals).

    Left: return of the scored episode against environment steps (gradient steps where a run learns from a data set), a
    line for each run; runs that differ in nothing but
    their seed share a colour and are summed up by their interquartile mean and its 95 % bootstrap interval. Middle: the
    same against the time that a run took. Hollow marks are what others have published; of it, what lies far beyond
    the runs stands in the legend. Right: return by episode of the trial. Of two runs with the same seed, the longer is
    drawn.

    Raises NacreError for another kind of file, and for a run that cannot be read or was not evaluated yet.
    """
    picture.check_path(out)
    families = distinct_seeds(read_families(runs))
    with picture.drawing(out, 15.0, 3.7 * len(families)) as figure:
        draw_families(figure, families)


def draw_families(figure: Figure, families: Families) -> None:
    """The three panels of each family, a row each."""
    grid = figure.subplots(len(families), 3, squeeze=False, width_ratios=(1.4, 1.1, 1.0))
    for (family, groups), (left, middle, right) in zip(families.items(), grid, strict=True):
        known = KNOWN_POINTS.get(family, ())
        steps = steps_of(groups)
        _draw_scores(left, groups, steps)
        _draw_scores(middle, groups, "wall_seconds")
        _label_scores(left, groups, _draw_known(left, known, steps), steps)
        picture.label_duration(middle)
        _draw_episodes(right, groups)
        unlike = differences(groups)
        title = f"{family}\n(runs differ in {unlike})" if unlike else family
        left.get_legend().set_title(title, {"weight": "bold", "size": 11})


# ----------------------------------------------------------------------------------------------------------------------
# The panels of one family; groups: label -> the runs that differ in nothing but their seed


def steps_of(groups: dict[str, list[Run]]) -> str:
    """The column of Evaluations that says how far runs have come: offline methods take no environment steps."""
    offline = any(run.experiment.algorithm.offline for runs in groups.values() for run in runs)
    return "grad_steps" if offline else "env_steps"


def learns(run: Run) -> bool:
    """Whether the run trains on steps, of an environment or of logs; `random` does not."""
    return run.experiment.algorithm.offline or bool(run.test.env_steps[-1])


def _draw_scores(axes: Axes, groups: dict[str, list[Run]], against: str) -> None:
    """Return of the scored episode against a column of Evaluations; a level where a method trains on no steps."""
    for colour, (label, runs) in zip(_colours(groups), groups.items(), strict=True):
        if not any(map(learns, runs)):
            level = interquartile_mean(np.stack([run.test.scores[-1:] for run in runs]))[0]
            axes.axhline(level, color=colour, ls="--", lw=1.2, label=_wrapped(label))
            continue
        for run in runs:
            alone = len(runs) == 1
            text = f"{label}, seed {run.experiment.options.seed}" if alone else None
            marker = "o" if len(run.test.env_steps) == 1 else None
            width, strength = (1.8, 1.0) if alone else (0.7, 0.45)
            axes.plot(
                getattr(run.test, against), run.test.scores, color=colour, lw=width, alpha=strength, marker=marker,
                label=text and _wrapped(text),
            )  # fmt: skip
            if run.train is not None:
                x, strength = getattr(run.train, against), max(0.6, strength)
                axes.plot(x, run.train.scores, ":", color=colour, lw=1.2, alpha=strength)
        if len(runs) > 1:
            x, scores = on_common_points([run.test for run in runs], against)
            axes.fill_between(x, *bootstrap_interval(scores), color=colour, alpha=0.15, lw=0)
            summary = f"{label}, IQM of {len(runs)} seeds"
            axes.plot(x, interquartile_mean(scores), color=colour, lw=2.2, label=_wrapped(summary))
    trained = [getattr(run.test, against) for runs in groups.values() for run in runs if learns(run)]
    if trained and max(x[-1] for x in trained) > WIDE * min(x[-1] for x in trained):
        axes.set_xscale("log")
    else:
        axes.set_xlim(left=0)


def _draw_known(axes: Axes, known: Sequence[KnownPoint], against: str) -> list[Line2D]:
    """Hollow marks, a shape for each source, and their handles for the legend.

    Points far beyond what the runs reached would leave the runs no room: the legend tells them in words. Published
    points are of environment steps: where the panel counts gradient steps, there are none.
    """
    if against != "env_steps":
        return []
    limit, handles = FAR * axes.get_xlim()[1], []
    for marker, source in zip("sD^v", dict.fromkeys(point.source for point in known), strict=False):
        look: dict[str, Any] = {"ls": "", "marker": marker, "mfc": "none", "mec": picture.INK, "ms": 5}
        points, told = [point for point in known if point.source == source], [source]
        near = [(point.env_steps, point.score) for point in points if point.env_steps <= limit]
        if near:
            axes.plot(*zip(*near, strict=True), label=f"_{source}", **look)  # "_": in no legend
            axes.set_xlim(right=max(axes.get_xlim()[1], 1.05 * max(x for x, _ in near)))
        if far := [point for point in points if point.env_steps > limit]:
            there = (f"{point.score:g} at {picture.steps_text(point.env_steps)}" for point in far)
            told.append(f"beyond this panel: {', '.join(there)} steps")
        handles.append(Line2D([], [], label=_wrapped("; ".join(told)), **look))
    return handles


def _label_scores(axes: Axes, groups: dict[str, list[Run]], known: list[Line2D], against: str) -> None:
    """Legend and axes of the left panel; `known`: handles of what others have published."""
    everything = [run for runs in groups.values() for run in runs]
    handles = list(axes.get_legend_handles_labels()[0])
    if any(len(runs) > 1 for runs in groups.values()):
        handles.append(Patch(color=picture.FAINT, alpha=0.3, lw=0, label="95 % bootstrap interval"))
    if any(run.train is not None for run in everything):
        handles.append(Line2D([], [], ls=":", color=picture.FAINT, label="on train tasks"))
    handles += known
    short = max(len(str(handle.get_label())) for handle in handles) < 40
    picture.legend_above(axes, handles, columns=2 if short else 1)
    picture.label_steps(axes, "gradient steps" if against == "grad_steps" else "environment steps")
    held_out = "held-out " if everything[0].experiment.family.disjoint else ""
    axes.set_ylabel(f"return of {_scored(everything)}\nmean over {held_out}test tasks")


def _wrapped(text: str) -> str:
    """A label in lines that fit over the panel."""
    return textwrap.fill(text, 72, break_long_words=False, break_on_hyphens=False)


def _scored(runs: list[Run]) -> str:
    """The scored episode in words."""
    episodes = {run.test.returns.shape[-1] for run in runs}
    return f"episode {episodes.pop()} of a trial" if len(episodes) == 1 else "the last episode of a trial"


def on_common_points(evaluations: list[Evaluations], against: str) -> tuple[np.ndarray, np.ndarray]:
    """(x [point], scores [run, point]) over the steps or seconds that all runs reached, interpolated in between."""
    each = [getattr(run, against) for run in evaluations]
    first, last = max(x[0] for x in each), min(x[-1] for x in each)
    points = np.unique(np.concatenate(each))
    points = points[(points >= first) & (points <= last)]
    return points, np.stack([np.interp(points, x, run.scores) for x, run in zip(each, evaluations, strict=True)])


def _draw_episodes(axes: Axes, groups: dict[str, list[Run]]) -> None:
    """Return by episode of the trial, early, midway and now; the band is the spread over tasks now."""
    reached: dict[str, set[str]] = {}
    steps = steps_of(groups)
    for colour, runs in zip(_colours(groups), groups.values(), strict=True):
        count = min(len(run.test.env_steps) for run in runs)
        stages = {"latest": -1} | ({"first": 0} if count > 1 else {}) | ({"middle": count // 2} if count > 2 else {})
        for stage, strength in STAGES:
            if stage not in stages:
                continue
            at = stages[stage]
            returns = np.stack([run.test.returns[at].mean(0) for run in runs]).mean(0)  # [task, episode]
            reached.setdefault(stage, set()).update(picture.steps_text(getattr(run.test, steps)[at]) for run in runs)
            episodes = np.arange(1, returns.shape[1] + 1)
            latest = stage == "latest"
            if latest:
                low, high = np.percentile(returns, [10, 90], axis=0)
                axes.fill_between(episodes, low, high, color=colour, alpha=0.13, lw=0)
            axes.plot(
                episodes, returns.mean(0), "o-", color=colour, alpha=strength, lw=2.0 if latest else 1.2,
                ms=4.5 if latest else 3, mew=0,
            )  # fmt: skip
    colour = picture.COLOURS[0] if len(groups) == 1 else picture.INK
    handles: list[Any] = []
    for stage, strength in STAGES:
        if stage in reached:
            at_steps = f", {reached[stage].pop()} steps" if len(reached[stage]) == 1 else ""
            handles.append(Line2D([], [], color=colour, alpha=strength, marker="o", ms=3, label=stage + at_steps))
    handles.append(Patch(color=colour, alpha=0.15, lw=0, label="middle 80% of tasks, latest"))
    picture.legend_above(axes, handles, columns=2)
    _mark_exploration(axes, [run for runs in groups.values() for run in runs])
    picture.label_episodes(axes, max(run.test.returns.shape[-1] for runs in groups.values() for run in runs))
    axes.set_ylabel("return, mean over tasks")


def _mark_exploration(axes: Axes, runs: list[Run]) -> None:
    """Shades the episodes in which every run explores."""
    explored = {run.experiment.settings.num_exploration_episodes or 0 for run in runs}
    last = min(explored.pop(), runs[0].test.returns.shape[-1]) if len(explored) == 1 else 0
    if last > 0:
        axes.axvspan(0.5, last + 0.5, color="#f3f3f3", lw=0, zorder=0)
        axes.annotate(
            "exploring", (0.5, 1.0), (3, -3), xycoords=("data", "axes fraction"), textcoords="offset points",
            va="top", fontsize=8, color=picture.FAINT,
        )  # fmt: skip


def _colours(groups: dict[str, list[Run]]) -> list[str]:
    return [picture.COLOURS[index % len(picture.COLOURS)] for index in range(len(groups))]
