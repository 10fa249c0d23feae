"""A task that changes inside an episode: what the family and the agent need to know of it."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from nacre.errors import NacreError
from nacre.families.family import Family
from nacre.types import Agent, Key, Tasks

RESTARTING = 2**31 - 1
"""Folded into the key of an episode's actions for what restarting draws; no control step has this number."""


class Change(NamedTuple):
    """What the task of every lane becomes, inside one episode."""

    at: int  # control steps of the episode in the old task, at least 1; the next one is in the new task
    task: Tasks  # the new tasks [lane, ...]
    restart: bool = False  # whether the agent is told that the task has changed: it then knows nothing of it again


def check_change(family: Family) -> None:
    """Raises NacreError where the task of the family cannot change inside an episode."""
    if not family.task_can_change:
        raise NacreError(
            f"the environments of {family.name} are told their task at a reset only, so it cannot change inside an "
            "episode; choose a family of nacre's simulators."
        )


def task_at(time: Any, task: Any, change: tuple[Any, Any] | None) -> Any:
    """The task of control step `time`, in compiled code. `change`: (at, the new task), or None."""
    if change is None:
        return task
    at, new = change
    return jax.tree.map(lambda old, now: jnp.where(time < at, old, now), task, new)


def restarted(agent: Agent, params: Any, memory: Any, task: Any, key: Key) -> Any:
    """The memory of an agent that is told, inside an episode, that what it knows of the task holds no longer."""
    if agent.restart is not None:
        return agent.restart(params, memory, task, key)
    return agent.begin(params, task, key)
