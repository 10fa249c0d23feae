"""config.json and other files of earlier versions, as today's settings. The only place that knows earlier names."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from nacre.errors import NacreError
from nacre.families.family import Family

SCHEMA = 2
"""Rises when the fields of config.json change their names or units. Files without a schema are of the first."""

# Schema 1 counted collections in environment steps.
_EPISODES = {
    "num_initial_steps": "num_initial_episodes", "num_steps_straight": "num_straight_episodes",
    "num_steps_prior": "num_prior_episodes", "num_steps_posterior": "num_posterior_episodes",
    "num_extra_rl_steps_posterior": "num_extra_rl_episodes", "num_steps": "num_episodes",
}  # fmt: skip
# Schema 1 had three fields for the context: (source, order).
_CONTEXTS = {
    ("recent", "transitions"): "recent", ("recent", "trajectories"): "recent-in-order",
    ("collected", "transitions"): "collected", ("replay", "transitions"): "replay", ("batch", "transitions"): "batch",
}  # fmt: skip


GONE: dict[str, Any] = {"inner_bootstrap": False}
"""Settings that are gone, with the value that changed nothing."""


def completed(told: Mapping[str, Any], kind: type[Any]) -> dict[str, Any]:
    """Fields of a dataclass as JSON has them. A missing field gets its default, which by convention means "as before".

    It may be missing because it came after the file was written.
    """
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(kind):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
    filled: dict[str, Any] = json.loads(json.dumps(defaults))
    return filled | dict(told)


def migrated(data: dict[str, Any], family: type[Family]) -> dict[str, Any]:
    """The contents of a config.json in the fields of today. Raises NacreError where these cannot say the same."""
    schema = data.get("schema", 1)
    if schema not in (1, SCHEMA):
        raise NacreError(
            f"its schema is {str(schema)[:20]}, which this version of nacre does not know; install a newer one."
        )
    settings = dict(data["settings"])
    for name, value in GONE.items():
        if settings.pop(name, value) != value:
            raise NacreError(
                f"it has {name}, which this version of nacre does not have; install the version named in its "
                "config.json."
            )
    if schema == SCHEMA:
        return {**data, "settings": settings}
    settings = {_EPISODES.get(name, name): _as_episodes(name, value, family) for name, value in settings.items()}
    if data["algorithm"] == "pearl":
        settings = _one_context(settings, family)
    return {**data, "settings": settings, "schema": SCHEMA}


def _as_episodes(name: str, value: Any, family: type[Family]) -> Any:
    """A number of steps as episodes; whole episodes were collected until the steps were reached."""
    if name not in _EPISODES or not isinstance(value, int):
        return value
    if family.can_terminate and value % family.horizon:
        raise _only_before(f"{name} {value}, no multiple of the {family.horizon} steps of an episode")
    return -(-value // family.horizon)


def _one_context(settings: dict[str, Any], family: type[Family]) -> dict[str, Any]:
    """PEARL's `context`, out of the fields that were before."""
    source = settings.pop("context_source", "recent")
    order = settings.pop("context_order", "transitions")
    window = settings.pop("context_window", 0)
    recurrent = settings.get("encoder") == "recurrent"
    if recurrent:
        order = "transitions"  # whatever is set: it takes every context in order
    context = _CONTEXTS.get((source, order))
    if window and not recurrent:
        exploration = max(1, settings.get("num_exploration_episodes", 2)) * family.horizon
        context = "collected-windows" if (context, window) == ("collected", exploration) else None
    if context is None:
        raise _only_before(f"context_source {source}, context_order {order}, context_window {window}")
    return settings | {"context": context}


def _only_before(what: str) -> NacreError:
    return NacreError(f"it has {what}, which only nacre 0.1.0 can train; install the version named in its config.json.")
