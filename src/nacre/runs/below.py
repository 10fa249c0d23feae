"""The runs below a folder, for a person who named the folder in place of a run."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from nacre.errors import NacreError
from nacre.runs.files import reading, reason_of

MAX_FOLDERS = 10_000
"""Folders that are looked into at most, those nearest to the named one first."""
LISTED = 10
OF_A_RUN = ("config.json", "tasks.json")
"""A folder with either is taken for a run: where the other is missing, opening the run says so."""


class FoundRuns(NamedTuple):
    """What a search found."""

    runs: list[Path]
    notices: list[str]  # where it did not look


def check_no_folder_of_runs(path: Path) -> None:
    """Raises NacreError, with the names of the runs, where `path` is no run but holds some."""
    if _is_run(path):
        return
    runs, notices = runs_below(path)
    if runs:
        least = "at least " * bool(notices)
        more = f" and {len(runs) - LISTED} more" * (len(runs) > LISTED)
        raise NacreError(
            f"{path} is no run, but holds {least}{len(runs)}: {', '.join(map(str, runs[:LISTED]))}{more}; name one."
            if len(runs) > 1
            else f"{path} is no run, but holds {least}one; name it: {runs[0]}."
        )


def runs_in(places: Sequence[Path]) -> FoundRuns:
    """The run directories among these places and below them, each once, in the order of the places.

    Raises NacreError for a place that is neither a run nor a folder with runs in it.
    """
    found, told = dict[Path, Path](), list[str]()
    for place in places:
        runs, notices = FoundRuns([place], []) if _is_run(place) else runs_below(place)
        if not runs:
            why = f" ({notices[0].rstrip('.')})" if notices and place.is_dir() else ""
            raise NacreError(
                f"there is no run at {place} nor below it{why}; check the path, or start one by 'nacre train'."
            )
        told += notices
        for run in runs:
            found.setdefault(run.resolve(), run)
    return FoundRuns(list(found.values()), told)


def runs_below(folder: Path) -> FoundRuns:
    """The run directories below a folder, in alphabetical order; not those inside a run.

    A folder with one of a run's two files counts where no run lies below it: others have files of these names too.
    Links are followed, after everything else, but not to where the search came from; each folder is looked into once,
    by whatever names it has.
    """
    runs, halves, notices, seen = list[Path](), list[Path](), list[str](), set[Path]()
    waiting, links = deque([folder]), deque[Path]()
    while waiting or links:
        place = waiting.popleft() if waiting else links.popleft()
        if len(seen) >= MAX_FOLDERS:
            notices.append(
                f"the search for runs below {folder} ended after {MAX_FOLDERS:,} folders; name folders nearer to the "
                "runs to see all of them."
            )
            break
        try:
            real = place.resolve(strict=True)
            if real in seen or real in folder.resolve().parents:
                continue
            with os.scandir(place) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
        except (NotADirectoryError, FileNotFoundError):  # a link to a file or to nothing
            continue
        except (OSError, RuntimeError) as error:  # also a link to itself
            notices.append(f"{place} was not searched for runs ({reason_of(error)}).")
            continue
        seen.add(real)
        there = sum(entry.name in OF_A_RUN for entry in entries)
        if there == len(OF_A_RUN):
            runs.append(place)
            continue
        if there:
            halves.append(place)
        shown = [entry for entry in entries if not entry.name.startswith(".")]
        links.extend(place / entry.name for entry in shown if entry.is_symlink())
        waiting.extend(place / entry.name for entry in shown if not entry.is_symlink() and entry.is_dir())
    halves = [half for half in halves if not any(half in run.parents for run in runs)]
    return FoundRuns(sorted([*runs, *halves]), notices)


def _is_run(place: Path) -> bool:
    with reading(place):
        return any((place / name).exists() for name in OF_A_RUN)
