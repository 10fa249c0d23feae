"""`nacre collect`: data sets of logged episodes."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from nacre.cli.names import names_in
from nacre.cli.parsing import Positional, parse, refuse
from nacre.errors import NacreError
from nacre.families.catalog import find_family
from nacre.families.family import Family, num_tasks
from nacre.runs.experiment import changes

if TYPE_CHECKING:
    from nacre.collect.rollouts import Policies
    from nacre.collect.work import Plan, TaskPlan
    from nacre.data.episodes import LoggedEpisode
    from nacre.runs.stopping import StopRequest


@dataclass(frozen=True)
class Command:
    """Make data sets: train a policy for every task from scratch, and log episodes of the checkpoints."""

    family: Positional[str] = ""
    """The task family, as in 'nacre list'."""
    benchmark: str = ""
    """Takes the tasks of this published benchmark. --list shows the benchmarks."""
    list: bool = False
    """Shows the published benchmarks and stops."""
    quality: str = "mixed"
    """Which episodes a data set holds: random, medium, expert, mixed or replay. Several names with commas between them
    make a data set for each name."""
    id: str = ""
    """Name of the data set. Default: nacre/FAMILY/BENCHMARK-QUALITY-v0."""
    recipe: Literal["sac", "oracle"] = "sac"
    """How the policies are trained. sac: a policy for every task, from scratch, all tasks at once. oracle: a single
    policy that is told the task: less work with tens of tasks."""
    from_run: Annotated[Path | None, "--from"] = None
    """Logs episodes of this run's checkpoints instead of training. The agent of the run must be told the task (oracle).
    With --quality replay, the data set holds what the run collected in training, and any off-policy run will do."""
    num_steps: int | None = None
    """sac: environment steps in every task, with nearly as many updates. oracle: updates in all. Default: the family's
    number."""
    checkpoints: int | None = None
    """How many checkpoints are kept, evenly spaced over the training."""
    episodes: int = 20
    """Episodes that every checkpoint plays in its task. Data sets of other qualities have as many episodes in all as
    mixed."""
    learning_rate: float | None = None
    """sac: Adam's learning rate."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """sac: rounds the inputs of matrix products to this format. bfloat16 is faster on new CPUs and on GPUs."""
    hidden_dim: int | None = None
    """sac: units in a hidden layer of policy and critics."""
    num_train_tasks: int = 30
    """How many train tasks are drawn, where no --benchmark names the tasks."""
    num_test_tasks: int = 10
    """How many test tasks are drawn, where no --benchmark names the tasks."""
    task_seed: int = 1337
    """Seed by which tasks are drawn."""
    seed: int = 0
    """Seed of all other random numbers."""
    work: Path | None = None
    """Directory of the checkpoints. A training that was stopped resumes from it. Default: collected/FAMILY/BENCHMARK.
    """
    only: Literal["both", "train", "roll"] = "both"
    """Does a part of the work. train: stops when all checkpoints are there. roll: logs episodes of the checkpoints that
    are there, and trains no more."""
    time_limit: float | None = None
    """Stops the training after this many minutes. The same command resumes it."""


def run(args: list[str], started: float) -> int:
    """Carries out the command line `nacre collect ARGS`; its exit status tells of a signal that stopped it."""
    if "--list" in args:
        _list(args)
        return 0
    arguments = _arguments(args)
    chosen = parse(arguments, args, "nacre collect")
    command = Command(**{field.name: getattr(chosen, field.name) for field in dataclasses.fields(Command)})
    _check(command)

    from nacre.collect import making
    from nacre.runs import stopping
    from nacre.simulation.check import check_before_run

    qualities = command.quality.split(",")
    for quality in qualities:
        making.check_quality(quality)
    if command.from_run is not None:
        return _from_run(command, chosen.family_options, qualities)
    plan = _plan(command, chosen.family_options)
    ids = _ids(command, plan.family.name, qualities)
    path = command.work or Path("collected") / plan.family.name / (plan.benchmark or f"tasks-{command.task_seed}")
    missing = _missing(ids, plan, _recipe(command, path, plan) if ids else {})
    if ids and not missing:
        return 0
    check_before_run(plan.family)
    stop = stopping.StopRequest(command.time_limit)
    with stop.listening():
        policies, replay = (_oracle if command.recipe == "oracle" else _sac)(command, path, plan, stop)
        if policies is None or not _log(policies, missing, command.episodes, replay, stop):
            return stopping.exit_status(stop.reason)
    return 0


def _log(
    policies: Policies, ids: dict[str, str], num_episodes: int, replay: Callable[[], Iterable[LoggedEpisode] | None],
    stop: StopRequest,
) -> bool:  # fmt: skip
    """Writes the data sets, a quality each; whether none was left out because something asked to stop."""
    from nacre.collect import making

    making.tell_of_quality(policies, _tell)
    for quality, id in ids.items():
        learnt_from = replay() if quality == "replay" else None
        made = making.make(policies, quality, id, num_episodes, learnt_from, stopped=lambda: stop.signalled, tell=_tell)
        if made is None:
            _tell(f"stopped by {stop.signalled} before {id} was written; the same command resumes it")
            return False
        _tell_of(made)
    return True


def _missing(ids: dict[str, str], plan: TaskPlan, recipe: dict[str, Any]) -> dict[str, str]:
    """The data sets that are still to be written. NacreError where others have their names."""
    from nacre.collect.making import is_made

    missing = {}
    for quality, id in ids.items():
        if is_made(id, quality, plan.family, plan.train, plan.test, recipe):
            _tell(f"{id} is there already, by the same recipe, and stays as it is")
        else:
            missing[quality] = id
    return missing


def _recipe(command: Command, path: Path, plan: Plan) -> dict[str, Any]:
    """What the data sets will tell about how they were made."""
    from nacre.collect import making, oracle
    from nacre.collect.work import WorkDirectory

    if command.recipe == "oracle":
        settings = oracle.settings_for(plan, command.num_steps)
        made_by = oracle.recipe_of(plan, settings)
        steps = oracle.checkpoint_updates(settings, plan.settings.num_checkpoints)
    else:
        made_by = {"algorithm": "sac", "settings": dataclasses.asdict(plan.settings), "seed": plan.seed}
        steps = [rounds * plan.family.horizon for rounds in plan.settings.checkpoint_rounds(plan.family)]
        if command.only == "roll":
            steps = WorkDirectory(path).check(plan).steps()
    return making.recipe_of(made_by, plan.benchmark, steps, command.episodes)


Made = tuple["Policies | None", Callable[[], "Iterable[LoggedEpisode] | None"]]
"""Policies with all their checkpoints, None where the training was stopped before; and what they learnt from."""


def _sac(command: Command, path: Path, plan: Plan, stop: StopRequest) -> Made:
    from nacre.collect import rollouts, sac, training
    from nacre.collect.work import WorkDirectory

    sac.a_device_per_core()
    if command.only == "roll":
        work = WorkDirectory(path).check(plan)
    else:
        work = WorkDirectory.open(path, plan)
        if not training.train(work, lambda: stop.reason, _tell):
            return None, lambda: None
    return rollouts.SacPolicies(work), lambda: rollouts.replay_episodes(work)


def _oracle(command: Command, path: Path, plan: Plan, stop: StopRequest) -> Made:
    from nacre.collect import oracle

    if command.only == "roll":
        raise NacreError("--only roll needs checkpoints of --recipe sac; leave out --only.")
    path = command.work or path.with_name(f"{path.name}-oracle")
    number, settings = plan.settings.num_checkpoints, oracle.settings_for(plan, command.num_steps)
    return oracle.train(path, plan, settings, number, lambda: stop.reason, _tell), lambda: None


def _from_run(command: Command, family: Family, qualities: Sequence[str]) -> int:
    """Data sets out of a run; the exit status."""
    from nacre.collect import making, oracle, run_replay
    from nacre.data import benchmarks
    from nacre.runs import stopping

    assert command.from_run is not None
    _check_options(family, run_replay.run_on(command.from_run, command.family).experiment.family, command.from_run)
    ids = _ids(command, command.family, qualities)
    replay, policies = ids.pop("replay", None), None
    if ids:  # before anything is written: not every run has policies to log episodes of
        entry = benchmarks.find(command.benchmark, command.family) if command.benchmark else None
        tasks = None if entry is None else entry.tasks(command.task_seed)
        policies = oracle.policies_of_run(command.from_run, command.family, command.seed, command.benchmark, tasks)
        recipe = making.recipe_of(policies.recipe, policies.plan.benchmark, policies.steps, command.episodes)
        ids = _missing(ids, policies.plan, recipe)
    if replay is not None:
        made = run_replay.make(command.from_run, replay, command.family)
        if made is None:
            _tell(f"{replay} is there already, by the same recipe, and stays as it is")
        else:
            _tell_of(made)
    stop = stopping.StopRequest(None)
    if policies is not None and ids:
        with stop.listening():
            if not _log(policies, ids, command.episodes, lambda: None, stop):
                return stopping.exit_status(stop.signalled)
    return 0


def _check_options(given: Family, there: Family, path: Path) -> None:
    """Raises NacreError for an option of the family that the run at `path` has otherwise."""
    asked = changes(type(given)(), given)
    for name in changes(there, given):
        if name in asked:
            raise NacreError(
                f"{name} is {asked[name]!r}, but the run at {path} has {getattr(there, name)!r}; leave out "
                f"--{name.replace('_', '-')}."
            )


def _ids(command: Command, family: str, qualities: Sequence[str]) -> dict[str, str]:
    """What the data sets of each quality will be called; NacreError for what is no name."""
    from nacre.collect.making import default_id
    from nacre.data.episodes import offline_extra
    from nacre.data.layout import folder_of

    if command.only == "train":
        return {}
    offline_extra("minari.dataset.minari_storage")  # which data sets need, long after the training begins
    ids = {quality: command.id or default_id(family, command.benchmark, quality) for quality in qualities}
    for id in ids.values():
        folder_of(id)
    return ids


def _plan(command: Command, family: Any) -> Plan:
    from nacre.collect.settings import settings_for
    from nacre.collect.work import Plan

    changed: dict[str, Any] = dict(
        num_steps=command.num_steps if command.recipe == "sac" else None, num_checkpoints=command.checkpoints,
        learning_rate=command.learning_rate, hidden_dim=command.hidden_dim, precision=command.precision,
    )  # fmt: skip
    if command.benchmark:
        from nacre.data import benchmarks

        entry = benchmarks.find(command.benchmark, family.name)
        return Plan.of_benchmark(entry, family, task_seed=command.task_seed, seed=command.seed, **changed)
    drawn = family.task_set(command.task_seed, command.num_train_tasks, command.num_test_tasks)
    return Plan(family, drawn.train, drawn.test, settings_for(family, **changed), seed=command.seed)


def _check(command: Command) -> None:
    """Refuses what does not go together."""
    qualities = command.quality.split(",")
    if command.recipe == "oracle" and command.from_run is None and "replay" in qualities:
        raise NacreError("the policies of --recipe oracle keep no replay; leave replay out of --quality.")
    if command.from_run is not None:
        _check_from_run(command, qualities)
    elif command.recipe == "oracle":
        of_sac = ("learning_rate", "hidden_dim", "precision")
        refuse(command, of_sac, "is about --recipe sac, and the oracle has the settings of its preset fast")
    if command.benchmark:
        from nacre.data import benchmarks

        refuse(command, ("num_train_tasks", "num_test_tasks"), f"is fixed by --benchmark {command.benchmark}")
        if benchmarks.find(command.benchmark, command.family).is_fixed:
            refuse(command, ("task_seed",), f"draws tasks, but those of --benchmark {command.benchmark} are published")
    if command.id and "," in command.quality:
        raise NacreError("--id names one data set, but --quality asks for several; leave out --id.")
    if command.from_run is not None and command.only != "both":
        raise NacreError("--only is about training, but the run of --from is trained already; leave out --only.")
    if command.episodes < 1:
        raise NacreError(f"--episodes is {command.episodes}, but must be at least 1.")
    if min(command.num_train_tasks, command.num_test_tasks) < 1:
        raise NacreError("a data set needs train and test tasks; raise --num-train-tasks and --num-test-tasks.")


def _check_from_run(command: Command, qualities: Sequence[str]) -> None:
    """Refuses flags that are about training or about tasks, beside a run that is trained and has tasks."""
    trained = ("num_steps", "checkpoints", "learning_rate", "hidden_dim", "precision", "recipe", "work", "time_limit")
    refuse(command, trained, "is about training, but the run of --from is trained already")
    refuse(command, ("num_train_tasks", "num_test_tasks"), "is about tasks, but the run of --from has its tasks")
    if not command.benchmark:
        refuse(command, ("task_seed",), "is about tasks, but the run of --from has its tasks")
    if qualities == ["replay"]:
        refuse(command, ("episodes", "seed"), "is about new episodes, but --quality replay has those of the training")
    if "replay" in qualities and command.benchmark:
        raise NacreError("--quality replay takes the tasks of the run that --from names; leave --benchmark out.")


def _tell(line: str) -> None:
    print(f"nacre: {line}", file=sys.stderr, flush=True)


def _tell_of(made: Any) -> None:
    size = sum(file.stat().st_size for file in made.path.rglob("*") if file.is_file())
    print(
        f"{made.id}: {made.num_episodes:,} episodes, {made.num_steps:,} steps, {size / 1e6:,.0f} MB, in "
        f"{num_tasks(made.train)} train and {num_tasks(made.test)} test tasks; see 'nacre data show {made.id}'"
    )


def _list(args: list[str]) -> None:
    import textwrap

    from nacre.data.benchmarks import BENCHMARKS

    parse(Command, args, "nacre collect")
    for name, entries in BENCHMARKS.items():
        for family, entry in entries.items():
            print(f"{family} --benchmark {name}")
            print(f"    {entry.num_train} train and {entry.num_test} test tasks, {entry.horizon} steps; scored by "
                  f"{', '.join(entry.protocols)}")  # fmt: skip
            for text in (entry.text, f"Published data: {entry.data}."):
                print(textwrap.fill(text, 100, initial_indent="    ", subsequent_indent="    "))


def _arguments(args: list[str]) -> type[Any]:
    """The command with a flag for every option of the family."""
    names = names_in(args, [Command], algorithm=False)
    if not names:
        if {"--help", "-h"} & set(args):
            parse(Command, ["--help"], "nacre collect")
        raise NacreError("name a family, as in 'nacre collect point-robot-half-circle'; see 'nacre list'.")
    family = find_family(names[0])()
    options = [("family_options", type(family), dataclasses.field(default=family))]
    arguments = dataclasses.make_dataclass("CollectArguments", options, bases=(Command,), frozen=True)
    arguments.__doc__ = Command.__doc__
    return arguments
