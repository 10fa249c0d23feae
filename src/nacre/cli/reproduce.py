"""`nacre reproduce`: figures of the PEARL paper."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nacre.cli.parsing import Positional, parse, parse_seeds


@dataclass(frozen=True)
class Command:
    """Train what a figure of the PEARL paper needs, and draw it beside the known points; go on where it was stopped."""

    figure: Positional[str | None] = None
    """Which figure; without one, lists them."""
    scale: Literal["smoke", "short", "paper"] = "short"
    """smoke: whether it works, minutes. short: hours. paper: the paper's settings, days to months on one CPU."""
    seeds: str = "0:3"
    """0:3 (0 to 2) or 0,3,5."""
    out: Path = Path("runs/reproduce")
    """Directory for runs and pictures."""
    time_limit: float | None = None
    """Stop after this many minutes; the same command goes on."""
    dry_run: bool = False
    """Print the runs and how long each is estimated to take here, and do nothing."""


def run(args: list[str], started: float) -> int:
    """Carries out the command line `nacre reproduce ARGS`; its exit status tells of a signal that stopped it."""
    command = parse(Command, args, "nacre reproduce")
    from rich.table import Table

    from nacre.cli.tables import duration, print_table
    from nacre.report import reproduce
    from nacre.runs.compilation_cache import use_compilation_cache
    from nacre.runs.stopping import exit_status

    use_compilation_cache()
    if command.figure is None:
        table = Table("figure", "title", "what the paper found", "runs a seed")
        for name, figure in reproduce.FIGURES.items():
            table.add_row(name, figure.title, figure.finding, str(len(figure.lines)))
        print_table(table)
        return 0
    seeds = parse_seeds(command.seeds)
    if command.dry_run:
        table, total = Table("family", "line", "seed", "env steps", "updates", "estimated"), 0.0
        for one in reproduce.planned(command.figure, command.scale, seeds, command.out):
            done = reproduce.is_done(one.experiment, one.path)
            seconds = 0.0 if done else reproduce.estimated_seconds(one.experiment)
            total += seconds
            experiment = one.experiment
            steps, updates = experiment.settings.env_steps(experiment.family), reproduce.num_updates(experiment)
            estimated = "done" if done else duration(seconds)
            seed = str(one.experiment.options.seed)
            table.add_row(one.line.family, one.line.name, seed, f"{steps:,}", f"{updates:,}", estimated)
        print_table(table)
        print(
            f"about {duration(total)} on this machine, one run after another, in {command.out / command.figure}; of "
            "on-policy methods only the simulation of robots is counted (the policy and the updates take as long "
            "again, those of maml-trpo twice as long, and on point robots they are all that takes time)"
        )
        return 0
    stopped_by = reproduce.run(command.figure, command.scale, seeds, command.out, command.time_limit)
    picture = reproduce.picture_of(command.figure, command.scale, command.out)
    print("stopped; the same command goes on" if stopped_by else f"wrote {picture}", file=sys.stderr)
    return exit_status(stopped_by)
