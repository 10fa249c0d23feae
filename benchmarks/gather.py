"""Gathers the eval.csv of runs into one long-format table: algorithm, family, preset, seed and what else was changed
(as JSON; older tables lack that) before each row.

    python benchmarks/gather.py RUN... -o benchmarks/results/NAME.csv [--every K] [--split test] [--means]

With --every K, of each split only every K-th evaluation and the last one: trials of 20 episodes make long tables.
With --means, means over tasks and repeats; these columns are empty then.

benchmarks/README.md holds the command of every table.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment, changes, from_preset
from nacre.runs.tables import EVAL_COLUMNS

COLUMNS = ("algorithm", "family", "preset", "seed", "changed")
SPLITS = ("test", "train")
PARTS = ("settings", "family", "options")


def thinned(rows: list[dict[str, str]], every: int) -> list[dict[str, str]]:
    """The rows of every K-th evaluation of each split, and of its last one."""
    kept = set()
    for split in SPLITS:
        evaluations = sorted({int(row["grad_steps"]) for row in rows if row["split"] == split})
        kept |= {(split, grad_steps) for grad_steps in [*evaluations[every - 1 :: every], *evaluations[-1:]]}
    return [row for row in rows if (row["split"], int(row["grad_steps"])) in kept]


def means(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """One row for each episode of an evaluation, its return the mean over tasks and repeats."""
    found: dict[tuple[str, ...], list[dict[str, str]]] = {}
    for row in rows:
        found.setdefault((row["split"], row["grad_steps"], row["episode"]), []).append(row)
    return [
        {**same[0], "task": "", "repeat": "", "return": f"{sum(float(row['return']) for row in same) / len(same):.6g}"}
        for same in found.values()
    ]


def changed(experiment: Experiment) -> str:
    """The fields that are not the preset's, but for the seed, as JSON; "" where there are none."""
    preset = from_preset(experiment.algorithm_name, experiment.family.name, experiment.preset)
    fields: dict[str, Any] = {}
    for part in PARTS:
        fields |= changes(getattr(preset, part), getattr(experiment, part))
    fields.pop("seed", None)
    return json.dumps(fields) if fields else ""


def main() -> None:
    """Reads the command line, writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("-o", "--out", required=True, type=Path)
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--split", choices=SPLITS)
    parser.add_argument("--means", action="store_true")
    args = parser.parse_args()
    with args.out.open("w", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow([*COLUMNS, *EVAL_COLUMNS])
        for path in args.runs:
            run = RunDirectory(path)
            experiment = run.experiment
            key = [
                experiment.algorithm_name, experiment.family.name, experiment.preset, experiment.options.seed,
                changed(experiment),
            ]  # fmt: skip
            with (path / "eval.csv").open() as table:
                rows = [row for row in csv.DictReader(table) if args.split in (None, row["split"])]
            rows = thinned(rows, args.every)
            rows = means(rows) if args.means else rows
            writer.writerows([*key, *(row[column] for column in EVAL_COLUMNS)] for row in rows)


if __name__ == "__main__":
    main()
