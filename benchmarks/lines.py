"""Writes every evaluation of named runs into a table, a row each: line, steps, updates, seconds, and the returns of the
first and of the scored episode, means over test tasks and repeats.

    python benchmarks/lines.py benchmarks/results/NAME.csv "ant-dir, oracle=RUN" "ant-dir, rl2=RUN" ...

If the table exists, its other lines stay, so that lines can be added as their runs end. `gather.py` writes tables with
every task and repeat, and with settings in place of names.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from nacre.report.evaluated_runs import read_run

COLUMNS = ("line", "env_steps", "grad_steps", "wall_seconds", "first_episode", "scored_episode")


def rows_of(line: str, run: Path) -> list[tuple[object, ...]]:
    """The evaluations of a run on its test tasks."""
    test = read_run(run).test
    episodes = test.returns.mean(axis=(1, 2))  # [evaluation, episode]
    columns = (test.env_steps, test.grad_steps, test.wall_seconds, episodes[:, 0], episodes[:, -1])
    return [
        (line, int(steps), int(updates), round(float(seconds), 1), round(float(first), 3), round(float(scored), 3))
        for steps, updates, seconds, first, scored in zip(*columns, strict=True)
    ]


def kept(table: Path, without: set[str]) -> list[tuple[object, ...]]:
    """The rows of a table, but for those of these lines."""
    if not table.exists():
        return []
    with table.open(newline="") as handle:
        reader = csv.DictReader(handle)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise SystemExit(f"{table} has the columns {reader.fieldnames}, not {COLUMNS}; write another table.")
        return [tuple(row.values()) for row in reader if row["line"] not in without]


def main() -> None:
    """Reads the command line, writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("lines", nargs="+", metavar="LINE=RUN")
    args = parser.parse_args()
    named = dict(text.rsplit("=", 1) for text in args.lines)
    if len(named) < len(args.lines):
        raise SystemExit("two runs have the same line; name each line once.")
    rows = kept(args.table, set(named))
    for line, run in named.items():
        rows += rows_of(line, Path(run))
    with args.table.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)


if __name__ == "__main__":
    main()
