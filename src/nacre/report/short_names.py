"""Names of methods that fit a column: as short as tells the methods of every family apart."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

Labelled = tuple[str, str]
"""(family, label) of a method, as in reports."""


class _Parts(NamedTuple):
    algorithm: str
    preset: str  # in brackets
    changes: tuple[str, ...]  # name=value of changed settings, and from where the run started


def short_names(methods: Iterable[Labelled]) -> dict[Labelled, str]:
    """A name for each method: the algorithm's; with preset, and with the settings in which they differ, where needed.

    An algorithm is named alike in all families, so that one that was trained in several has one row there.
    """
    parts = {method: _parts(method[1]) for method in methods}
    by_algorithm: dict[str, list[Labelled]] = {}
    for method, part in parts.items():
        by_algorithm.setdefault(part.algorithm, []).append(method)
    names: dict[Labelled, str] = {}
    for algorithm, group in by_algorithm.items():
        telling = _telling({method: parts[method] for method in group})
        candidates = (
            {method: algorithm for method in group},
            {method: f"{algorithm} {parts[method].preset}".strip() for method in group},
            {method: " ".join([algorithm, parts[method].preset, *_kept(parts[method], telling)]) for method in group},
            {method: method[1] for method in group},
        )
        names |= next(chosen for chosen in candidates if _tells_apart(chosen))
    return names


def _parts(label: str) -> _Parts:
    found = re.fullmatch(r"(\S+)(?: (\(\S+?\)))?(.*)", label, re.DOTALL)
    if found is None:
        return _Parts(label, "", ())
    algorithm, preset, rest = found.groups()
    return _Parts(algorithm, preset or "", tuple(part for part in re.split(r" (?=\w+=)|, (?=from )", rest) if part))


def _telling(group: dict[Labelled, _Parts]) -> set[str]:
    """The changes that not all methods of some family and preset share."""
    together: dict[tuple[str, str], list[tuple[str, ...]]] = {}
    for (family, _), part in group.items():
        together.setdefault((family, part.preset), []).append(part.changes)
    return {
        change
        for several in together.values()
        for changes in several
        for change in changes
        if not all(change in others for others in several)
    }


def _kept(part: _Parts, telling: set[str]) -> Sequence[str]:
    return [change for change in part.changes if change in telling]


def _tells_apart(names: dict[Labelled, str]) -> bool:
    return len({(family, name) for (family, _), name in names.items()}) == len(names)
