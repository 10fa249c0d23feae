"""Whether every family can be learnt: short runs of preset `fast`, beside random actions and standing still.

    python benchmarks/signs.py --out DIRECTORY [--families FAMILY...]

Every family has three ordinary runs in DIRECTORY/FAMILY: pearl, random, and still, which does nothing (a robot that is
paid for not falling earns by that); what is there already is not run again, even if the time limit cut it. After each
family the table DIRECTORY/signs.csv is written anew: updates, environment steps and seconds of PEARL's last evaluation,
its mean score and return of first episodes over the last 3, and the scores of random actions and of standing still
on the same test tasks.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ablation import summed_up, train, write_table

from nacre.families.catalog import FAMILIES
from nacre.presets.pearl_presets import family_rows
from nacre.runs.experiment import resolve

COLUMNS = ("family", "updates", "env_steps", "seconds", "score", "first", "random", "still")


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line, runs the families, writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--families", nargs="+", choices=sorted(FAMILIES), default=sorted(FAMILIES))
    parser.add_argument("--iterations", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--seed", type=int, default=30)
    args = parser.parse_args(arguments)
    for family in args.families:
        of_family = args.out / family
        settings = {"iterations": args.iterations, "seed": args.seed}
        chosen = resolve("pearl", family, "fast", **settings)
        train(chosen, of_family / "pearl", args.minutes)
        tasks = family_rows("paper")[family]
        for name, scale in (("random", 1.0), ("still", 0.0)):
            train(resolve("random", family, seed=args.seed, action_scale=scale, **tasks), of_family / name, 1.0)
        done = [one for one in sorted(FAMILIES) if (args.out / one / "still").exists()]
        write_table(args.out / "signs.csv", COLUMNS, [row(one, args.out / one) for one in done])
    print((args.out / "signs.csv").read_text(), end="")


def row(family: str, path: Path) -> dict[str, object]:
    """A family's row of the table."""
    lines = {name: summed_up(path / name).get("score") for name in ("random", "still")}
    return {"family": family} | summed_up(path / "pearl") | lines


if __name__ == "__main__":
    main()
