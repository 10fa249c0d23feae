"""The runs below a folder, for a person who named the folder in place of a run."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path

from nacre.errors import NacreError

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
