"""How many environment steps methods need for the same return: the ratio that the PEARL paper is known for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from nacre.report.curves import on_common_points
from nacre.report.evaluated_runs import Run
from nacre.report.statistics import interquartile_mean

WINDOW = 3
"""Evaluations in a row over which returns are averaged, so that no single lucky one decides."""

Bound = Literal["", "at most", "more than"]


class Reached(NamedTuple):
    """After how many steps (or seconds) a return was first as high as another."""

    steps: int
    bound: Bound  # at most: it was so from the first evaluation on. more than: not by the end

    def __str__(self) -> str:
        return f"{self.bound} {self.steps:,}".lstrip()


class Race(NamedTuple):
    """A method and PEARL on their way to the same return."""

    score: float
    method: Reached
    pearl: Reached

    @property
    def ratio(self) -> str:
        """The method's steps over PEARL's, or the bound that is known of it; "" where nothing is."""
        above = self.method.bound == "more than" or self.pearl.bound == "at most"
        below = self.method.bound == "at most" or self.pearl.bound == "more than"
        if above and below:
            return ""
        value = f"{self.method.steps / self.pearl.steps:.2g}"
        return f"more than {value}" if above else f"at most {value}" if below else value


class Efficiency(NamedTuple):
    """A method beside PEARL."""

    label: str
    num_runs: int
    env_steps: int  # as far as all its seeds have come
    score: float  # there
    to_pearls: Race  # to the return that PEARL ends with
    to_its_own: Race  # to the return that the method ends with


class Comparison(NamedTuple):
    """PEARL and the methods beside it."""

    label: str  # of PEARL's runs
    score: float  # that they end with
    others: list[Efficiency]


class Curve(NamedTuple):
    """The return of runs that differ in nothing but their seed, averaged over evaluations and seeds."""

    points: np.ndarray  # [point]: environment steps, gradient steps or seconds
    scores: np.ndarray  # [point]

    def reach(self, score: float) -> Reached:
        """When the return was first as high as `score`."""
        reached = self.scores >= score
        if not reached.any():
            return Reached(int(self.points[-1]), "more than")
        first = int(reached.argmax())
        return Reached(int(self.points[first]), "" if first else "at most")


def compare(groups: Mapping[str, Sequence[Run]]) -> Comparison | None:
    """The methods of a family (label -> runs) that take steps and are scored on all test tasks, beside PEARL.

    Of several groups of PEARL's runs the one that ends highest is compared with. None where PEARL is not among them, or
    nothing else. Runs whose seeds have not come to a common number of steps yet are left out.
    """
    curves = {label: curve(runs) for label, runs in groups.items() if _comparable(runs[0])}
    curves = {label: one for label, one in curves.items() if len(one.scores)}
    ours = [label for label in curves if groups[label][0].experiment.algorithm_name == "pearl"]
    if not ours or len(curves) == 1:
        return None
    label = max(ours, key=lambda one: float(curves[one].scores[-1]))
    pearl = curves.pop(label)
    others = [_beside(name, len(groups[name]), one, pearl) for name, one in curves.items()]
    return Comparison(label, float(pearl.scores[-1]), others)


def curve(runs: Sequence[Run], against: str = "env_steps") -> Curve:
    """The return by a column of Evaluations: the interquartile mean over seeds of the mean over `WINDOW` evaluations in
    a row (all, where there are fewer).

    A mean stands in the middle of its evaluations: at its end it would be late, the more so for methods that are
    evaluated seldom.
    """
    smooth = []
    for run in runs:
        test, width = run.test, min(WINDOW, len(run.test.env_steps))
        starts = range(len(test.env_steps) - width + 1)
        points = np.stack([getattr(test, against)[start : start + width].mean() for start in starts])
        returns = np.stack([test.returns[start : start + width].mean(axis=0) for start in starts])
        smooth.append(test._replace(returns=returns, **{against: points}))
    points, scores = on_common_points(smooth, against)
    return Curve(points, interquartile_mean(scores))


def _beside(label: str, num_runs: int, one: Curve, pearl: Curve) -> Efficiency:
    """A method's curve beside PEARL's."""
    own, best = float(one.scores[-1]), float(pearl.scores[-1])
    to_pearls, to_its_own = (Race(score, one.reach(score), pearl.reach(score)) for score in (best, own))
    return Efficiency(label, num_runs, int(one.points[-1]), own, to_pearls, to_its_own)


def _comparable(run: Run) -> bool:
    """Whether a run takes environment steps to learn from, and is scored on more than the one task that it knows."""
    learns_online = run.experiment.algorithm_name != "random" and not run.experiment.algorithm.offline
    return learns_online and run.experiment.single_task < 0
