"""One self-contained page about runs: curves, adaptation, beliefs, per-task returns, configuration, perhaps videos."""

from __future__ import annotations

import base64
import html
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nacre.deploy.trained_agent import TrainedAgent, load
from nacre.errors import NacreError
from nacre.families.family import num_tasks, task_text
from nacre.report import chart, evaluated_runs, family_charts, picture, run_charts, trials, video
from nacre.report.chart import Chart
from nacre.report.efficiency import WINDOW, compare
from nacre.report.family_charts import Group
from nacre.report.levels import NAMES, lower_levels
from nacre.report.normalised import normalised, scale_notices
from nacre.report.statistics import pooled_interquartile_mean
from nacre.report.task_numbers import columns
from nacre.runs.files import notice
from nacre.types import Tasks

FOLDER = Path(__file__).parent
SMOOTHING = {"1": "none", "3": "3 points", "5": "5 points", "9": "9 points", "21": "21 points"}
VIDEO_SIZE, VIDEO_RATE = 480, 10
"""Pixels across and frames a second of a video, which stands in the page itself."""


def write(runs: Sequence[Path], out: Path, num_videos: int = 0) -> None:
    """Writes a page that opens without network: everything is in the one file.

    For every family: scores with intervals, learning curves and return by episode beside what random actions and doing
    nothing earn, training losses; the steps that other methods need beside PEARL, where there are such; normalised
    scores, where runs of `random` and of single-task soft actor-critic are among them. For every run: trials, the
    posterior means of all test tasks, how the posterior narrows, the return on every task, its settings and versions;
    and `num_videos` trials as videos. A run whose trials need logged transitions, but whose data set is missing, has
    the returns of its last evaluation instead of new trials; a notice tells so. Raises NacreError for a run that cannot
    be read, has no evaluation or no checkpoint.
    """
    families = evaluated_runs.read_families(runs)
    named = {path.resolve(): path for path in reversed(runs)}  # as it was named first
    agents = {path: load(named[path]) for path in dict.fromkeys(path.resolve() for path in runs)}
    looks = family_charts.looks([method for groups in families.values() for method in groups])
    parts = [f"<h1>nacre: {html.escape(', '.join(families))}</h1>", *_bar(looks)]
    for name, groups in evaluated_runs.distinct_seeds(families).items():
        group = Group(name, groups, looks)
        parts += _family(group, agents[group.in_all_tasks.everything[0].path.resolve()])
    everything = [run for groups in families.values() for runs in groups.values() for run in runs]
    evaluated = {run.path.resolve(): run.test.returns[-1].mean(axis=0) for run in everything}
    lacking = {path: reason for path, agent in agents.items() if (reason := _lacks_data(agent))}
    for number, (path, agent) in enumerate(agents.items(), start=1):
        if path in lacking:
            parts += _run_without_data(named[path], agent, evaluated[path], lacking[path])
        else:
            parts += _run(named[path], agent, number, num_videos)
    if lacking:
        paths = ", ".join(str(named[path]) for path in lacking)
        notice(f"no trials of {paths} are drawn: {next(iter(lacking.values()))}")
    with picture.written_whole(out) as draft:
        draft.write_text(_page("\n".join(parts)))


def _page(body: str) -> str:
    style, script = ((FOLDER / name).read_text() for name in ("page.css", "page.js"))
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>nacre report</title>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<link rel='icon' href='data:,'><style>{style}</style></head>\n<body><main>\n{body}\n</main>"
        f"<script type='application/json' id='palettes'>{chart.palettes()}</script>"
        f"<script>{script}</script></body></html>\n"
    )


def _bar(looks: dict[str, family_charts.Look]) -> list[str]:
    """The legend of all charts, which also hides methods, and what they are drawn against."""
    boxes = [
        f"<label><input type='checkbox' checked data-method='{html.escape(look.method, quote=True)}'>"
        f"<svg width='28' height='12' aria-hidden='true'><line x1='0' x2='28' y1='6' y2='6' stroke='{look.colour}' "
        f"stroke-width='3' stroke-dasharray='{look.dash}'/></svg>{html.escape(look.method)}</label>"
        for look in looks.values()
    ]
    lists = [
        chart.select("across", "x axis", {family_charts.STEPS: "steps", family_charts.MINUTES: "minutes"}),
        chart.select("smoothing", "smoothing", SMOOTHING),
    ]
    return [
        f"<div class='bar shared' role='group' aria-label='methods and axes'>{''.join(boxes + lists)}</div>",
        "<p class='note'>Point at a chart, touch it, or go to it by Tab and press the arrow keys: the numbers of the "
        "nearest point stand below it.</p>",
    ]


# ----------------------------------------------------------------------------------------------------------------------
# A family


def _family(group: Group, agent: TrainedAgent) -> list[str]:
    """What is told of a family; `agent`: of one of its runs, whose test tasks the lower levels are of."""
    name = html.escape(group.family)
    levels = _levels(group, agent)
    losses, others = family_charts.metrics(group)
    scored = group.in_all_tasks
    parts = [f"<h2>Scores on {name}</h2>", _score_table(scored, levels), *_unlike(scored)]
    if len(scored.runs) < len(group.runs):
        parts.append("<p class='note'>Runs of a single task each are left out: their scores are of that task.</p>")
    parts += [
        f"<h2>Learning curves of {html.escape(', '.join(scored.runs))} on {name}</h2>",
        _row([family_charts.scores(scored, levels), family_charts.by_episode(scored)]),
    ]
    if losses:
        parts += [f"<h3>Training losses on {name}</h3>", _row(losses, "small")]
    if others:
        parts.append(f"<details><summary>Other metrics on {name}</summary>{_row(others, 'small')}</details>")
    return parts + _efficiency(group.family, group.runs) + _normalised(group.family, group.runs)


def _levels(group: Group, agent: TrainedAgent) -> dict[str, float]:
    """What random actions and doing nothing earn, but for what a run of `random` is there for."""
    there = {run.experiment.settings.uniform_actions for run in group.everything}
    levels = lower_levels(agent.family, agent.tasks.test)
    return {name: value for name, value in levels.items() if NAMES[name] not in there}


def _row(charts: Iterable[Chart], kind: str = "", select: str = "") -> str:
    return f"<div class='row {kind}'>{''.join(chart.figure(one, select) for one in charts)}</div>"


def _score_table(group: Group, levels: dict[str, float]) -> str:
    """A row for every method, with its interval, and for what nobody has learnt; then one for every run."""
    rows, seeds = list[list[Any]](), list[list[Any]]()
    head = ["method", "seeds", family_charts.WORDS[group.steps], "minutes", "score", "interquartile mean"]
    for method, runs in group.runs.items():
        last = np.stack([run.test.returns[-1, ..., -1].mean(axis=0) for run in runs])  # [seed, task]
        middle = pooled_interquartile_mean(last)
        interval = f"{middle.low:.2f} to {middle.high:.2f}" if len(runs) > 1 else "one seed"
        reached = [int(getattr(run.test, group.steps)[-1]) for run in runs]
        steps = f"{max(reached):,}" if len(set(reached)) == 1 else f"{min(reached):,} to {max(reached):,}"
        minutes = np.mean([run.test.wall_seconds[-1] / 60 for run in runs])
        rows.append([method, len(runs), steps, f"{minutes:.1f}", f"{last.mean():.2f}", f"{middle.value:.2f}",
                     interval])  # fmt: skip
        seeds += [_seed_row(method, run) for run in runs]
    rows += [[name, "", "", "", f"{value:.2f}", "", ""] for name, value in levels.items()]
    seed_head = ["method", "seed", "environment steps", "gradient steps", "minutes", "score"]
    return (
        _table([*head, "its 95 % interval"], rows)
        + "<p class='note'>Score: the return of a trial's last episode at the last evaluation, mean "
        "over test tasks and seeds. The interquartile mean and its bootstrap interval are over seeds and tasks. Random "
        "actions and doing nothing: one episode a test task.</p>"
        f"<details><summary>Every run on {html.escape(group.family)}</summary>{_table(seed_head, seeds)}</details>"
    )


def _seed_row(method: str, run: evaluated_runs.Run) -> list[Any]:
    test = run.test
    steps = [f"{test.env_steps[-1]:,}", f"{test.grad_steps[-1]:,}"]
    return [method, run.experiment.options.seed, *steps, f"{test.wall_seconds[-1] / 60:.1f}", f"{test.scores[-1]:.2f}"]


def _unlike(group: Group) -> list[str]:
    """A note where the runs of the family are not scored alike."""
    what = evaluated_runs.differences(group.runs)
    name = html.escape(group.family)
    note = f"<p class='note'>The runs on {name} differ in {what}: their scores are not of equal trials.</p>"
    return [note] if what else []


def _efficiency(family: str, groups: dict[str, list[evaluated_runs.Run]]) -> list[str]:
    """A table of the steps that other methods need beside PEARL, where both are there."""
    found = compare(groups)
    if found is None:
        return []
    rows = [
        [
            one.label, one.num_runs, f"{one.env_steps:,}", f"{one.score:.2f}",
            *(part for race in (one.to_pearls, one.to_its_own) for part in (race.method, race.pearl, race.ratio)),
        ]
        for one in found.others
    ]  # fmt: skip
    columns = ("method's steps to {}", "PEARL's", "ratio")
    goals = (f"PEARL's return, {found.score:.2f}", "its own return")
    head = [column.format(goal) for goal in goals for column in columns]
    return [
        f"<h2>Environment steps for the same return, {html.escape(family)}</h2>",
        _table(["run", "seeds", "environment steps", "return", *head], rows),
        f"<p class='note'>Return: of the scored episode, mean of {WINDOW} evaluations in a row (all, where there are "
        "fewer; the steps are those in their middle), interquartile mean over seeds, as far as all seeds have come. "
        "Steps until it was first as high; at most: it was from the first evaluation on. "
        f"PEARL: {html.escape(found.label)}.</p>",
    ]


def _normalised(family: str, groups: dict[str, list[evaluated_runs.Run]]) -> list[str]:
    """A table of normalised scores, where the runs give a scale."""
    found = normalised(groups)
    if not found:
        return []
    numbers = sorted({number for one in found for number in one.scores})
    rows = [
        [one.label, one.seed, f"{one.mean:.3f}", *(f"{one.scores[n]:.3f}" if n in one.scores else "" for n in numbers)]
        for one in found
    ]
    told = scale_notices([run for group in groups.values() for run in group])
    return [
        f"<h2>Normalised scores, {html.escape(family)}</h2>",
        _table(["run", "seed", "mean", *(f"task {number + 1}" for number in numbers)], rows),
        "<p class='note'>Of the scored episode in the last evaluation: 0 is what random actions earn on the task, 1 "
        "what soft actor-critic does that trained on this task alone. Tasks are in the order of the random runs' test "
        "tasks; of a run, those it was scored on.</p>",
        *(f"<p class='note'>{html.escape(one)}</p>" for one in told),
    ]


# ----------------------------------------------------------------------------------------------------------------------
# A run


def _lacks_data(agent: TrainedAgent) -> str:
    """Why the agent can do no trials: their logged transitions are of a data set that cannot be opened; else ''."""
    if agent.trials.meets.logs is None or not agent.experiment.options.data:
        return ""
    try:
        agent.experiment.open_data()
    except NacreError as error:
        return str(error)
    return ""


def _name(agent: TrainedAgent) -> str:
    family, label = evaluated_runs.names(agent.experiment)
    return f"{label} on {family}, seed {agent.experiment.options.seed}"


def _run(path: Path, agent: TrainedAgent, number: int, num_videos: int) -> list[str]:
    """What is told of one run, the page's `number`-th."""
    name = _name(agent)
    heading = html.escape(name)
    played = trials.play(agent, agent.tasks.test)
    chosen = played.only(trials.spread_evenly(played.tasks))
    parts = [
        *_heading(path, heading),
        f"<h3>Trials of {heading}</h3>", _trial_note(chosen), _row(run_charts.trial_charts(agent, chosen), "small"),
    ]  # fmt: skip
    if num_videos:
        parts.append(_videos(agent, num_videos, name))
    task_chart = run_charts.task_chart(played.tasks, played.returns, name)
    numbers = task_chart.views[0].parameters
    select = f"parameter-{number}"
    if len(numbers) > 1:
        options = {str(index): one.name for index, one in enumerate(numbers)}
        parts.append(f"<div class='bar'>{chart.select(select, 'colour and order tasks by', options)}</div>")
    if played.belief_means:
        parts += [f"<h3>Belief of {heading}</h3>", _row(run_charts.belief_charts(played, name), "", select)]
    parts += [f"<h3>Tasks of {heading}</h3>", _row([task_chart], "", select)]
    return [*parts, _task_table(played.tasks, played.returns), *_settings(path, agent, heading)]


def _run_without_data(path: Path, agent: TrainedAgent, returns: np.ndarray, reason: str) -> list[str]:
    """What is told of a run that can do no trials; `returns` [task, episode] are of its last evaluation."""
    name = _name(agent)
    heading = html.escape(name)
    note = f"No new trials: {reason} The returns below are of the last evaluation in training."
    return [
        *_heading(path, heading), f"<p class='note'>{html.escape(note)}</p>", f"<h3>Tasks of {heading}</h3>",
        _row([run_charts.task_chart(agent.tasks.test, returns, name)]), _task_table(agent.tasks.test, returns),
        *_settings(path, agent, heading),
    ]  # fmt: skip


def _heading(path: Path, heading: str) -> list[str]:
    return [f"<h2>{heading}</h2>", f"<p class='note'>{html.escape(str(path))}</p>"]


def _settings(path: Path, agent: TrainedAgent, heading: str) -> list[str]:
    config = json.loads((path / "config.json").read_text())
    versions = config["versions"] | ({"resumed": len(config["resumed"])} if config.get("resumed") else {})
    settings = html.escape(json.dumps(config, indent=2))
    return [
        f"<h3>Settings and versions of {heading}</h3>", _table(list(versions), [list(versions.values())]),
        f"<details><summary>config.json of seed {agent.experiment.options.seed}</summary>"
        f"<pre tabindex='0'>{settings}</pre></details>",
    ]  # fmt: skip


def _trial_note(played: trials.Trials) -> str:
    """What the colours of episodes mean."""
    kinds = dict.fromkeys(run_charts.kind(played, index)[:2] for index in range(len(played.episodes)))
    lines = "".join(
        f"<label><svg width='28' height='12' aria-hidden='true'><line x1='0' x2='28' y1='6' y2='6' stroke='{colour}' "
        f"stroke-width='3'/></svg>{what}</label>"
        for what, colour in kinds
    )
    return f"<div class='bar'>{lines}</div>"


def _task_table(tasks: Tasks, returns: np.ndarray) -> str:
    """All parameters of all test tasks, and their `returns` [task, episode]."""
    parameters = columns(tasks)
    head: list[str] = ["task", *(one.name for one in parameters), "first episode", "scored episode"]
    rows = [
        [task + 1, *(f"{one.values[task]:.4g}" for one in parameters), f"{first:.2f}", f"{last:.2f}"]
        for task, (first, last) in enumerate(zip(returns[:, 0], returns[:, -1], strict=True))
    ]
    return f"<details><summary>All {len(rows)} test tasks with all parameters</summary>{_table(head, rows)}</details>"


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table, which scrolls where it is wider than the page."""

    def cell(value: Any) -> str:
        text = str(value)
        number = text.replace(",", "").replace(".", "").lstrip("-").isdecimal()
        return f"<td{' class=number' if number else ''}>{html.escape(text)}</td>"

    heads = "".join(f"<th scope='col'>{html.escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return (
        f"<div class='scroll' tabindex='0' role='region' aria-label='table'><table><tr>{heads}</tr>{body}</table></div>"
    )


def _videos(agent: TrainedAgent, num: int, name: str) -> str:
    """Trials on tasks that are spread evenly over the test tasks, as videos."""
    chosen, images = trials.choose_tasks(agent.tasks.test, num), []
    for index in range(num_tasks(chosen)):
        task = task_text(chosen, index)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "trial.gif"
            video.record(agent, task, file, size=VIDEO_SIZE, frames_per_second=VIDEO_RATE)
            data = base64.b64encode(file.read_bytes()).decode()
        words = html.escape(f"trial of {name}, {task[:80]}")
        images.append(f"<img alt='{words}' src='data:image/gif;base64,{data}'>")
    return f"<div class='videos'>{''.join(images)}</div>"
