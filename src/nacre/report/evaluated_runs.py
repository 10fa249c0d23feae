"""Runs with their evaluations, as curves, pages and comparisons read them; which are seeds of one method."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nacre.errors import NacreError
from nacre.families.catalog import make_family
from nacre.families.family import Family, num_tasks
from nacre.presets.settings import MethodSettings
from nacre.presets.trials import TrialSettings
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment, RunOptions, changes, from_preset
from nacre.runs.files import notice
from nacre.runs.loading import check_run
from nacre.runs.tables import EVAL_COLUMNS
from nacre.types import Tasks


class Evaluations(NamedTuple):
    """All evaluations of a run on its test or its train tasks, oldest first."""

    env_steps: np.ndarray  # [evaluation]
    wall_seconds: np.ndarray  # [evaluation]
    returns: np.ndarray  # [evaluation, repeat, task, episode]
    grad_steps: np.ndarray  # [evaluation]

    @property
    def scores(self) -> np.ndarray:
        """Mean return of the last episode over repeats and tasks, [evaluation]."""
        return np.asarray(self.returns[..., -1].mean(axis=(1, 2)))


class Run(NamedTuple):
    """What the curves show of one run."""

    experiment: Experiment
    test: Evaluations
    train: Evaluations | None  # None before the first evaluation on train tasks
    test_tasks: Tasks  # [task, ...]
    path: Path
    started_from: str  # the run whose networks it started from; '' for fresh ones


Families = dict[str, dict[str, list[Run]]]
"""family with its changed options -> label -> the runs that differ in nothing but their seed"""


def read_families(runs: Sequence[Path]) -> Families:
    """The evaluations of these runs; a run named twice counts once."""
    return grouped([read_run(path) for path in dict.fromkeys(path.resolve() for path in runs)])


def grouped(runs: Sequence[Run]) -> Families:
    """These runs by what they share. Raises NacreError where seeds of one method are scored on different tasks."""
    families: Families = {}
    data: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for run in runs:
        data.setdefault(names(run.experiment), set()).add(_data_of(run))
    for run in runs:
        family, label = names(run.experiment)
        label += _data_words(_data_of(run), data[family, label])
        label += f", from {run.started_from}" if run.started_from else ""
        group = families.setdefault(family, {}).setdefault(label, [])
        if group and not same_tasks(group[0], run):
            raise NacreError(
                f"the runs at {group[0].path} and {run.path} seem to differ in nothing but their seed, but are "
                "scored on different test tasks; draw them apart."
            )
        group.append(run)
    return families


def distinct_seeds(families: Families) -> Families:
    """Of each seed of a method the longest run; a notice tells of the others."""
    notices: list[str] = []
    chosen = {
        family: {label: one_a_seed(group, notices) for label, group in groups.items()}
        for family, groups in families.items()
    }
    for told in notices:
        notice(told)
    return chosen


def one_a_seed(group: Sequence[Run], notices: list[str]) -> list[Run]:
    """The longest run of each seed, in their order: the same seed twice is no second seed. `notices` gets a line for
    each of the others."""
    found: dict[int, Run] = {}
    for run in sorted(group, key=lambda run: -run.test.grad_steps[-1]):
        first = found.setdefault(run.experiment.options.seed, run)
        if first is not run:
            notices.append(f"left out: the run at {run.path} is of the same method and seed as that at {first.path}.")
    return [run for run in group if found[run.experiment.options.seed] is run]


def _data_of(run: Run) -> tuple[str, str]:
    """The id of the data set that a run learnt from and the hash of its contents, '' for both without one."""
    return run.experiment.options.data or "", run.experiment.data_hash


def _data_words(own: tuple[str, str], all_of_them: set[tuple[str, str]]) -> str:
    """What tells a run's data from those of the other runs of its method, where they differ.

    A data set that was collected anew has its old id and another hash.
    """
    if len({content for _, content in all_of_them}) == 1:
        return ""
    name, content = own
    anew = len({other for same, other in all_of_them if same == name}) > 1
    return f" data={name or 'none'}" + (f" (hash {content[:8]})" if anew else "")


def differences(groups: dict[str, list[Run]]) -> str:
    """In what the trials of a family's runs differ, so that their scores cannot be compared as they stand; or ''."""
    runs = [group[0] for group in groups.values()]
    trials = [TrialSettings.of(run.experiment.settings) for run in runs]
    explore = {one.exploration_episodes for one in trials} - {None}
    found = {
        "test tasks": not all(same_tasks(runs[0], run) for run in runs),
        "protocol": len({one.protocol for one in trials}) > 1,
        "logged transitions given": len({one.context_transitions for one in trials if one.meets.logs}) > 1,
        "episodes of a trial": len({one.episodes for one in trials}) > 1,
        "episodes that explore": len(explore) > 1,
    }
    return ", ".join(what for what, differs in found.items() if differs)


def same_tasks(one: Run, other: Run) -> bool:
    """Whether two runs of a family are scored on the same test tasks."""
    return all(np.array_equal(values, other.test_tasks[name]) for name, values in one.test_tasks.items())


def read_run(path: Path) -> Run:
    """A run's evaluations, without one that is still being written. Raises NacreError for a damaged or empty file."""
    run = RunDirectory(path)
    check_run(run)
    file = path / "eval.csv"
    table, shapes = run.evaluations(), _shapes(run)
    lacking = set(EVAL_COLUMNS) - set(table) if table else set()
    if lacking:
        raise _damaged(file, f"it has no column {min(lacking)}")
    if table and not np.isin(table["split"], list(shapes)).all():
        raise _damaged(file, f"a split is none of {', '.join(shapes)}")
    found = {split: _evaluations(_rows(table, split), shape, file) for split, shape in shapes.items()}
    if found["test"] is None:
        raise NacreError(
            f"the run at {path} has no evaluation to draw yet; wait for its first iteration, or resume it."
        )
    return Run(
        run.experiment,
        found["test"],
        found["train"],
        run.tasks.test,
        path,
        str((run.started_from or {}).get("run", "")),
    )


def _shapes(run: RunDirectory) -> dict[str, tuple[int, int, int]]:
    """[repeat, task, episode] of an evaluation on each split, as the run was configured."""
    trials = TrialSettings.of(run.experiment.settings)
    return {
        split: (trials.repeats, num_tasks(getattr(run.tasks, split)), trials.episodes) for split in ("test", "train")
    }


def _rows(table: dict[str, np.ndarray], split: str) -> dict[str, np.ndarray]:
    """The columns of eval.csv at the rows of one split."""
    return {name: values[table["split"] == split] for name, values in table.items()}


def _evaluations(rows: dict[str, np.ndarray], shape: tuple[int, int, int], file: Path) -> Evaluations | None:
    """The complete evaluations in the rows of one split; None where there is none."""
    if not rows:
        return None
    _, first, evaluation = np.unique(rows["grad_steps"], return_index=True, return_inverse=True)
    index = np.stack([rows["repeat"], rows["task"], rows["episode"] - 1], axis=1)
    if ((index < 0) | (index >= shape)).any():
        raise _damaged(file, "a repeat, task or episode is not one that the run was configured for")
    returns = np.full((len(first), *shape), np.nan)
    returns[evaluation, *index.T] = rows["return"]
    complete = np.isfinite(returns).all(axis=(1, 2, 3))
    if not complete[:-1].all() or len(index) > returns.size:
        raise _damaged(file, "an evaluation lacks returns, or has one twice")
    if not complete.any():
        return None
    at = first[complete]
    return Evaluations(rows["env_steps"][at], rows["wall_seconds"][at], returns[complete], rows["grad_steps"][at])


def _damaged(file: Path, reason: str) -> NacreError:
    return NacreError(f"{file} is damaged ({reason}); restore it, or leave this run out.")


def names(experiment: Experiment) -> tuple[str, str]:
    """(family with its changed options, label): the label says what runs share that differ in seed and length only,
    algorithm, preset, changed settings and the seed of the tasks where it is another than usual."""
    stands_for = zip(_of_preset(experiment), (experiment.family, experiment.settings), strict=True)
    family, settings = (changes(usual, own) for usual, own in stands_for)
    settings.pop("iterations", None)
    if "task_seed" in changes(RunOptions(), experiment.options):
        settings["task_seed"] = experiment.options.task_seed
    label = [experiment.algorithm_name, f"({experiment.preset})", *_written(settings)]
    return " ".join([experiment.family.name, *_written(family)]), " ".join(label)


def _of_preset(experiment: Experiment) -> tuple[Family, MethodSettings]:
    """The family and settings that a run's preset stands for; of a preset that there is no more, the defaults."""
    try:
        preset = from_preset(experiment.algorithm_name, experiment.family.name, experiment.preset)
    except NacreError:
        return make_family(experiment.family.name), experiment.algorithm.settings()
    return preset.family, preset.settings


def _written(fields: dict[str, Any]) -> list[str]:
    return [f"{name}={value}" for name, value in fields.items()]
