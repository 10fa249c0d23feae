"""`nacre collect`: data sets of logged episodes."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from nacre.cli.parsing import Positional, parse, positionals, switches
from nacre.errors import NacreError
from nacre.families.catalog import FAMILIES, find_family
from nacre.families.family import num_tasks

if TYPE_CHECKING:
    from nacre.collect.rollouts import Policies
    from nacre.collect.work import Plan, WorkDirectory
    from nacre.runs.stopping import StopRequest


@dataclass(frozen=True)
class Command:
    """Make data sets: train a policy for every task from scratch, and log episodes of its checkpoints."""

    family: Positional[str] = ""
    """The task family, as in 'nacre list'."""
    benchmark: str = ""
    """Take the tasks of this published benchmark; --list shows them."""
    list: bool = False
    """Show the published benchmarks and stop."""
    quality: str = "mixed"
    """Which episodes: random, medium, expert, mixed or replay; several with commas between, a data set each."""
    id: str = ""
    """Name of the data set; nacre/FAMILY/BENCHMARK-QUALITY-v0 unless given."""
    recipe: Literal["sac", "oracle"] = "sac"
    """sac: a policy for every task, trained from scratch in it, all tasks at once. oracle: one policy that is told the
    task, for a fraction of the work."""
    from_run: Annotated[Path | None, "--from"] = None
    """Log episodes of this run's checkpoints instead of training: of a run that knows the task (oracle); or, with
    --quality replay, what any off-policy run has collected."""
    num_steps: int | None = None
    """sac: environment steps, and nearly as many updates, of every task; the family's number unless given. oracle:
    updates in all."""
    checkpoints: int | None = None
    """Checkpoints that are kept, evenly spaced."""
    episodes: int = 20
    """Episodes of every checkpoint in its task; other qualities have as many in all as mixed."""
    learning_rate: float | None = None
    """sac: Adam's learning rate."""
    hidden_dim: int | None = None
    """sac: units in a hidden layer of policy and critics."""
    num_train_tasks: int = 30
    """Training tasks, without --benchmark."""
    num_test_tasks: int = 10
    """Test tasks, without --benchmark."""
    task_seed: int = 1337
    """Seed of the tasks, where they are drawn."""
    seed: int = 0
    """Seed of everything else."""
    work: Path | None = None
    """Directory for checkpoints, and to go on from; collected/FAMILY/BENCHMARK unless given."""
    only: Literal["both", "train", "roll"] = "both"
    """train: stop when all checkpoints are there. roll: take the checkpoints that are there, and train no more."""
    time_limit: float | None = None
    """Stop the training after this many minutes; the same command goes on."""


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
    from nacre.data.layout import exists, folder_of
    from nacre.runs import stopping

    qualities = command.quality.split(",")
    for quality in qualities:
        making.check_quality(quality)
    if command.from_run is not None:
        return _from_run(command, qualities)
    plan = _plan(command, chosen.family_options)
    ids = [command.id or making.default_id(plan, quality) for quality in qualities]
    for id in ids if command.only != "train" else ():
        if folder_of(id).exists():
            raise exists(folder_of(id))
    stop = stopping.StopRequest(command.time_limit)
    with stop.listening():
        policies, work = _trained(command, plan, stop)
        if policies is None:
            return stopping.exit_status(stop.reason)
    making.tell_of_quality(policies, _tell)
    for id, quality in zip(ids, qualities, strict=True) if command.only != "train" else ():
        _tell_of(making.make(policies, quality, id, command.episodes, work))
    return 0


def _trained(command: Command, plan: Plan, stop: StopRequest) -> tuple[Policies | None, WorkDirectory]:
    """Policies with all their checkpoints; None where the training was stopped before."""
    from nacre.collect import rollouts, training
    from nacre.collect.work import WorkDirectory

    path = command.work or Path("collected") / plan.family.name / (plan.benchmark or f"tasks-{command.task_seed}")
    work = WorkDirectory.open(path, plan) if command.only != "roll" else WorkDirectory(path).check(plan)
    if command.only != "roll" and not training.train(work, lambda: stop.reason, _tell):
        return None, work
    return rollouts.SacPolicies(work), work


def _plan(command: Command, family: Any) -> Plan:
    from nacre.collect.settings import settings_for
    from nacre.collect.work import Plan

    if command.benchmark:
        from nacre.data import benchmarks

        entry = benchmarks.find(command.benchmark, family.name)
        (train, test), family = entry.tasks(command.task_seed), dataclasses.replace(family, **entry.options)
    else:
        drawn = family.task_set(command.task_seed, command.num_train_tasks, command.num_test_tasks)
        train, test = drawn.train, drawn.test
    settings = settings_for(
        family, num_steps=command.num_steps, num_checkpoints=command.checkpoints,
        learning_rate=command.learning_rate, hidden_dim=command.hidden_dim,
    )  # fmt: skip
    return Plan(family, train, test, settings, command.seed, command.benchmark)


def _check(command: Command) -> None:
    """Refuses what does not go together."""
    if command.id and "," in command.quality:
        raise NacreError("--id names one data set, but --quality asks for several; leave one of them out.")
    if command.episodes < 1:
        raise NacreError(f"--episodes is {command.episodes}, but must be at least 1.")
    if min(command.num_train_tasks, command.num_test_tasks) < 1:
        raise NacreError("there must be training tasks and test tasks; raise --num-train-tasks and --num-test-tasks.")


def _tell(line: str) -> None:
    print(f"nacre: {line}", file=sys.stderr, flush=True)


def _tell_of(made: Any) -> None:
    size = sum(file.stat().st_size for file in made.path.rglob("*") if file.is_file())
    print(
        f"{made.id}: {made.num_episodes:,} episodes, {made.num_steps:,} steps, {size / 1e6:,.0f} MB, in "
        f"{num_tasks(made.train)} training and {num_tasks(made.test)} test tasks; see 'nacre data show {made.id}'"
    )


def _from_run(command: Command, qualities: Sequence[str]) -> int:
    raise NacreError("--from is not there yet; leave it out.")


def _list(args: list[str]) -> None:
    import textwrap

    from nacre.data.benchmarks import BENCHMARKS

    parse(Command, args, "nacre collect")
    for name, entries in BENCHMARKS.items():
        for family, entry in entries.items():
            print(f"{family} --benchmark {name}")
            print(f"    {entry.num_train} training and {entry.num_test} test tasks, {entry.horizon} steps; scored by "
                  f"{', '.join(entry.protocols)}")  # fmt: skip
            for text in (entry.text, f"Published data: {entry.data}."):
                print(textwrap.fill(text, 100, initial_indent="    ", subsequent_indent="    "))


def _arguments(args: list[str]) -> type[Any]:
    """The command with a flag for every option of the family."""
    kinds: list[type[Any]] = [Command, *FAMILIES.values()]
    names = positionals(args, set().union(*map(switches, kinds)))
    if not names:
        if {"--help", "-h"} & set(args):
            parse(Command, ["--help"], "nacre collect")
        raise NacreError("name a family, as in 'nacre collect point-robot-half-circle'; see 'nacre list'.")
    family = find_family(names[0])()
    options = [("family_options", type(family), dataclasses.field(default=family))]
    arguments = dataclasses.make_dataclass("CollectArguments", options, bases=(Command,), frozen=True)
    arguments.__doc__ = Command.__doc__
    return arguments
