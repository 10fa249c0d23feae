"""What every algorithm's settings are checked for when they are made."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields
from typing import Any

from nacre.errors import NacreError

MOST = {
    "num_train_tasks": 1_000_000,  # tasks.json names each
    "num_test_tasks": 1_000_000,
    "num_hidden_layers": 100,
    "num_critics": 100,
    "hidden_dim": 65_536,
    "encoder_hidden_dim": 65_536,
    "latent_dim": 65_536,
}
"""Fields with a largest value of their own."""
MOST_OF_ALL = 10**12
"""The largest value of every other whole number: more iterations, steps or transitions no machine can do."""


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
        most = 1 if name in at_most_one else MOST.get(name, MOST_OF_ALL)
        if value > most and (isinstance(value, int) or name in at_most_one):
            raise NacreError(f"{name} is {value}, but must be at most {most}; change {flag(name)}.")


def check_test_tasks(test_tasks_from: int, num_train_tasks: int) -> None:
    """Raises NacreError where the test tasks would begin among the train tasks."""
    if 0 < test_tasks_from < num_train_tasks:
        raise NacreError(
            f"test_tasks_from is {test_tasks_from}, so test tasks would begin among the {num_train_tasks} train tasks; "
            "set --test-tasks-from 0, or to num_train_tasks or more."
        )
