"""Files that a person asks for, which must not take the place of a run's own files."""

from __future__ import annotations

from pathlib import Path

from nacre.errors import NacreError
from nacre.runs.tables import TABLES

OF_RUNS = frozenset({"config.json", "tasks.json", *TABLES, "lock", "wandb-id"})
OF_FINE_TUNINGS = frozenset({"finetune.json", "finetune.csv", "summary.csv", "state.npz"})


def check_output(*files: Path) -> None:
    """Raises NacreError where one of these files, about to be written, is a run's own: to be asked before the work."""
    for file in files:
        folder, name = file.parent, file.name.lower()
        run = name in OF_RUNS and (folder / "config.json").exists() and (folder / "tasks.json").exists()
        if run or (name in OF_FINE_TUNINGS and (folder / "finetune.json").exists()):
            raise NacreError(f"{file} is a file of the run in that folder; write to another name.")
