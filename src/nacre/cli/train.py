"""`nacre train`: a new run."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from nacre.cli.names import names_in
from nacre.cli.parsing import Positional, parse, parse_seeds, value_of, without
from nacre.errors import NacreError
from nacre.runs.experiment import Experiment, RunOptions, from_preset, resolve


@dataclass(frozen=True)
class Command:
    """Meta-train an algorithm on a family, in a new run directory. Every setting is a flag as well."""

    algorithm: Positional[str]
    """The algorithm, as in 'nacre list'."""
    family: Positional[str]
    """The task family, as in 'nacre list'."""
    preset: str = "paper"
    """Which settings the run starts from: paper, fast or smoke, or another preset of 'nacre list'."""
    seeds: str | None = None
    """Trains several seeds side by side in one program, with a run directory for each: 0:8 (0 to 7) or 0,3,5. Takes the
    place of --seed."""
    jobs: int | None = None
    """Trains each seed in a process with CPU cores that no other process uses, this many processes at a time. The same
    command resumes after a stop or a failure: it resumes unfinished runs and leaves complete ones."""
    out: Path | None = None
    """Run directory. Default: runs/FAMILY/ALGORITHM/seed-SEED. With --seeds, the directory that holds the directories
    seed-SEED."""
    overwrite: bool = False
    """Removes a run that is already in the run directory, unless it is being trained. Nothing but a run is removed."""
    from_run: Annotated[Path | None, "--from"] = None
    """Starts from the networks of this run instead of fresh ones. Method and network sizes must be the same. Everything
    else begins anew."""
    time_limit: float | None = None
    """Stops after this many minutes, with a checkpoint."""
    wandb: bool = False
    """Logs to Weights & Biases as well."""


def run(args: list[str], started: float) -> int:
    """Carries out the command line `nacre train ARGS`; its exit status tells of a signal that stopped it."""
    arguments = _arguments(args)
    chosen = parse(arguments, args, "nacre train")

    from nacre.runs.directory import RunDirectory, default_path

    command = Command(**{field.name: getattr(chosen, field.name) for field in dataclasses.fields(Command)})
    overrides: dict[str, Any] = {}
    for name in ("settings", "family_options", "options"):
        overrides |= dataclasses.asdict(getattr(chosen, name))
    for name in ("num_train_tasks", "num_test_tasks"):  # not asked for: as many as a data set has
        if value_of(f"--{name.replace('_', '-')}", args) is None:
            overrides.pop(name, None)
    if command.seeds is not None and value_of("--seed", args) is not None:
        raise NacreError("both --seed and --seeds were given; leave out --seed or --seeds.")
    seed = overrides.pop("seed")
    seeds = [seed] if command.seeds is None else parse_seeds(command.seeds)
    experiments = [resolve(command.algorithm, command.family, command.preset, seed=seed, **overrides) for seed in seeds]
    paths = [default_path(command.algorithm, command.family, seed) for seed in seeds]
    if command.out is not None:
        paths = [command.out] if command.seeds is None else [command.out / f"seed-{seed}" for seed in seeds]

    if command.jobs is not None:
        return _in_processes(command, args, experiments, paths)
    from nacre.runs import stopping, trainer

    for path in paths:
        RunDirectory.check_place(path, overwrite=command.overwrite)
    if command.preset == "paper" and experiments[0].settings.env_steps(experiments[0].family):
        print(_how_long(experiments), file=sys.stderr)
    trained = trainer.train(
        experiments, paths, time_limit=command.time_limit, wandb=command.wandb, overwrite=command.overwrite,
        from_run=command.from_run, started=started,
    )  # fmt: skip
    return stopping.exit_status(trained.stopped_by)


def _in_processes(
    command: Command, args: Sequence[str], experiments: Sequence[Experiment], paths: Sequence[Path]
) -> int:
    """Trains every run in a process of its own, or resumes it."""
    from nacre.sweeps.job import Job
    from nacre.sweeps.training import train_jobs

    assert command.jobs is not None
    values = {"--seed", "--seeds", "--jobs", "--out", "--time-limit"}
    kept = without(args, values, {"--overwrite", "--no-overwrite", "--wandb", "--no-wandb"})
    flags = ("--wandb",) * command.wandb
    jobs = [
        Job(path, one, ("train", *kept, "--seed", str(one.options.seed), "--out", str(path)), flags)
        for one, path in zip(experiments, paths, strict=True)
    ]
    return train_jobs(jobs, command.jobs, time_limit=command.time_limit, overwrite=command.overwrite)


def _how_long(experiments: Sequence[Experiment]) -> str:
    """What the paper's settings take on this machine, and what `fast` would: operations counted, rates measured.

    "at least" where nobody counted the operations of an update.
    """
    from nacre.cli.tables import duration
    from nacre.report.estimates import estimated_seconds

    def told(experiment: Experiment) -> str:
        family = experiment.family
        counted = experiment.settings.update_flops(family.obs_dim, family.action_dim, family.task_dim)
        return f"{'about' if counted else 'at least'} {duration(len(experiments) * estimated_seconds(experiment))}"

    first = experiments[0]
    sentence = f"the paper's settings take {told(first)} on this machine"
    try:
        fast = resolve(first.algorithm_name, first.family.name, "fast")
    except NacreError:
        return f"{sentence}; with a time limit (--time-limit MINUTES) it can continue later"
    return f"{sentence}; --preset fast takes {told(fast)}"


def _arguments(args: list[str]) -> type[Any]:
    """The command with a flag for every field of the configuration. Algorithm, family and preset decide which there are
    and what they start from."""
    names = names_in(args, [Command, RunOptions], algorithm=True)
    if len(names) < 2:
        if {"--help", "-h"} & set(args):
            parse(Command, ["--help"], "nacre train")
        raise NacreError("name an algorithm and a family, as in 'nacre train pearl cheetah-vel'; see 'nacre list'.")
    base = from_preset(names[0], names[1], value_of("--preset", args) or "paper")
    parts = {"settings": base.settings, "family_options": base.family, "options": base.options}
    fields = [(name, type(value), dataclasses.field(default=value)) for name, value in parts.items()]
    arguments = dataclasses.make_dataclass("TrainArguments", fields, bases=(Command,), frozen=True)
    arguments.__doc__ = Command.__doc__
    return arguments
