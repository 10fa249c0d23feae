"""What each departure of preset `fast` from `paper` buys: short runs with one departure taken back, the rest kept.

    python benchmarks/ablation.py cheetah-vel --out DIRECTORY [--only LINE...]

Every line is an ordinary run, DIRECTORY/FAMILY/LINE; a line that is there already is not run again, even if the time
limit cut it, so that lines are judged by the same minutes. (The learning rate of a line that is cut has not fallen to
the end.) After each line the table DIRECTORY/FAMILY.csv is written anew: per line the updates, environment steps and
seconds of its last evaluation, and the mean score and return of first episodes of its last 3. Lines that were not
evaluated in time have none.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nacre.families.catalog import FAMILIES
from nacre.report.steps import is_trained
from nacre.runs import trainer
from nacre.runs.directory import RunDirectory
from nacre.runs.experiment import Experiment, resolve

LINES: dict[str, tuple[str, ...]] = {
    "value-network": ("use_value_network",),
    "two-critics": ("num_critics",),
    "plain-critics": ("normalise_critics",),
    "plain-inputs": ("normalise_inputs",),
    "fixed-temperature": ("automatic_temperature", "reward_scale"),
    "network-size": ("hidden_dim", "num_hidden_layers", "encoder_hidden_dim"),
    "step-size": ("learning_rate", "learning_rate_decay"),
    "target-rate": ("soft_target_tau",),
    "discount": ("discount",),
    "one-step-returns": ("num_step_returns",),
    "batch": ("meta_batch", "batch_size"),
    "kl-weight": ("kl_weight",),
    "free-nats": ("free_nats",),
    "train-tasks": ("num_train_tasks", "test_tasks_from"),
    "collection": (
        "num_initial_episodes",
        "num_tasks_sample",
        "num_prior_episodes",
        "num_posterior_episodes",
        "num_extra_rl_episodes",
        "num_extra_context_episodes",
    ),
    "all-data": ("newest_share",),
    "white-noise": ("action_noise",),
    "no-straight-episodes": ("num_straight_episodes",),
    "latent-dim": ("latent_dim",),
    "exploration": ("num_exploration_episodes",),
    "no-hypotheses": ("exploration",),
    "no-predicted-rewards": ("predict_rewards",),
    "no-relabelling": ("num_relabelled_tasks",),
    "context-size": ("context_batch_size",),
    "context": ("context",),
    "no-next-obs": ("use_next_obs_in_context",),
    "no-prior-factor": ("use_prior_factor",),
}
"""line -> the fields that it takes back to the paper's values, together where one makes no sense without the other"""
LOOP = ("iterations", "num_train_steps_per_iteration", "precision")
"""Fields that say how long a run is, or how a machine computes, and are no departure of the method."""
EVALUATIONS = 3
COLUMNS = ("line", "fields", "updates", "env_steps", "seconds", "score", "first")


def departures(family: str) -> dict[str, dict[str, Any]]:
    """line -> the fields of `fast` that it sets back, with the paper's values; `fast` itself sets none back."""
    fast, paper = (resolve("pearl", family, preset).settings for preset in ("fast", "paper"))

    def back(names: tuple[str, ...]) -> dict[str, Any]:
        return {name: getattr(paper, name) for name in names if getattr(paper, name) != getattr(fast, name)}

    return {"fast": {}} | {line: back(names) for line, names in LINES.items() if back(names)}


def train(chosen: Experiment, path: Path, minutes: float) -> None:
    """Trains a run, unless it was trained before; exits where another run is in its place, or a signal stopped it."""
    if path.exists():
        if RunDirectory(path).experiment != chosen:
            sys.exit(f"the run at {path} has other settings than this one; choose another --out.")
        return
    deadline = time.monotonic() + 60 * minutes
    trainer.train([chosen], [path], time_limit=minutes)
    if time.monotonic() < deadline and not is_trained(chosen, path):
        sys.exit(f"stopped; remove {path} before the next try, or it counts as a line that the time limit cut.")


def row(line: str, fields: dict[str, Any], path: Path) -> dict[str, Any]:
    """A line's row of the table."""
    return {"line": line, "fields": " ".join(f"{name}={value}" for name, value in fields.items())} | summed_up(path)


def summed_up(path: Path) -> dict[str, Any]:
    """Updates, environment steps and seconds of a run's last evaluation on test tasks, and over its last 3 the mean
    score and the mean return of first episodes; nothing before the first evaluation."""
    if not (path / "eval.csv").exists():
        return {}
    with (path / "eval.csv").open() as handle:
        rows = [each for each in csv.DictReader(handle) if each["split"] == "test"]
    scored = max((int(each["episode"]) for each in rows), default=0)
    evaluations: dict[int, list[dict[str, str]]] = {}
    for each in rows:
        evaluations.setdefault(int(each["grad_steps"]), []).append(each)
    whole = {
        updates: one for updates, one in evaluations.items() if any(int(each["episode"]) == scored for each in one)
    }
    if not whole:
        return {}
    updates, last = list(whole.items())[-1]

    def mean(episode: int) -> float | None:
        latest = list(whole.values())[-EVALUATIONS:]
        returns = [[float(each["return"]) for each in one if int(each["episode"]) == episode] for one in latest]
        return round(float(np.mean([np.mean(one) for one in returns])), 1) if all(returns) else None

    return {
        "updates": updates, "env_steps": int(last[0]["env_steps"]), "seconds": round(float(last[0]["wall_seconds"])),
        "score": mean(scored), "first": mean(1),
    }  # fmt: skip


def write_table(path: Path, columns: Sequence[str], rows: Iterable[dict[str, Any]]) -> None:
    """Writes rows as CSV; what a row lacks is left empty."""
    with path.open("w", newline="") as handle:
        writer = csv.DictWriter(handle, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line, runs the lines, writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", choices=sorted(FAMILIES))
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=20)
    parser.add_argument("--only", nargs="+", choices=["fast", *LINES])
    args = parser.parse_args(arguments)
    lines, table = departures(args.family), args.out / f"{args.family}.csv"
    for chosen in args.only or lines:
        if chosen not in lines:
            parser.error(f"{chosen} is no departure of fast in {args.family}; choose among {', '.join(lines)}")
    for chosen in args.only or lines:
        path = args.out / args.family / chosen
        settings = {"iterations": args.iterations, "seed": args.seed} | lines[chosen]
        train(resolve("pearl", args.family, "fast", **settings), path, args.minutes)
        done = [line for line in lines if (args.out / args.family / line).exists()]
        write_table(table, COLUMNS, [row(line, lines[line], args.out / args.family / line) for line in done])
    print(table.read_text(), end="")


if __name__ == "__main__":
    main()
