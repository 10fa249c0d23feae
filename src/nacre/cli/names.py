"""The names in a command line, an algorithm and a family or a family alone, where flags may stand before them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nacre.algorithms import registry
from nacre.cli.parsing import positionals, values_of_flags
from nacre.families import catalog


def names_in(args: Sequence[str], kinds: Sequence[type[Any]], *, algorithm: bool) -> list[str]:
    """An algorithm (only with `algorithm`) and a family, as far as they are named; `kinds`: whose flags there are
    besides those of all families and methods.

    What installed packages offer is loaded only where the names are not clear without: where flags that nacre does not
    know stand before them.
    """
    wanted = 2 if algorithm else 1
    names = list(args[:wanted])
    if not any(name.startswith("-") for name in names):
        return names

    def found() -> list[str]:
        settings = [method.settings for method in registry.loaded().values()] if algorithm else []
        return positionals(args, values_of_flags([*kinds, *catalog.FAMILIES.values(), *settings]))[:wanted]

    names = found()
    known = [list(registry.ALGORITHMS), catalog.family_names()][-wanted:]
    if len(names) < wanted or any(name not in some for name, some in zip(names, known, strict=True)):
        catalog.load_offered()
        if algorithm:
            registry.load_offered()
        names = found()
    return names
