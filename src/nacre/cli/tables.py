"""How commands print tables."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

SHOWN_COMPONENTS = 3
"""Components of a task's parameter that a table shows."""


class _Stdout(Console):
    def on_broken_pipe(self) -> None:
        """Leaves it to `main` that nobody reads stdout any more; Rich would end the process."""
        raise


def print_table(table: Table) -> None:
    """Prints a table on stdout, as wide as the terminal allows."""
    _Stdout(highlight=False).print(table)


def task_text(task: dict[str, Any]) -> str:
    """A task in short, as in 'goal=0.6,0.8'."""

    def number(value: Any) -> str:
        if not isinstance(value, list):
            return f"{value:.3g}"
        text = ",".join(f"{v:.3g}" for v in value[:SHOWN_COMPONENTS])
        return text if len(value) <= SHOWN_COMPONENTS else f"{text},... ({len(value)})"

    return " ".join(f"{name}={number(value)}" for name, value in task.items())


def duration(seconds: float) -> str:
    """A rough time in hours or minutes."""
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds / 60:.1f} min"
