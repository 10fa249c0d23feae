"""Tasks from outside a distribution, at a distance from it, by one rule for all families.

The rule knows a range by tasks drawn from it (`sample_tasks`) and by `in_range`. docs/families.md says it in
words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, ClassVar, Protocol

import numpy as np

from nacre.errors import NacreError

if TYPE_CHECKING:
    from nacre.types import Tasks

NUM_DRAWN = 1000
MOST_LISTED = 20
"""A range in which so many draws give no more different tasks is a list."""
POSITIVE = 0.05
"""A number whose smallest value is above this share of its largest is a factor: it grows and shrinks by multiples."""
MOST_DOUBLINGS, BISECTIONS = 20, 40


class Distribution(Protocol):
    """What the rule needs of a `Family`."""

    name: ClassVar[str]
    parameters: ClassVar[dict[str, int]]

    def sample_tasks(self, rng: np.random.Generator, num: int) -> Tasks: ...

    def in_range(self, task: Tasks) -> np.ndarray: ...


def tasks_beyond(family: Distribution, rng: np.random.Generator, distance: np.ndarray) -> Tasks:
    """Tasks at these distances [task] from the range; at 0, tasks of the distribution.

    From the middle of the range, a task of the distribution is moved outwards: to the edge, and on by `distance` times
    the way from the middle to the edge. In a list of tasks, two of them are drawn: the task lies between them,
    `distance` times half their gap from the first. Raises NacreError where the range has no outside.
    """
    distance = np.asarray(distance, np.float64)
    drawn = family.sample_tasks(np.random.default_rng(0), NUM_DRAWN)
    listed = np.unique(_rows(family, drawn), axis=0)
    if len(listed) <= MOST_LISTED:
        return _tasks(family, _between(listed, rng, distance))
    is_factor = listed.min(axis=0) > POSITIVE * listed.max(axis=0)

    def coordinates(rows: np.ndarray) -> np.ndarray:
        return np.where(is_factor, np.log(np.where(is_factor, rows, 1.0)), rows)

    def placed(points: np.ndarray) -> Tasks:
        return _tasks(family, np.where(is_factor, np.exp(np.where(is_factor, points, 0.0)), points))

    known = coordinates(listed)
    middle = (known.min(axis=0) + known.max(axis=0)) / 2
    outwards = coordinates(_rows(family, family.sample_tasks(rng, len(distance)))) - middle
    edge = _edge(lambda scale: family.in_range(placed(middle + scale[:, None] * outwards)), len(distance))
    if not np.isfinite(edge).all():
        raise NacreError(f"{family.name} has no out-of-distribution tasks: its range has no end; choose fresh:N.")
    scale = np.where(distance > 0, edge * (1 + distance), 1.0)
    return placed(middle + scale[:, None] * outwards)


def _between(listed: np.ndarray, rng: np.random.Generator, distance: np.ndarray) -> np.ndarray:
    """Rows between two of these, at `distance` (at most 1) times half their gap from the first."""
    if len(listed) < 2:
        raise NacreError("a distribution of a single task has no out-of-distribution tasks by rule; choose test.")
    first = rng.integers(len(listed), size=len(distance))
    second = (first + rng.integers(1, len(listed), size=len(distance))) % len(listed)
    share = np.minimum(distance, 1.0)[:, None] / 2
    return np.asarray(listed[first] + share * (listed[second] - listed[first]))


def _edge(is_inside: Callable[[np.ndarray], np.ndarray], number: int) -> np.ndarray:
    """The scale, at least 1, at which each leaves the range; infinite where it does not."""
    inside, outside = np.ones(number), np.full(number, 2.0)
    for _ in range(MOST_DOUBLINGS):
        outside = np.where(is_inside(outside), 2 * outside, outside)
    ends = ~is_inside(outside)
    for _ in range(BISECTIONS):
        between = (inside + outside) / 2
        holds = is_inside(between)
        inside, outside = np.where(holds, between, inside), np.where(holds, outside, between)
    return np.where(ends, inside, np.inf)


def _rows(family: Distribution, tasks: Tasks) -> np.ndarray:
    """The numbers of tasks, [task, task_dim], in the order of the family's parameters."""
    columns = [np.asarray(tasks[name], np.float64) for name in family.parameters]
    return np.concatenate([values.reshape(len(values), -1) for values in columns], axis=1)


def _tasks(family: Distribution, rows: np.ndarray) -> Tasks:
    """The inverse of `_rows`."""
    parts = np.split(rows, np.cumsum([max(1, size) for size in family.parameters.values()])[:-1], axis=1)
    named = zip(family.parameters.items(), parts, strict=True)
    return {name: part if size else part[:, 0] for (name, size), part in named}
