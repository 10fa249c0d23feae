"""`nacre list`: families, algorithms and presets."""

from __future__ import annotations

import dataclasses
import json
import textwrap
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from nacre.algorithms.protocol import Algorithm
from nacre.algorithms.registry import ALGORITHMS, find_algorithm
from nacre.cli.parsing import Positional, parse
from nacre.errors import NacreError, unknown
from nacre.families.catalog import family_names, find_family, is_known
from nacre.families.family import Family
from nacre.families.gymnasium_ids import environment_id
from nacre.presets.settings import ANY_FAMILY
from nacre.runs.files import notice

Found = TypeVar("Found")

WIDTH = 80
"""Characters of a line at most."""


@dataclass(frozen=True)
class Command:
    """List families, algorithms and presets, or describe one family or algorithm."""

    name: Positional[str | None] = None
    """Describes this family or algorithm. Default: lists all of them."""
    json: bool = False
    """Prints one JSON object instead of tables."""


def run(args: list[str], started: float) -> None:
    """Carries out the command line `nacre list ARGS`."""
    command = parse(Command, args, "nacre list")
    if command.name is None:
        families, algorithms = _loaded(family_names(), find_family), _algorithms()
        told = {"families": list(families), "algorithms": list(algorithms), "presets": _presets(algorithms)}
        lines = _overview(families, algorithms)
    elif command.name in ALGORITHMS:
        told = _of_algorithm(command.name, ALGORITHMS[command.name])
        lines = _table(told)
    else:
        told = _of_family(_find_family(command.name))
        lines = _table(told)
    print(json.dumps(told, default=str) if command.json else "\n".join(lines))


def _find_family(name: str) -> type[Family]:
    try:
        return find_family(name)
    except NacreError:
        if is_known(name):
            raise
        raise unknown("family or algorithm", name, [*family_names(), *ALGORITHMS]) from None


def _loaded(names: Iterable[str], find: Callable[[str], Found]) -> dict[str, Found]:
    """What these names stand for; a notice for each that an installed package offers and that cannot be loaded."""
    found = {}
    for name in names:
        try:
            found[name] = find(name)
        except NacreError as error:
            notice(f"left out: {error}")
    return found


def _algorithms() -> dict[str, Algorithm]:
    return _loaded(ALGORITHMS, find_algorithm)


def _presets(algorithms: Mapping[str, Algorithm]) -> list[str]:
    return sorted({preset for algorithm in algorithms.values() for preset in algorithm.presets})


def _overview(families: Mapping[str, type[Family]], algorithms: Mapping[str, Algorithm]) -> Iterable[str]:
    wide = max(map(len, families))
    yield f"{'family':<{wide}}  horizon  tasks"
    for name, family in families.items():
        tasks = family.task_range
        room = WIDTH - wide - 11
        yield f"{name:<{wide}}  {family.horizon:>7}  {tasks if len(tasks) <= room else tasks[: room - 3] + '...'}"
    yield ""
    yield f"algorithms: {', '.join(name for name, one in algorithms.items() if not one.offline)}"
    yield f"from logged data (--data): {', '.join(name for name, one in algorithms.items() if one.offline)}"
    yield f"presets: {', '.join(_presets(algorithms))}"
    yield "'nacre list NAME' tells more about a family or an algorithm."


def _of_family(family: type[Family]) -> dict[str, Any]:
    return {
        "family": family.name,
        "meaning": _first_sentence(family),
        "tasks": family.task_range,
        "observation_dim": family.obs_dim,
        "action_dim": family.action_dim,
        "horizon": family.horizon,
        "can_terminate": family.can_terminate,
        "options": {field.name: _default(field) for field in dataclasses.fields(family)},
        "gymnasium": environment_id(family.name),
        "presets": {name: _presets_for(family.name, algorithm) for name, algorithm in _algorithms().items()},
    }


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return "required" if field.default is dataclasses.MISSING else field.default


def _of_algorithm(name: str, algorithm: Algorithm) -> dict[str, Any]:
    presets = {
        preset: ["all families"] if ANY_FAMILY in rows else list(rows) for preset, rows in algorithm.presets.items()
    }
    return {"algorithm": name, "meaning": _first_sentence(algorithm.settings), "presets": presets}


def _presets_for(family: str, algorithm: Algorithm) -> list[str]:
    return [preset for preset, rows in algorithm.presets.items() if family in rows or ANY_FAMILY in rows]


def _first_sentence(described: type[Any]) -> str:
    return (described.__doc__ or "").split("\n\n")[0].replace("\n", " ").strip()


def _table(told: dict[str, Any]) -> Iterable[str]:
    """A line for each thing that is told, and for each entry of those that are tables themselves."""
    for name, value in told.items():
        label = name.replace("_", " ")
        if not isinstance(value, dict):
            yield from textwrap.wrap(_text(value), WIDTH, initial_indent=f"{label:<16} ", subsequent_indent=" " * 17)
            continue
        yield f"{label:<16}{'' if value else ' none'}"
        for key, entry in value.items():
            yield from textwrap.wrap(_text(entry), WIDTH, initial_indent=f"  {key:<14} ", subsequent_indent=" " * 17)


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)
