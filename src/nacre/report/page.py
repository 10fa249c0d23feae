"""One self-contained page about runs: curves, adaptation, beliefs, per-task returns, configuration, perhaps videos."""

from __future__ import annotations

import base64
import html
import io
import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nacre.deploy.trained_agent import TrainedAgent, describe, load
from nacre.families.family import num_tasks
from nacre.report import curves, picture, trials, video
from nacre.report.efficiency import WINDOW, compare
from nacre.report.normalised import normalised
from nacre.types import Tasks

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #262626; max-width: 1180px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.6em; } h2 { margin-top: 2em; border-bottom: 1px solid #ddd; } h3 { margin-bottom: .3em; }
img { max-width: 100%; } table { border-collapse: collapse; } td, th { padding: .2em .8em; border: 1px solid #ddd; }
th { text-align: left; background: #f6f6f6; } td.number { text-align: right; font-variant-numeric: tabular-nums; }
pre { background: #f6f6f6; padding: 1em; overflow: auto; font-size: 12px; } p.note { color: #666; }
.videos img { max-width: 260px; margin: 4px; }
"""


def write(runs: Sequence[Path], out: Path, num_videos: int = 0) -> None:
    """Writes a page that opens without network: everything is in the one file.

    For every family: learning curves and return by episode; the steps that other methods need beside PEARL, where there
    are such; normalised scores, where runs of `random` and of single-task soft actor-critic are among them. For every
    run: the posterior means of all test tasks, how the posterior narrows, the scored return of every task, its settings
    and versions; and `num_videos` trials as moving pictures. Raises NacreError for a run that cannot be read, has no
    evaluation or no checkpoint.
    """
    families = curves.read_families(runs)
    size, about = (15.0, 3.7 * len(families)), f"learning curves, {', '.join(families)}"
    drawn = _svg(*size, lambda figure: curves.draw_families(figure, families), about)
    parts = [
        f"<h1>nacre: {html.escape(', '.join(families))}</h1>", _summary(families),
        *_unlike(families), "<h2>Learning curves</h2>", drawn,
        "<p class='note'>Left and middle: return of the scored episode of a trial, on held-out tasks where the "
        "family has such. Right: return by episode of the trial. A trial begins without knowledge of its task.</p>",
    ]  # fmt: skip
    for family, groups in families.items():
        parts += _efficiency(family, groups) + _normalised(family, groups)
    named = {path.resolve(): path for path in reversed(runs)}  # as it was named first
    for path in dict.fromkeys(path.resolve() for path in runs):
        parts += _run(named[path], num_videos)
    text = "\n".join(parts)
    page = (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>nacre report</title>"
        f"<link rel='icon' href='data:,'><style>{STYLE}</style></head>\n<body>\n{text}\n</body></html>\n"
    )
    with picture.written_whole(out) as draft:
        draft.write_text(page)


def _summary(families: curves.Families) -> str:
    """A table with a row for every run."""
    rows = [
        [
            family,
            label,
            run.experiment.options.seed,
            f"{run.test.env_steps[-1]:,}",
            f"{run.test.grad_steps[-1]:,}",
            f"{run.test.wall_seconds[-1] / 60:.1f}",
            f"{run.test.scores[-1]:.2f}",
        ]
        for family, groups in families.items()
        for label, group in groups.items()
        for run in group
    ]
    columns = ["environment steps", "gradient steps", "minutes", "score of the last evaluation"]
    return _table(["family", "run", "seed", *columns], rows)


def _unlike(families: curves.Families) -> list[str]:
    """A note for each family whose runs are not scored alike."""
    found = {family: curves.differences(groups) for family, groups in families.items()}
    return [
        f"<p class='note'>The runs on {html.escape(family)} differ in {what}: their scores are not of equal trials.</p>"
        for family, what in found.items()
        if what
    ]


def _efficiency(family: str, groups: dict[str, list[curves.Run]]) -> list[str]:
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


def _normalised(family: str, groups: dict[str, list[curves.Run]]) -> list[str]:
    """A table of normalised scores, where the runs give a scale."""
    found = normalised(groups)
    if not found:
        return []
    numbers = sorted({number for one in found for number in one.scores})
    rows = [
        [one.label, one.seed, f"{one.mean:.3f}", *(f"{one.scores[n]:.3f}" if n in one.scores else "" for n in numbers)]
        for one in found
    ]
    return [
        f"<h2>Normalised scores, {html.escape(family)}</h2>",
        _table(["run", "seed", "mean", *(f"task {number + 1}" for number in numbers)], rows),
        "<p class='note'>Of the scored episode in the last evaluation: 0 is what random actions earn on the task, 1 "
        "what soft actor-critic does that trained on this task alone. Tasks are in the order of the random runs' test "
        "tasks; of a run, those it was scored on.</p>",
    ]


def _run(path: Path, num_videos: int) -> list[str]:
    """What is told of one run."""
    agent, config = load(path), json.loads((path / "config.json").read_text())
    family, label = curves.names(agent.experiment)
    name = f"{label} on {family}, seed {agent.experiment.options.seed}"
    parts = [f"<h2>{html.escape(name)}</h2>", f"<p class='note'>{html.escape(str(path))}</p>"]
    played = trials.play(agent, agent.tasks.test)
    if played.belief_means:
        shown = html.escape(_parameter(played.tasks).name)
        parts.append("<h3>Belief</h3>")
        parts.append(_svg(11.0, 4.2, lambda figure: _draw_beliefs(figure, played), f"beliefs of {name}"))
        parts.append(
            "<p class='note'>Left: the mean of the posterior at the end of a trial, one dot a test task, in the plane "
            "of the two latent directions in which tasks differ most. Right: its standard deviation, mean over latent "
            f"dimensions, as transitions come in, one line a task. Colour: {shown}.</p>"
        )
    drawn = _svg(11.0, 3.4, lambda figure: _draw_tasks(figure, played), f"returns by task of {name}")
    parts += ["<h3>Return of the scored episode, by task</h3>", drawn]
    if num_videos:
        parts += ["<h3>Trials</h3>", _videos(agent, num_videos, name)]
    versions = config["versions"] | ({"resumed": len(config["resumed"])} if config.get("resumed") else {})
    settings = html.escape(json.dumps(config, indent=2))
    parts += ["<h3>Versions</h3>", _table(list(versions), [list(versions.values())]), "<h3>Settings</h3>"]
    return [*parts, f"<details><summary>config.json</summary><pre>{settings}</pre></details>"]


def _table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def cell(value: Any) -> str:
        text = str(value)
        number = text.replace(",", "").replace(".", "").lstrip("-").isdecimal()
        return f"<td{' class=number' if number else ''}>{html.escape(text)}</td>"

    heads = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows)
    return f"<table><tr>{heads}</tr>{body}</table>"


def _svg(width: float, height: float, draw: Callable[[Figure], None], about: str) -> str:
    """A figure as an image that stands in the page itself; `about` is read out where images are not seen."""
    target = io.BytesIO()
    with picture.figure(width, height) as figure:
        draw(figure)
        figure.savefig(target, format="svg", metadata={"Date": None})
    words = html.escape(about, quote=True)
    return f"<img alt='{words}' src='data:image/svg+xml;base64,{base64.b64encode(target.getvalue()).decode()}'>"


def _draw_beliefs(figure: Figure, played: trials.Trials) -> None:
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.2))
    means = np.stack([rows[-1] for rows in played.belief_means])
    plane, names = _plane(means)
    shown = _parameter(played.tasks)
    dots = left.scatter(*plane.T, **shown.colours, s=34, edgecolors="white", linewidths=0.6)
    figure.colorbar(dots, ax=left, label=shown.name)
    left.set_aspect("equal", adjustable="datalim")  # distances count, also where tasks lie on a line
    left.set(xlabel=names[0], ylabel=names[1], title="posterior means of the test tasks")
    colours = dots.to_rgba(shown.values)
    for stds, colour in zip(played.belief_stds, colours, strict=True):
        right.plot(np.arange(len(stds)), stds.mean(axis=1), color=colour, lw=1.0, alpha=0.8)
    right.set_xscale("symlog", linthresh=1)
    right.set_yscale("log")
    right.set(xlabel="transitions seen (0: prior)", ylabel="standard deviation", title="the posterior narrows")
    right.set_xlim(left=0)


def _plane(means: np.ndarray) -> tuple[np.ndarray, tuple[str, str]]:
    """Means [task, latent_dim] in the plane of their two principal directions, or as they are."""
    if means.shape[1] == 1:
        return np.column_stack([means[:, 0], np.zeros(len(means))]), ("z", "")
    if means.shape[1] == 2:
        return means, ("z 1", "z 2")
    centred = means - means.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    directions = np.vstack([directions, np.zeros((2, means.shape[1]))])[:2]  # one task has no direction
    return centred @ directions.T, ("first principal direction of z", "second")


class _Shown(NamedTuple):
    """One number for each task to colour and order it by."""

    values: np.ndarray  # [task]; of a cyclic one in [0, 2 pi)
    name: str
    is_cyclic: bool = False

    @property
    def colours(self) -> dict[str, Any]:
        """How a scatter plot is told them: angles by a map that ends where it begins."""
        cyclic = {"cmap": "hsv", "vmin": 0.0, "vmax": 2 * np.pi}
        return {"c": self.values} | (cyclic if self.is_cyclic else {"cmap": "viridis"})


def _parameter(tasks: Tasks) -> _Shown:
    """The direction of angles and places, a robot's length with its sign, the mean of exponents; of other tasks the
    first parameter that differs between them, and of several numbers the one that differs most."""
    differing = [name for name, values in tasks.items() if (values != values[0]).any()]
    name = [*differing, *tasks][0]
    values = tasks[name]
    if name == "angle":
        return _Shown(values % (2 * np.pi), "angle (rad)", True)
    if values.size == len(values):
        return _Shown(values.reshape(-1), name)
    size = values.shape[1]
    if name in ("goal", "wind") and size == 2:
        return _Shown(np.arctan2(values[:, 1], values[:, 0]) % (2 * np.pi), f"direction of the {name} (rad)", True)
    if name == "robot" and size == 2:
        return _Shown(values[:, 0] * values[:, 1], "length of the limbs, negative: actuators turned")
    if name == "exponents":
        return _Shown(values.mean(axis=1), f"mean of the {size} exponents")
    most = int(values.std(axis=0).argmax())
    return _Shown(values[:, most], f"{name}, number {most + 1} of {size}, which differs most")


def _draw_tasks(figure: Figure, played: trials.Trials) -> None:
    axes: Axes = figure.subplots()
    values, name, _ = _parameter(played.tasks)
    order = np.argsort(values)
    first, last = played.returns[:, 0], played.returns[:, -1]
    axes.vlines(values[order], first[order], last[order], color="#d0d0d0", lw=1.2)
    axes.plot(values[order], first[order], "o", ms=4, color=trials.EXPLORATION_COLOURS[1], label="first episode")
    axes.plot(values[order], last[order], "o", ms=5.5, color=trials.LAST_COLOUR, label="scored episode")
    axes.set(xlabel=name, ylabel="return")
    axes.legend()


def _videos(agent: TrainedAgent, num: int, name: str) -> str:
    """Trials on tasks that are spread evenly over the test tasks, as moving pictures."""
    chosen, images = trials.choose_tasks(agent.tasks.test, num), []
    for index in range(num_tasks(chosen)):
        task = " ".join(
            f"{name}=" + ",".join(repr(float(number)) for number in np.atleast_1d(value))
            for name, value in describe(chosen, index).items()
        )
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "trial.gif"
            video.record(agent, task, file)
            data = base64.b64encode(file.read_bytes()).decode()
        words = html.escape(f"trial of {name}, {task[:80]}")
        images.append(f"<img alt='{words}' src='data:image/gif;base64,{data}'>")
    return f"<div class='videos'>{''.join(images)}</div>"
