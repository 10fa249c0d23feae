"""`nacre list`: families, algorithms and presets."""

from __future__ import annotations

import json
from dataclasses import dataclass

from rich.console import Console
from rich.table import Column, Table

from nacre.algorithms.registry import ALGORITHMS
from nacre.cli.parsing import parse
from nacre.families.catalog import FAMILIES


@dataclass(frozen=True)
class Command:
    """Families, algorithms and presets."""

    json: bool = False
    """Print one JSON object instead of tables."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre list ARGS`."""
    command = parse(Command, args, "nacre list")
    presets = sorted({preset for algorithm in ALGORITHMS.values() for preset in algorithm.presets})
    if command.json:
        print(json.dumps({"families": list(FAMILIES), "algorithms": list(ALGORITHMS), "presets": presets}))
        return
    table = Table(Column("family", no_wrap=True), "tasks", "obs", "action", "horizon", "presets of pearl")
    for name, family in FAMILIES.items():
        having = [preset for preset, families in ALGORITHMS["pearl"].presets.items() if name in families]
        having = having or [preset for preset, families in ALGORITHMS["pearl"].presets.items() if "*" in families]
        table.add_row(
            name, family.task_range, str(family.obs_dim), str(family.action_dim), str(family.horizon), ", ".join(having)
        )
    out = Console(highlight=False)
    out.print(table)
    out.print(f"algorithms: {', '.join(ALGORITHMS)}")
