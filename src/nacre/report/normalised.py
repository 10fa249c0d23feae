"""Scores on a scale of each task, so that tasks whose returns differ in size count alike.

0 is what random actions earn, 1 what soft actor-critic does that trained on that task alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from nacre.report.evaluated_runs import Run

Scale = dict[bytes, tuple[float, float]]
"""task -> (return of random actions, return of single-task soft actor-critic)"""


class Normalised(NamedTuple):
    """A run's last evaluation on the tasks that have a scale."""

    label: str
    seed: int
    scores: dict[int, float]  # number of the task in `scale_of` -> score of the last episode, mean over repeats

    @property
    def mean(self) -> float:
        """Over tasks."""
        return float(np.mean(list(self.scores.values())))


def normalised(groups: Mapping[str, Sequence[Run]]) -> list[Normalised]:
    """The normalised scores of the runs of a family, label -> runs, that are not on one task alone.

    The scale comes from the runs themselves: runs of `random`, and of `oracle` with `single_task`; of several seeds the
    mean. Where no task has both, there are no scores.
    """
    scale = scale_of([run for group in groups.values() for run in group])
    found = []
    for label, group in groups.items():
        for run in group:
            if run.experiment.single_task >= 0:
                continue
            scores = scores_on(scale, run)
            if scores:
                found.append(Normalised(label, run.experiment.options.seed, scores))
    return found


def scores_on(scale: Scale, run: Run) -> dict[int, float]:
    """The normalised scores of a run's last evaluation, by the number of the task in `scale`."""
    own = _scores(run)
    numbered = enumerate(scale.items())
    return {number: (own[task] - low) / (high - low) for number, (task, (low, high)) in numbered if task in own}


def scale_of(runs: Sequence[Run]) -> Scale:
    """The scale of every task that both kinds of runs were scored on, where training did better than random actions.

    In the order of the random runs' test tasks.
    """
    random: dict[bytes, list[float]] = {}
    alone: dict[bytes, list[float]] = {}
    for run in runs:
        if run.experiment.settings.uniform_actions == 1:
            _append(random, _scores(run))
    for run in _longest_alone(runs):
        _append(alone, _scores(run))
    both = {task: (float(np.mean(random[task])), float(np.mean(alone[task]))) for task in random if task in alone}
    return {task: (low, high) for task, (low, high) in both.items() if high > low}


def scale_notices(runs: Sequence[Run]) -> list[str]:
    """What is to be known of a scale: which runs it leaves out, and where it averages runs that are not alike."""
    used = _longest_alone(runs)
    notices = [
        f"left out of the scale of normalised scores: the run at {run.path} is of the same task and seed as another "
        "that is at least as long."
        for run in runs
        if run.experiment.single_task >= 0 and all(run is not one for one in used)
    ]
    for one in used[1:]:
        first = used[0]
        if _how_trained(one) != _how_trained(first):
            notices.append(
                "the scale of normalised scores has single-task runs that differ in settings or in length: the run at "
                f"{first.path} has {first.test.grad_steps[-1]:,} updates, that at {one.path} "
                f"{one.test.grad_steps[-1]:,}."
            )
            break
    return notices


def _longest_alone(runs: Sequence[Run]) -> list[Run]:
    """The runs on one task alone; of several with the same task and seed, the longest."""
    found: dict[tuple[bytes, int], Run] = {}
    for run in sorted(runs, key=lambda run: -run.test.grad_steps[-1]):
        if run.experiment.settings.uniform_actions != 1 and run.experiment.single_task >= 0:
            found.setdefault((next(iter(_scores(run))), run.experiment.options.seed), run)
    return [run for run in runs if any(run is one for one in found.values())]


def _how_trained(run: Run) -> tuple[Any, int]:
    """What single-task runs of a scale should share: all settings but the task, and the number of updates."""
    settings: Any = run.experiment.settings
    settings = dataclasses.replace(settings, single_task=-1, iterations=1)
    return settings, int(run.test.grad_steps[-1])


def _append(lists: dict[bytes, list[float]], scores: dict[bytes, float]) -> None:
    for task, score in scores.items():
        lists.setdefault(task, []).append(score)


def _scores(run: Run) -> dict[bytes, float]:
    """Task -> its score in the last evaluation, mean over repeats, in the order of the test tasks."""
    returns = run.test.returns[-1, ..., -1].mean(axis=0)
    return dict(zip(_identities(run), returns.tolist(), strict=True))


def _identities(run: Run) -> Iterator[bytes]:
    """What tells tasks apart, whatever their number in a run: their parameters."""
    tasks = run.test_tasks
    for number in range(len(next(iter(tasks.values())))):
        yield b"".join(np.asarray(tasks[name][number], np.float64).tobytes() for name in sorted(tasks))
