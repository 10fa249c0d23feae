"""The runs below a folder, for a person who named the folder in place of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from nacre.errors import NacreError
from nacre.runs.files import reading

MAX_DEPTH = 5
MAX_FOLDERS = 10_000
"""Folders that are looked into at most."""
LISTED = 10


def check_no_folder_of_runs(path: Path) -> None:
    """Raises NacreError, with the names of the runs, where `path` is no run but holds some."""
    if (path / "config.json").exists() or (path / "tasks.json").exists():
        return
    runs = runs_below(path)
    if runs:
        more = f" and {len(runs) - LISTED} more" * (len(runs) > LISTED)
        raise NacreError(
            f"{path} is no run, but holds {len(runs)}: {', '.join(str(run) for run in runs[:LISTED])}{more}; name one."
            if len(runs) > 1
            else f"{path} is no run, but holds one; name it: {runs[0]}."
        )


def runs_in(places: Sequence[Path]) -> list[Path]:
    """The run directories among these places and below them, each once, in the order of the places.

    Raises NacreError for a place that is neither a run nor a folder with runs in it.
    """
    found: dict[Path, Path] = {}
    for place in places:
        with reading(place):
            is_run = (place / "config.json").exists() or (place / "tasks.json").exists()
        runs = [place] if is_run else runs_below(place)
        if not runs:
            raise NacreError(f"there is no run at {place} nor below it; check the path, or start one by 'nacre train'.")
        for run in runs:
            found.setdefault(run.resolve(), run)
    return list(found.values())


def runs_below(folder: Path) -> list[Path]:
    """The run directories below a folder, in alphabetical order; not those inside a run."""
    found = []
    for place, folders, files in islice(os.walk(folder), MAX_FOLDERS):
        if {"config.json", "tasks.json"} <= set(files):
            found.append(Path(place))
            folders.clear()
        elif len(Path(place).relative_to(folder).parts) >= MAX_DEPTH:
            folders.clear()
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    return sorted(found)
