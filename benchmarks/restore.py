"""Makes run directories again from a table in results/, so that `nacre report` can draw committed evidence.

    python benchmarks/restore.py benchmarks/results/NAME.csv --out DIRECTORY
    nacre report DIRECTORY/NAME/* -o curves.png

The inverse of gather.py, but for what a table lacks: there are no checkpoints, and what a run did not change are its
preset's settings of now. A table of more updates than these make is refused: its preset has changed since.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import resolve
from nacre.runs.tables import EVAL_COLUMNS

Key = tuple[str, str, str, int, str]


def read(table: Path) -> dict[Key, list[list[str]]]:
    """The rows of an eval.csv of each (algorithm, family, preset, seed, changed fields)."""
    runs: dict[Key, list[list[str]]] = defaultdict(list)
    with table.open() as handle:
        reader = csv.DictReader(handle)
        if not {"algorithm", "family", "preset", "seed", *EVAL_COLUMNS} <= set(reader.fieldnames or ()):
            sys.exit(f"{table} is no table of evaluations, which gather.py writes.")
        for row in reader:
            if not row["task"]:
                sys.exit(f"{table} has means over tasks, and a run's evaluations are by task.")
            key = (row["algorithm"], row["family"], row["preset"], int(row["seed"]), row.get("changed", ""))
            runs[key].append([row[column] for column in EVAL_COLUMNS])
    return runs


def restore(table: Path, out: Path) -> list[Path]:
    """A run directory for every run of the table, at OUT/NAME/FAMILY-ALGORITHM-PRESET-seed-N (a number before
    `seed` where fields were changed)."""
    paths = []
    runs = read(table)
    numbers = {changed: number for number, changed in enumerate(dict.fromkeys(key[-1] for key in runs))}
    for (algorithm, family, preset, seed, changed), rows in runs.items():
        tag = f"-{numbers[changed]}" if changed else ""
        path = out / table.stem / f"{family}-{algorithm}-{preset}{tag}-seed-{seed}"
        experiment = resolve(algorithm, family, preset, seed=seed, **json.loads(changed or "{}"))
        updates = experiment.settings.iterations * experiment.settings.num_train_steps_per_iteration
        if int(rows[-1][EVAL_COLUMNS.index("grad_steps")]) > updates:
            sys.exit(f"{table} has more updates of {family} than preset {preset} makes now; check out its commit.")
        run = RunDirectory.create(path, experiment)
        with (run.path / "eval.csv").open("w", newline="") as handle:
            writer = csv.writer(handle, lineterminator="\n")
            writer.writerow(EVAL_COLUMNS)
            writer.writerows(rows)
        paths.append(path)
    return paths


def main() -> None:
    """Reads the command line, makes the directories, names them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="+", type=Path)
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    for table in args.tables:
        for path in restore(table, args.out):
            print(path)


if __name__ == "__main__":
    main()
