"""`nacre report`: pictures and pages of runs."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from nacre.cli.parsing import Positional, parse
from nacre.errors import NacreError


@dataclass(frozen=True)
class Command:
    """Draw runs: one page about them, their learning curves, or the trials of one run."""

    runs: Positional[tuple[Path, ...]]
    """Run directories."""
    out: Annotated[Path, "-o"]
    """Writes this file: a page (.html), which opens without network, or a picture (.png, .svg or .pdf)."""
    kind: Literal["curves", "trials", "calibration", "ood"] | None = None
    """What a picture shows. curves (the default): learning curves of all runs. For one run: trials on test tasks
    (trials), how often its beliefs contain the true task (calibration), or return and belief outside the range of
    training (ood). The last two also write a table (.csv)."""
    videos: int = 0
    """Number of trials of each run that a page shows as videos."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre report ARGS`."""
    command = parse(Command, args, "nacre report")
    if not command.runs:
        raise NacreError(
            "name at least one run directory, as in 'nacre report runs/cheetah-vel/pearl/seed-0 -o curves.png'."
        )
    if command.videos < 0:
        raise NacreError(f"videos is {command.videos}, but must be at least 0; change --videos.")
    is_page = command.out.suffix.lower() == ".html"
    if is_page and command.kind is not None:
        raise NacreError(f"--kind is about pictures, but {command.out} is a page; leave out --kind, or write a .png.")
    if not is_page and command.videos:
        raise NacreError(f"only a page shows videos; leave out --videos, or write a .html instead of {command.out}.")

    from nacre.report import calibration, curves, out_of_distribution, page, trials
    from nacre.runs.compilation_cache import use_compilation_cache

    use_compilation_cache()
    if is_page:
        page.write(command.runs, command.out, command.videos)
    elif command.kind in (None, "curves"):
        curves.draw(command.runs, command.out)
    elif len(command.runs) != 1:
        raise NacreError(f"--kind {command.kind} draws one run, but {len(command.runs)} were named; name one.")
    elif command.kind == "trials":
        trials.draw(command.runs[0], command.out)
    else:
        draw = calibration.draw if command.kind == "calibration" else out_of_distribution.draw
        print(f"wrote {draw(command.runs[0], command.out)}", file=sys.stderr)
    print(f"wrote {command.out}", file=sys.stderr)
