"""Scores of offline methods in rows: a method by one protocol, of all seeds; what others earn, what is published."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import NamedTuple

import numpy as np

from nacre.report.known import ONLINE, KnownScore
from nacre.report.scored_run import Scored


class Row(NamedTuple):
    """A method by one protocol, of all seeds."""

    name: str
    protocol: str
    scores: list[Scored]  # seed after seed

    @property
    def mean(self) -> float:
        """Return, over seeds; NaN where one diverged."""
        return float(np.mean([one.score for one in self.scores]))

    @property
    def normalised(self) -> float | None:
        """Score between random actions and single-task soft actor-critic, over seeds; None where it is not known."""
        found = [one.normalised for one in self.scores if one.normalised is not None]
        return float(np.mean(found)) if len(found) == len(self.scores) else None


def rows_of(scores: Sequence[Scored], family: str) -> list[Row]:
    """The rows of a family, in the order in which they first stand there."""
    groups: dict[tuple[str, str], list[Scored]] = {}
    for one in scores:
        if one.line.family == family:
            groups.setdefault((one.line.name, one.protocol), []).append(one)
    order = {name: number for number, name in enumerate(dict.fromkeys(name for name, _ in groups))}
    return [Row(*key, groups[key]) for key in sorted(groups, key=lambda key: order[key[0]])]


def published_of(row: Row, known: Sequence[KnownScore]) -> list[KnownScore]:
    """What is published of the method by this protocol; of unknown ways of exploring, by either."""
    protocols = {row.protocol, ONLINE if row.protocol.startswith("online") else row.protocol}
    return [one for one in known if one.line == row.name and one.protocol in protocols]


def lines_of(rows: Sequence[Row]) -> dict[str, float]:
    """What others earn in the tasks of a family, by a name; of several data sets the data's lines tell which."""
    found: dict[str, float] = {}
    scores = [one for row in rows for one in row.scores]
    for one in scores:
        for name, value in one.lines.items():
            of_data = f" of {one.data}" if name.startswith("data") else ""
            found.setdefault(("random actions" if name == "random" else name) + of_data, value)
    return found


def number(value: float) -> str:
    """A return in as many digits as mean something."""
    if isnan(value):
        return "diverged"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"
