"""Rewards around a change of the task: `python benchmarks/changing.py OUT.png STEP RUN... --oracles RUN...`.

Each run of PEARL, with the oracle's run of the same place in the list beside it: trials whose task changes after STEP
steps of the scored episode, and four further episodes. Draws the mean reward of every step of the scored episode, and
the mean returns of the episodes after it; a thin line a seed, a thick one for their mean. Writes OUT.csv beside it.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

import nacre
from nacre.report import picture

DETECT, AFTER, REPEATS = 0.1, 4, 2


def main() -> None:
    """Plays the trials, draws them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("step", type=int)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--oracles", nargs="+", required=True)
    args = parser.parse_args()
    rewards: dict[str, list[np.ndarray]] = {}
    later: dict[str, list[np.ndarray]] = {}
    for run, oracle in zip(args.runs, args.oracles, strict=True):
        report = nacre.evaluate_change(
            nacre.load(run), args.step, repeats=REPEATS, episodes_after=AFTER, oracle=nacre.load(oracle), detect=DETECT
        )
        for name, earned in report.agents.items():
            rewards.setdefault(name, []).append(earned.rewards.mean(axis=(0, 1)))
            later.setdefault(name, []).append(earned.later.mean(axis=(0, 1)))
    draw(args.out, args.step, rewards, later)
    with args.out.with_suffix(".csv").open("w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["agent", "seed", "what", "number", "mean"])
        for what, found in (("reward of step", rewards), ("return of episode after", later)):
            for name, seeds in found.items():
                for seed, values in enumerate(seeds):
                    writer.writerows([name, seed, what, n + 1, f"{value:.4f}"] for n, value in enumerate(values))


def draw(out: Path, step: int, rewards: dict[str, list[np.ndarray]], later: dict[str, list[np.ndarray]]) -> None:
    """The two panels."""
    with picture.drawing(out, 8.6, 3.6) as figure:
        left, right = figure.subplots(1, 2)
        for axes, found in ((left, rewards), (right, later)):
            for colour, (name, seeds) in zip(picture.COLOURS, found.items(), strict=False):
                at = 1 + np.arange(len(seeds[0]))
                for values in seeds:
                    axes.plot(at, values, color=colour, alpha=0.3, linewidth=0.8)
                axes.plot(at, np.mean(seeds, axis=0), color=colour, linewidth=2, label=name)
        left.axvline(step + 0.5, color=picture.FAINT, linewidth=1, linestyle=(0, (4, 3)))
        left.set(xlabel="step of the episode in which the task changes", ylabel="mean reward")
        right.set(xlabel="episode after it, in the new task", ylabel="mean return", xticks=range(1, AFTER + 1))
        left.legend(loc="upper left")


if __name__ == "__main__":
    main()
