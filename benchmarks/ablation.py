"""What each departure of preset `fast` from `paper` buys: short runs with one departure taken back, the rest kept.

    python benchmarks/ablation.py cheetah-vel --out DIRECTORY [--only LINE...]

Every line is an ordinary run, DIRECTORY/FAMILY/LINE; a line that is there already is not run again. The time limit cuts
what takes longer, so that lines are judged by the same minutes. The table is printed and written to
DIRECTORY/FAMILY.csv: per line its updates, environment steps, seconds, and the mean score of its last 3 evaluations.
"""

from __future__ import annotations

import argparse
import csv
import sys
from pathlib import Path
from typing import Any

import numpy as np

from nacre import experiment
from nacre.config import resolve
from nacre.presets.pearl import PRESETS, PearlConfig
from nacre.report.curves import read_run

LINES: dict[str, tuple[str, ...]] = {
    "value-network": ("use_value_network",),
    "two-critics": ("num_critics",),
    "plain-critics": ("normalise_critics",),
    "fixed-temperature": ("automatic_temperature", "reward_scale"),
    "network-size": ("hidden_dim", "num_hidden_layers", "encoder_hidden_dim"),
    "step-size": ("learning_rate", "learning_rate_decay"),
    "target-rate": ("soft_target_tau",),
    "discount": ("discount",),
    "batch": ("meta_batch", "batch_size"),
    "kl-weight": ("kl_weight",),
    "train-tasks": ("num_train_tasks",),
    "collection": ("num_initial_steps", "num_tasks_sample", "num_steps_prior", "num_extra_rl_steps_posterior"),
    "context-size": ("context_batch_size",),
    "context-order": ("context_order",),
    "no-next-obs": ("use_next_obs_in_context",),
    "no-prior-factor": ("use_prior_factor",),
}
"""line -> the fields that it takes back to the paper's values, together where one makes no sense without the other"""
LOOP = ("iterations", "num_train_steps_per_iteration", "precision")
"""Fields that say how long a run is, or how a machine computes, and are no departure of the method."""
EVALUATIONS = 3


def departures(family: str) -> dict[str, dict[str, Any]]:
    """line -> the fields of `fast` that it sets back, with the paper's values; `fast` itself sets none back."""
    fast, paper = (PearlConfig(**PRESETS[preset][family]) for preset in ("fast", "paper"))  # type: ignore[arg-type]

    def back(names: tuple[str, ...]) -> dict[str, Any]:
        return {name: getattr(paper, name) for name in names if getattr(paper, name) != getattr(fast, name)}

    return {"fast": {}} | {line: back(names) for line, names in LINES.items() if back(names)}


def run_line(family: str, line: str, fields: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Trains what is missing of a line, and sums it up."""
    path = args.out / family / line
    chosen = resolve("pearl", family, "fast", seed=args.seed, iterations=args.iterations, **fields)
    if not path.exists():
        experiment.train([chosen], [path], time_limit=args.minutes)
    test = read_run(path).test
    with (path / "metrics.csv").open() as handle:
        *_, last = csv.DictReader(handle)
    return {
        "line": line, "fields": " ".join(f"{name}={value}" for name, value in fields.items()),
        "updates": last["grad_steps"], "env_steps": int(test.env_steps[-1]), "seconds": round(test.wall_seconds[-1]),
        "score": round(float(np.mean(test.scores[-EVALUATIONS:])), 1),
    }  # fmt: skip


def main() -> None:
    """Reads the command line, runs the lines, writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=sorted(PRESETS["fast"]))
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=["fast", *LINES])
    args = parser.parse_args()
    table = []
    for line, fields in departures(args.family).items():
        if args.only is None or line in args.only:
            table.append(run_line(args.family, line, fields, args))
            print(*table[-1].values(), sep="\t", file=sys.stderr)
    out = args.out / f"{args.family}.csv"
    with out.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, list(table[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)


if __name__ == "__main__":
    main()
