"""Whether every family can be learnt: short runs of preset `fast`, beside random actions on the same test tasks.

    python benchmarks/signs.py --out DIRECTORY [--families FAMILY...]

Every family has two ordinary runs, DIRECTORY/FAMILY/pearl and DIRECTORY/FAMILY/random; what is there already is not run
again, even if the time limit cut it. After each family the table DIRECTORY/signs.csv is written anew: updates,
environment steps and seconds of PEARL's last evaluation, the mean score of its last 3, and the score of random actions.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ablation import summed_up, train, write_table

from nacre.config import resolve
from nacre.families.catalog import FAMILIES
from nacre.presets.pearl import family_rows

COLUMNS = ("family", "updates", "env_steps", "seconds", "score", "random")


def main(arguments: list[str] | None = None) -> None:
    """Reads the command line, runs the families, writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", required=True, type=Path)
    parser.add_argument("--families", nargs="+", choices=sorted(FAMILIES), default=sorted(FAMILIES))
    parser.add_argument("--iterations", type=int, default=6)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=30)
    args = parser.parse_args(arguments)
    for family in args.families:
        of_family = args.out / family
        settings = {"iterations": args.iterations, "seed": args.seed}
        chosen = resolve("pearl", family, "fast", **settings)
        train(chosen, of_family / "pearl", args.minutes)
        tasks = family_rows("fast")[family]
        train(resolve("random", family, seed=args.seed, **tasks), of_family / "random", 1.0)
        done = [one for one in sorted(FAMILIES) if (args.out / one / "random").exists()]
        write_table(args.out / "signs.csv", COLUMNS, [row(one, args.out / one) for one in done])
    print((args.out / "signs.csv").read_text(), end="")


def row(family: str, path: Path) -> dict[str, object]:
    """A family's row of the table."""
    summed = summed_up(path / "pearl")
    return {"family": family} | summed | {"random": summed_up(path / "random").get("score")}


if __name__ == "__main__":
    main()
