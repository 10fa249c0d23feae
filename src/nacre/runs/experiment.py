"""A run's configuration: from names and overrides to one resolved value, and to and from config.json."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nacre.algorithms.protocol import Algorithm
from nacre.algorithms.registry import ALGORITHMS, find_algorithm, registered_by
from nacre.errors import NacreError, unknown
from nacre.families import plugins
from nacre.families.blame import failure
from nacre.families.catalog import find_family, is_known, make_family
from nacre.families.catalog import registered_by as family_by
from nacre.families.family import Family, TaskSet, num_tasks
from nacre.families.options import check_option_types, checked_option, field_types
from nacre.presets.settings import ANY_FAMILY, MethodSettings, check_row, row_of
from nacre.runs.migration import SCHEMA, migrated

if TYPE_CHECKING:
    from nacre.data.dataset import DataSet


@dataclass(frozen=True)
class RunOptions:
    """What a run needs besides the algorithm's settings and the family's options."""

    seed: int = 0
    """Seed of all random numbers of the run except its tasks."""
    task_seed: int = 1337
    """Seed of the train and test tasks. With --data it only draws tasks that are in no data set: out of distribution,
    and for relabelling."""
    checkpoint_minutes: float = field(default=10.0, compare=False)  # determines no number
    """Minutes between checkpoints."""
    keep: Literal["newest", "best"] = "newest"
    """Which checkpoints are kept. newest: the two newest. best: also the one with the best test score."""
    evaluation_interval: int = 1
    """Evaluates on test tasks after every N-th iteration, and always after the last."""
    train_evaluation_interval: int = 10
    """Evaluates on train tasks after every N-th iteration."""
    data: str = ""
    """Data set that an offline method learns from: an id of 'nacre data list', or a path. A method that collects its
    data itself takes only the tasks of the data set."""
    devices: int = 1
    """Trains on this many GPUs (or other devices of JAX), for PEARL and the oracle. Several seeds are split evenly over
    the devices. With one run, the tasks of an update are split."""

    def __post_init__(self) -> None:
        for name in ("seed", "task_seed"):
            check_seed(name, getattr(self, name))
        if not self.checkpoint_minutes >= 0:
            raise NacreError(
                f"checkpoint_minutes is {self.checkpoint_minutes}, but must be at least 0; change --checkpoint-minutes."
            )
        for name in ("evaluation_interval", "train_evaluation_interval", "devices"):
            if getattr(self, name) < 1:
                raise NacreError(f"{name} must be at least 1; change --{name.replace('_', '-')}.")


@dataclass(frozen=True)
class Experiment:
    """Everything that determines a run. Equal experiments give equal numbers on the same machine."""

    algorithm_name: str
    preset: str
    family: Family
    settings: MethodSettings
    options: RunOptions
    data_hash: str = ""  # of the contents of `options.data`; '' without a data set

    def __repr__(self) -> str:
        what = f"{self.algorithm_name} on {self.family.name}"
        return f"Experiment({what}, preset {self.preset}, seed {self.options.seed})"

    @property
    def algorithm(self) -> Algorithm:
        """The algorithm's functions."""
        return find_algorithm(self.algorithm_name)

    @property
    def single_task(self) -> int:
        """Number of the only test task that a method trains on and is scored on; -1 for all methods but such."""
        return self.settings.single_task

    @property
    def num_tasks(self) -> dict[str, int]:
        """How many train and test tasks the run has."""
        settings = self.settings
        if self.single_task >= 0:
            return {"train": 1, "test": 1}
        return {"train": settings.num_train_tasks, "test": settings.num_test_tasks}

    def hypotheses(self, state: Any) -> Any:
        """What trials can explore by, made of a state's replay; None of methods without hypotheses."""
        algorithm = self.algorithm
        return algorithm.hypotheses(state, self.family, self.settings) if algorithm.has_hypotheses else None

    def draw_tasks(self) -> TaskSet:
        """The run's tasks: those of its data set, or as they follow from its task_seed."""
        if not self.options.data:
            return self.settings.draw_tasks(self.family, self.options.task_seed)
        found = self.open_data()
        return self.settings.choose_tasks(TaskSet(found.train, found.test, self.options.task_seed))

    def open_data(self) -> DataSet:
        """The data set that the run has its tasks from. NacreError where it is missing, or is not what it was."""
        from nacre.data.dataset import open_data_set  # slow to import

        found = open_data_set(self.options.data)
        if found.content_hash != self.data_hash:
            raise NacreError(
                f"the data set '{self.options.data}' has changed since the run was made (its contents have the "
                f"hash {found.content_hash[:12]}, not {self.data_hash[:12]}); restore it, or train anew."
            )
        return found


def check_seed(name: str, seed: int) -> None:
    """Raises NacreError for a number that is no seed."""
    if not 0 <= seed < 2**32:
        raise NacreError(f"{name} is {seed}, but must be from 0 to 2^32 - 1; change --{name.replace('_', '-')}.")


def resolve(algorithm_name: str, family_name: str, preset: str = "paper", **overrides: Any) -> Experiment:
    """A preset with fields changed: settings, family options and run options share one namespace.

    Raises NacreError for an unknown name (with the nearest one), a wrong type and an impossible combination.
    """
    experiment = _with_data(from_preset(algorithm_name, family_name, preset, **overrides), overrides)
    experiment.settings.check_family(experiment.family)
    if experiment.settings.by_hypotheses and not experiment.algorithm.has_hypotheses:
        raise NacreError(
            f"'{algorithm_name}' has no hypotheses about tasks to explore by; give its Algorithm `hypotheses` and "
            "`exploring_params`, or set --exploration prior."
        )
    _check_tasks(experiment)
    return experiment


def from_preset(algorithm_name: str, family_name: str, preset: str, **overrides: Any) -> Experiment:
    """As `resolve`, but without drawing the tasks: the preset's numbers of them may not be the family's."""
    algorithm = find_algorithm(algorithm_name)
    family_type = find_family(family_name)
    if preset not in algorithm.presets:
        raise unknown("preset", preset, algorithm.presets)
    row = row_of(algorithm.presets[preset], family_type)
    if row is None:
        known = [name for name, rows in algorithm.presets.items() if family_name in rows or ANY_FAMILY in rows]
        raise NacreError(
            f"{algorithm_name} has no preset '{preset}' for {family_name}; choose one of: {', '.join(known)}."
        )
    groups: tuple[type[Any], ...] = (algorithm.settings, family_type, RunOptions)
    _check_names(algorithm_name, *groups)
    check_option_types(family_type)  # of a family of an installed package, which nobody registered
    check_row(algorithm_name, preset, family_name, row, algorithm.settings)  # a rule's
    values: list[dict[str, Any]] = [dict(row), {}, {}]
    for name, value in overrides.items():
        for group, chosen in zip(groups, values, strict=True):
            if name in field_types(group):
                chosen[name] = checked_option(name, value, field_types(group)[name])
                break
        else:
            raise unknown("field", name, [field for group in groups for field in field_types(group)])
    family = make_family(family_name, **values[1])
    return Experiment(algorithm_name, preset, family, algorithm.settings(**values[0]), RunOptions(**values[2]))


def _with_data(experiment: Experiment, overrides: Mapping[str, Any]) -> Experiment:
    """The experiment on the tasks and the family of its data set, if it has one; offline methods must."""
    name, source, family = experiment.algorithm_name, experiment.options.data, experiment.family
    if not source and not experiment.algorithm.offline:
        return experiment
    if not source:
        raise NacreError(
            f"{name} learns from a data set; name one of 'nacre data list' by --data, or make one with "
            f"'nacre collect {family.name}'."
        )
    from nacre.data.dataset import open_data_set  # slow to import

    found = open_data_set(source)
    if found.family.name != family.name:
        raise NacreError(f"the data set '{source}' is of {found.family.name}, not of {family.name}; name that family.")
    for option in changes(found.family, family):
        if option in overrides:
            raise NacreError(
                f"{option} is {getattr(family, option)!r}, but the data set '{source}' was collected with "
                f"{getattr(found.family, option)!r}; leave out --{option.replace('_', '-')}."
            )
    if experiment.settings.first_test_task != experiment.settings.num_train_tasks:
        raise NacreError(
            f"test_tasks_from is {experiment.settings.first_test_task}, but the test tasks are those of the data set "
            f"'{source}'; leave out --test-tasks-from."
        )
    # An online method's preset has the numbers of other task sets: they are not what was asked for.
    numbers = {}
    for split in ("train", "test"):
        there, field = num_tasks(getattr(found, split)), f"num_{split}_tasks"
        if there == 0:
            raise NacreError(
                f"the data set '{source}' has no {split} tasks, and a run is trained on train tasks and scored on test "
                "tasks; name one with both by --data, or import it anew with both (docs/data.md)."
            )
        asked = getattr(experiment.settings, field)
        asked = asked if experiment.algorithm.offline or field in overrides else 0
        if asked > there:
            raise NacreError(
                f"{field} is {asked}, but the data set '{source}' has {there} {split} tasks; change "
                f"--{field.replace('_', '-')}."
            )
        numbers[field] = asked or there
    settings = dataclasses.replace(experiment.settings, **numbers)
    source = source if found.id == source else str(found.path.resolve())
    options = dataclasses.replace(experiment.options, data=source)
    return dataclasses.replace(
        experiment, family=found.family, settings=settings, options=options, data_hash=found.content_hash
    )


def _check_names(algorithm_name: str, settings: type[Any], family: type[Any], options: type[Any]) -> None:
    """Settings, options of the family and options of the run share one namespace, so no name may stand in two of them.

    Registration refuses most of these; a method that is registered after the family, or offered by a package, is met
    here first.
    """
    for one, other in ((family, settings), (family, options), (settings, options)):
        shared = set(field_types(one)) & set(field_types(other))
        if shared:
            raise NacreError(
                f"{algorithm_name} on {family.name} has two fields named '{min(shared)}' (of the family, the method or "
                "the run); give one of them another name."
            )


def _check_tasks(experiment: Experiment) -> None:
    """Draws the task sets, which a family may refuse, and checks that no test task is trained on."""
    family = experiment.family
    try:
        parts, names = experiment.draw_tasks()[:2], list(family.parameters)
        rows = [np.concatenate([part[name].reshape(len(part[name]), -1) for name in names], axis=1) for part in parts]
    except (Exception, SystemExit) as error:
        raise failure(family.name, "task_set or sample_tasks", error) from error
    shared = {tuple(row) for row in rows[0]} & {tuple(row) for row in rows[1]}
    if family.disjoint and shared and experiment.single_task < 0:
        raise NacreError(f"{len(shared)} of {family.name}'s tasks are both train and test tasks; change --task-seed.")


def changes(before: Any, after: Any) -> dict[str, Any]:
    """The fields in which two dataclasses of a kind differ, with the second's values."""
    names = [field.name for field in dataclasses.fields(after)]
    return {name: getattr(after, name) for name in names if getattr(before, name) != getattr(after, name)}


def to_json(
    experiment: Experiment,
    versions: dict[str, str],
    resumed: Sequence[dict[str, Any]] = (),
    started_from: dict[str, Any] | None = None,
) -> str:
    """The whole resolved configuration as the text of config.json, with the versions that began and resumed the run."""
    return json.dumps(
        {
            "schema": SCHEMA,
            "algorithm": experiment.algorithm_name,
            "family": experiment.family.name,
            "plugins": plugins.remembered(
                [registered_by(experiment.algorithm_name), family_by(experiment.family.name)]
            ),
            "preset": experiment.preset,
            "settings": dataclasses.asdict(experiment.settings),
            "family_options": dataclasses.asdict(experiment.family),
            "options": dataclasses.asdict(experiment.options),
            "data_hash": experiment.data_hash,
            "versions": versions,
            "resumed": list(resumed),
        }
        | ({} if started_from is None else {"started_from": started_from}),
        indent=2,
    )


def from_json(text: str) -> Experiment:
    """The experiment of a config.json. A field that came later takes its default, which therefore means "as before"."""
    data = json.loads(text)
    family = data["family"]
    if data["algorithm"] not in ALGORITHMS or not is_known(family):
        for module in data.get("plugins", []):
            plugins.import_plugin(str(module))
    if not is_known(family):
        raise NacreError(
            f"it is on the family '{family}', which is not known here; name the module that registers it by --plugin."
        )
    algorithm = find_algorithm(data["algorithm"])
    data = migrated(data, find_family(family))
    groups: dict[str, type[Any]] = {
        "settings": algorithm.settings, "family_options": find_family(family), "options": RunOptions,
    }  # fmt: skip
    for part, group in groups.items():
        strangers = set(data[part]) - set(field_types(group))
        if strangers:
            raise NacreError(
                f"its {part} have a field that this version of nacre does not know ('{min(strangers)}'); "
                "install the version named in its config.json."
            )
        data[part] = {name: checked_option(name, value, field_types(group)[name]) for name, value in data[part].items()}
    return Experiment(
        data["algorithm"], data["preset"], make_family(family, **data["family_options"]),
        algorithm.settings(**data["settings"]), RunOptions(**data["options"]), str(data.get("data_hash", "")),
    )  # fmt: skip
