"""Gathers the eval.csv of runs into one long-format table: algorithm, family, preset and seed before each row.

    python benchmarks/gather.py RUN... -o benchmarks/results/NAME.csv

benchmarks/README.md holds the command of every table.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

from nacre.run_directory import EVAL_COLUMNS, RunDirectory

COLUMNS = ("algorithm", "family", "preset", "seed")


def main() -> None:
    """Reads the command line, writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("-o", "--out", required=True, type=Path)
    args = parser.parse_args()
    with args.out.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([*COLUMNS, *EVAL_COLUMNS])
        for path in args.runs:
            run = RunDirectory(path)
            experiment = run.experiment
            key = [experiment.algorithm_name, experiment.family.name, experiment.preset, experiment.options.seed]
            with (path / "eval.csv").open() as rows:
                writer.writerows([*key, *row] for row in list(csv.reader(rows))[1:])


if __name__ == "__main__":
    main()
