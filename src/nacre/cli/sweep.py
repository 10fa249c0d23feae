"""`nacre sweep`: many runs."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nacre.cli.parsing import Positional, parse
from nacre.errors import NacreError, shown

if TYPE_CHECKING:
    from nacre.sweeps.running import Swept


@dataclass(frozen=True)
class Command:
    """Train every run of a TOML file: grids, random search, or Optuna. The same command resumes it after a stop."""

    spec: Positional[Path]
    """The TOML file of the sweep. docs/sweeps.md has its keys and examples."""
    out: Path | None = None
    """Folder of the runs. Default: the folder that the file names, or else runs/NAME for NAME.toml."""
    on: Literal["local", "ray", "slurm"] = "local"
    """Where runs are trained: in processes on this machine, on a Ray cluster, or by SLURM."""
    address: str | None = None
    """Address of the Ray cluster: HOST:PORT, or auto on a machine of the cluster."""
    jobs: int | None = None
    """How many runs are trained at a time. Default: as many as there are cores for."""
    cores: int = 1
    """CPU cores of each run."""
    gpus: float = 0.0
    """GPUs of each run on a cluster. On Ray it may be a fraction, such as 0.25."""
    only: str | None = None
    """Trains only the jobs with these numbers, as --dry-run shows them: 3, or 0:10 for 0 to 9. For the job arrays of a
    scheduler."""
    time_limit: float | None = None
    """Stops after this many minutes, with checkpoints. The same command resumes it."""
    dry_run: bool = False
    """Prints the jobs and their states, and trains nothing."""
    wandb: bool = False
    """Logs to Weights & Biases as well."""


def run(args: list[str], started: float) -> int:
    """Carries out the command line `nacre sweep ARGS`; its exit status is that of `nacre train --jobs`."""
    command = parse(Command, args, "nacre sweep")
    only = None if command.only is None else parse_numbers(command.only)

    from nacre.sweeps.running import Machines, finished_of, rows_of, run_sweep
    from nacre.sweeps.spec import read_spec
    from nacre.sweeps.training import told

    spec = read_spec(command.spec, command.out)
    if command.dry_run:
        _print_jobs(rows_of(spec, only), 0 if only is None else only.start)
        return 0
    machines = Machines(command.on, command.jobs, command.cores, command.gpus, command.address)
    swept = run_sweep(spec, machines, time_limit=command.time_limit, only=only, wandb=command.wandb)
    if swept.stopped_by is None and swept.runs and only is None:
        _print_results(swept)
    return told(finished_of(swept))


def parse_numbers(text: str) -> range:
    """'3' as 3 alone, '0:10' as 0 to 9."""
    found = re.fullmatch(r"(\d{1,6})(?::(\d{1,6}))?", text)
    if found is None:
        raise NacreError(f"--only is '{shown(text)}'; write the number of a job, or 0:10 for 0 to 9.")
    first = int(found[1])
    return range(first, int(found[2]) if found[2] else first + 1)


def _print_jobs(rows: Sequence[Mapping[str, Any]], first: int) -> None:
    """A line for each; `first`: the number of the first of them."""
    from rich.table import Column, Table

    from nacre.cli.tables import print_table

    table = Table(Column("job", justify="right"), "run", "state", Column("updates", justify="right"),
                  Column("score", justify="right"), box=None)  # fmt: skip
    for number, row in enumerate(rows, first):
        score = "" if row["score"] is None else f"{row['score']:.4g}"
        table.add_row(str(number), str(row["path"]), row["state"], f"{row['updates']} of {row['of']}", score)
    print_table(table)


def _print_results(swept: Swept) -> None:
    """The table of `nacre compare`, and the same as results.csv in the sweep's folder."""
    from nacre.cli.tables import print_table
    from nacre.report import comparison_table
    from nacre.report.comparison import compare
    from nacre.runs.files import notice, replace

    found = compare(swept.runs)
    for text in found.notices:
        notice(text)
    for table in comparison_table.text_tables(found):
        print_table(table)
    print("", *comparison_table.note_lines(found), sep="\n")
    replace(swept.path / "results.csv", comparison_table.FORMATS["csv"](found).encode(), "give the same command again")
    print(f"wrote {swept.path / 'results.csv'} and {swept.path / 'jobs.csv'}", file=sys.stderr)
