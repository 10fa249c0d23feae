"""`nacre compare`: methods beside each other."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from nacre.cli.parsing import Positional, parse
from nacre.errors import NacreError, shown


@dataclass(frozen=True)
class Command:
    """Compare methods: scores over seeds and test tasks with intervals, steps and time."""

    runs: Positional[tuple[Path, ...]]
    """Run directories, or folders that hold runs. Runs that differ only in their seed are one method."""
    threshold: str | None = None
    """Adds the steps and minutes until a method reaches this score: -60, or one score for each family, as in
    cheetah-vel=-60,point-robot=-8."""
    at: int | None = None
    """Scores runs by their last evaluation within this many environment steps (offline methods: gradient steps).
    Default: by their last evaluation."""
    format: Literal["text", "markdown", "latex", "csv", "json"] | None = None
    """Format of the table. Default: by the ending of -o (.md, .tex, .csv or .json), otherwise text."""
    out: Annotated[Path | None, "-o"] = None
    """Writes the table to this file instead of printing it."""
    profile: Path | None = None
    """Also draws performance profiles to this picture (.png, .svg or .pdf)."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre compare ARGS`."""
    command = parse(Command, args, "nacre compare")
    if not command.runs:
        raise NacreError("name at least one run or folder of runs, as in 'nacre compare runs/cheetah-vel'.")
    threshold = None if command.threshold is None else parse_threshold(command.threshold)

    from nacre.cli.tables import print_table
    from nacre.report import comparison_table, picture, profiles
    from nacre.report.comparison import compare
    from nacre.runs.files import notice
    from nacre.runs.outputs import check_output

    if command.out is not None:
        check_output(command.out)
    if command.profile is not None:
        picture.check_path(command.profile)
    by_name = None if command.out is None else comparison_table.SUFFIXES.get(command.out.suffix.lower())
    chosen = command.format or by_name or "text"
    found = compare(command.runs, threshold=threshold, at=command.at)
    for text in found.notices:
        notice(text)
    if command.out is not None:
        with picture.written_whole(command.out) as draft:
            draft.write_text(comparison_table.FORMATS[chosen](found))
        print(f"wrote {command.out}", file=sys.stderr)
    elif chosen == "text":
        for table in comparison_table.text_tables(found):
            print_table(table)
        print("", *comparison_table.note_lines(found), sep="\n")
    else:
        print(comparison_table.FORMATS[chosen](found), end="")
    if command.profile is not None:
        profiles.draw(found, command.profile)
        print(f"wrote {command.profile}", file=sys.stderr)


def parse_threshold(text: str) -> float | dict[str, float]:
    """'-60' as this number, 'cheetah-vel=-60,point-robot=-8' by family."""
    try:
        if "=" not in text:
            return float(text)
        pairs = [part.rpartition("=") for part in text.split(",")]
        return {name.strip(): float(value) for name, _, value in pairs}
    except ValueError:
        raise NacreError(
            f"--threshold is '{shown(text)}'; write a score, or FAMILY=SCORE with a comma between several."
        ) from None
