"""What tables of several commands show."""

from __future__ import annotations

from typing import Any

SHOWN_COMPONENTS = 3
"""Components of a task's parameter that a table shows."""


def task_text(task: dict[str, Any]) -> str:
    def number(value: Any) -> str:
        if not isinstance(value, list):
            return f"{value:.3g}"
        text = ",".join(f"{v:.3g}" for v in value[:SHOWN_COMPONENTS])
        return text if len(value) <= SHOWN_COMPONENTS else f"{text},... ({len(value)})"

    return " ".join(f"{name}={number(value)}" for name, value in task.items())
