"""Methods beside each other: scores over seeds and test tasks with intervals, and what they cost."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nacre.errors import NacreError, unknown
from nacre.report.efficiency import Reached, curve
from nacre.report.evaluated_runs import (
    Evaluations,
    Families,
    Run,
    differences,
    grouped,
    one_a_seed,
    read_run,
    same_tasks,
)
from nacre.report.normalised import Scale, scale_notices, scale_of, scores_on
from nacre.report.statistics import Estimate, pooled_interquartile_mean, probability_of_improvement
from nacre.runs.below import FoundRuns, runs_in

UNEQUAL = 1.05
"""How many times as many steps one run may have taken as another before it is said."""

Thresholds = float | Mapping[str, float] | None
"""A score of every family, or of each by name."""


class Row(NamedTuple):
    """A method on a family: runs that differ in nothing but their seed and length."""

    family: str
    method: str
    seeds: tuple[int, ...]
    env_steps: tuple[int, int]  # fewest and most of the seeds, where they were scored
    grad_steps: tuple[int, int]
    minutes: float  # mean over seeds
    offline: bool  # learns from logged transitions: takes gradient steps, and no environment steps
    scores: np.ndarray  # [seed, task]: return of the scored episode, mean over repeats
    iqm: Estimate  # of the scores, over seeds and tasks
    normalised_scores: np.ndarray | None  # [seed, task that has a scale]
    normalised_iqm: Estimate | None
    threshold: float | None
    to_threshold: Reached | None  # environment steps; gradient steps where `offline`
    minutes_to_threshold: float | None  # when the seeds had taken these steps, mean over seeds

    @property
    def mean(self) -> float:
        """The mean over seeds and tasks: the score that runs report themselves."""
        return float(self.scores.mean())

    @property
    def steps(self) -> tuple[int, int]:
        """How far the runs have come: environment steps, of offline methods gradient steps."""
        return self.grad_steps if self.offline else self.env_steps


class Improvement(NamedTuple):
    """How probably a run of one method scores higher than a run of another on a task of the family."""

    family: str
    method: str
    over: str
    probability: Estimate


class Comparison(NamedTuple):
    """Methods on families. Rows of a family stand together, the highest interquartile mean first."""

    rows: list[Row]
    improvements: list[Improvement]  # of each pair of methods that are scored on the same tasks, the higher one first
    notices: list[str]  # what was left out, and what is not compared on equal terms

    def records(self) -> list[dict[str, Any]]:
        """The rows as flat dictionaries, for pandas and files; None for what is not known."""
        return [_record(row) for row in self.rows]

    def improvement_records(self) -> list[dict[str, Any]]:
        """The improvements as flat dictionaries."""
        return [
            {"family": one.family, "method": one.method, "over": one.over} | _ends("probability", one.probability)
            for one in self.improvements
        ]


def compare(
    runs: Sequence[str | Path] | str | Path, *, threshold: Thresholds = None, at: int | None = None
) -> Comparison:
    """Compares runs and all runs below folders: `nacre.compare(["runs/cheetah-vel"], threshold=-60)`.

    Runs that differ in nothing but seed and length are seeds of one method. A run is scored by its last evaluation on
    test tasks, or the last one within `at` environment steps (gradient steps of offline methods). `threshold`: a score,
    or one for each family by name; the table then tells the steps and minutes to it. Runs of single-task soft
    actor-critic are no rows: beside runs of `random` they give the scale of normalised scores. docs/metrics.md defines
    the numbers.

    Runs that cannot be read or were not evaluated are left out with a notice. Raises NacreError where no run is left.
    """
    places = [Path(runs)] if isinstance(runs, str | Path) else [Path(run) for run in runs]
    if not places:
        raise NacreError("name at least one run or folder of runs, as in 'nacre compare runs/cheetah-vel'.")
    if at is not None and at < 0:
        raise NacreError(f"at is {at}, but must be at least 0 steps; change --at.")
    read, notices = _read(runs_in(places))
    whole = grouped(read)
    limits = _limits(threshold, whole)
    rows, improvements = list[Row](), list[Improvement]()
    for family, groups in _rows_of(whole, at, notices).items():
        notices += _unlike(family, groups, at)
        of_family = [run for group in whole[family].values() for run in group]
        scale = scale_of(of_family)
        notices += scale_notices(of_family) if scale else []
        found = [
            (_row(family, label, group, whole[family][label], scale, limits.get(family)), group[0])
            for label, group in groups.items()
        ]
        found.sort(key=lambda one: -one[0].iqm.value)
        rows += [row for row, _ in found]
        improvements += _improvements(found)
    return Comparison(rows, improvements, notices)


# ----------------------------------------------------------------------------------------------------------------------
# Which runs


def _read(found: FoundRuns) -> tuple[list[Run], list[str]]:
    """The evaluations of all runs that have some, and a notice for each of the others and for what was not searched."""
    read, left_out = list[Run](), list[str]()
    for path in found.runs:
        try:
            read.append(read_run(path))
        except NacreError as error:
            left_out.append(f"left out: {error}")
    if not read:
        many = f"; none of the {len(found.runs)} runs can be compared" if len(found.runs) > 1 else ""
        raise NacreError(left_out[0].removeprefix("left out: ").rstrip(".") + f"{many}.")
    return read, found.notices + left_out


def _rows_of(whole: Families, at: int | None, notices: list[str]) -> Families:
    """The runs that are rows of the table, up to `at`; adds to the notices which are left out."""
    chosen: Families = {}
    for family, groups in whole.items():
        for label, group in groups.items():
            kept = []
            for run in one_a_seed([run for run in group if run.experiment.single_task < 0], notices):
                until = _until(run, at)
                if len(until.test.env_steps):
                    kept.append(until)
                else:
                    notices.append(f"left out: the run at {run.path} has no evaluation within {at:,} steps.")
            if kept:
                chosen.setdefault(family, {})[label] = sorted(kept, key=lambda run: run.experiment.options.seed)
    if not chosen:
        why = "all are of a single task each." if at is None else f"none has a score within {at:,} steps; change --at."
        raise NacreError(f"no run is left to compare: {why}")
    return chosen


def _until(run: Run, at: int | None) -> Run:
    """The run with its evaluations within so many steps."""
    if at is None:
        return run
    kept = _steps(run) <= at
    return run._replace(test=Evaluations(*(column[kept] for column in run.test)))


def _steps(run: Run) -> np.ndarray:
    """How far the run had come at each evaluation."""
    return run.test.grad_steps if run.experiment.algorithm.offline else run.test.env_steps


def _unlike(family: str, groups: Mapping[str, list[Run]], at: int | None) -> Iterator[str]:
    """What is not compared on equal terms."""
    what = differences(dict(groups))
    if what:
        yield f"the runs on {family} differ in {what}: their scores are not of equal trials."
    runs = [run for group in groups.values() for run in group]
    kinds = {
        "environment steps": [run for run in runs if not run.experiment.algorithm.offline and _steps(run)[-1]],
        "gradient steps": [run for run in runs if run.experiment.algorithm.offline],
    }
    for unit, alike in kinds.items():
        steps = [int(_steps(run)[-1]) for run in alike]
        if steps and max(steps) > UNEQUAL * min(steps):
            all_there = at is None and all(_steps(run)[0] <= min(steps) for run in alike)
            advice = f" (--at {min(steps)} scores all there)" if all_there else ""
            yield f"the runs on {family} are scored after {min(steps):,} to {max(steps):,} {unit}{advice}."
    if all(kinds.values()):
        yield f"on {family}, offline methods learn from logged transitions, which no count of steps includes."


def _limits(threshold: Thresholds, families: Families) -> dict[str, float]:
    """The threshold of each family, which is named with or without its changed options."""
    if threshold is None:
        return {}
    if not isinstance(threshold, Mapping):
        found = dict.fromkeys(families, float(threshold))
    else:
        names = {name for family in families for name in (family, family.split()[0])}
        for name in threshold:
            if name not in names:
                raise unknown("family", name, names)
        by_name = {family: threshold.get(family, threshold.get(family.split()[0])) for family in families}
        found = {family: float(value) for family, value in by_name.items() if value is not None}
    if not all(map(math.isfinite, found.values())):
        raise NacreError("a threshold must be a finite score, as in --threshold cheetah-vel=-60.")
    return found


# ----------------------------------------------------------------------------------------------------------------------
# What is said of them


def _row(
    family: str, label: str, group: Sequence[Run], whole: Sequence[Run], scale: Scale, threshold: float | None
) -> Row:
    """`group`: the runs up to where they are scored; `whole`: to their end, for when they reach the threshold."""
    scores = np.stack([run.test.returns[-1, ..., -1].mean(axis=0) for run in group])
    normalised = [list(scores_on(scale, run).values()) for run in group]
    offline = group[0].experiment.algorithm.offline
    against = "grad_steps" if offline else "env_steps"
    paths = {run.path for run in group}
    learns = offline or any(run.test.env_steps[-1] for run in group)
    reached, minutes = _reached([run for run in whole if run.path in paths] if learns else [], against, threshold)
    return Row(
        family,
        label,
        tuple(run.experiment.options.seed for run in group),
        _span([run.test.env_steps[-1] for run in group]),
        _span([run.test.grad_steps[-1] for run in group]),
        float(np.mean([run.test.wall_seconds[-1] for run in group]) / 60),
        offline,
        scores,
        pooled_interquartile_mean(scores),
        np.array(normalised) if normalised[0] else None,
        pooled_interquartile_mean(np.array(normalised)) if normalised[0] else None,
        threshold,
        reached,
        minutes,
    )


def _span(steps: Sequence[int]) -> tuple[int, int]:
    return int(min(steps)), int(max(steps))


def _reached(runs: Sequence[Run], against: str, threshold: float | None) -> tuple[Reached | None, float | None]:
    """When the runs' curve first came to the threshold, in steps and in minutes.

    (None, None) without a threshold, for what takes no steps, and where the runs have no steps in common.
    """
    found = curve(runs, against) if runs and threshold is not None else None
    if found is None or threshold is None or not len(found.scores):
        return None, None
    reached = found.reach(threshold)
    seconds = [np.interp(reached.steps, getattr(run.test, against), run.test.wall_seconds) for run in runs]
    return reached, float(np.mean(seconds)) / 60


def _improvements(found: Sequence[tuple[Row, Run]]) -> Iterator[Improvement]:
    """Every pair of (row, a run of it), the first one of each first; not those that are scored on different tasks."""
    for (one, run), (other, its_run) in itertools.combinations(found, 2):
        if same_tasks(run, its_run):
            probability = probability_of_improvement(one.scores, other.scores)
            yield Improvement(one.family, one.method, other.method, probability)


def _record(row: Row) -> dict[str, Any]:
    reached = row.to_threshold
    return {
        "family": row.family,
        "method": row.method,
        "seeds": list(row.seeds),
        "num_seeds": len(row.seeds),
        "num_tasks": row.scores.shape[1],
        "env_steps": row.env_steps[0],
        "env_steps_most": row.env_steps[1],
        "grad_steps": row.grad_steps[0],
        "grad_steps_most": row.grad_steps[1],
        "minutes": row.minutes,
        **_ends("iqm", row.iqm),
        "mean": row.mean,
        **_ends("normalised_iqm", row.normalised_iqm),
        "threshold": row.threshold,
        "to_threshold_bound": None if reached is None else reached.bound,
        "steps_to_threshold": None if reached is None else reached.steps,
        "minutes_to_threshold": row.minutes_to_threshold,
    }


def _ends(name: str, found: Estimate | None) -> dict[str, float | None]:
    """An estimate in three columns; None for NaN."""
    values = (None, None, None) if found is None else (None if math.isnan(one) else one for one in found)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
