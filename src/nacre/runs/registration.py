"""Families of a person's own, made known: where their options can be told from everything else that a run is given."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

from nacre.errors import NacreError
from nacre.families import catalog, plugins
from nacre.families.family import Family
from nacre.families.options import check_option_types, field_types
from nacre.presets.settings import MethodSettings
from nacre.runs.experiment import RunOptions

ARGUMENTS = (
    "algorithm", "family", "preset", "seeds", "out", "time_limit", "wandb", "json", "overwrite", "started", "path",
    "help",
)  # fmt: skip
"""What commands and `nacre.train` are given besides settings and options."""


def register_family(family: type[Family]) -> type[Family]:
    """Makes a family of your own known by its name, to `nacre.train`, to gymnasium.make and, with --plugin, to the
    command line.

    May be used as a decorator. Registering a name anew replaces what it stood for; nacre's own names are taken. Raises
    NacreError where an option has the name of a setting, or a type that cannot be written on a command line.
    """
    if inspect.isabstract(family):
        missing = ", ".join(sorted(family.__abstractmethods__))
        raise NacreError(f"the family {family.__name__} does not define {missing}; see docs/add-a-family.md.")
    taken = set(ARGUMENTS).union(field_types(RunOptions), *map(_fields, _settings(MethodSettings)))
    for name in field_types(family):
        if name in taken:
            raise NacreError(
                f"the family {family.name} has an option '{name}', which is also a setting of a run or a method; give "
                "the field another name."
            )
    check_option_types(family)
    return catalog.register_family(family, plugins.caller_module())


def _settings(kind: type[Any]) -> list[type[Any]]:
    """A class of settings and all that are made from it: of the methods that are known now."""
    return [kind, *(below for child in kind.__subclasses__() for below in _settings(child))]


def _fields(kind: type[Any]) -> set[str]:
    return {field.name for field in dataclasses.fields(kind)}
