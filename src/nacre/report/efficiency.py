"""How many environment steps methods need for the same return: the ratio that the PEARL paper is known for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from nacre.report.curves import Run, on_common_points
from nacre.report.statistics import interquartile_mean

WINDOW = 3
"""Evaluations over which returns are averaged, so that no single lucky one decides."""


class Curve(NamedTuple):
    """The return of runs that differ in nothing but their seed, averaged over evaluations and seeds."""

    env_steps: np.ndarray  # [point]
    scores: np.ndarray  # [point]

    def steps_to(self, score: float) -> int | None:
        """Environment steps after which the return is first as high as `score`; None where it never is."""
        reached = self.scores >= score
        return int(self.env_steps[reached.argmax()]) if reached.any() else None


class Efficiency(NamedTuple):
    """A method beside PEARL, all from their first step to the end of their runs."""

    label: str
    num_runs: int
    env_steps: int  # at the end
    score: float  # at the end
    steps_to_pearl: int | None  # to PEARL's return at its end; None: not reached
    pearl_steps: int  # PEARL's own to the same
    steps_to_this: int  # to its own return at its end
    pearl_steps_to_this: int | None  # PEARL's own to the same; None: not reached

    @property
    def ratio(self) -> float:
        """Steps of this method over PEARL's at PEARL's return; where it was not reached, the least that it can be."""
        return (self.steps_to_pearl or self.env_steps) / self.pearl_steps

    @property
    def ratio_at_this(self) -> float | None:
        """Steps of this method over PEARL's at the method's own return; None where PEARL does not reach it."""
        return self.steps_to_this / self.pearl_steps_to_this if self.pearl_steps_to_this else None


def curve(runs: Sequence[Run]) -> Curve:
    """The interquartile mean over seeds of the trailing mean of `WINDOW` evaluations (of fewer at the beginning)."""
    smooth = [run.test._replace(returns=_trailing_mean(run.test.returns)) for run in runs]
    points, scores = on_common_points(smooth, "env_steps")
    return Curve(points, interquartile_mean(scores))


def efficiencies(groups: Mapping[str, Sequence[Run]]) -> list[Efficiency]:
    """All methods of a family (label -> runs) that take steps and are scored on all test tasks, beside PEARL.

    Of several groups of PEARL's runs the one that ends highest is compared with. Empty where PEARL is not among them,
    or nothing else.
    """
    curves = {label: curve(runs) for label, runs in groups.items() if _comparable(runs[0])}
    ours = {label: one for label, one in curves.items() if groups[label][0].experiment.algorithm_name == "pearl"}
    if not ours:
        return []
    pearl = max(ours.values(), key=lambda one: one.scores[-1])
    return [_beside(label, len(groups[label]), one, pearl) for label, one in curves.items() if one is not pearl]


def _beside(label: str, num_runs: int, one: Curve, pearl: Curve) -> Efficiency:
    """A method's curve beside PEARL's."""
    score, best = float(one.scores[-1]), float(pearl.scores[-1])
    steps_to_this, pearl_steps = one.steps_to(score), pearl.steps_to(best)
    assert steps_to_this is not None and pearl_steps is not None  # the last points are as high
    return Efficiency(
        label, num_runs, int(one.env_steps[-1]), score,
        one.steps_to(best), pearl_steps, steps_to_this, pearl.steps_to(score),
    )  # fmt: skip


def _comparable(run: Run) -> bool:
    """Whether a run takes steps to learn from, and is scored on more than the one task that it knows."""
    return run.experiment.algorithm_name != "random" and run.experiment.single_task < 0


def _trailing_mean(returns: np.ndarray) -> np.ndarray:
    """Each evaluation's mean with the ones before it, `WINDOW` in all, [evaluation, ...]."""
    return np.stack([returns[max(0, end - WINDOW) : end].mean(axis=0) for end in range(1, len(returns) + 1)])
