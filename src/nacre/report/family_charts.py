"""The charts of a family on a page: its methods' learning curves, their return by episode, and their losses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nacre.report.chart import COLOURS, DASHES, GREY, Axis, Chart, Dots, Level, Line, View
from nacre.report.curves import FAR, learns, on_common_points, steps_of
from nacre.report.evaluated_runs import Run
from nacre.report.known import KNOWN_POINTS
from nacre.report.picture import steps_text
from nacre.report.statistics import bootstrap_interval, interquartile_mean
from nacre.runs.directory import RunDirectory
from nacre.runs.tables import COUNTERS

MOST_POINTS = 250
"""Of a line of metrics; of more rows, some are left out at equal distances."""
STEPS, MINUTES = "steps", "minutes"
WORDS = {"env_steps": "environment steps", "grad_steps": "gradient steps"}


class Look(NamedTuple):
    """How a method is drawn on the whole page."""

    method: str
    colour: str
    dash: str


def looks(methods: Sequence[str]) -> dict[str, Look]:
    """A look for each method by its label, in order."""
    return {
        method: Look(method, COLOURS[index % len(COLOURS)], DASHES[index % len(DASHES)])
        for index, method in enumerate(dict.fromkeys(methods))
    }


class Group(NamedTuple):
    """The runs of a family by method, with how each method is drawn."""

    family: str
    runs: dict[str, list[Run]]
    looks: dict[str, Look]

    @property
    def steps(self) -> str:
        """The column of Evaluations that counts the steps."""
        return steps_of(self.runs)

    @property
    def everything(self) -> list[Run]:
        return [run for runs in self.runs.values() for run in runs]

    @property
    def in_all_tasks(self) -> Group:
        """Without runs of a single task each, whose scores are of that task alone; all, where there are no others."""
        kept = {method: runs for method, runs in self.runs.items() if runs[0].experiment.single_task < 0}
        return self._replace(runs=kept or self.runs)

    @property
    def reach(self) -> float:
        """How many steps the longest run took."""
        return max(float(getattr(run.test, self.steps)[-1]) for run in self.everything)


def scores(group: Group, levels: dict[str, float]) -> Chart:
    """Return of the scored episode against steps or minutes; `levels`: horizontal lines by name."""
    lines = [Level(name, value) for name, value in levels.items()]
    for method, runs in group.runs.items():
        is_oracle = runs[0].experiment.algorithm_name == "oracle"
        if is_oracle or not learns(runs[0]):
            name = "oracle, at the end" if is_oracle else method
            last = interquartile_mean(np.stack([run.test.scores[-1:] for run in runs]))[0]
            lines.append(Level(name, float(last), group.looks[method].colour if is_oracle else GREY, method))
    return Chart(
        title=f"Score of the methods on {group.family}",
        alt=_scores_in_words(group, levels),
        views=[_score_view(group, STEPS, lines), _score_view(group, MINUTES, lines)],
        note="Return of a trial's last episode, the mean over test tasks. Thin: a seed. Bold: the interquartile mean "
        "over seeds with its 95 % bootstrap interval. Faint: on train tasks. Hollow: published.",
    )


def _score_view(group: Group, name: str, levels: Sequence[Level]) -> View:
    column, unit = (group.steps, 1.0) if name == STEPS else ("wall_seconds", 60.0)
    lines = list[Line]()
    for method, runs in group.runs.items():
        if learns(runs[0]):
            lines += _score_lines(group.looks[method], runs, column, unit)
    x = Axis(WORDS[column], unit="steps", low=0.0) if name == STEPS else Axis("minutes since the run began", low=0.0)
    return View(x, Axis("score"), name, lines, levels, _published(group) if name == STEPS else [])


def _score_lines(look: Look, runs: Sequence[Run], column: str, unit: float) -> list[Line]:
    """A line a run on test tasks and one on train tasks; of several seeds, a bold one with a band."""
    lines, alone = [], len(runs) == 1
    for run in runs:
        name = f"{look.method}, seed {run.experiment.options.seed}"
        of_run: dict[str, Any] = dict(colour=look.colour, method=look.method, smooth=True)
        x = getattr(run.test, column) / unit
        lines.append(Line(name, x, run.test.scores, **of_run, dash=look.dash if alone else "",
                          width=2.2 if alone else 1.0, opacity=1.0 if alone else 0.45))  # fmt: skip
        if run.train is not None:
            x = getattr(run.train, column) / unit
            lines.append(Line(f"{name}, train tasks", x, run.train.scores, **of_run, width=1.0, opacity=0.3))
    if not alone:
        x, values = on_common_points([run.test for run in runs], column)
        low, high = bootstrap_interval(values)
        name = f"{look.method}, interquartile mean of {len(runs)} seeds"
        lines.append(Line(name, x / unit, interquartile_mean(values), look.colour, look.method, low, high,
                          look.dash, 2.6, smooth=True))  # fmt: skip
    return lines


def _published(group: Group) -> list[Dots]:
    """Scores that others have published, of those within reach of the runs."""
    if group.steps != "env_steps":
        return []
    near = [point for point in KNOWN_POINTS.get(group.family, ()) if point.env_steps <= FAR * group.reach]
    if not near:
        return []
    steps, values = [point.env_steps for point in near], [point.score for point in near]
    return [Dots(steps, values, [f"published: {point.source}" for point in near], GREY, hollow=True)]


def _scores_in_words(group: Group, levels: dict[str, float]) -> str:
    parts = []
    for method, runs in group.runs.items():
        first, last = (interquartile_mean(np.array([run.test.scores[at] for run in runs])) for at in (0, -1))
        steps = steps_text(max(getattr(run.test, group.steps)[-1] for run in runs))
        many = f"{len(runs)} seeds" if len(runs) > 1 else f"seed {runs[0].experiment.options.seed}"
        parts.append(f"{method} ({many}) from {float(first):.4g} to {float(last):.4g} at {steps} {WORDS[group.steps]}")
    parts += [f"{name} {value:.4g}" for name, value in levels.items()]
    return f"Scores on {group.family}: {'; '.join(parts)}."


def by_episode(group: Group) -> Chart:
    """Return by episode of the trial, of every method's first and last evaluation."""
    lines, words = list[Line](), []
    for method, runs in group.runs.items():
        look = group.looks[method]
        for name, at in (("first evaluation", 0), ("last evaluation", -1)):
            returns = np.stack([run.test.returns[at].mean(axis=0) for run in runs]).mean(axis=0)  # [task, episode]
            episodes, mean, last = np.arange(1, returns.shape[1] + 1), returns.mean(axis=0), at == -1
            low, high = np.percentile(returns, [10, 90], axis=0) if last else (None, None)
            lines.append(Line(f"{method}, {name}", episodes, mean, look.colour, method, low, high, look.dash,
                              2.4 if last else 1.0, 1.0 if last else 0.5, marks=True))  # fmt: skip
        words.append(f"{method} from {mean[0]:.4g} in the first to {mean[-1]:.4g} in the last episode")
    return Chart(
        title=f"Return by episode of a trial on {group.family}",
        alt=f"Return by episode of a trial on {group.family}, at the last evaluation: {'; '.join(words)}.",
        views=[View(Axis("episode of the trial", whole=True), Axis("return"), lines=lines)],
        note="A trial begins without knowledge of its task. Bold: the last evaluation, mean over tasks and seeds; "
        "the band holds the middle 80 % of tasks. Thin: the first evaluation.",
    )


def metrics(group: Group) -> tuple[list[Chart], list[Chart]]:
    """(training losses, the other metrics): a chart each, a line a run; all on the same x scale."""
    tables = [(method, run, RunDirectory(run.path).metrics()) for method, runs in group.runs.items() for run in runs]
    names = [name for _, _, table in tables for name in table if name not in COUNTERS]
    found = [_metric(group, name, tables) for name in sorted(dict.fromkeys(names))]
    charts = [chart for chart in found if any(len(line.x) for line in chart.views[0].lines)]
    losses = [chart for chart in charts if "loss" in chart.title]
    return losses, [chart for chart in charts if "loss" not in chart.title]


def _metric(group: Group, name: str, tables: Sequence[tuple[str, Run, dict[str, np.ndarray]]]) -> Chart:
    views, words = [], list[str]()
    for view, column, unit in ((STEPS, group.steps, 1.0), (MINUTES, "wall_seconds", 60.0)):
        lines, reach = [], 0.0
        for method, run, table in tables:
            if name not in table or not len(table[name]):
                continue
            look, seed = group.looks[method], run.experiment.options.seed
            at = np.unique(np.linspace(0, len(table[name]) - 1, MOST_POINTS).astype(int))
            x, y = table[column][at] / unit, table[name][at].astype(float)
            lines.append(Line(f"{method}, seed {seed}", x, y, look.colour, method, dash=look.dash, width=1.3,
                              opacity=0.8, smooth=True))  # fmt: skip
            if view == STEPS and np.isfinite(y).any():
                known = y[np.isfinite(y)]
                words.append(f"{method}, seed {seed}, from {known[0]:.3g} to {known[-1]:.3g}")
        reach = max(getattr(run.test, column)[-1] / unit for run in group.everything)
        axis = Axis(WORDS[column] if view == STEPS else "minutes", "linear", 0.0, float(reach) or None,
                    "steps" if view == STEPS else "")  # fmt: skip
        views.append(View(axis, Axis(""), view, lines))
    return Chart(f"{name}, {group.family}", f"{name} on {group.family}: {'; '.join(words)}.", views, height=150)
