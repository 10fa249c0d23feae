"""What every algorithm's settings are checked for when they are made."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any

from nacre.errors import NacreError

MAX_TASKS = 1_000_000
"""Tasks of a task set at most: tasks.json names each."""


def flag(name: str) -> str:
    """The command line's name for a field."""
    return "--" + name.replace("_", "-")


def check_numbers(
    config: Any, *, may_be_zero: Collection[str] = (), at_most_one: Collection[str] = (),
    may_be_anything: Collection[str] = (),
) -> None:  # fmt: skip
    """Raises NacreError unless all numbers are positive, but for those that may be 0, and no larger than they may."""
    for field in fields(config):
        name, value = field.name, getattr(config, field.name)
        if isinstance(value, bool | str) or name in may_be_anything:
            continue
        if not value > 0 and not (value == 0 and name in may_be_zero):
            least = "at least 0" if name in may_be_zero else "more than 0"
            raise NacreError(f"{name} is {value}, but must be {least}; change {flag(name)}.")
        most = MAX_TASKS if name in ("num_train_tasks", "num_test_tasks") else 1 if name in at_most_one else None
        if most is not None and value > most:
            raise NacreError(f"{name} is {value}, but must be at most {most}; change {flag(name)}.")


def check_test_tasks(test_tasks_from: int, num_train_tasks: int) -> None:
    """Raises NacreError where the test tasks would begin among the train tasks."""
    if 0 < test_tasks_from < num_train_tasks:
        raise NacreError(
            f"test_tasks_from is {test_tasks_from}, so test tasks would begin among the {num_train_tasks} train tasks; "
            "set --test-tasks-from 0, or to num_train_tasks or more."
        )
