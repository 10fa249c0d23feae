"""Draws Figure 3 of PEARL's paper from tables of its runs, a table a seed, and prints the scores as Markdown.

    python benchmarks/six_domains.py docs/images/six-domains.png benchmarks/results/six-domains-short-seed-*.csv

A line's score is the mean of its last three evaluations. Over seeds, scores and curves are interquartile means with
95 % bootstrap intervals. Seeds whose run is missing are left out of a line; the table says how many there are.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes

from nacre.report import picture
from nacre.report.statistics import bootstrap_interval, interquartile_mean

FAMILIES = ("cheetah-dir", "cheetah-vel", "ant-dir", "ant-goal", "humanoid-dir", "walker-params")
METHODS = ("pearl", "oracle", "rl2", "promp", "maml-trpo", "random")
NUM_SCORED = 3
"""Evaluations at the end of a run whose mean is its score: one of eight trials varies widely."""


class Curve(NamedTuple):
    """The evaluations of one run."""

    env_steps: np.ndarray  # [evaluation]
    scores: np.ndarray  # [evaluation]: mean return of the scored episode

    @property
    def score(self) -> float:
        return float(self.scores[-NUM_SCORED:].mean())


Curves = dict[tuple[str, str], list[Curve]]
"""(family, method) -> a curve for each seed that there is"""


def read(tables: list[Path]) -> Curves:
    """The curves of all tables, which `lines.py` wrote with lines named 'FAMILY, METHOD'.

    Ends with a sentence for lines of another name, a table named twice, and seeds of a line with unequal evaluations.
    """
    if len(set(tables)) < len(tables):
        raise SystemExit("a table is named twice; name the table of each seed once.")
    found: Curves = defaultdict(list)
    for table in tables:
        rows: dict[str, list[tuple[float, float]]] = defaultdict(list)
        with table.open(newline="") as handle:
            for row in csv.DictReader(handle):
                rows[row["line"]].append((float(row["env_steps"]), float(row["scored_episode"])))
        for line, points in rows.items():
            family, _, method = line.partition(", ")
            if family not in FAMILIES or method not in METHODS:
                raise SystemExit(f"{table} has a line {line!r}, which is no family and method of the figure.")
            found[family, method].append(Curve(*np.array(points).T))
    for (family, method), seeds in found.items():
        if len({len(one.scores) for one in seeds}) > 1:
            raise SystemExit(f"seeds of {family}, {method} have unequal numbers of evaluations; finish their runs.")
    return found


def draw_family(axes: Axes, family: str, curves: Curves) -> None:
    """One panel: every method's curve over environment steps, random actions as a level."""
    for number, method in enumerate(METHODS):
        seeds = curves.get((family, method), [])
        if not seeds:
            continue
        if method == "random":
            axes.axhline(float(np.mean([one.score for one in seeds])), color=picture.FAINT, linestyle=":", label=method)
            continue
        steps = np.mean([one.env_steps for one in seeds], axis=0)
        scores = np.stack([one.scores for one in seeds])
        colour = picture.COLOURS[number]
        axes.plot(steps, interquartile_mean(scores), color=colour, label=method)
        if len(seeds) > 1:
            axes.fill_between(steps, *bootstrap_interval(scores), color=colour, alpha=0.2, linewidth=0)
    axes.set_xscale("log")
    axes.set_title(family)


def told(seeds: list[Curve]) -> str:
    """A cell of the table: score, interval, seeds, millions of steps."""
    if not seeds:
        return ""
    scores = np.array([one.score for one in seeds])[:, None]
    value, steps = float(interquartile_mean(scores)[0]), max(one.env_steps[-1] for one in seeds) / 1e6
    ends = [f"{float(end[0]):.4g}" for end in bootstrap_interval(scores)] if len(seeds) > 1 else []
    interval = f" ({ends[0]} to {ends[1]})" if ends else ""
    return f"{value:.4g}{interval}, {len(seeds)}, {steps:.2f}M"


def main() -> None:
    """Reads the command line, draws, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path)
    parser.add_argument("tables", nargs="+", type=Path)
    args = parser.parse_args()
    curves = read(args.tables)
    with picture.drawing(args.picture, 13.0, 7.0) as figure:
        grid = figure.subplots(2, 3)
        for axes, family in zip(grid.flat, FAMILIES, strict=True):
            draw_family(axes, family, curves)
        for axes in grid[-1]:
            axes.set_xlabel("environment steps")
        for axes in grid[:, 0]:
            axes.set_ylabel("return of the scored episode")
        drawn = [pair for axes in grid.flat for pair in zip(*axes.get_legend_handles_labels(), strict=True)]
        handles = {label: handle for handle, label in drawn}  # also of methods that the first panel lacks
        grid[0, 0].legend(handles.values(), handles.keys())
    print("| family | " + " | ".join(METHODS) + " |")
    print("|---" * (len(METHODS) + 1) + "|")
    for family in FAMILIES:
        print(f"| `{family}` | " + " | ".join(told(curves.get((family, method), [])) for method in METHODS) + " |")


if __name__ == "__main__":
    main()
