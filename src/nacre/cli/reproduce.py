"""`nacre reproduce`: published figures and tables."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nacre.cli.parsing import Positional, parse, parse_seeds

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nacre.report.steps import Step


@dataclass(frozen=True)
class Command:
    """Make the data sets, runs and evaluations of a published figure, and draw it beside the published results.
    The same command resumes it after a stop."""

    figure: Positional[str | None] = None
    """Which figure is made. Default: lists the figures."""
    scale: Literal["smoke", "short", "paper"] = "short"
    """How long the runs are. smoke: minutes, a check that everything runs. short: hours. paper: the paper's settings,
    days to months on one CPU."""
    seeds: str = "0:3"
    """Seeds of the runs: 0:3 (0 to 2) or 0,3,5."""
    out: Path = Path("runs/reproduce")
    """Directory of runs and pictures. Data sets go where 'nacre data list' finds them."""
    jobs: int | None = None
    """Trains each run in a process with CPU cores that no other process uses, this many processes at a time."""
    time_limit: float | None = None
    """Stops after this many minutes. The same command resumes it."""
    dry_run: bool = False
    """Prints the remaining steps with estimates of time and disk space, and does nothing."""


def run(args: list[str], started: float) -> int:
    """Carries out the command line `nacre reproduce ARGS`; its exit status tells of a signal that stopped it."""
    command = parse(Command, args, "nacre reproduce")
    from rich.table import Table

    from nacre.cli.tables import print_table
    from nacre.report import reproduce
    from nacre.runs.compilation_cache import use_compilation_cache
    from nacre.runs.stopping import exit_status

    use_compilation_cache()
    seeds = parse_seeds(command.seeds)
    if command.figure is None:
        table = Table("figure", "title", "what was published", "runs a seed")
        for name, figure in reproduce.FIGURES.items():
            runs = [step for step in figure.steps("short", [0], command.out) if step.told[2]]
            table.add_row(name, figure.title, figure.finding, str(len(runs)))
        print_table(table)
        return 0
    if command.dry_run:
        _tell_plan(reproduce.planned(command.figure, command.scale, seeds, command.out), command.out / command.figure)
        return 0
    stopped_by = reproduce.run(command.figure, command.scale, seeds, command.out, command.time_limit, command.jobs)
    picture = reproduce.picture_of(command.figure, command.scale, command.out)
    print("stopped; the same command resumes it" if stopped_by else f"wrote {picture}", file=sys.stderr)
    return exit_status(stopped_by)


def _tell_plan(steps: Sequence[Step], folder: Path) -> None:
    """Prints what there is to do, and what it takes."""
    from rich.table import Column, Table

    from nacre.cli.tables import duration, print_table
    from nacre.report.picture import steps_text

    names = (Column(name, overflow="fold") for name in ("family", "line"))
    numbers = (Column(name, no_wrap=True) for name in ("seed", "steps", "updates", "time", "disk"))
    table = Table(*names, *numbers, show_edge=False, pad_edge=False)
    seconds, disk, all_counted = 0.0, 0, True
    for step in steps:
        cost, done = step.cost(), step.is_done()
        all_counted = all_counted and cost.counted
        if not done:
            seconds, disk = seconds + cost.seconds, disk + cost.bytes
        took = "done" if done else duration(cost.seconds)
        size, counts = f"{cost.bytes / 1e6:,.0f} MB", (steps_text(cost.env_steps), steps_text(cost.updates))
        table.add_row(*step.told, *counts, took, size)
    print_table(table)
    note = (
        "; of on-policy methods only the simulation of robots is counted (the policy and the updates take as long "
        "again, those of maml-trpo twice as long, and on point robots they are all that takes time), as if no episode "
        "ended early"
    )
    print(
        f"about {duration(seconds)} on this machine, one run after another, and {disk / 1e9:,.1f} GB, in {folder}"
        + ("" if all_counted else note)
    )
